"""Measures what a request costs inside the function besides the model: the handler's time minus `Model.predict`'s.

The function runs in this process as Lambda runs it with 1,769 MB (one vCPU). Its release comes from an S3 API over
HTTP, and its log goes to a file. Handler and model take turns, so a machine that slows down slows both. The table has
medians in milliseconds.
"""

import contextlib
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from lambda_torch import project

ROUNDS = 2000
WARM_UP = 200
LETTERS = ("R", "RUS", "RUSABCDEFGHIKLMNOPTVWXYZjq")

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
    "MODEL_BUCKET": "models",
}


def seconds(call: Callable[[], object]) -> float:
    """The wall time of one call, in seconds."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(folder: Path, scratch: Path) -> list[dict[str, float | int]]:
    """One row for each number of start letters: medians of handler, model and their difference, in ms."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it writes a line for every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        os.environ.update(
            ENVIRONMENT, AWS_ENDPOINT_URL_S3=f"http://{host}:{port}", RELEASE_CACHE=str(scratch / "cache")
        )
        import boto3

        boto3.client("s3").create_bucket(Bucket="models")
        import app  # before torch is imported: it sets torch's threads from the memory size
        from lambda_torch.releases.bucket import Bucket
        from lambda_torch.releases.publishing import publish

        publish(folder, Bucket(boto3.client("s3"), "models"))
        app.service.follower.start()
        return [_row(app, letters) for letters in LETTERS]
    finally:
        server.stop()


def _row(app: object, letters: str) -> dict[str, float | int]:
    model = app.service.follower.peek().model  # type: ignore[attr-defined]
    category = model.example().category
    request = app.model.Request(category=category, start_letters=letters)  # type: ignore[attr-defined]
    event = json.loads((project.EVENTS / "api-v1.json").read_text())
    event["body"] = json.dumps({"category": category, "start_letters": letters})
    context = SimpleNamespace(aws_request_id="7b61c6af-0000-4000-8000-000000000000")
    handler = app.lambda_handler  # type: ignore[attr-defined]
    pairs = [
        (seconds(lambda: handler(event, context)), seconds(lambda: model.predict([request]))) for _ in range(ROUNDS)
    ]
    handled, bare = zip(*pairs[WARM_UP:], strict=True)
    difference = [one - other for one, other in pairs[WARM_UP:]]
    return {
        "start_letters": len(letters),
        "handler_ms": round(statistics.median(handled) * 1e3, 4),
        "predict_ms": round(statistics.median(bare) * 1e3, 4),
        "overhead_ms": round(statistics.median(difference) * 1e3, 4),
    }


def main() -> None:
    """Print the table and write build/bench/overhead.json."""
    from lambda_torch.names.default import a_release

    folder = a_release()
    # The log is part of a request's cost, so it is written, but to a file and not to this terminal.
    with (
        tempfile.TemporaryDirectory() as scratch,
        (Path(scratch) / "log").open("w") as log,
        contextlib.redirect_stdout(log),
    ):
        rows = measure(folder, Path(scratch))
    target = project.BUILD / "bench" / "overhead.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps({"rounds": ROUNDS, "rows": rows}, indent=1) + "\n")
    print("| start letters | handler, ms | bare predict, ms | overhead, ms |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row['start_letters']} | {row['handler_ms']} | {row['predict_ms']} | {row['overhead_ms']} |")
    print(f"written to {target.relative_to(project.ROOT)}", file=sys.stderr)


if __name__ == "__main__":
    main()
