"""The packages that `sam deploy` uploaded for a stack: they stay in SAM's bucket when the stack goes."""

import hashlib
import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_cloudformation.literals import TemplateStageType
    from mypy_boto3_s3 import S3Client

_ADDRESS = re.compile(r"s3://([a-z0-9.-]+)/([^\s\"'?]+)")
# The property of a resource with the bucket, and the one with the key.
_PAIRS = (("S3Bucket", "S3Key"), ("Bucket", "Key"))


class UploadedPackage(NamedTuple):
    """An object that a template names."""

    bucket: str
    key: str


def packages_of(client: "CloudFormationClient", stack: str) -> set[UploadedPackage]:
    """What the template of a stack names, before and after its transform, and the uploaded template itself."""
    found: set[UploadedPackage] = set()
    stages: tuple[TemplateStageType, ...] = ("Original", "Processed")
    for stage in stages:
        # botocore makes a dictionary of a template in JSON, and leaves one in YAML as it is.
        body: Any = client.get_template(StackName=stack, TemplateStage=stage)["TemplateBody"]
        text = body if isinstance(body, str) else json.dumps(body)
        named = named_in(body)
        if stage == "Original":
            # SAM uploads the template beside the packages, under the MD5 of its text.
            name = template_name(text)
            named |= {UploadedPackage(each.bucket, _beside(each.key, name)) for each in named}
        found |= named
    return found


def named_in(body: Any) -> set[UploadedPackage]:
    """The packages that a template names, as CloudFormation gives it: text, or a dictionary."""
    text = body if isinstance(body, str) else json.dumps(body)
    named = {UploadedPackage(*match) for match in _ADDRESS.findall(text)}
    return named | set(_in_resources(body)) if isinstance(body, dict) else named


def moved_to(body: Any, bucket: str) -> str:
    """The text of a template whose packages are in another bucket, under the same keys."""
    if isinstance(body, dict):
        return json.dumps(_moved(body, bucket))
    return _ADDRESS.sub(lambda match: f"s3://{bucket}/{match[2]}", body)


def template_name(text: str) -> str:
    """The name under which SAM uploads a template: the MD5 of its text."""
    return f"{hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()}.template"


def _moved(value: Any, bucket: str) -> Any:
    if isinstance(value, str):
        return _ADDRESS.sub(lambda match: f"s3://{bucket}/{match[2]}", value)
    if isinstance(value, list):
        return [_moved(each, bucket) for each in value]
    if not isinstance(value, dict):
        return value
    pairs = {name for name, key in _PAIRS if isinstance(value.get(name), str) and isinstance(value.get(key), str)}
    return {key: bucket if key in pairs else _moved(each, bucket) for key, each in value.items()}


def removable(
    cloudformation: "CloudFormationClient", s3: "S3Client", stack: str, packages: set[UploadedPackage]
) -> set[UploadedPackage]:
    """The packages that exist, and that no other stack of the region names.

    Stacks with equal code share their packages. CloudFormation needs them when it rolls a stack back.
    """
    if not packages:
        return set()
    others: set[UploadedPackage] = set()
    for page in cloudformation.get_paginator("describe_stacks").paginate():
        for each in page["Stacks"]:
            # A stack whose first change set waits for its review has no template yet.
            if each["StackName"] != stack and each["StackStatus"] != "REVIEW_IN_PROGRESS":
                others |= packages_of(cloudformation, each["StackName"])
    return {package for package in packages - others if _exists(s3, package)}


def _exists(client: "S3Client", package: UploadedPackage) -> bool:
    from botocore.exceptions import ClientError

    try:
        client.head_object(Bucket=package.bucket, Key=package.key)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] in (403, 404):
            return False
        raise
    return True


def _beside(key: str, name: str) -> str:
    return f"{key.rpartition('/')[0]}/{name}" if "/" in key else name


def _in_resources(value: Any) -> Iterator[UploadedPackage]:
    """Every pair of bucket and key, wherever in a template."""
    if isinstance(value, dict):
        for bucket, key in _PAIRS:
            pair = value.get(bucket), value.get(key)
            if isinstance(pair[0], str) and isinstance(pair[1], str):
                yield UploadedPackage(pair[0], pair[1])
        for each in value.values():
            yield from _in_resources(each)
    elif isinstance(value, list):
        for each in value:
            yield from _in_resources(each)
