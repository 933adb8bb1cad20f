"""Publishing a built layer as a version of a Lambda layer, in one region."""

import base64
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from lambda_torch.errors import LayerError
from lambda_torch.layers.built import HASH_MARK, BuiltLayer
from lambda_torch.layers.grants import Grant, give

if TYPE_CHECKING:
    from boto3.session import Session
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_lambda.literals import ArchitectureType, RuntimeType
    from mypy_boto3_s3 import S3Client

# "Lambda quotas": a larger zip file must lie in S3.
DIRECT_BYTES = 50_000_000
# Lambda copies the file when a version is published. The bucket needs it only until then.
KEPT_DAYS = 7
# A bucket is in one region, and Lambda reads the zip file from a bucket of its own region.
REGION_PLACE = "{region}"
_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
# "PublishLayerVersion": the names that Lambda allows.
_LAYER_NAME = re.compile(r"[a-zA-Z0-9_-]{1,140}")
_REGION_NAME = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")

# What then helps, by the code of the error.
STEPS = {
    "AccessDenied": "Use an identity that may list, create and write the bucket (s3:ListBucket, CreateBucket, "
    "PutObject, PutBucketPublicAccessBlock, PutLifecycleConfiguration), or name a bucket that exists with --bucket.",
    "403": "The bucket is in another account, or this identity may not list it. Name another one with --bucket.",
    "AccessDeniedException": "Use an identity that may call lambda:ListLayerVersions, PublishLayerVersion and "
    "AddLayerVersionPermission, and sts:GetCallerIdentity.",
    "BucketAlreadyExists": "The bucket is in another account. Name another one with --bucket.",
    "CodeStorageExceededException": "Delete old versions of layers and functions in this region, or ask AWS for a higher "
    "quota.",
    "TooManyRequestsException": "Wait a minute and run the command again: what is published is not published twice.",
    "UnrecognizedClientException": "Sign in again. If the region is one that an account must enable, enable it.",
    "InvalidClientTokenId": "Sign in again. If the region is one that an account must enable, enable it.",
}


class LayerVersionArn(NamedTuple):
    """A version of the layer in a region, with what publishing it changed.

    Attributes:
        region: where it is.
        arn: of the version; empty if it does not exist and this was a dry run.
        version: its number; 0 where there is no ARN.
        existed: the region already had a version with this content.
        bucket: where the zip file was uploaded to; empty if it went to Lambda directly or did not have to go.
        granted: who may use the version by this call.
    """

    region: str
    arn: str
    version: int
    existed: bool
    bucket: str
    granted: tuple[str, ...]


class Publication(NamedTuple):
    """What to publish, and for whom.

    Attributes:
        layer: the built layer.
        name: of the Lambda layer.
        bucket: where the zip file goes to if it is large; may contain {region}. None for the command's own bucket.
        grants: who may use the version.
        dry_run: look, and change nothing.
    """

    layer: BuiltLayer
    name: str
    bucket: str | None = None
    grants: tuple[Grant, ...] = ()
    dry_run: bool = False


class UploadBucket(NamedTuple):
    """Where a large zip file goes to.

    Attributes:
        name: of the bucket.
        owner: the account that it must be in; None for any. The name of the default bucket can be guessed, and another
            account may have made a bucket of that name.
    """

    name: str
    owner: str | None


def check(publication: Publication, regions: tuple[str, ...]) -> None:
    """Check names before anything is sent.

    Raises:
        LayerError: a name is none that AWS allows, or one bucket is named for several regions.
    """
    if not _LAYER_NAME.fullmatch(publication.name):
        raise LayerError(
            f"{publication.name!r} is not the name of a layer.\nNext: give 1 to 140 letters, digits, hyphens or underscores."
        )
    for region in regions:
        if not _REGION_NAME.fullmatch(region):
            raise LayerError(f"{region!r} is not the name of a region.\nNext: give a name such as eu-west-1.")
    bucket = publication.bucket
    if bucket is None:
        return
    if len(regions) > 1 and REGION_PLACE not in bucket:
        raise LayerError(
            f"The bucket {bucket} is in one region, and Lambda reads the layer from a bucket of its own region.\n"
            f"Next: give one bucket for each region, such as --bucket '{bucket}-{REGION_PLACE}', or leave --bucket out."
        )
    for region in regions:
        if not _BUCKET_NAME.fullmatch(bucket.replace(REGION_PLACE, region)):
            raise LayerError(
                f"{bucket!r} is not the name of a bucket.\nNext: give the name alone, without s3://, with {REGION_PLACE} "
                "in the place of the region's name if it has one."
            )


def publish(
    publication: Publication, region: str, session: "Session", progress: Callable[[int], None] = lambda _sent: None
) -> LayerVersionArn:
    """Publish the layer in a region. The same content is not published twice under a name.

    Args:
        publication: what, and for whom; see `check`.
        region: where.
        session: the credentials.
        progress: is called with the number of bytes that were uploaded since the last call.

    Raises:
        LayerError: Lambda has other bytes than were sent.
        botocore.exceptions.BotoCoreError, ClientError: AWS refuses, or cannot be reached.
    """
    from botocore.config import Config

    # Lambda answers when it has copied and unpacked the whole layer.
    config = Config(retries={"mode": "standard", "max_attempts": 5}, read_timeout=300)
    client = session.client("lambda", region_name=region, config=config)
    layer = publication.layer
    found = _version_with(client, publication.name, layer.tree_sha256)
    granted = tuple(map(str, publication.grants))
    if found is not None:
        number, arn = found
        if not publication.dry_run:
            give(client, publication.name, number, publication.grants)
        return LayerVersionArn(region, arn, number, True, "", granted)
    bucket = None
    if layer.zip_bytes > DIRECT_BYTES:
        bucket = _upload_bucket(publication.bucket, region, session)
    name = bucket.name if bucket else ""
    if publication.dry_run:
        return LayerVersionArn(region, "", 0, False, name, granted)
    number, arn = _publish(client, publication, bucket, region, session, progress)
    give(client, publication.name, number, publication.grants)
    return LayerVersionArn(region, arn, number, False, name, granted)


def _version_with(client: "LambdaClient", name: str, tree_sha256: str) -> tuple[int, str] | None:
    """Number and ARN of the version whose description has this hash."""
    try:
        for page in client.get_paginator("list_layer_versions").paginate(LayerName=name):
            for version in page["LayerVersions"]:
                if version.get("Description", "").endswith(f"{HASH_MARK}{tree_sha256}"):
                    return version["Version"], version["LayerVersionArn"]
    except client.exceptions.ResourceNotFoundException:
        pass  # no layer has this name yet
    return None


def _publish(
    client: "LambdaClient",
    publication: Publication,
    bucket: UploadBucket | None,
    region: str,
    session: "Session",
    progress: Callable[[int], None],
) -> tuple[int, str]:
    layer = publication.layer
    runtimes: list[RuntimeType] = list(layer.runtimes)  # type: ignore[arg-type]  # botocore checks no names
    architectures: list[ArchitectureType] = list(layer.architectures)  # type: ignore[arg-type]
    if bucket:
        key = _upload(session, bucket, region, layer, progress)
        content = {"S3Bucket": bucket.name, "S3Key": key}
    else:
        content = {"ZipFile": layer.path.read_bytes()}  # type: ignore[dict-item]
    done = client.publish_layer_version(
        LayerName=publication.name,
        Description=layer.description,
        Content=content,  # type: ignore[arg-type]
        CompatibleRuntimes=runtimes,
        CompatibleArchitectures=architectures,
        LicenseInfo=layer.license_info,
    )
    if not bucket:
        progress(layer.zip_bytes)
    number, arn = done["Version"], done["LayerVersionArn"]
    has = base64.b64decode(done["Content"]["CodeSha256"]).hex()
    if has != layer.zip_sha256:
        client.delete_layer_version(LayerName=publication.name, VersionNumber=number)
        raise LayerError(
            f"Lambda received {has}, and {layer.zip_sha256} was sent. The version {arn} was removed again.\n"
            f"Next: check the network, and run the command again.{f' The bucket is {bucket.name}.' if bucket else ''}"
        )
    return number, arn


def _upload_bucket(wanted: str | None, region: str, session: "Session") -> UploadBucket:
    if wanted is not None:
        return UploadBucket(wanted.replace(REGION_PLACE, region), None)
    account = session.client("sts", region_name=region).get_caller_identity()["Account"]
    return UploadBucket(f"lambda-torch-layers-{account}-{region}", account)


def _upload(
    session: "Session", bucket: UploadBucket, region: str, layer: BuiltLayer, progress: Callable[[int], None]
) -> str:
    """Send the zip file to the bucket, which is made if it does not exist; the key of the file there."""
    from boto3.s3.transfer import TransferConfig

    client = session.client("s3", region_name=region)
    key = f"lambda-torch/layers/{layer.zip_sha256}.zip"
    owner: dict[str, Any] = {"ExpectedBucketOwner": bucket.owner} if bucket.owner else {}
    if _found(lambda: client.head_bucket(Bucket=bucket.name, **owner)) is None:
        _make_bucket(client, bucket.name, region)
    there = _found(lambda: client.head_object(Bucket=bucket.name, Key=key, **owner))
    if there is not None and there["ContentLength"] == layer.zip_bytes:
        progress(layer.zip_bytes)
        return key
    client.upload_file(
        str(layer.path),
        bucket.name,
        key,
        # S3 checks each part on arrival, so a file of that name has the bytes that the name says.
        ExtraArgs={"ChecksumAlgorithm": "SHA256", **owner},
        Callback=progress,
        Config=TransferConfig(multipart_chunksize=8 << 20),
    )
    return key


def _found(look: Callable[[], Any]) -> Any:
    """What a call finds. None if S3 answers that there is no such thing."""
    from botocore.exceptions import ClientError

    try:
        return look()
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
        return None


def _make_bucket(client: "S3Client", bucket: str, region: str) -> None:
    """A private bucket whose uploads go after some days."""
    if region == "us-east-1":
        client.create_bucket(Bucket=bucket)
    else:
        place = {"LocationConstraint": region}
        client.create_bucket(Bucket=bucket, CreateBucketConfiguration=place)  # type: ignore[arg-type]
    client.put_public_access_block(
        Bucket=bucket,
        PublicAccessBlockConfiguration={
            "BlockPublicAcls": True,
            "IgnorePublicAcls": True,
            "BlockPublicPolicy": True,
            "RestrictPublicBuckets": True,
        },
    )
    client.put_bucket_lifecycle_configuration(
        Bucket=bucket,
        LifecycleConfiguration={
            "Rules": [
                {
                    "ID": "published-layers",
                    "Status": "Enabled",
                    "Filter": {"Prefix": "lambda-torch/layers/"},
                    "Expiration": {"Days": KEPT_DAYS},
                    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
                }
            ]
        },
    )
