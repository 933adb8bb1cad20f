"""What the commands that work on a bucket of releases share: options, the client, errors and output."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from lambda_torch.releases.bucket import Bucket

F = TypeVar("F", bound=Callable[..., Any])


def bucket_options(function: F) -> F:
    """`--bucket` and `--endpoint-url`."""
    function = click.option(
        "--endpoint-url", help="Another S3 than AWS's, such as a local one. AWS_ENDPOINT_URL_S3 works too."
    )(function)
    return click.option(
        "--bucket",
        required=True,
        envvar="MODEL_BUCKET",
        show_envvar=True,
        help="The bucket of the releases: ModelBucketName of the stack's outputs.",
    )(function)


def channel_option(function: F) -> F:
    """`--channel`."""
    return click.option(
        "--channel",
        default="live",
        show_default=True,
        callback=_channel_name,
        help="The channel that functions follow.",
    )(function)


def json_option(function: F) -> F:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(function)


def dry_run_option(function: F) -> F:
    """`--dry-run`."""
    return click.option("--dry-run", is_flag=True, help="Check everything and change nothing.")(function)


def _channel_name(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    from pydantic import TypeAdapter, ValidationError

    from serving.releases.format import ChannelName

    try:
        return TypeAdapter(ChannelName).validate_python(value)
    except ValidationError:
        raise click.BadParameter("a channel's name is made of a-z, 0-9 and '-', at most 63 of them") from None


@contextmanager
def opened(bucket: str, endpoint_url: str | None) -> Iterator["Bucket"]:
    """The bucket; what goes wrong with it is a message with the next step, and exit status 1."""
    import boto3
    from botocore.config import Config

    from lambda_torch.releases.bucket import Bucket
    from lambda_torch.releases.errors import ReleasesError, explained

    config = Config(retries={"mode": "standard", "max_attempts": 5})
    try:
        with explained(bucket):
            try:
                client = boto3.client("s3", endpoint_url=endpoint_url, config=config)
            except ValueError as error:
                # botocore's own for an address that is none.
                raise ReleasesError(f"{error}\nNext: correct --endpoint-url or AWS_ENDPOINT_URL_S3.") from error
            yield Bucket(client, bucket)
    except ReleasesError as error:
        raise click.ClickException(str(error)) from error


def print_json(value: Any) -> None:
    """For programs."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))
