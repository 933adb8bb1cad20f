"""What the commands on a bucket of releases share: options, the client, errors and output."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    import boto3

    from lambda_torch.releases.bucket import Bucket

F = TypeVar("F", bound=Callable[..., Any])


def bucket_options(function: F) -> F:
    """`--bucket` and `--endpoint-url`."""
    function = click.option(
        "--endpoint-url", help="The address of another S3 than AWS's, such as a local one. Also: AWS_ENDPOINT_URL_S3."
    )(function)
    return click.option(
        "--bucket",
        required=True,
        envvar="MODEL_BUCKET",
        show_envvar=True,
        help="The bucket of the releases: ModelBucketName in the stack's outputs.",
    )(function)


def channel_option(function: F) -> F:
    """`--channel`."""
    return click.option(
        "--channel",
        default="live",
        show_default=True,
        callback=channel_name,
        help="The channel that functions follow.",
    )(function)


def json_option(function: F) -> F:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(function)


def dry_run_option(function: F) -> F:
    """`--dry-run`."""
    return click.option("--dry-run", is_flag=True, help="Check everything and change nothing.")(function)


def channel_name(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """Check the name of a channel, where one is given."""
    if value is None:
        return None
    from pydantic import TypeAdapter, ValidationError

    from serving.releases.format import ChannelName

    try:
        checked: str = TypeAdapter(ChannelName).validate_python(value)
    except ValidationError:
        raise click.BadParameter("a channel's name has 1 to 63 characters, each a-z, 0-9 or '-'") from None
    return checked


@contextmanager
def opened(
    bucket: str,
    endpoint_url: str | None,
    *,
    region: str | None = None,
    profile: str | None = None,
    role_arn: str | None = None,
) -> Iterator["Bucket"]:
    """The bucket. What goes wrong with it is a `BucketError` with the next step.

    Args:
        bucket: its name.
        endpoint_url: another S3 than AWS's.
        region: where the bucket is. None for the region of the AWS settings.
        profile: whose credentials. None for those of the environment.
        role_arn: a role that these credentials take on.
    """
    from botocore.config import Config

    from lambda_torch.aws_errors import explained
    from lambda_torch.errors import BucketError
    from lambda_torch.releases.bucket import Bucket

    config = Config(retries={"mode": "standard", "max_attempts": 5})
    with explained(bucket):
        try:
            session = _session(profile, role_arn)
            client = session.client("s3", region_name=region, endpoint_url=endpoint_url, config=config)
        except ValueError as error:
            # botocore raises it for an endpoint that is not an address.
            raise BucketError(f"{error}\nNext: correct --endpoint-url or AWS_ENDPOINT_URL_S3.") from error
        yield Bucket(client, bucket)


def _session(profile: str | None, role_arn: str | None) -> "boto3.Session":
    """A session with the credentials of a profile, or of a role that it takes on for an hour."""
    import boto3

    if profile is None and role_arn is None:
        # The default session, so that a command reads botocore's data files once.
        if boto3.DEFAULT_SESSION is None:
            boto3.setup_default_session()
        assert boto3.DEFAULT_SESSION is not None
        return boto3.DEFAULT_SESSION
    session = boto3.Session(profile_name=profile)
    if role_arn is None:
        return session
    taken = session.client("sts").assume_role(RoleArn=role_arn, RoleSessionName="lambda-torch")["Credentials"]
    return boto3.Session(
        taken["AccessKeyId"], taken["SecretAccessKey"], taken["SessionToken"], region_name=session.region_name
    )


def print_json(value: Any) -> None:
    """Print a value as JSON, for programs."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))
