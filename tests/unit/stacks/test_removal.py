"""What AWS may answer when a stack is removed, and that no fake cloud answers."""

from typing import Any

import pytest

from lambda_torch.errors import StackError
from lambda_torch.stacks import emptying, removal
from lambda_torch.stacks.emptying import BucketSize
from lambda_torch.stacks.removal import StackContent, StackRemoval

CONTENT = StackContent("models", "arn:stack", None, BucketSize(0, 0), ({"LogicalResourceId": "a"},), frozenset())  # type: ignore[typeddict-item]


class Pages:
    """A paginator with these pages."""

    def __init__(self, *pages: dict[str, Any]) -> None:
        self.pages = pages

    def paginate(self, **_: str) -> tuple[dict[str, Any], ...]:
        """The pages."""
        return self.pages


class CloudFormation:
    """A stack that is in these states, one after the other, with one resource."""

    def __init__(self, *states: str, protected: bool = False) -> None:
        self.states = list(states)
        self.protected = protected
        self.deleted = False

    def client(self, _service: str, **_: Any) -> "CloudFormation":
        """Also stands for the session."""
        return self

    def delete_stack(self, StackName: str) -> None:  # noqa: N803
        """Begin."""
        self.deleted = True

    def describe_stacks(self, StackName: str) -> dict[str, Any]:  # noqa: N803
        """The next state."""
        state = self.states.pop(0)
        facts = {"StackName": "models", "StackId": StackName, "EnableTerminationProtection": self.protected}
        return {"Stacks": [{**facts, "StackStatus": state}]}

    def get_paginator(self, _name: str) -> Pages:
        """The resource, which cannot be deleted."""
        facts = {"LogicalResourceId": "PredictRole", "ResourceType": "AWS::IAM::Role", "PhysicalResourceId": "role"}
        reason = {"ResourceStatus": "DELETE_FAILED", "ResourceStatusReason": "has an attached policy"}
        return Pages({"StackResourceSummaries": [{**facts, **reason}]})


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No wait between two looks."""
    monkeypatch.setattr(removal, "POLL_SECONDS", 0)


def test_what_cloudformation_cannot_delete_is_named() -> None:
    """A resource that stays, with CloudFormation's reason, and the next step."""
    session: Any = CloudFormation("DELETE_IN_PROGRESS", "DELETE_FAILED")
    with pytest.raises(StackError, match=r"PredictRole: has an attached policy\nNext: ") as failed:
        StackRemoval(session).delete_stack(CONTENT, lambda _gone: None)
    assert "could not delete the stack models" in str(failed.value)
    assert session.deleted


def test_what_still_exists_is_listed() -> None:
    """The stack that is not gone, and each resource with its kind and its state."""
    session: Any = CloudFormation("DELETE_FAILED")
    assert StackRemoval(session).left(CONTENT) == [
        "the stack models (DELETE_FAILED)",
        "AWS::IAM::Role role (DELETE_FAILED)",
    ]


def test_a_stack_that_is_being_changed_is_refused() -> None:
    """While an update runs, nothing is removed."""
    session: Any = CloudFormation("UPDATE_IN_PROGRESS")
    with pytest.raises(StackError, match=r"is being changed \(UPDATE_IN_PROGRESS\)"):
        StackRemoval(session).look("models")
    assert not session.deleted


def test_a_protected_stack_is_refused() -> None:
    """CloudFormation's protection is looked at first, and the message says how to end it."""
    session: Any = CloudFormation("CREATE_COMPLETE", protected=True)
    with pytest.raises(
        StackError, match=r"is protected from being deleted\.\nNext: aws cloudformation update-termination"
    ):
        StackRemoval(session).look("models")
    assert not session.deleted


class Versions:
    """A bucket with one object, which S3 keeps, or which others write again and again."""

    def __init__(self, errors: list[dict[str, str]]) -> None:
        self.errors = errors

    def get_paginator(self, _name: str) -> Pages:
        """The object."""
        return Pages({"Versions": [{"Key": "releases/1", "VersionId": "v", "Size": 1}]})

    def delete_objects(self, **_: Any) -> dict[str, Any]:
        """S3's answer."""
        return {"Errors": self.errors} if self.errors else {}


def test_an_object_that_s3_keeps_is_named() -> None:
    """Refusals for single objects come in an answer of status 200."""
    bucket: Any = Versions([{"Key": "releases/1", "Code": "AccessDenied", "Message": "locked"}])
    with pytest.raises(StackError, match="such as releases/1: AccessDenied: locked\nNext: "):
        emptying.empty(bucket, "models")


def test_a_bucket_that_others_fill_is_given_up() -> None:
    """After some rounds the command says that others keep writing."""
    bucket: Any = Versions([])
    with pytest.raises(StackError, match="because others keep writing to it"):
        emptying.empty(bucket, "models")
