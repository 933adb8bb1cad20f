"""The function behind the local gateway, and a real Chromium in front of it."""

import contextlib
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from browser.chromium import BROWSER, DRIVER, Chromium
from lambda_torch.emulator import software
from lambda_torch.emulator.gateway import Gateway
from lambda_torch.emulator.payloads import PAYLOADS
from lambda_torch.emulator.run import LocalRun, Reports, RunOptions, Served, listen, running, serving
from lambda_torch.project import ROOT

SILENT = Reports(step=lambda _: None, note=lambda _: None, log=lambda _: None)
SCREENSHOTS = ROOT / "build" / "tests" / "screenshots"

Serve = Callable[[Served], str]
Handle = Callable[[web.BaseRequest], Coroutine[Any, Any, web.StreamResponse]]


def function(release: Path, first_event: bytes | None = None) -> AbstractContextManager[LocalRun]:
    """The function, with a Runtime API of its own; cold unless there is a first event."""
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
    return Gateway(run.pool, PAYLOADS["v1"], streams=run.streams)


class Front:
    """What stands between a client and an application: `handle` answers, or asks the application."""

    def __init__(self, app: Served, handle: Handle) -> None:
        self.thread = app.thread
        self.handle = handle


def asking_for(key: str, app: Served) -> Front:
    """Refuses predictions without this key, as API Gateway's usage plans do."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "POST" and request.headers.get("X-Api-Key") != key:
            return web.json_response({"message": "Forbidden"}, status=403)
        return await app.handle(request)

    return Front(app, handle)


def saying(html: str, app: Served) -> Front:
    """A site of its own: one page, beside the application."""

    async def handle(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text=html, content_type="text/html")

    return Front(app, handle)


def noting(asked: list[str], app: Served) -> Front:
    """Adds method and path of every request to the list, in the order in which they arrive."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(f"{request.method} {request.path}")
        return await app.handle(request)

    return Front(app, handle)


def at_stage(stage: str, app: Served) -> Front:
    """Puts a stage before every path, as API Gateway does, and knows nothing else."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if not request.path.startswith(stage):
            return web.Response(text="nothing here", status=404)
        return await app.handle(request.clone(rel_url=request.raw_path.removeprefix(stage) or "/"))

    return Front(app, handle)


@pytest.fixture(scope="session")
def serve() -> Iterator[Serve]:
    """Serves an application on a port of its own, and gives its address."""
    with ExitStack() as stack:

        def start(app: Served) -> str:
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
