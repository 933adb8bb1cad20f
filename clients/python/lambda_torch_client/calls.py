"""What the sync and the async client do alike: requests as bytes, answers as values, failures as errors."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

import httpx2
from typing_extensions import TypeVar

from lambda_torch_client.answers import Answer, timing
from lambda_torch_client.auth import ApiKey
from lambda_torch_client.errors import (
    ApiError,
    ModelServiceError,
    StreamError,
    UnreachableError,
    UploadError,
    api_error,
)
from lambda_torch_client.pieces import MEDIA_TYPES, Form
from lambda_torch_client.retries import RetryBudget, RetryRules

# The model's types, as `lambda-torch-client types` writes them. Without them, anything that JSON can say.
RequestT = TypeVar("RequestT", default=Any)
ResponseT = TypeVar("ResponseT", default=Any)
PieceT = TypeVar("PieceT", default=Any)

# Seconds to connect. The client's `timeout` is for everything else.
CONNECT_SECONDS = 10.0
JSON = "application/json"
REQUEST_IDS = ("x-amzn-requestid", "x-amzn-request-id", "apigw-requestid")


@dataclass(frozen=True)
class Call:
    """One request to the service."""

    method: str
    path: str
    body: bytes | None = None
    accept: str = JSON


class ServiceConnection(ABC, Generic[RequestT, ResponseT, PieceT]):
    """Where the service is, and how it is asked.

    Args:
        url: the address of the API, with its stage: what `lambda-torch serve` prints, or an output of the stack.
        key: an API key (`ApiAccess=key`).
        auth: another way to say who asks: `SigV4()`, `BearerToken(...)`, or any `httpx2.Auth`.
        timeout: seconds of silence after which a request is given up.
        retries: when requests are sent again.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        auth: httpx2.Auth | None = None,
        timeout: float = 60.0,
        retries: RetryRules | None = None,
    ) -> None:
        if key is not None and auth is not None:
            raise ValueError("Give a key or auth, and not both")
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"{url!r} is no address. Next: begin it with https://")
        self._url = url.rstrip("/")
        self._auth = ApiKey(key) if key is not None else auth
        self._timeout = httpx2.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS))
        self._budget = RetryBudget(retries or RetryRules())
        self._connect()

    @abstractmethod
    def _connect(self) -> None:
        """Make the connections of httpx2, in each client's own way."""

    def _request(self, http: "httpx2.Client | httpx2.AsyncClient", call: Call) -> httpx2.Request:
        headers = {"accept": call.accept} | ({} if call.body is None else {"content-type": JSON})
        return http.build_request(call.method, self._url + call.path, content=call.body, headers=headers)


def predict_call(request: object, accept: str = JSON) -> Call:
    """The call for one request, or for a list of them."""
    try:
        # Bodies are UTF-8 by the standard of JSON, and NaN is no number there.
        body = json.dumps(request, ensure_ascii=False, allow_nan=False, default=_dumped).encode()
    except (TypeError, ValueError) as error:
        raise ModelServiceError(
            f"The request cannot be written as JSON: {error}.",
            "send numbers, texts, lists and objects; for bytes use data_url",
        ) from error
    return Call("POST", "/predict", body, accept)


def stream_call(request: object, form: Form) -> Call:
    """The call for an answer in pieces."""
    return predict_call(request, MEDIA_TYPES[form])


def _dumped(value: object) -> object:
    """Models of pydantic stand for their JSON."""
    dump = getattr(value, "model_dump", None)
    if dump is None:
        raise TypeError(f"{type(value).__name__} is no type of JSON")
    return dump(mode="json", exclude_unset=True)


HEALTH = Call("GET", "/health")
DOCUMENT = Call("GET", "/openapi.json")
UPLOAD = Call("POST", "/uploads")


@contextmanager
def naming(url: str) -> Iterator[None]:
    """Around what uses the network: errors of httpx2 become errors of this package."""
    try:
        yield
    except httpx2.TimeoutException as error:
        connected = not isinstance(error, httpx2.ConnectTimeout)
        said = "took longer than the client's timeout" if connected else "does not take connections"
        step = "give the client a longer timeout, or ask for less at once" if connected else "check the address"
        raise UnreachableError(f"{url} {said}.", step, in_time=not connected) from error
    except httpx2.ConnectError as error:
        raise UnreachableError(
            f"Nothing answers at {url}: {error}.", "check the address, and that the service runs"
        ) from error
    except httpx2.TransportError as error:
        raise UnreachableError(
            f"The connection to {url} broke: {error or type(error).__name__}.", "ask again"
        ) from error


def failure(response: httpx2.Response) -> ApiError:
    """The error that a read response says."""
    pause = response.headers.get("retry-after", "")
    return api_error(
        response.status_code, _json(response), request_id(response), float(pause) if pause.isdecimal() else None
    )


def value_of(response: httpx2.Response) -> Any:
    """The JSON of a read response.

    Raises:
        ModelServiceError: it is none.
    """
    found = _json(response)
    if found is _NOTHING:
        kind = response.headers.get("content-type", "nothing")
        raise ModelServiceError(
            f"{response.url} answers with {kind} and not with JSON.",
            "check that the address is that of the API, with its stage",
        )
    return found


def answer_of(response: httpx2.Response) -> Answer[Any]:
    """The answer in a read response."""
    headers = response.headers
    phases = timing(headers.get("server-timing", ""))
    return Answer(value_of(response), headers.get("x-model-version"), phases, request_id(response))


def items_of(response: httpx2.Response, asked: int) -> list[Any]:
    """The answers to a list: values, and an `ApiError` in the place of each refused request."""
    found = value_of(response)
    if not isinstance(found, list) or len(found) != asked:
        raise ModelServiceError(f"The answer to {asked} requests is no list of as many answers.")
    return [api_error(None, each) if _refused(each) else each for each in found]


def _refused(item: Any) -> bool:
    """Whether an item of a list is an error: the one key, and the three of an error in it."""
    if not isinstance(item, dict) or item.keys() != {"error"} or not isinstance(item["error"], dict):
        return False
    return item["error"].keys() == {"code", "message", "details"}


def slices(requests: Sequence[RequestT], size: int) -> Iterator[Sequence[RequestT]]:
    """The requests in lists that the service takes."""
    if size < 1:
        raise ValueError("A list has one request or more")
    for start in range(0, len(requests), size):
        yield requests[start : start + size]


def request_id(response: httpx2.Response) -> str | None:
    """The id of the request."""
    return next((response.headers[name] for name in REQUEST_IDS if name in response.headers), None)


def check_streamed(response: httpx2.Response, form: Form) -> None:
    """Raise `StreamError` if a successful answer is none in pieces."""
    if response.headers.get("content-type", "").partition(";")[0].strip() != MEDIA_TYPES[form]:
        raise StreamError("The model does not answer in pieces.", "use predict, or give the model the method stream")


_NOTHING = object()


def _json(response: httpx2.Response) -> Any:
    try:
        return json.loads(response.content)
    except ValueError:
        return _NOTHING


@dataclass(frozen=True)
class UploadForm:
    """What `POST /uploads` answers."""

    upload: str
    url: str
    fields: dict[str, str]
    max_bytes: int

    @classmethod
    def of(cls, value: Any) -> "UploadForm":
        """Read the answer."""
        try:
            return cls(str(value["upload"]), str(value["url"]), dict(value["fields"]), int(value["max_bytes"]))
        except (KeyError, TypeError, ValueError) as error:
            raise UploadError("The answer of POST /uploads cannot be read.") from error

    def check(self, size: int) -> None:
        """Raise `UploadError` if the file is empty or too large, before any byte is sent."""
        if not 0 < size <= self.max_bytes:
            raise UploadError(
                f"The file has {size:,} bytes, and an upload takes 1 to {self.max_bytes:,}.",
                "send a smaller file, or raise MaxUploadBytes of the stack",
            )

    def done(self, response: httpx2.Response) -> None:
        """Raise `UploadError` if S3 refused the form."""
        if not response.is_success:
            text = response.text
            code = text.partition("<Code>")[2].partition("</Code>")[0] or f"status {response.status_code}"
            raise UploadError(f"The bucket refused the file: {code}.", "ask for a new upload, and send it at once")


def size_of(file: Path | bytes) -> int:
    """The bytes of a file."""
    return len(file) if isinstance(file, bytes) else file.stat().st_size
