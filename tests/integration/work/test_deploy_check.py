import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from integration.work.conftest import CONTEXT, GOOD, Client, deploy
from lambda_torch.releases.bucket import Bucket
from lambda_torch.releases.publishing import publish
from serving import deploy_check
from serving.deploy_check import CheckError
from serving.settings import Settings

EVENT = {"DeploymentId": "d-1", "LifecycleEventHookExecutionId": "e-1"}


@pytest.fixture
def golden(tmp_path: Path, served: ModuleType) -> Path:
    """A file of two recorded answers."""
    requests = [GOOD, {"category": "Greek", "start_letters": "AB"}]
    answers = [json.loads(served.lambda_handler(each, CONTEXT)["body"]) for each in requests]
    path = tmp_path / "golden.json"
    path.write_text(json.dumps([{"request": one, "response": two} for one, two in zip(requests, answers, strict=True)]))
    return path


@pytest.fixture
def settings(
    aws_client: Client, served: ModuleType, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """The check's own environment; the version that it checks is the function in this process."""
    version = deploy(aws_client, served, monkeypatch)
    return Settings.from_environment(
        {"MODEL_BUCKET": bucket.name, "CHECKED_FUNCTION": version, "RELEASE_CACHE": str(tmp_path / "check")}
    )


def no_pause(_seconds: float) -> None:
    """Does not wait between two tries."""


def republish(release: Path, bucket: Bucket, served: ModuleType, folder: Path, golden: Path) -> None:
    """Publish the release with other golden examples (and so as another release), and let the function take it up."""
    changed = folder / "changed"
    shutil.copytree(release, changed)
    config = json.loads((changed / "model.json").read_text())
    config["training"]["note"] = "another"
    (changed / "model.json").write_text(json.dumps(config))
    publish(changed, bucket, golden_file=golden)
    served.service.follower.start()


def test_code_that_answers_as_recorded_may_serve(
    settings: Settings,
    aws_client: Client,
    release: Path,
    bucket: Bucket,
    served: ModuleType,
    tmp_path: Path,
    golden: Path,
) -> None:
    """Every golden example of the current release is asked, over the Invoke API, and is right."""
    republish(release, bucket, served, tmp_path, golden)
    assert deploy_check.check(settings, aws_client("lambda"), no_pause) == 2


def test_code_that_answers_otherwise_may_not(
    settings: Settings, aws_client: Client, served: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New code that changes an answer is refused, with the example and the place."""
    predict = served.model.Model.predict

    def backwards(self: Any, requests: list[Any]) -> Any:
        return [
            served.model.Model.__init__.__globals__["Response"](each.root[::-1]) for each in predict(self, requests)
        ]

    monkeypatch.setattr(served.model.Model, "predict", backwards)
    with pytest.raises(CheckError, match=r"golden example 1 of release [0-9a-f]{64}: the response\[0\]"):
        deploy_check.check(settings, aws_client("lambda"), no_pause)


def test_code_that_does_not_start_may_not(
    settings: Settings, aws_client: Client, served: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New code that raises is tried three times, and refused with what it raised."""
    tries = []

    def broken(_event: Any, _context: Any) -> Any:
        tries.append(1)
        raise RuntimeError("no module named model")

    monkeypatch.setattr(served, "lambda_handler", broken)
    with pytest.raises(CheckError, match="RuntimeError: no module named model"):
        deploy_check.check(settings, aws_client("lambda"), no_pause)
    assert len(tries) == 3


def test_a_refusal_of_the_new_code_is_told(
    settings: Settings, aws_client: Client, served: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New code that answers a golden example with an error is refused with that answer."""
    monkeypatch.setattr(
        served, "lambda_handler", lambda _event, _context: {"statusCode": 503, "headers": {}, "body": "release_refused"}
    )
    with pytest.raises(CheckError, match="it answered 503: release_refused"):
        deploy_check.check(settings, aws_client("lambda"), no_pause)


def test_before_the_first_release_any_code_may_serve(
    aws_client: Client, bucket: Bucket, tmp_path: Path, aws: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new stack has no release to compare with, and can be deployed."""
    for name, value in aws.items():
        monkeypatch.setenv(name, value)
    empty = {"MODEL_BUCKET": bucket.name, "CHECKED_FUNCTION": "none", "RELEASE_CACHE": str(tmp_path)}
    assert deploy_check.check(Settings.from_environment(empty), aws_client("lambda"), no_pause) == 0


@pytest.mark.parametrize(
    ("outcome", "status"),
    [(2, "Succeeded"), (CheckError("wrong"), "Failed"), (RuntimeError("a defect of the check"), "Failed")],
)
def test_codedeploy_is_always_told(
    outcome: Any, status: str, monkeypatch: pytest.MonkeyPatch, aws: dict[str, str]
) -> None:
    """Whatever happens, CodeDeploy gets a verdict for its event: it would wait an hour for one that does not come."""
    for name, value in aws.items():
        monkeypatch.setenv(name, value)
    told = []

    def check(*_: Any) -> Any:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(deploy_check, "check", check)
    monkeypatch.setattr(deploy_check, "report", lambda _client, event, said: told.append((event, said)))
    assert deploy_check.lambda_handler(EVENT, None) == {"status": status}
    assert told == [(EVENT, status)]


def test_the_verdict_has_codedeploys_form(aws: dict[str, str]) -> None:
    """The call is one that the CodeDeploy API takes, checked against AWS's own service model."""
    import boto3
    from botocore.stub import Stubber

    client = boto3.client("codedeploy", region_name=aws["AWS_DEFAULT_REGION"])
    with Stubber(client) as stub:
        wanted = {"deploymentId": "d-1", "lifecycleEventHookExecutionId": "e-1", "status": "Succeeded"}
        stub.add_response("put_lifecycle_event_hook_execution_status", {}, wanted)
        deploy_check.report(client, EVENT, "Succeeded")
        stub.assert_no_pending_responses()
