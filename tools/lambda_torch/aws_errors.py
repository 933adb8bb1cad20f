"""What boto3 raises, made into messages with the next step."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from lambda_torch.errors import BucketError, LambdaTorchError

# The usual problems with AWS, and what helps. The names are error codes of botocore, or names of its exceptions.
NEXT_STEPS = {
    "NoSuchBucket": "Look up its name in the stack's outputs (sam list stack-outputs), or create it.",
    "ParamValidationError": "Correct --bucket: give only the name, without s3://.",
    "ResourceNotFoundException": "Look up its name in the stack's outputs (sam list stack-outputs), and check the region.",
    "StateMachineDoesNotExist": "Look up its ARN in the stack's outputs (sam list stack-outputs), and check the region.",
    "InvalidArn": "Look up its ARN in the stack's outputs (sam list stack-outputs).",
    "NoCredentialsError": "Sign in (aws configure, or aws sso login), or set AWS_PROFILE.",
    "PartialCredentialsError": "Sign in (aws configure, or aws sso login), or set AWS_PROFILE.",
    "ProfileNotFound": "Set AWS_PROFILE to a profile in ~/.aws/config, or make it (aws configure --profile NAME).",
    "NoRegionError": "Set AWS_DEFAULT_REGION, or a region in ~/.aws/config.",
    "ExpiredToken": "Sign in again (aws sso login).",
    "UnauthorizedSSOTokenError": "Sign in again (aws sso login).",
    "InvalidAccessKeyId": "Sign in with an identity of the bucket's account.",
    "AccessDenied": "Use an identity that may list, read and write the bucket (s3:ListBucket, GetObject, PutObject).",
    "403": "Use an identity that may list, read and write the bucket (s3:ListBucket, GetObject, PutObject).",
    "EndpointConnectionError": "Check the network, the region and AWS_ENDPOINT_URL_S3.",
    "ConnectTimeoutError": "Check the network, the region and AWS_ENDPOINT_URL_S3.",
    "SlowDown": "Wait a minute and run the command again. It continues where it stopped.",
}


@contextmanager
def explained(
    name: str,
    kind: str = "bucket",
    raises: type[LambdaTorchError] = BucketError,
    steps: Mapping[str, str] | None = None,
) -> Iterator[None]:
    """Turn what boto3 raises into an error of the command line with the next step.

    Args:
        name: the name of what could not be used.
        kind: what it is.
        raises: the class of the error.
        steps: next steps that replace those of NEXT_STEPS, by error code or exception name.
    """
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError, Boto3Error) as error:
        code = str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))
        names = [code, type(error).__name__]
        # S3UploadFailedError has the cause only in its text.
        known = {**NEXT_STEPS, **(steps or {})}
        step = next((text for name, text in known.items() if name in names or f"({name})" in str(error)), None)
        advice = step or "Run the command again. It continues where it stopped."
        raise raises(f"The {kind} {name} cannot be used: {error}\nNext: {advice}") from error
