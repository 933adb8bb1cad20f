"""The function's own GETs: signed as botocore signs, on connections that are used again, with the credentials of the moment."""

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from hypothesis import given
from hypothesis import strategies as st

from serving.settings import SPECIAL, AwsEnvironment
from serving.storage import signed
from serving.storage.deadline import Deadline
from serving.storage.objects import CONNECT_SECONDS, FetchError, read_small
from serving.storage.signed import Credentials, SignedObjects, signed_headers, why_boto3

LETTERS = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/+=", min_size=16, max_size=40)
NAMES = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-~", min_size=1, max_size=20)


@given(
    key=st.lists(NAMES.filter(lambda name: name.strip(".")), min_size=1, max_size=4),
    region=st.sampled_from(["us-east-1", "eu-central-2", "cn-north-1", "us-gov-west-1", "ap-southeast-7"]),
    credentials=st.tuples(LETTERS, LETTERS, st.just("") | LETTERS),
    moment=st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1)),
)
def test_requests_are_signed_as_botocore_signs(
    key: list[str], region: str, credentials: tuple[str, str, str], moment: datetime
) -> None:
    """For any object, region, credentials and time, the signature is botocore's."""
    moment = moment.replace(microsecond=0)
    host, path = f"bucket.s3.{region}.amazonaws.com", quote("/" + "/".join(key), safe="/-._~")
    ours = signed_headers(host, path, region, Credentials(*credentials, float("inf")), moment.replace(tzinfo=UTC))
    theirs = AWSRequest("GET", f"https://{host}{path}", headers={"x-amz-content-sha256": ours["x-amz-content-sha256"]})
    theirs.context["timestamp"] = moment.strftime("%Y%m%dT%H%M%SZ")
    signer = S3SigV4Auth(BotocoreCredentials(credentials[0], credentials[1], credentials[2] or None), "s3", region)
    # botocore asks the clock by itself; what it does after that is signed at our moment.
    theirs.headers["X-Amz-Date"] = theirs.context["timestamp"]
    if credentials[2]:
        theirs.headers["X-Amz-Security-Token"] = credentials[2]
    request = signer.canonical_request(theirs)
    signature = signer.signature(signer.string_to_sign(theirs, request), theirs)
    assert ours["authorization"].endswith(f"Signature={signature}")
    assert f"SignedHeaders={signer.signed_headers(signer.headers_to_sign(theirs))}," in ours["authorization"]
    assert f"Credential={signer.scope(theirs)}," in ours["authorization"]


class Script(BaseHTTPRequestHandler):
    """Answers with the next of `script`: status, headers, body."""

    protocol_version = "HTTP/1.1"
    script: ClassVar[list[tuple[int, dict[str, str], bytes]]] = []
    asked: ClassVar[list[tuple[str, Any]]] = []
    connections: ClassVar[set[Any]] = set()

    def do_GET(self) -> None:
        """Answer as the script says."""
        Script.asked.append((self.path, self.headers))
        Script.connections.add(self.client_address)
        status, headers, body = Script.script.pop(0)
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        if headers.get("X-Then") == "hang up":
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    """The address of a server that answers as `Script.script` says."""
    Script.script, Script.asked, Script.connections = [], [], set()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Script)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def environment(url: str, **more: str) -> AwsEnvironment:
    """A function's, with its S3 at this address."""
    return AwsEnvironment("eu-west-1", endpoint=url, **({"key": "K", "secret": "S"} | more))  # type: ignore[arg-type]


def content(objects: SignedObjects) -> bytes:
    """The object `a/b` of `bucket`."""
    found = objects.get("bucket", "a/b")
    body = found.body.read(1000)
    assert found.body.read(1) == b""
    found.body.close()
    return body


OK = (200, {"ETag": '"e"'}, b"hello")


def test_a_connection_is_used_again(url: str) -> None:
    """Reads that follow each other share one connection, errors included."""
    Script.script += [OK, (404, {}, b"<Error><Code>NoSuchKey</Code></Error>"), OK]
    objects = SignedObjects(environment(url))
    assert content(objects) == b"hello"
    with pytest.raises(FileNotFoundError):
        objects.get("bucket", "a/b")
    assert content(objects) == b"hello"
    assert len(Script.connections) == 1
    assert [path for path, _ in Script.asked] == ["/bucket/a/b"] * 3


def test_a_connection_that_was_closed_meanwhile_is_replaced(url: str) -> None:
    """S3 closes idle connections; the next read notices, and takes a new one."""
    Script.script += [(200, {"X-Then": "hang up"}, b"hello"), OK]
    objects = SignedObjects(environment(url))
    assert [content(objects), content(objects)] == [b"hello"] * 2
    assert len(Script.connections) == 2


def test_an_answer_that_was_not_read_to_its_end_is_not_taken_for_the_next(url: str) -> None:
    """Closing a body half way gives up its connection."""
    Script.script += [OK, OK]
    objects = SignedObjects(environment(url))
    found = objects.get("bucket", "a/b")
    assert found.body.read(2) == b"he"
    found.body.close()
    assert content(objects) == b"hello"
    assert len(Script.connections) == 2


def test_a_bucket_elsewhere_is_asked_there(url: str) -> None:
    """S3 says in which region the bucket is, and from then on requests are signed for it."""
    Script.script += [
        (301, {"x-amz-bucket-region": "ap-south-1"}, b"<Error><Code>PermanentRedirect</Code></Error>"),
        OK,
        OK,
    ]
    objects = SignedObjects(environment(url))
    assert [content(objects), content(objects)] == [b"hello"] * 2
    regions = [headers["authorization"].split("/")[2] for _, headers in Script.asked]
    assert regions == ["eu-west-1", "ap-south-1", "ap-south-1"]


def test_a_refusal_says_what_s3_said(url: str) -> None:
    """S3's own code and message are in the error."""
    Script.script += [(403, {}, b"<Error><Code>AccessDenied</Code><Message>Not you</Message></Error>")]
    with pytest.raises(FetchError, match="S3 refused to read a/b from bucket: 403 AccessDenied: Not you") as caught:
        SignedObjects(environment(url)).get("bucket", "a/b")
    assert not caught.value.retryable


@pytest.mark.parametrize("length", ["abc", "-5", ""])
def test_an_answer_without_a_length_is_not_read(url: str, length: str) -> None:
    """A small object whose length is not a number might go on for ever, and is worth trying again."""
    Script.script += [(200, {"Content-Length": length}, b"hello")]
    with pytest.raises(FetchError, match="did not say how many bytes") as caught:
        read_small(SignedObjects(environment(url)), "bucket", "a/b", 100)
    assert caught.value.retryable


def test_without_a_server_the_error_is_the_networks() -> None:
    """Nobody listens: an error that is worth trying again later."""
    with pytest.raises(FetchError, match="S3 did not answer for a/b in bucket") as caught:
        SignedObjects(environment("http://127.0.0.1:9")).get("bucket", "a/b")
    assert caught.value.retryable


def container(key: str, expires: datetime) -> tuple[int, dict[str, str], bytes]:
    """What the credentials' own service answers."""
    found = {"AccessKeyId": key, "SecretAccessKey": "S", "Token": f"token of {key}", "Expiration": expires.isoformat()}
    return 200, {}, json.dumps(found).encode()


def test_a_network_without_a_way_to_s3_is_told_with_the_next_step_in_time() -> None:
    """An address that takes no connection, as S3's in a VPC without an endpoint, ends within the time for a document."""
    with socket.socket() as server, contextlib.ExitStack() as stack:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        # The place for waiting connections is taken, so the system leaves the next one without an answer.
        for _ in range(3):
            other = stack.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(server.getsockname())
        environment = AwsEnvironment("us-east-1", f"http://127.0.0.1:{server.getsockname()[1]}", "key", "secret")
        deadline = Deadline(0.6)
        with pytest.raises(
            FetchError, match=r"S3 did not answer for k in bucket: no connection to 127\.0\.0\.1: timed out"
        ) as told:
            SignedObjects(environment).get("bucket", "k", deadline=deadline)
        advice = "in a VPC, give the route tables of its subnets a gateway endpoint for S3"
        assert f"{advice} (the stack's parameters VpcId and RouteTableIds make one)" in str(told.value)
        assert told.value.retryable
        assert deadline.remaining > -CONNECT_SECONDS


def test_credentials_of_the_container_are_asked_for_when_they_run_out(url: str) -> None:
    """With SnapStart credentials come from an address; they are kept while they are good, and forgotten by `close`."""
    now = datetime.now(UTC)
    Script.script += [container("OLD", now + timedelta(seconds=60)), OK]
    Script.script += [container("NEW", now + timedelta(hours=6)), OK, OK]
    Script.script += [container("OTHER", now + timedelta(hours=6)), OK]
    more = {"key": "", "secret": "", "container_url": f"{url}/credentials", "container_token": "permission"}
    objects = SignedObjects(environment(url, **more))
    for _ in range(3):
        content(objects)
    objects.close()
    content(objects)
    used = [
        headers["authorization"].split("=")[1].split("/")[0] for path, headers in Script.asked if path != "/credentials"
    ]
    assert used == ["OLD", "NEW", "NEW", "OTHER"]
    tokens = {headers["x-amz-security-token"] for path, headers in Script.asked if path != "/credentials"}
    assert tokens == {"token of OLD", "token of NEW", "token of OTHER"}
    permissions = [headers["authorization"] for path, headers in Script.asked if path == "/credentials"]
    assert permissions == ["permission"] * 3


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"AccessKeyId": 1}', b"<html>"])
def test_a_container_without_credentials_is_an_error_of_storage(url: str, body: bytes) -> None:
    """Whatever else that address answers is told, and nothing is signed with it."""
    Script.script += [(200, {}, body)] * signed.ATTEMPTS
    with pytest.raises(FetchError, match="without credentials"):
        SignedObjects(environment(url, key="", container_url=f"{url}/credentials")).get("bucket", "a/b")


PLAIN = {"AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "K", "AWS_SECRET_ACCESS_KEY": "S"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"AWS_REGION": "cn-north-1"}, None),
        ({"AWS_REGION": "us-gov-west-1"}, None),
        ({"AWS_REGION": "us-iso-east-1"}, "endpoints of its own"),
        ({"AWS_REGION": "eusc-de-east-1"}, "endpoints of its own"),
        ({"AWS_REGION": ""}, "no region is set"),
        ({"AWS_REGION": "", "AWS_ENDPOINT_URL_S3": "http://localhost:1"}, "no region is set"),
        ({"AWS_ACCESS_KEY_ID": ""}, "credentials"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:9001/2021/c"}, None),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://elsewhere.example/"}, "credentials"),
        ({"AWS_USE_FIPS_ENDPOINT": "false"}, None),
        *[({name: "x"}, f"{name} is set") for name in SPECIAL],
    ],
)
def test_what_plain_gets_cannot_do_is_left_to_boto3(changes: dict[str, str], reason: str | None) -> None:
    """Proxies, certificates, profiles, other partitions and other credentials are boto3's; everything usual is not."""
    found = why_boto3(AwsEnvironment.from_environment(PLAIN | changes))
    assert (found is None) == (reason is None)
    assert reason is None or (found is not None and reason in found)


@pytest.mark.parametrize(
    ("region", "bucket", "address"),
    [
        ("eu-west-1", "models", ("https://models.s3.eu-west-1.amazonaws.com", "/releases/a%20b")),
        ("cn-north-1", "models", ("https://models.s3.cn-north-1.amazonaws.com.cn", "/releases/a%20b")),
        (
            "eu-west-1",
            "models.example.com",
            ("https://s3.eu-west-1.amazonaws.com", "/models.example.com/releases/a%20b"),
        ),
    ],
)
def test_addresses_are_s3s(region: str, bucket: str, address: tuple[str, str]) -> None:
    """Buckets have hosts of their own, in the region's domain, where a certificate allows it."""
    objects = SignedObjects(AwsEnvironment(region, key="K", secret="S"))
    assert objects._address(bucket, "releases/a b") == address


def test_secrets_are_not_in_its_text() -> None:
    """What is logged of an environment by accident holds no secret."""
    text = repr(AwsEnvironment("eu-west-1", key="K", secret="SECRET", token="SECRET", container_token="SECRET"))
    assert "SECRET" not in text
