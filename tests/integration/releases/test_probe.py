"""A release with programs is tried in a process of its own: what crashes, hangs or grows there is a refusal."""

import os
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from integration.releases import program_model
from integration.releases.program_model import Request, Response
from program_kit import models
from serving.releases import format, probe
from serving.releases.format import GoldenExample, Manifest, ReleaseRef
from serving.releases.memory import MemoryFiles
from serving.releases.reading import PreparedRelease
from serving.releases.store import FetchedRelease
from serving.settings import child_environment
from serving.storage.deadline import AwakeClock, Deadline

# TorchScript is deprecated in torch 2.13; it is still read.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")

LIMITS = probe.ProbeLimits(probe.WORKING_BYTES, seconds=60)
SHORT = probe.ProbeLimits(probe.WORKING_BYTES, seconds=12)


class Misbehaving:
    """A model whose loading goes wrong as the release's file `way` says, as a program could make it go wrong."""

    @classmethod
    def load(cls, release: Path) -> "Misbehaving":
        """Misbehave."""
        way = (release / "way").read_text()
        if way == "crash":
            os.abort()
        if way == "segfault":
            import ctypes

            ctypes.string_at(0)
        if way == "leave":
            os._exit(0)
        if way == "system exit":
            raise SystemExit(3)
        if way == "loop":
            while True:
                pass
        if way == "sleep":
            import time

            time.sleep(1000)
        if way == "grow":
            bytearray(8 * 1024**3)
        if way == "write":
            (release / "written").write_text("x" * 100)
        if way == "delete":
            (release / "way").unlink()
        if way == "empty":
            os.truncate(release / "way", 0)
        if way == "connect":
            import socket

            socket.create_connection(("127.0.0.1", 9))
        if way == "start a program":
            os.execv("/bin/true", ["true"])
        if way == "look at credentials":
            raise ValueError(f"credentials: {[name for name in os.environ if name.startswith('AWS_')]}")
        if way == "talk":
            print("x" * 1_000_000)
        return cls()

    def predict(self, requests: list[Request]) -> list[Response]:
        """The rows as they are."""
        return [Response(row=request.row) for request in requests]


def manifest_of(folder: Path, *golden: GoldenExample) -> Manifest:
    """The folder's manifest."""
    files = format.describe(folder)
    return Manifest(
        schema_version=1,
        version=format.version_of(files),
        created=datetime.now(UTC),
        files=files,
        golden=list(golden),
    )


def attempt(folder: Path, model: type[Any], limits: probe.ProbeLimits, *golden: GoldenExample) -> None:
    """Try the release in the folder."""
    classes: dict[str, type[BaseModel] | type[Any]] = {"Model": model, "Request": Request}
    manifest = manifest_of(folder, *golden)
    ref = ReleaseRef(version=manifest.version, manifest_sha256="0" * 64)
    probe.check(PreparedRelease(ref, manifest, FetchedRelease(folder)), classes, limits, child_environment())


@pytest.mark.parametrize("name", ["mlp.pt2", "mlp-scripted.torchscript"])
def test_an_honest_program_passes(tmp_path: Path, name: str) -> None:
    """A program that loads and answers its golden example as recorded passes; one that answers otherwise does not."""
    shutil.copy(models.written() / name, tmp_path / f"model{Path(name).suffix}")
    row = [1.0, 2.0, 3.0, 4.0]
    (answered,) = program_model.Model.load(tmp_path).predict([Request(row=row)])
    golden = GoldenExample(request={"row": [*row]}, response={"row": [*answered.row]}, tolerance=1e-3)
    attempt(tmp_path, program_model.Model, LIMITS, golden)
    wrong = GoldenExample(request={"row": [*row]}, response={"row": [7.0, 7.0, 7.0]}, tolerance=1e-3)
    with pytest.raises(probe.ProbeError, match="does not answer as recorded"):
        attempt(tmp_path, program_model.Model, LIMITS, wrong)


WAYS = {
    "crash": "ended by SIGABRT",
    "segfault": "ended by SIGSEGV",
    "leave": "status 0 and without a word",
    "system exit": "SystemExit: 3",
    "loop": r"SIGXCPU|SIGKILL|not ready after 12 seconds",
    "sleep": "not ready after 12 seconds",
    "grow": "more memory than there is",
    "write": "Operation not permitted",
    "delete": "Operation not permitted",
    "empty": "Operation not permitted",
    "connect": "Operation not permitted",
    "start a program": "Operation not permitted",
    "look at credentials": r"credentials: \[\]",
}


@pytest.mark.parametrize("way", WAYS)
def test_what_goes_wrong_in_the_trial_is_a_refusal_with_the_reason(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash, an endless loop, too much memory, a write, a connection: each is refused, and this process goes on."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    (tmp_path / "way").write_text(way)
    with pytest.raises(probe.ProbeError, match=WAYS[way]):
        attempt(tmp_path, Misbehaving, SHORT)
    assert {path.name for path in tmp_path.iterdir() if path.read_bytes()} == {"way"}


def test_what_a_model_prints_is_no_report(tmp_path: Path) -> None:
    """A model that prints a megabyte while it loads passes all the same."""
    (tmp_path / "way").write_text("talk")
    attempt(tmp_path, Misbehaving, LIMITS)


def test_no_process_is_left(tmp_path: Path) -> None:
    """A trial that ran into its time leaves no child of this process behind."""
    (tmp_path / "way").write_text("sleep")
    before = children()  # other tests' servers run as children of the same process
    with pytest.raises(probe.ProbeError):
        attempt(tmp_path, Misbehaving, probe.ProbeLimits(probe.WORKING_BYTES, seconds=3))
    assert children() <= before


def children() -> set[int]:
    """The ids of this process's children, those that have ended and wait for their parent included."""
    tasks = Path("/proc/self/task").iterdir()
    return {int(child) for task in tasks for child in (task / "children").read_text().split()}


@pytest.mark.parametrize("name", ["mlp.pt2", "mlp-traced.torchscript"])
def test_a_program_in_memory_is_tried_as_one_on_the_disk(tmp_path: Path, name: str) -> None:
    """The links of a folder with files in memory lead to the same files in the process of the trial."""
    folder = tmp_path / "release"
    folder.mkdir()
    program = f"model{Path(name).suffix}"
    content = (models.written() / name).read_bytes()
    (folder / program).write_bytes(content)
    manifest = manifest_of(folder)
    (folder / program).unlink()
    files = MemoryFiles(folder)
    try:
        os.write(files.make(folder / program, len(content)), content)
        files.seal()
        ref = ReleaseRef(version=manifest.version, manifest_sha256="0" * 64)
        prepared = PreparedRelease(ref, manifest, FetchedRelease(folder, files))
        classes = {"Model": program_model.Model, "Request": Request}
        probe.check(prepared, classes, LIMITS, child_environment())
    finally:
        files.close()


def test_time_in_which_the_environment_is_frozen_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial that Lambda freezes between two requests goes on after; the clock of deadlines has lost that time."""
    clock = AwakeClock(lambda: time.monotonic() * 100)  # each look at the clock finds that minutes have passed
    monkeypatch.setattr(probe, "Deadline", lambda seconds: Deadline(seconds, clock))
    (tmp_path / "way").write_text("talk")
    attempt(tmp_path, Misbehaving, SHORT)
    assert clock.lost() > SHORT.seconds
