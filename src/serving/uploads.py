"""Files that are larger than Lambda's payload: the client sends them to the bucket, and a request names them.

`POST /uploads` gives an address with a signed policy (Amazon S3 API, "POST Policy"): one new key below `uploads/`, a
limit on the bytes, and a time. A request then names the file by `{"upload": "<id>"}`. The stack removes uploads after a
day.
"""

import re
import uuid
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticCustomError

from serving.errors import HttpError
from serving.settings import AwsEnvironment, Settings
from serving.storage import signed
from serving.storage.deadline import Deadline
from serving.storage.objects import FetchError, Objects, read_small
from serving.types.contents import Content, refused

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PREFIX = "uploads/"
# 122 random bits: nobody guesses the id of another client's upload.
_ID = re.compile(r"[0-9a-f]{32}")


def offer(settings: Settings) -> dict[str, Any]:
    """Room for one file: `{"upload", "url", "fields", "max_bytes", "expires"}`.

    The client sends a form to `url` by POST, with `fields` and then the file in the field `file`.

    Raises:
        HttpError: 503 `no_bucket` or `storage_unavailable`.
    """
    from botocore.exceptions import BotoCoreError

    identity, seconds = uuid.uuid4().hex, settings.upload_seconds
    expires = datetime.now(UTC) + timedelta(seconds=seconds)
    bucket = _bucket(settings)
    try:
        form = _client().generate_presigned_post(
            bucket,
            settings.key_prefix + PREFIX + identity,
            Conditions=[["content-length-range", 1, settings.max_upload_bytes]],
            ExpiresIn=seconds,
        )
    except BotoCoreError as error:
        raise HttpError(503, "storage_unavailable", f"The upload cannot be signed: {error}") from error
    return {
        "upload": identity,
        "url": form["url"],
        "fields": form["fields"],
        "max_bytes": settings.max_upload_bytes,
        "expires": expires.isoformat(timespec="seconds"),
    }


def read(settings: Settings, identity: str, max_bytes: int) -> Content:
    """The bytes of an upload.

    Args:
        identity: the id, as the client wrote it.
        max_bytes: the most bytes that the field takes.

    Raises:
        PydanticCustomError: `upload_unknown` or `file_too_large`: the client's mistakes.
        HttpError: 503 `no_bucket` or `storage_unavailable`.
    """
    if not _ID.fullmatch(identity):
        raise refused("upload_unknown", "an upload's id has 32 characters, as POST /uploads gives it")
    deadline = Deadline(settings.wait_seconds)
    key = settings.key_prefix + PREFIX + identity
    try:
        content, _ = read_small(_objects(), _bucket(settings), key, max_bytes, deadline=deadline)
    except FileNotFoundError:
        message = "there is no such upload. Next: send the file to the address that POST /uploads gave, then ask again"
        raise refused("upload_unknown", message) from None
    except ValueError:
        raise _too_large(max_bytes) from None
    except FetchError as error:
        raise HttpError(503, "storage_unavailable", str(error)) from error
    return Content(content)


def _too_large(max_bytes: int) -> PydanticCustomError:
    return refused("file_too_large", f"the upload has more than {max_bytes} bytes", limit=max_bytes)


def _bucket(settings: Settings) -> str:
    if settings.bucket is None:
        raise HttpError(503, "no_bucket", "The function has no bucket. Next: set its variable MODEL_BUCKET.")
    return settings.bucket


@cache
def _objects() -> Objects:
    return signed.open_objects(AwsEnvironment.from_environment())


@cache
def _client() -> "S3Client":
    # Signature Version 4, and the bucket's own name for the host, which every region takes.
    import boto3
    from botocore.config import Config

    return boto3.client("s3", config=Config(signature_version="s3v4", s3={"addressing_style": "auto"}))
