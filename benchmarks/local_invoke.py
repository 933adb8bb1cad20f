"""Measures the seconds of `sam local invoke`, which copies the layer into an image at each call, and of `start-api`.

The program needs Docker, and what `sam build --use-container` made: of the checkout, or of the folder that is named.

    python -m benchmarks.local_invoke [FOLDER]

`layer copied` is the part of an invocation before the container starts, from SAM's own lines.
"""

import json
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from lambda_torch import project
from lambda_torch.emulator.processes import Processes, free_port
from lambda_torch.names.default import a_release
from lambda_torch.sam import command, docker, start_api

ROUNDS = 3
RESULT = project.BUILD / "bench" / "local_invoke.json"
REQUEST = b'{"category":"Russian","start_letters":"RUS"}'
# What SAM says when the image is ready, and the container is about to start.
READY = "Mounting"


def invoke(folder: Path, variables: start_api.Variables) -> tuple[float, float]:
    """One `sam local invoke`: its seconds in all, and those until its image was there."""
    event = str(project.EVENTS / "bare.json")
    words = [command.executable(), "local", "invoke", "--event", event, "--env-vars", str(variables.path)]
    began, ready = time.perf_counter(), 0.0
    with subprocess.Popen(
        words, cwd=folder, env=command.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if READY in line and not ready:
                ready = time.perf_counter() - began
        answer = process.stdout.read()
    if process.returncode or json.loads(answer)["statusCode"] != 200:
        raise RuntimeError(f"sam local invoke failed: {answer}{''.join(said)}")
    return time.perf_counter() - began, ready


def request(url: str) -> float:
    """The seconds of one request."""
    began = time.perf_counter()
    with urllib.request.urlopen(f"{url}/predict", data=REQUEST, timeout=start_api.START_SECONDS) as answer:
        answer.read()
    return time.perf_counter() - began


def main() -> int:
    """Measure, print, and keep the figures in build/bench/local_invoke.json."""
    folder = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else project.ROOT
    docker.require()
    with Processes() as processes, start_api.storage(a_release(), processes, print) as (_, variables):
        invocations = [invoke(folder, variables) for _ in range(ROUNDS)]
        lines: list[str] = []
        with start_api.start_api(processes, variables, free_port(), lines.append, folder) as api:
            first, later = request(api.url), [request(api.url) for _ in range(ROUNDS)]
    seconds = {
        "sam local invoke": statistics.median(total for total, _ in invocations),
        "of it, until the container starts": statistics.median(ready for _, ready in invocations),
        "start-api, first request": first,
        "start-api, later requests": statistics.median(later),
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(seconds, indent=1) + "\n")
    for name, value in seconds.items():
        print(f"{name:36} {value:8.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
