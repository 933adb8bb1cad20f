"""Serves the same model behind the same server: as the function, and as a FastAPI route.

The server is uvicorn with the same number of workers. Only the way from an HTTP request to an answer differs: this
project's, and FastAPI's. Both run on the event loop itself, which is the fastest way for a small model. Uvicorn's
workers import these by name.
"""

import functools
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lambda_torch import project

RELEASE = "BENCHMARK_RELEASE"

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Asgi = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]


def function() -> Asgi:
    """The function. It gets each request as an event of an HTTP API (payload 2.0). Its log is discarded.

    The measured time includes reading the event's JSON and writing the answer's JSON, because Lambda's runtime client
    does both for every request. It does not include writing the event's JSON, because API Gateway does that. So the
    event's text is made once for each different request.
    """
    project.use_function_code()
    sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 (open as long as this process lives)
    import app

    context = SimpleNamespace(aws_request_id="7b61c6af-0000-4000-8000-000000000000")

    @functools.cache
    def event_text(method: str, path: str, headers: tuple[tuple[bytes, bytes], ...], body: bytes) -> str:
        event = {
            "version": "2.0",
            "rawPath": path,
            "headers": {name.decode(): value.decode() for name, value in headers},
            "requestContext": {"stage": "$default", "http": {"method": method, "path": path}},
            "isBase64Encoded": False,
            "body": body.decode(),
        }
        return json.dumps(event)

    async def serve(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            part = await receive()
            body, more = body + part.get("body", b""), part.get("more_body", False)
        text = event_text(scope["method"], scope["path"], tuple(scope["headers"]), body)
        answer = app.lambda_handler(json.loads(text), context)
        json.dumps(answer)
        content = answer["body"].encode()
        headers = [(name.encode(), value.encode()) for name, value in answer["headers"].items()]
        headers.append((b"content-length", str(len(content)).encode()))
        await send({"type": "http.response.start", "status": answer["statusCode"], "headers": headers})
        await send({"type": "http.response.body", "body": content})

    return serve


def fastapi() -> Any:
    """The model as a FastAPI route, with the same request and response types."""
    project.use_function_code()
    from fastapi import FastAPI

    from model import Model, Request, Response

    model = Model.load(Path(os.environ[RELEASE]))
    model.predict([model.example()])
    api = FastAPI()

    @api.post("/predict")
    async def predict(request: Request) -> Response:
        model.check(request)
        return model.predict([request])[0]

    return api


def bare(release: str, seconds: str, body: str) -> None:
    """Print how many requests per second `Model.predict` alone answers in a loop."""
    import time

    project.use_function_code()
    from model import Model, Request

    model, request = Model.load(Path(release)), Request.model_validate_json(body)
    for _ in range(200):
        model.predict([request])
    count, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < float(seconds):
        model.predict([request])
        count += 1
    print(count / spent)


if __name__ == "__main__":
    bare(*sys.argv[1:])
