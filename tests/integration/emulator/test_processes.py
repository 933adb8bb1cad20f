"""Children end with their owner, however it ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from integration.emulator.conftest import wait_until
from lambda_torch.emulator.guardian import members
from lambda_torch.emulator.processes import Processes
from lambda_torch.errors import EmulatorError

ENVIRONMENT = {"PATH": os.defpath}
# A child that leaves its process group, starts another one, and takes no notice of SIGTERM.
STUBBORN = "trap '' TERM; setsid -w true; sleep 1000 & echo started; wait; sleep 1000"


def test_output_goes_to_the_sink_line_by_line(tmp_path: Path) -> None:
    """Each line of a child's output, errors included, reaches the sink; the last ones are kept."""
    lines: list[str] = []
    with Processes() as processes:
        child = processes.start("child", ["sh", "-c", "echo one; echo two >&2"], ENVIRONMENT, tmp_path, lines.append)
        assert wait_until(lambda: len(lines) == 2)
    assert sorted(lines) == sorted(child.tail().splitlines()) == ["one", "two"]


def test_a_child_gets_nothing_but_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables of the owner do not reach a child."""
    monkeypatch.setenv("AWS_PROFILE", "of-the-developer")
    with Processes() as processes:
        child = processes.start("child", ["env"], {**ENVIRONMENT, "A": "b"}, tmp_path)
        assert wait_until(lambda: not child.alive)
    assert "A=b" in child.tail()
    assert "AWS_PROFILE" not in child.tail()


def test_closing_ends_what_a_child_started_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that ignores SIGTERM is killed, with everything in its session."""
    monkeypatch.setattr("lambda_torch.emulator.processes.END_SECONDS", 0.2)
    with Processes() as processes:
        child = processes.start("child", ["sh", "-c", STUBBORN], ENVIRONMENT, tmp_path)
        assert wait_until(lambda: "started" in child.tail())
        assert len(members(child.process.pid)) == 2
    assert members(child.process.pid) == []


def test_children_of_a_killed_owner_are_ended(tmp_path: Path) -> None:
    """When the owner is killed without a chance to clean up, its children end all the same."""
    script = (
        "import sys, time; from pathlib import Path; from lambda_torch.emulator.processes import Processes\n"
        "processes = Processes()\n"
        f"child = processes.start('child', ['sh', '-c', {STUBBORN!r}], {ENVIRONMENT!r}, Path('/'))\n"
        "print(child.process.pid, flush=True); time.sleep(1000)"
    )
    path = os.pathsep.join(sys.path)
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
    ) as owner:
        assert owner.stdout is not None
        session = int(owner.stdout.readline())
        assert members(session)
        owner.send_signal(signal.SIGKILL)
    assert wait_until(lambda: members(session) == [])


def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    """A child that cannot be executed is an error with its name."""
    with Processes() as processes, pytest.raises(EmulatorError, match="no server cannot be started"):
        processes.start("no server", [str(tmp_path / "missing")], ENVIRONMENT, tmp_path)


def test_a_child_that_ends_instead_of_listening_is_told(tmp_path: Path) -> None:
    """Waiting for a child that ends gives its status and its last words."""
    with Processes() as processes:
        child = processes.start("the server", ["sh", "-c", "echo no such option; exit 3"], ENVIRONMENT, tmp_path)
        with pytest.raises(EmulatorError, match=r"(?s)the server ended with status 3.*no such option"):
            child.wait_listening(9, 30)


def test_nothing_is_started_after_the_end(tmp_path: Path) -> None:
    """A run that is ending starts no more children."""
    processes = Processes()
    processes.close()
    with pytest.raises(EmulatorError, match="the run is ending"):
        processes.start("late", ["true"], ENVIRONMENT, tmp_path)
