"""The same stack in another region: the same template, the same packages, the same parameters and tags."""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lambda_torch.errors import StackError
from lambda_torch.stacks.packages import UploadedPackage, moved_to, named_in, template_name
from lambda_torch.stacks.removal import BUCKET_RESOURCE, clients_of, described

if TYPE_CHECKING:
    from boto3.session import Session
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_cloudformation.type_defs import StackTypeDef

STEPS = {
    "AccessDenied": "Use an identity that may deploy the stack: it copies packages, and makes all resources of the stack.",
    "AuthFailure": "Check that the region is enabled for the account.",
    "UnrecognizedClientException": "Check that the region is enabled for the account.",
}

CHANGE_SET: Final = "region-add"
POLL_SECONDS = 5.0
# The id of something that is in one region only.
_REGIONAL_ID = re.compile(r"\b(subnet|sg|vpc|vpce|rtb)-[0-9a-f]{8,17}\b")
# Parameters that have another value in the other region, whatever it is here -> why.
ALWAYS_ASKED = {"HostedZoneId": "a zone has one record for a domain, and the first region has it"}
# Parameters that have this value in the other region -> why.
# The functions verify with public keys (ReleaseSigner), and the key that signs is asked by publishers only.
REPLACED = {"SigningKey": "off"}


@dataclass(frozen=True)
class StackTwin:
    """A stack and its twin, as they are now.

    Attributes:
        name: of both stacks.
        home: the region of the first.
        region: the region of the twin.
        bucket: of the releases, in the first region.
        twin_bucket: of the releases, in the other region. None if the twin does not exist.
        parameters: with which the twin is made.
        tags: with which the twin is made.
        template: of the first stack, as CloudFormation gives it: text, or a dictionary.
    """

    name: str
    home: str
    region: str
    bucket: str
    twin_bucket: str | None
    parameters: Mapping[str, str]
    tags: tuple[Mapping[str, str], ...]
    template: Any

    @property
    def packages(self) -> set[UploadedPackage]:
        """What the template names in SAM's bucket."""
        return named_in(self.template)


class Twins:
    """Makes the twin of a stack.

    Args:
        session: the credentials.
        home: the region of the first stack.
        region: the other region.
    """

    def __init__(self, session: "Session", home: str, region: str) -> None:
        self.home, self.region = home, region
        self._here, self._s3_here = clients_of(session, home)
        self._there, self._s3_there = clients_of(session, region)

    def look(self, name: str, overrides: Mapping[str, str]) -> StackTwin:
        """What there is, and what would be made. Changes nothing.

        Args:
            name: of the stack.
            overrides: parameters that have another value in the other region.

        Raises:
            StackError: there is no such stack, one of both is being changed or of another project, or a parameter names
                something of the first region.
        """
        if self.home == self.region:
            raise StackError(f"The stack {name} is in {self.home} already.\nNext: name another region.")
        first = described(self._here, name)
        if first is None:
            raise StackError(
                f"There is no stack {name} in {self.home}.\nNext: check the name, and the region of your AWS settings."
            )
        bucket = _bucket_of(self._here, first)
        other = described(self._there, name)
        twin_bucket = None if other is None else _bucket_of(self._there, other)
        before = {each["ParameterKey"]: each.get("ParameterValue", "") for each in first.get("Parameters", [])}
        if unknown := sorted(overrides.keys() - before.keys()):
            raise StackError(f"The stack {name} has no parameter {', '.join(unknown)}.\nNext: correct --parameter.")
        parameters = {**before, **{key: value for key, value in REPLACED.items() if key in before}, **overrides}
        if twin_bucket is None:
            _check_regional(before, overrides, self.home, self.region)
        template: Any = self._here.get_template(StackName=name, TemplateStage="Original")["TemplateBody"]
        tags = tuple({"Key": each["Key"], "Value": each["Value"]} for each in first.get("Tags", []))
        return StackTwin(name, self.home, self.region, bucket, twin_bucket, parameters, tags, template)

    def copy_packages(self, twin: StackTwin, bucket: str, progress: Callable[[str], None]) -> str:
        """Copy the packages to a bucket of the other region, and return the address of the template that names them there."""
        key = ""
        for package in sorted(twin.packages):
            key = package.key
            progress(f"{package.key} to {bucket}")
            source = {"Bucket": package.bucket, "Key": package.key}
            self._s3_there.copy(source, bucket, package.key, SourceClient=self._s3_here)  # type: ignore[arg-type]
        text = moved_to(twin.template, bucket)
        prefix = key.rpartition("/")[0]
        name = template_name(text)
        key = f"{prefix}/{name}" if prefix else name
        self._s3_there.put_object(Bucket=bucket, Key=key, Body=text.encode())
        suffix = "amazonaws.com.cn" if self.region.startswith("cn-") else "amazonaws.com"
        return f"https://{bucket}.s3.{self.region}.{suffix}/{key}"

    def make(self, twin: StackTwin, template_url: str, progress: Callable[[str], None]) -> str:
        """Let CloudFormation make the twin, wait for it, and return the name of its bucket. What fails is removed again.

        Raises:
            StackError: CloudFormation cannot make it. The message has its reasons.
        """
        from botocore.exceptions import WaiterError

        self._there.create_change_set(
            StackName=twin.name,
            ChangeSetName=CHANGE_SET,
            ChangeSetType="CREATE",
            TemplateURL=template_url,
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in twin.parameters.items()],
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
            Tags=[{"Key": each["Key"], "Value": each["Value"]} for each in twin.tags],
            OnStackFailure="DELETE",
        )
        try:
            self._there.get_waiter("change_set_create_complete").wait(
                StackName=twin.name, ChangeSetName=CHANGE_SET, WaiterConfig={"Delay": max(1, int(POLL_SECONDS))}
            )
        except WaiterError as error:
            why = self._there.describe_change_set(StackName=twin.name, ChangeSetName=CHANGE_SET).get("StatusReason", "")
            # It has no resources yet.
            self._there.delete_stack(StackName=twin.name)
            raise StackError(
                f"CloudFormation does not take the template in {self.region}: {why or error}\n"
                "Next: correct it with --parameter, and run the command again. Nothing was made."
            ) from error
        self._there.execute_change_set(StackName=twin.name, ChangeSetName=CHANGE_SET)
        return self._wait(twin.name, progress)

    def _wait(self, name: str, progress: Callable[[str], None]) -> str:
        seen = ""
        while True:
            stack = described(self._there, name)
            if stack is None or stack["StackStatus"].endswith(("FAILED", "ROLLBACK_COMPLETE", "DELETE_COMPLETE")):
                raise StackError(
                    f"CloudFormation could not make the stack {name} in {self.region}: {self._reasons(name)}\n"
                    f"Next: correct the cause. lambda-torch destroy {name} --region {self.region} removes what is left "
                    "there. Then run the command again."
                )
            if stack["StackStatus"] != seen:
                seen = stack["StackStatus"]
                progress(f"{name} in {self.region}: {seen}")
            if seen == "CREATE_COMPLETE":
                return _bucket_of(self._there, stack)
            time.sleep(POLL_SECONDS)

    def _reasons(self, name: str) -> str:
        from botocore.exceptions import ClientError

        try:
            pages = self._there.get_paginator("describe_stack_events").paginate(StackName=name)
            events = [each for page in pages for each in page["StackEvents"]]
        except ClientError:
            return "it was removed again. Its events in the console say why."
        failed = [
            f"{each.get('LogicalResourceId')}: {each.get('ResourceStatusReason', '')}"
            for each in events
            if each.get("ResourceStatus", "").endswith("FAILED")
        ]
        return "; ".join(reversed(failed)) or "no reason was given."


def _bucket_of(client: "CloudFormationClient", stack: "StackTypeDef") -> str:
    """The bucket of the releases.

    Raises:
        StackError: the stack is being changed, failed, or is of another project.
    """
    name, region, status = stack["StackName"], client.meta.region_name, stack["StackStatus"]
    if not status.endswith("_COMPLETE") or status in ("ROLLBACK_COMPLETE", "DELETE_COMPLETE"):
        raise StackError(
            f"The stack {name} in {region} is not ready ({status}).\nNext: wait until it is, or remove it: "
            f"lambda-torch destroy {name} --region {region}"
        )
    outputs = {each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", [])}
    if f"{BUCKET_RESOURCE}Name" not in outputs:
        raise StackError(
            f"The stack {name} in {region} has no output {BUCKET_RESOURCE}Name, so it is not one of this project.\n"
            "Next: check the name."
        )
    return outputs[f"{BUCKET_RESOURCE}Name"]


def _check_regional(parameters: Mapping[str, str], overrides: Mapping[str, str], home: str, region: str) -> None:
    """Refuse parameters that name something of the first region."""
    arn = re.compile(rf"\barn:[a-z-]+:[a-z0-9-]+:{re.escape(home)}:")
    wrong = {
        name: ALWAYS_ASKED.get(name, f"{value} is in {home}")
        for name, value in parameters.items()
        if value and name not in overrides and (arn.search(value) or _REGIONAL_ID.search(value) or name in ALWAYS_ASKED)
    }
    if wrong:
        lines = [f"  {name}: {why}" for name, why in wrong.items()]
        raise StackError(
            "\n".join([f"These parameters need another value in {region}:", *lines])
            + "\nNext: give each with --parameter NAME=VALUE. NAME= leaves it empty."
        )
