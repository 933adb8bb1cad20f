"""The function in AWS's own container, behind `sam local start-api`, with S3 on this machine."""

import contextlib
import json
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lambda_torch import project
from lambda_torch.emulator.processes import Child, Processes
from lambda_torch.emulator.run import example_of
from lambda_torch.emulator.storage import Storage
from lambda_torch.sam import command
from lambda_torch.sam.docker import Host, host
from lambda_torch.sam.network import network

BUCKET = "models"
FOLDER = project.BUILD / "sam"
# SAM copies the layer into an image first.
START_SECONDS = 600.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class Variables:
    """A file for `sam local ... --env-vars`: the function's environment.

    Attributes:
        path: the file.
        values: its content. SAM passes on only variables that the template declares.
        example: a request for the published release, as JSON text.
    """

    path: Path
    values: dict[str, str]
    example: str


@contextmanager
def storage(release: Path, processes: Processes, say: Say) -> Iterator[tuple[Storage, Variables]]:
    """An S3 server with a published release, which containers can reach, and the function's variables for it.

    Raises:
        lambda_torch.errors.LambdaTorchError: Docker, the server or the publication failed.
    """
    from lambda_torch.releases.bucket import Bucket
    from lambda_torch.releases.publishing import publish

    FOLDER.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="run-", dir=FOLDER))
    try:
        address: Host = host()
        say("Starting the S3 server (moto)")
        server = Storage(processes, scratch, BUCKET, host=address.bind)
        say(f"Publishing {release} to s3://{BUCKET} at {server.url}")
        published = publish(release, Bucket(server.client(), BUCKET))
        values = {"MODEL_BUCKET": BUCKET, "AWS_ENDPOINT_URL_S3": server.url.replace(address.bind, address.name)}
        path = scratch / "env.json"
        path.write_text(json.dumps({"Parameters": values}))
        yield server, Variables(path, values, example_of(published.release.manifest))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@dataclass(frozen=True)
class Api:
    """A running `sam local start-api`.

    Attributes:
        network: the Docker network of its containers.
    """

    url: str
    child: Child
    network: str


@contextmanager
def start_api(
    processes: Processes, variables: Variables, port: int, log: Callable[[str], None], root: Path = project.ROOT
) -> Iterator[Api]:
    """Serve the last build at a loopback port. Afterwards no process, container or network of it is left.

    Raises:
        EmulatorError: SAM ended, or does not listen. The message has its last lines.
    """
    with network() as name:
        child = processes.start(
            "sam local start-api",
            [
                *(command.executable(), "local", "start-api", "--port", str(port), "--skip-pull-image"),
                *("--docker-network", name, "--env-vars", str(variables.path)),
            ],
            command.environment(),
            root,
            log,
        )
        try:
            child.wait_listening(port, START_SECONDS)
            yield Api(f"http://127.0.0.1:{port}", child, name)
        finally:
            # SAM removes its containers when it gets this signal. `network` removes what is left.
            with contextlib.suppress(ProcessLookupError):
                child.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(Exception):
                child.process.wait(20)
            processes.stop(child)
