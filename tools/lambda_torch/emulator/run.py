"""The whole run: storage with a release in it, the pool, and a note with the address for `lambda-torch invoke`."""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import tempfile
import urllib.request
import uuid
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lambda_torch import project
from lambda_torch.emulator.crew import Pooled
from lambda_torch.emulator.environment import Environment
from lambda_torch.emulator.function import Function
from lambda_torch.emulator.invoke_api import IDENTITY_PATH
from lambda_torch.emulator.loop_thread import LoopThread
from lambda_torch.emulator.pool import Pool
from lambda_torch.emulator.processes import Processes
from lambda_torch.emulator.rie_environment import RieInPool
from lambda_torch.emulator.software import Software
from lambda_torch.emulator.storage import Storage
from lambda_torch.emulator.task_root import task_root
from lambda_torch.errors import EmulatorError

if TYPE_CHECKING:
    from aiohttp.web import BaseRequest, StreamResponse

    from serving.releases.format import Manifest

# The same as in template.yaml. A test compares them.
HANDLER = "app.lambda_handler"
MEMORY_MB = 3008
TIMEOUT_SECONDS = 30
STORAGE_MB = 512

BUCKET = "models"
FOLDER = project.BUILD / "emulator"
NOTE = FOLDER / "serving.json"

BACKLOG = 128
HEAD_LIMIT = 65_536
SHUTDOWN_SECONDS = 1.0  # for running requests, when a server ends


@dataclass(frozen=True)
class RunOptions:
    """The options of a run.

    Attributes:
        release: the release folder to publish.
        variables: more environment variables for the function.
        model: a folder whose package `model` replaces src/model. None uses src/model.
        golden: the file of golden examples, as for `publish`. None records the answer to the model's own example.
        all_at_once: whether to start all environments before the first event. Otherwise they start when the load needs
            them.
        shipped_emulator: whether environments are AWS's emulator that SAM ships. Otherwise each has a Runtime API of
            this package, which also streams.
    """

    software: Software
    release: Path
    concurrency: int = 2
    memory_mb: int = MEMORY_MB
    timeout_seconds: int = TIMEOUT_SECONDS
    variables: Mapping[str, str] = field(default_factory=dict)
    model: Path | None = None
    golden: Path | None = None
    all_at_once: bool = False
    shipped_emulator: bool = False


@dataclass(frozen=True)
class Reports:
    """Where a run reports: the steps of its start, notes while it runs, and the lines of the function's log."""

    step: Callable[[str], None]
    note: Callable[[str], None]
    log: Callable[[str], None]


@dataclass(frozen=True)
class LocalRun:
    """A running function.

    Attributes:
        version: the release that was published for it.
        example: a request that it answers, as JSON text.
        init_ms: milliseconds of the start-up of the first environment; None if it is not known.
        sources: the folders of the function's code.
        streams: whether the function can stream its answers.
    """

    pool: Pool
    storage: Storage
    version: str
    example: str
    init_ms: float | None
    sources: tuple[Path, ...]
    streams: bool


@contextmanager
def running(options: RunOptions, first_event: bytes | None, reports: Reports) -> Iterator[LocalRun]:
    """Start everything, and at the end of the block end everything. No process and no file of the run is left.

    With a `first_event`, the function has started when the block begins. Without one, it starts at its first event.

    Raises:
        EmulatorError, lambda_torch.errors.BucketError: what failed, and the next step.
    """
    from lambda_torch.releases.bucket import Bucket
    from lambda_torch.releases.publishing import publish

    scratch = _scratch_folder()
    try:
        with Processes() as processes:
            reports.step("Starting the S3 server (moto)")
            storage = Storage(processes, scratch, BUCKET)
            reports.step(f"Publishing {options.release} to s3://{BUCKET} at {storage.url}")
            bucket = Bucket(storage.client(), BUCKET, options.variables.get("MODEL_NAME", ""))
            release = publish(options.release, bucket, golden_file=options.golden).release
            reports.step(f"Starting the function on {options.software.label}")
            function = Function(
                project.SRC if options.model is None else task_root(scratch / "task", options.model),
                HANDLER,
                options.software,
                memory_mb=options.memory_mb,
                timeout_seconds=options.timeout_seconds,
                variables=variables_of(options, storage.url),
            )

            kind = RieInPool if options.shipped_emulator else Environment

            def make(number: int) -> Pooled:
                return kind(function, processes, scratch, f"environment {number}", reports.log)

            with contextlib.closing(Pool(make, options.concurrency, first_event, reports.note)) as pool:
                pool.start(options.concurrency if options.all_at_once else 1)
                version, example = release.ref.version, example_of(release.manifest)
                yield LocalRun(
                    pool,
                    storage,
                    version,
                    example,
                    pool.init_ms(),
                    sources_of(options),
                    streams=not options.shipped_emulator,
                )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def variables_of(options: RunOptions, storage_url: str) -> dict[str, str]:
    """The function's variables, as the template sets them: its waits and the room for releases follow from them."""
    return {
        "MODEL_BUCKET": BUCKET,
        "AWS_ENDPOINT_URL_S3": storage_url,
        **({} if options.shipped_emulator else {"RESPONSE_STREAMING": "both"}),
        "FUNCTION_TIMEOUT": str(options.timeout_seconds),
        "EPHEMERAL_STORAGE": str(STORAGE_MB),
        **options.variables,
    }


def sources_of(options: RunOptions) -> tuple[Path, ...]:
    """The folders of the function's code."""
    other = () if options.model is None else (project.model_package(options.model),)
    return (project.SRC, *other)


def _scratch_folder() -> Path:
    """Make a folder for this run's files. Remove the folders of killed runs, which could not remove theirs."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for folder in FOLDER.glob("run-*"):
        if not _runs(int(folder.name.split("-")[1])):
            shutil.rmtree(folder, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"run-{os.getpid()}-", dir=FOLDER))


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def example_of(manifest: "Manifest") -> str:
    """A request as JSON text: the example in the model's schema, or the first golden example of the release."""
    documented = documented_example()
    golden = next((each.request for each in manifest.golden), {})
    example = golden if documented is None else documented
    return json.dumps(example, ensure_ascii=False, separators=(",", ":"))


def documented_example() -> object | None:
    """The first example in the schema of the model's requests. None if there is none."""
    from model import Request

    extra = Request.model_config.get("json_schema_extra")
    examples = extra.get("examples") if isinstance(extra, dict) else None
    return examples[0] if isinstance(examples, list) and examples else None


def listen(host: str, port: int) -> socket.socket:
    """Reserve a port before long work begins. Connections are refused until a server listens on it.

    Raises:
        EmulatorError: the port is in use, or this user may not use it.
    """
    taken = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        # A port that was in use a minute ago can be bound again at once. A port with a listening program cannot.
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((host, port))
    except OSError as error:
        taken.close()
        raise EmulatorError(_port_problem(host, port, error)) from error
    return taken


def _port_problem(host: str, port: int, error: OSError) -> str:
    import errno

    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} is in use by another program. Next: stop it, or use another port, such as {port % 65535 + 1}."
        )
    if error.errno == errno.EACCES:
        return f"Only root may use port {port}. Next: use a port from 1024 on."
    return f"{host}:{port} cannot be used: {error.strerror or error}."


class Served(Protocol):
    """What `serving` serves: a gateway or an Invoke API."""

    thread: LoopThread

    async def handle(self, request: "BaseRequest") -> "StreamResponse":
        """Answer one request."""


@contextmanager
def serving(app: Served, taken: socket.socket) -> Iterator[str]:
    """Serve an application on a port from `listen`, on the application's event loop, until the block ends.

    Gives its URL.
    """
    host, port = taken.getsockname()[:2]
    try:
        taken.listen(BACKLOG)
    except OSError as error:  # another program has reserved it in the same way, and listens now
        raise EmulatorError(_port_problem(host, port, error)) from error
    close = app.thread.at_end(app.thread.wait_for(_open(app, taken)))
    try:
        yield f"http://{f'[{host}]' if ':' in host else host}:{port}"
    finally:
        close()
        taken.close()


async def _open(app: Served, taken: socket.socket) -> Callable[[], Coroutine[Any, Any, None]]:
    from aiohttp import web

    # A client that goes away cancels the handler. Bodies reach the function as they came. Headers have API Gateway's
    # room and more.
    server = web.Server(
        app.handle,
        handler_cancellation=True,
        auto_decompress=False,
        access_log=None,
        max_line_size=HEAD_LIMIT,
        max_field_size=HEAD_LIMIT,
    )
    listener = await asyncio.get_running_loop().create_server(server, sock=taken, backlog=BACKLOG)

    async def close() -> None:
        listener.close()
        transports = [connection.transport for connection in server.connections]
        await server.shutdown(timeout=SHUTDOWN_SECONDS)
        for transport in transports:
            if transport is not None:
                transport.abort()  # what a slow client has not read keeps a closed connection open

    return close


@dataclass(frozen=True)
class RunNote:
    """The address where a run can be invoked. It is in a file below build/ while the run lasts."""

    invoke_url: str
    identity: str
    process: int

    @contextmanager
    def left(self) -> Iterator[None]:
        """Write the note. At the end of the block remove it, unless another run has replaced it."""
        NOTE.parent.mkdir(parents=True, exist_ok=True)
        scratch = NOTE.with_suffix(f".{os.getpid()}")
        scratch.write_text(json.dumps(asdict(self)))
        scratch.replace(NOTE)
        try:
            yield
        finally:
            if _read_note() == self:
                NOTE.unlink(missing_ok=True)


def new_identity() -> str:
    """A text that differs for each run."""
    return uuid.uuid4().hex


def find_running() -> RunNote | None:
    """The note of a run that still runs: its address answers with the identity in the note. Other notes are ignored."""
    note = _read_note()
    if note is None:
        return None
    try:
        with urllib.request.urlopen(note.invoke_url + IDENTITY_PATH, timeout=2) as answer:  # noqa: S310
            said: bytes = answer.read(100)
    except (OSError, ValueError):
        return None
    return note if said.decode(errors="replace") == note.identity else None


def _read_note() -> RunNote | None:
    try:
        fields = json.loads(NOTE.read_text())
        note = RunNote(**fields)
    except (OSError, ValueError, TypeError):
        return None
    return note if isinstance(note.invoke_url, str) and note.invoke_url.startswith("http://127.0.0.1:") else None
