"""Measures the time from a piece made in the model to its bytes at an HTTP client, through `lambda-torch serve`.

Model and client read the same clock. The pieces come with pauses, as from a model that computes, and the client takes
each line as it arrives. Prints the median and the 99th percentile in milliseconds.

    python -m benchmarks.pieces --pieces 500
"""

import argparse
import contextlib
import http.client
import json
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

MODEL = Path(__file__).with_name("clock")


@contextlib.contextmanager
def served(release: Path) -> Iterator[str]:
    """The function with the model of this benchmark; gives host and port."""
    program = str(Path(sys.executable).with_name("lambda-torch"))
    options = (
        "--port",
        "0",
        "--layer",
        "stock",
        "--concurrency",
        "1",
        "--model",
        str(MODEL),
        "--release",
        str(release),
    )
    with subprocess.Popen(
        [program, "serve", *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            curl = next(line for line in process.stdout if line.startswith("curl"))
            yield urlsplit(shlex.split(curl)[-1]).netloc
        finally:
            process.send_signal(signal.SIGINT)


def delays(address: str, pieces: int, pause: float) -> Iterator[float]:
    """The milliseconds of each piece of one answer."""
    with contextlib.closing(http.client.HTTPConnection(address, timeout=60)) as connection:
        body = json.dumps({"pieces": pieces, "pause": pause})
        connection.request("POST", "/predict", body, {"Accept": "application/x-ndjson"})
        response = connection.getresponse()
        while line := response.readline():
            arrived = time.time_ns()
            found = json.loads(line)
            if "piece" in found:
                yield (arrived - found["piece"]["made"]) / 1e6


def main() -> None:
    """Serve, warm up, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pieces", type=int, default=500, help="how many pieces (default: %(default)s)")
    parser.add_argument("--pause", type=float, default=0.01, help="seconds between two pieces (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        release = Path(folder)
        (release / "note.txt").write_text("This model needs no weights.\n")
        with served(release) as address:
            list(delays(address, 10, options.pause))
            found = sorted(delays(address, options.pieces, options.pause))
    last = found[int(len(found) * 0.99)]
    print(json.dumps({"pieces": len(found), "median_ms": round(statistics.median(found), 3), "p99_ms": round(last, 3)}))


if __name__ == "__main__":
    main()
