"""What the commands on a bucket of releases share: options, the client, errors and output."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

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


def model_name_option(function: F) -> F:
    """`--model`, of the commands that need no code of the model."""
    return click.option(
        "--model",
        metavar="NAME",
        default="",
        help="The model, in a stack with several (lambda-torch models). Its releases and channels are its own.",
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
        raise click.BadParameter("a channel's name has 1 to 63 characters, each a-z, 0-9 or '-'") from None


@contextmanager
def opened(bucket: str, endpoint_url: str | None, model: str = "") -> Iterator["Bucket"]:
    """The bucket. What goes wrong with it is a `BucketError` with the next step.

    Args:
        bucket: its name.
        endpoint_url: the address of another S3 than AWS's.
        model: the name of a model, in a stack with several.
    """
    import boto3
    from botocore.config import Config

    from lambda_torch.aws_errors import explained
    from lambda_torch.errors import BucketError
    from lambda_torch.releases.bucket import Bucket

    config = Config(retries={"mode": "standard", "max_attempts": 5})
    with explained(bucket):
        try:
            client = boto3.client("s3", endpoint_url=endpoint_url, config=config)
        except ValueError as error:
            # botocore raises it for an endpoint that is not an address.
            raise BucketError(f"{error}\nNext: correct --endpoint-url or AWS_ENDPOINT_URL_S3.") from error
        if model:
            _check_model(client, bucket, model)
        yield Bucket(client, bucket, model)


def _check_model(client: "S3Client", bucket: str, model: str) -> None:
    """Refuse a name that is neither in models.toml nor in the bucket."""
    from lambda_torch.errors import BucketError
    from lambda_torch.several import model_table

    table = model_table.find()
    if table is not None:
        table.row(model)
        return
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="models/", Delimiter="/")
    known = [each["Prefix"].split("/")[1] for page in pages for each in page.get("CommonPrefixes", [])]
    if model not in known:
        raise BucketError(
            f"{model_table.unknown(model, known, f'the bucket {bucket}')}\n"
            f"A new model is in {model_table.FILE_NAME}: run this where that file is."
        )


def print_json(value: Any) -> None:
    """Print a value as JSON, for programs."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))
