"""The function behind the local gateway, and a real Chromium in front of it."""

import contextlib
import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from werkzeug.wrappers import Request, Response

from browser.chromium import BROWSER, DRIVER, Chromium
from lambda_torch.emulator import software
from lambda_torch.emulator.gateway import Gateway
from lambda_torch.emulator.payloads import PAYLOADS
from lambda_torch.emulator.run import LocalRun, Reports, RunOptions, listen, running, serving
from lambda_torch.project import ROOT

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

SILENT = Reports(step=lambda _: None, note=lambda _: None, log=lambda _: None)
SCREENSHOTS = ROOT / "build" / "tests" / "screenshots"

Serve = Callable[["WSGIApplication"], str]


def function(release: Path, first_event: bytes | None = None) -> AbstractContextManager[LocalRun]:
    """The function, under Lambda's own emulator; cold unless there is a first event."""
    return running(RunOptions(software.stock(), release, concurrency=1), first_event, SILENT)


@contextlib.contextmanager
def command(*options: str) -> Iterator[str]:
    """`lambda-torch serve`, for other models than this process knows; gives its address."""
    program = str(Path(sys.executable).with_name("lambda-torch"))
    arguments = [program, "serve", "--port", "0", "--layer", "stock", "--concurrency", "1", *options]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            line = next(line for line in process.stdout if line.startswith("curl"))
            yield shlex.split(line)[-1].removesuffix("/predict")
        finally:
            process.send_signal(signal.SIGINT)


def gateway(run: LocalRun) -> Gateway:
    """API Gateway in front of it."""
    return Gateway(run.pool, PAYLOADS["v1"])


def asking_for(key: str, app: "WSGIApplication") -> "WSGIApplication":
    """Refuses predictions without this key, as API Gateway's usage plans do."""

    def answer(environ: Any, start_response: Any) -> Any:
        request = Request(environ)
        if request.method == "POST" and request.headers.get("X-Api-Key") != key:
            refusal = Response(json.dumps({"message": "Forbidden"}), 403, content_type="application/json")
            return refusal(environ, start_response)
        return app(environ, start_response)

    return answer


def noting(asked: list[str], app: "WSGIApplication") -> "WSGIApplication":
    """Adds method and path of every request to the list, in the order in which they arrive."""

    def answer(environ: Any, start_response: Any) -> Any:
        request = Request(environ)
        asked.append(f"{request.method} {request.path}")
        return app(environ, start_response)

    return answer


@pytest.fixture(scope="session")
def serve() -> Iterator[Serve]:
    """Serves an application on a port of its own, and gives its address."""
    with ExitStack() as stack:

        def start(app: "WSGIApplication") -> str:
            return stack.enter_context(serving(app, stack.enter_context(listen("127.0.0.1", 0))))

        yield start


@pytest.fixture(scope="session")
def names(release: Path) -> Iterator[LocalRun]:
    """The sample model, running."""
    with function(release, b'{"warm": "up"}') as run:
        yield run


@pytest.fixture(scope="session")
def site(names: LocalRun, serve: Serve) -> str:
    """The address of the sample model's API."""
    return serve(gateway(names))


@pytest.fixture(scope="session")
def window() -> Iterator[Chromium]:
    """A browser for all tests: starting one takes seconds."""
    missing = [str(path) for path in (BROWSER, DRIVER) if not path.exists()]
    if missing:
        pytest.skip(f"needs {' and '.join(missing)} (Debian: apt-get install chromium chromium-driver)")
    with contextlib.closing(Chromium()) as chromium:
        yield chromium


@pytest.fixture
def browser(window: Chromium) -> Chromium:
    """The browser, as a usual screen."""
    window.look()
    return window


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """Where pictures of the page are left for people to look at."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    return SCREENSHOTS
