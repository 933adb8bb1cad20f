"""What AWS's runtime client has in C (its module `runtime_client`), with the standard library.

AWS compiles that module for Linux only. On other systems `bootstrap` puts this one in its place, so the rest of the
runtime client is AWS's there too. The functions have the names and arguments of AWS's.
"""

import http.client
import json
import os

_API = "/2018-06-01/runtime/invocation"
_FORBIDDEN_IN_HEADERS = str.maketrans("\r\n", "  ")

_connection: http.client.HTTPConnection | None = None
_headers: dict[str, str] = {}


def initialize_client(user_agent: str) -> None:
    """Keep the name that requests carry."""
    _headers["User-Agent"] = user_agent


def next() -> tuple[bytes, dict[str, str]]:
    """Wait for the next event. Returns its bytes, and the headers of the Runtime API."""
    status, headers, body = _call("GET", f"{_API}/next")
    if status != http.client.OK:
        raise RuntimeError(f"the Runtime API answered {status} instead of an event")
    return body, headers


def post_invocation_result(
    invoke_id: str, data: bytes, content_type: str = "application/json", _invocation_id: str | None = None
) -> None:
    """Send the answer to an event."""
    _post(f"{_API}/{invoke_id}/response", data, {"Content-Type": content_type})


def post_error(invoke_id: str, error: str, xray_fault: str, _invocation_id: str | None = None) -> None:
    """Send an exception instead of an answer."""
    kind = json.loads(error).get("errorType", "")
    headers = {
        "Content-Type": "application/vnd.aws.lambda.error+json",
        "Lambda-Runtime-Function-Error-Type": kind,
        "Lambda-Runtime-Function-XRay-Error-Cause": xray_fault.translate(_FORBIDDEN_IN_HEADERS),
    }
    _post(f"{_API}/{invoke_id}/error", error.encode(), headers)


def _post(path: str, body: bytes, headers: dict[str, str]) -> None:
    status, _, said = _call("POST", path, body, headers)
    if status not in (http.client.OK, http.client.ACCEPTED):
        raise RuntimeError(f"the Runtime API answered {status}: {said.decode(errors='replace')}")


def _call(
    method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    global _connection
    if _connection is None:
        _connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    try:
        _connection.request(method, path, body, {**_headers, **(headers or {})})
        answer = _connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    except BaseException:
        _connection.close()
        _connection = None
        raise
