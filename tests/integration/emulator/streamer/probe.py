"""A function that streams through the project's own hook, and does what the event says. It needs no torch."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from serving.runtime import hook
from serving.runtime.answer import StreamedAnswer


class Log:
    """Takes what the hook has to say."""

    def write(self, level: str, message: str, more: dict[str, Any]) -> None:
        """Print it."""
        print(json.dumps({"level": level, "message": message, **more}), flush=True)


REFUSED = hook.install(os.environ["AWS_LAMBDA_RUNTIME_API"], Log())  # type: ignore[arg-type]
assert REFUSED is None, REFUSED


class Pieces:
    """The pieces that an order asks for, and a diary of them."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._made = self._make(order)
        self._diary = Path(order["diary"]) if "diary" in order else None

    def _write(self, line: str) -> None:
        if self._diary is not None:
            with self._diary.open("a") as file:
                file.write(line + "\n")

    def _make(self, order: dict[str, Any]) -> Iterator[bytes]:
        for number in range(order.get("pieces", 3)):
            if number == order.get("at"):
                self._act(order)
            self._write(f"made {number}")
            yield f"{number}:".encode() + b"x" * order.get("size", 0) + b"\n"

    def _act(self, order: dict[str, Any]) -> None:
        match order["act"]:
            case "raise":
                raise RuntimeError("the model broke")
            case "exit":
                os._exit(9)
            case "sleep":
                time.sleep(60)
            case "wait":
                self._write("waiting")
                while not Path(order["go"]).exists():
                    time.sleep(0.005)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._made)

    def close(self, reason: str = "stop") -> None:
        """End the answer here."""
        self._write(f"closed {reason}")


def handler(event: Any, context: Any) -> Any:
    """Stream what the order says: the event itself, or the body of an HTTP event."""
    order = json.loads(event["body"] or "{}") if isinstance(event, dict) and "requestContext" in event else event
    if order.get("plain"):
        return {"statusCode": 200, "body": str(os.getpid())}
    headers = {"Content-Type": "text/plain", "X-Process": str(os.getpid()), **order.get("headers", {})}
    status = order.get("status", 200)
    return StreamedAnswer.of(status, headers, Pieces(order), lambda: context.get_remaining_time_in_millis() / 1000)
