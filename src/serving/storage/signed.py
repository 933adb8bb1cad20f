"""GET requests to S3, signed and sent with the standard library.

Beside torch, boto3 would take the largest part of a start: it loads hundreds of modules, S3's service model and its
endpoint rules, for a few GETs (`python -m benchmarks.imports` measures it). This module has what those GETs need:
Signature Version 4, which the tests compare with botocore's; connections that are used again; and the two sources of
credentials that functions have. Where an environment needs more than that, `open_objects` takes boto3.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

import contextlib
import hashlib
import hmac
import http.client
import json
import random
import re
import ssl
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from serving.settings import AwsEnvironment
from serving.storage.connection import BoundedConnection, BoundedResponse
from serving.storage.deadline import Deadline
from serving.storage.objects import (
    CONNECT_SECONDS,
    DOCUMENT_SECONDS,
    READ_SECONDS,
    FetchError,
    Objects,
    OpenedObject,
    no_answer,
    refused,
)

# Regions of the partitions whose endpoints are known here (aws, aws-cn, aws-us-gov). Other partitions have other
# domains.
_REGION = re.compile(r"(?:af|ap|ca|cn|eu|il|me|mx|sa|us)(?:-gov)?-[a-z]+-\d")
_EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
# S3 may have closed an idle connection; that is noticed only when it is used.
ATTEMPTS = 2
LONGEST_PAUSE_SECONDS = 0.2
# New credentials are read when the old ones are valid for no longer than this. Lambda's are valid for hours.
SPARE_SECONDS = 300.0
MAX_ERROR_BYTES = 64 * 1024
IDLE_CONNECTIONS = 10


def open_objects(environment: AwsEnvironment) -> Objects:
    """S3 for this environment: by plain GETs where those are enough, else by boto3."""
    if why_boto3(environment) is None:
        return SignedObjects(environment)
    from serving.storage.boto import BotoObjects, open_client

    return BotoObjects(open_client())


def why_boto3(environment: AwsEnvironment) -> str | None:
    """What this environment needs that only boto3 can do; None where plain GETs are enough."""
    if environment.special:
        return f"{environment.special[0]} is set"
    if not environment.region:
        return "no region is set"
    if not environment.endpoint and not _REGION.fullmatch(environment.region):
        return f"the region {environment.region!r} has endpoints of its own"
    has_container = environment.container_url.startswith(("http://127.0.0.1", "http://localhost", "http://169.254."))
    if not environment.key and not has_container:
        return "the credentials are neither in the environment nor at an address on this host"
    return None


class Credentials(NamedTuple):
    """What signs requests, until `expires` (seconds since 1970)."""

    key: str
    secret: str
    token: str
    expires: float


def signed_headers(
    host: str, path: str, region: str, credentials: Credentials, now: datetime, sent: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The headers of a GET of `path` (percent-encoded, no query), signed by Signature Version 4 for S3.

    Args:
        host: the header Host.
        now: the time, in UTC.
        sent: more headers, which are not signed.
    """
    moment, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    headers = {"host": host, "x-amz-content-sha256": _EMPTY_SHA256, "x-amz-date": moment}
    if credentials.token:
        headers["x-amz-security-token"] = credentials.token
    names = ";".join(headers)  # they have to be in alphabetical order, as they are above
    listed = "".join(f"{name}:{value}\n" for name, value in headers.items())
    request = f"GET\n{path}\n\n{listed}\n{names}\n{_EMPTY_SHA256}"
    scope = f"{day}/{region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"AWS4{credentials.secret}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    authorization = (
        f"AWS4-HMAC-SHA256 Credential={credentials.key}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return {**headers, "authorization": authorization, **(sent or {})}


class SignedObjects:
    """Objects of S3, read by signed GETs. Several threads may use it.

    Args:
        environment: where S3 is, and what signs.
    """

    def __init__(self, environment: AwsEnvironment) -> None:
        self._environment = environment
        self._region = environment.region
        self._credentials: Credentials | None = None
        self._idle: dict[str, list[BoundedConnection]] = {}
        self._tls: ssl.SSLContext | None = None
        self._lock = threading.Lock()

    def get(
        self,
        bucket: str,
        key: str,
        *,
        byte_range: str | None = None,
        unless: str | None = None,
        deadline: Deadline | None = None,
    ) -> OpenedObject:
        """As `Objects.get`."""
        deadline = deadline or Deadline(DOCUMENT_SECONDS)
        sent = {"range": byte_range, "if-none-match": unless}
        headers = {name: value for name, value in sent.items() if value is not None}
        for attempt in range(1, ATTEMPTS + 1):
            is_last = attempt == ATTEMPTS
            # An idle connection may be dead without a sign of it. So the first attempt leaves time for the last one.
            answers_by = deadline.within(READ_SECONDS if is_last else min(READ_SECONDS, deadline.remaining / 2))
            try:
                place, connection, response = self._ask(bucket, key, headers, answers_by, is_new=attempt > 1)
            except (OSError, http.client.HTTPException) as error:
                if is_last:
                    raise no_answer(bucket, key, error) from error
                continue
            if response.status in (200, 206):
                response.source.deadline = deadline
                body = _SignedBody(self, place, connection, response)
                said = response.headers.get("content-length", "")
                length = int(said) if said.isascii() and said.isdecimal() else -1
                return OpenedObject(
                    length, response.headers.get("etag", ""), response.headers.get("content-range"), body
                )
            failure = self._failure(bucket, key, place, connection, response)
            moved = self._moved(response)
            if is_last or not (moved or (isinstance(failure, FetchError) and failure.retryable)):
                raise failure
            if not moved:
                deadline.pause(random.uniform(0, LONGEST_PAUSE_SECONDS))  # noqa: S311 (not a secret)
        raise AssertionError("unreachable")

    def close(self) -> None:
        """As `Objects.close`."""
        with self._lock:
            idle, self._idle, self._credentials = self._idle, {}, None
        for connections in idle.values():
            for connection in connections:
                connection.close()

    def give_back(self, place: str, connection: BoundedConnection) -> None:
        """Keep a connection whose answer was read to its end, for the next request."""
        with self._lock:
            kept = self._idle.setdefault(place, [])
            if len(kept) < IDLE_CONNECTIONS:
                kept.append(connection)
                return
        connection.close()

    def _ask(
        self, bucket: str, key: str, sent: Mapping[str, str], deadline: Deadline, *, is_new: bool
    ) -> tuple[str, BoundedConnection, BoundedResponse]:
        base, path = self._address(bucket, key)
        signing = self._signing(deadline)
        headers = signed_headers(urlsplit(base).netloc, path, self._region, signing, datetime.now(UTC), sent)
        connection = self._connection(base, is_new)
        return base, connection, connection.get(path, headers, deadline)

    def _address(self, bucket: str, key: str) -> tuple[str, str]:
        """Scheme with host, and path.

        No certificate matches a bucket name with a dot, so such a name goes into the path.
        """
        path = quote(f"/{key}", safe="/-._~")
        if self._environment.endpoint:
            parts = urlsplit(self._environment.endpoint)
            return f"{parts.scheme}://{parts.netloc}", f"{parts.path.rstrip('/')}/{bucket}{path}"
        domain = f"s3.{self._region}.amazonaws.com{'.cn' if self._region.startswith('cn-') else ''}"
        if "." in bucket:
            return f"https://{domain}", f"/{bucket}{path}"
        return f"https://{bucket}.{domain}", path

    def _connection(self, base: str, is_new: bool) -> BoundedConnection:
        with self._lock:
            kept = self._idle.get(base)
            if kept and not is_new:
                return kept.pop()
            if urlsplit(base).scheme == "http":
                return BoundedConnection(base)
            if self._tls is None:
                self._tls = ssl.create_default_context()
            return BoundedConnection(base, self._tls)

    def _failure(
        self,
        bucket: str,
        key: str,
        place: str,
        connection: BoundedConnection,
        response: BoundedResponse,
    ) -> Exception:
        try:
            # A connection that was read to its end can be used for the next request.
            text = response.read(MAX_ERROR_BYTES).decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return no_answer(bucket, key, error)
        if response.isclosed() and not response.will_close:
            self.give_back(place, connection)
        else:
            connection.close()
        # S3's errors are flat XML documents.
        found = {name: re.search(f"<{name}>([^<]*)</{name}>", text) for name in ("Code", "Message")}
        code, message = (match[1] if match else "" for match in found.values())
        return refused(bucket, key, response.status, code or str(response.status), message or response.reason)

    def _moved(self, response: http.client.HTTPResponse) -> bool:
        """Whether the bucket is in another region than the function. From then on requests go there."""
        region = response.headers.get("x-amz-bucket-region", self._region)
        if response.status not in (301, 307, 400) or region == self._region or not _REGION.fullmatch(region):
            return False
        self._region = region
        return True

    def _signing(self, deadline: Deadline) -> Credentials:
        credentials = self._credentials
        if credentials is None or credentials.expires - time.time() < SPARE_SECONDS:
            credentials = self._credentials = current_credentials(self._environment, deadline)
        return credentials


def current_credentials(environment: AwsEnvironment, deadline: Deadline) -> Credentials:
    """The function's credentials, read until the deadline.

    Lambda puts them into the environment or, with SnapStart, behind an address on this host.

    Raises:
        OSError, http.client.HTTPException: that address does not answer, or answers without credentials.
    """
    if environment.key:
        return Credentials(environment.key, environment.secret, environment.token, float("inf"))
    parts = urlsplit(environment.container_url)
    connection = BoundedConnection(f"{parts.scheme}://{parts.netloc}")
    with contextlib.closing(connection):
        headers = {"Host": parts.netloc, "Authorization": environment.container_token}
        response = connection.get(parts.path or "/", headers, deadline.within(CONNECT_SECONDS))
        content = response.read(MAX_ERROR_BYTES)
    try:
        found = json.loads(content)
        expires = datetime.fromisoformat(str(found["Expiration"])).timestamp()
        return Credentials(str(found["AccessKeyId"]), str(found["SecretAccessKey"]), str(found["Token"]), expires)
    except (ValueError, KeyError, TypeError):
        raise OSError(f"the service for credentials answered {response.status} without credentials") from None


class _SignedBody:
    """The bytes of one answer. The connection is given back when all were read."""

    def __init__(
        self,
        owner: SignedObjects,
        place: str,
        connection: BoundedConnection,
        response: BoundedResponse,
    ) -> None:
        self._owner, self._place, self._response = owner, place, response
        self._connection: BoundedConnection | None = connection

    def read(self, count: int, /) -> bytes:
        """As `Body.read`."""
        try:
            return self._response.read(count)
        except TimeoutError:
            raise
        except (OSError, http.client.HTTPException) as error:
            raise ConnectionError(str(error) or type(error).__name__) from error

    def close(self) -> None:
        """As `Body.close`."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        response = self._response
        if response.length == 0 and not response.will_close:
            response.close()
            self._owner.give_back(self._place, connection)
        else:
            response.close()
            connection.close()
