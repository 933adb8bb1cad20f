"""The body of an answer in pieces, as bytes arrive: server-sent events, or lines of JSON.

Only a line feed ends a line here. Python's own `splitlines` knows eleven more characters, which JSON may contain.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any, Literal

from lambda_torch_client.answers import StreamEnd
from lambda_torch_client.errors import StreamError, api_error

Form = Literal["events", "lines"]
MEDIA_TYPES: dict[Form, str] = {"events": "text/event-stream", "lines": "application/x-ndjson"}

# The kind of a part of the body, `piece`, `end` or `error`, and its JSON.
Part = tuple[str, Any]


class PieceDecoder:
    """Turns bytes into pieces.

    Attributes:
        end: how the answer ended; None before that.
        count: pieces so far.
    """

    def __init__(self, form: Form) -> None:
        self._parts: Callable[[bytes], Iterator[Part]] = _Events().line if form == "events" else _lines
        self._rest = bytearray()
        self.end: StreamEnd | None = None
        self.count = 0

    def feed(self, data: bytes) -> Iterator[Any]:
        """The pieces that are whole with these bytes.

        Raises:
            ApiError: the model failed after the first piece.
            StreamError: the bytes are no answer in pieces.
        """
        self._rest += data
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            try:
                parts = list(self._parts(bytes(line.removesuffix(b"\r"))))
            except ValueError as error:
                raise StreamError(f"The answer in pieces has a line that cannot be read: {error}.") from error
            for kind, value in parts:
                if kind == "piece":
                    self.count += 1
                    yield value
                elif kind == "end":
                    self.end = _end(value)
                elif kind == "error":
                    raise api_error(None, value)

    def close(self) -> None:
        """The connection has ended.

        Raises:
            StreamError: the answer has no end.
        """
        if self.end is None:
            raise StreamError(
                f"The connection ended after {self.count} pieces, before the end of the answer.",
                "ask again; the log of the function says why it ended",
            )


def _end(value: Any) -> StreamEnd:
    try:
        figures = {name: float(value[name]) for name in ("first_piece_ms", "pieces_per_second")}
        return StreamEnd(str(value["finish_reason"]), int(value["pieces"]), **figures)
    except (KeyError, TypeError, ValueError) as error:
        raise StreamError(f"The end of the answer cannot be read: {value!r}.") from error


def _lines(line: bytes) -> Iterator[Part]:
    """Lines of JSON: an object with one key each."""
    if line:
        found = json.loads(line)
        if not isinstance(found, dict) or len(found) != 1:
            raise ValueError("it is not an object with one key")
        ((kind, value),) = found.items()
        yield kind, {"error": value} if kind == "error" else value


class _Events:
    """Server-sent events (HTML standard, "Interpreting an event stream"), as far as an answer has them."""

    def __init__(self) -> None:
        self._name = ""
        self._data: list[str] = []

    def line(self, line: bytes) -> Iterator[Part]:
        """The event that ends with this line, if one does."""
        if not line:
            if self._data:
                yield self._name or "piece", json.loads("\n".join(self._data))
            self._name, self._data = "", []
            return
        field, _, value = line.decode().partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._name = value
