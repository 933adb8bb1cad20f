"""Removing a stack with all that it would leave: the bucket of the releases, and the packages uploaded for it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lambda_torch.errors import StackError
from lambda_torch.stacks.emptying import BucketSize, empty, size_of
from lambda_torch.stacks.packages import UploadedPackage, packages_of, removable

if TYPE_CHECKING:
    from boto3.session import Session
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_cloudformation.type_defs import StackResourceSummaryTypeDef, StackTypeDef
    from mypy_boto3_s3 import S3Client

# The resource by which a stack of this project is known.
BUCKET_RESOURCE = "ModelBucket"
POLL_SECONDS = 5.0
# A versioned function goes with all of its versions; SAM tells CloudFormation to leave them alone.
GOES_WITH_ANOTHER = ("AWS::Lambda::Version",)
STABLE = ("COMPLETE", "FAILED")

STEPS = {
    "AccessDenied": "Use an identity that may delete the stack, its resources, and all versions of the bucket's objects.",
    "AccessDeniedException": "Use an identity that may call cloudformation:DescribeStacks, GetTemplate, DeleteStack.",
    "BucketNotEmpty": "Something wrote to the bucket meanwhile. Run the command again.",
}


@dataclass(frozen=True)
class StackContent:
    """What goes with a stack.

    Attributes:
        name: of the stack.
        id: its ARN, by which CloudFormation knows it after it is gone.
        bucket: of the releases; None if it is gone already.
        size: what the bucket holds.
        resources: what CloudFormation made.
        packages: uploads of `sam deploy` that nothing else uses.
    """

    name: str
    id: str
    bucket: str | None
    size: BucketSize
    resources: tuple["StackResourceSummaryTypeDef", ...]
    packages: frozenset[UploadedPackage]

    @property
    def count(self) -> int:
        """How many resources exist."""
        return len([each for each in self.resources if each["ResourceStatus"] != "DELETE_COMPLETE"])


class StackRemoval:
    """Removes one stack.

    Args:
        session: the credentials.
        region: where the stack is; None for the session's.
    """

    def __init__(self, session: "Session", region: str | None = None) -> None:
        self._cloudformation, self._s3 = clients_of(session, region)

    def look(self, name: str) -> StackContent:
        """What would go. Changes nothing.

        Raises:
            StackError: there is no such stack, it is not one of this project, or it must not be removed now.
        """
        stack = described(self._cloudformation, name)
        if stack is None:
            return self._deleted(name)
        status = stack["StackStatus"]
        if stack.get("EnableTerminationProtection"):
            raise StackError(
                f"The stack {name} is protected from being deleted.\nNext: aws cloudformation update-termination-protection "
                f"--no-enable-termination-protection --stack-name {name}"
            )
        if not status.endswith(STABLE):
            raise StackError(
                f"The stack {name} is being changed ({status}).\nNext: wait until that has ended, and run the command again."
            )
        resources = tuple(self._resources(stack["StackId"]))
        buckets = [each for each in resources if each["LogicalResourceId"] == BUCKET_RESOURCE]
        if not buckets:
            raise StackError(
                f"The stack {name} has no resource {BUCKET_RESOURCE}, so it is not one of this project.\n"
                f"Next: check the name. To remove the stack alone: sam delete --stack-name {name}"
            )
        bucket = buckets[0].get("PhysicalResourceId") or ""
        exists = bool(bucket) and self._bucket_exists(bucket)
        size = size_of(self._s3, bucket) if exists else BucketSize(0, 0)
        packages = removable(self._cloudformation, self._s3, name, packages_of(self._cloudformation, stack["StackId"]))
        return StackContent(name, stack["StackId"], bucket if exists else None, size, resources, frozenset(packages))

    def _deleted(self, name: str) -> StackContent:
        """What a stack of that name left when it was deleted: `sam delete` keeps the bucket."""
        pages = self._cloudformation.get_paginator("list_stacks").paginate(StackStatusFilter=["DELETE_COMPLETE"])
        ids = [each["StackId"] for page in pages for each in page["StackSummaries"] if each["StackName"] == name]
        for stack_id in ids:
            for each in self._resources(stack_id):
                bucket = each.get("PhysicalResourceId", "")
                if each["LogicalResourceId"] == BUCKET_RESOURCE and bucket and self._bucket_exists(bucket):
                    return StackContent(name, stack_id, bucket, size_of(self._s3, bucket), (), frozenset())
        raise StackError(
            f"There is no stack {name} in {self._cloudformation.meta.region_name}.\n"
            "Next: check the name (aws cloudformation list-stacks) and the region (--region)."
        )

    def empty_bucket(self, content: StackContent, progress: Callable[[int], None]) -> None:
        """Remove every version of every object; `progress` is called with how many each batch removed."""
        if content.bucket is not None:
            empty(self._s3, content.bucket, progress)

    def delete_stack(self, content: StackContent, progress: Callable[[int], None]) -> None:
        """Let CloudFormation delete the stack, and wait for it; `progress` is called with how many resources are gone.

        Raises:
            StackError: CloudFormation cannot delete a resource.
        """
        if not content.resources:
            return
        self._cloudformation.delete_stack(StackName=content.id)
        while True:
            stack = described(self._cloudformation, content.id)
            if stack is None or stack["StackStatus"] == "DELETE_COMPLETE":
                progress(len(content.resources))
                return
            resources = list(self._resources(content.id))
            if stack["StackStatus"] == "DELETE_FAILED":
                failed = [each for each in resources if each["ResourceStatus"] == "DELETE_FAILED"]
                lines = [f"  {each['LogicalResourceId']}: {each.get('ResourceStatusReason', '')}" for each in failed]
                raise StackError(
                    "\n".join([f"CloudFormation could not delete the stack {content.name}:", *lines])
                    + "\nNext: mend what these lines say, and run the command again."
                )
            progress(len([each for each in resources if each["ResourceStatus"].startswith("DELETE_")]))
            time.sleep(POLL_SECONDS)

    def delete_rest(self, content: StackContent) -> None:
        """Delete what CloudFormation leaves: the bucket, and the uploaded packages."""
        if content.bucket is not None and self._bucket_exists(content.bucket):
            # The function may have written an answer after the first time.
            empty(self._s3, content.bucket)
            self._s3.delete_bucket(Bucket=content.bucket)
        for package in content.packages:
            self._s3.delete_object(Bucket=package.bucket, Key=package.key)

    def left(self, content: StackContent) -> list[str]:
        """What still exists of the stack, in words; nothing if all is gone."""
        stack = described(self._cloudformation, content.id)
        found = []
        if stack is not None and stack["StackStatus"] != "DELETE_COMPLETE":
            found.append(f"the stack {content.name} ({stack['StackStatus']})")
        if content.bucket is not None and self._bucket_exists(content.bucket):
            found.append(f"the bucket {content.bucket}")
        for each in self._resources(content.id):
            kind, status = each["ResourceType"], each["ResourceStatus"]
            gone = status == "DELETE_COMPLETE" or each["LogicalResourceId"] == BUCKET_RESOURCE
            if not gone and kind not in GOES_WITH_ANOTHER:
                found.append(f"{kind} {each.get('PhysicalResourceId')} ({status})")
        return found

    def _resources(self, stack_id: str) -> list["StackResourceSummaryTypeDef"]:
        pages = self._cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack_id)
        return [each for page in pages for each in page["StackResourceSummaries"]]

    def _bucket_exists(self, bucket: str) -> bool:
        from botocore.exceptions import ClientError

        try:
            self._s3.head_bucket(Bucket=bucket)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return False
            raise
        return True


def clients_of(session: "Session", region: str | None) -> "tuple[CloudFormationClient, S3Client]":
    """The clients for a stack and its buckets, which try again when AWS is busy."""
    from botocore.config import Config

    config = Config(retries={"mode": "standard", "max_attempts": 8})
    return (
        session.client("cloudformation", region_name=region, config=config),
        session.client("s3", region_name=region, config=config),
    )


def described(client: "CloudFormationClient", name: str) -> "StackTypeDef | None":
    """What CloudFormation says about a stack, by its name or ARN. None if there is none."""
    from botocore.exceptions import ClientError

    try:
        (stack,) = client.describe_stacks(StackName=name)["Stacks"]
    except ClientError as error:
        # CloudFormation has no code of its own for this.
        if error.response["Error"]["Code"] == "ValidationError" and "does not exist" in str(error):
            return None
        raise
    return stack


def facts_of(content: StackContent) -> dict[str, Any]:
    """What goes with a stack, for JSON."""
    return {
        "stack": content.name,
        "resources": content.count,
        "bucket": content.bucket,
        "objects": content.size.objects,
        "bytes": content.size.bytes,
        "packages": sorted(f"s3://{package.bucket}/{package.key}" for package in content.packages),
    }
