"""How `lambda-torch invoke` finds a running `lambda-torch serve`."""

import contextlib
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from aiohttp import web

from lambda_torch.emulator import run
from lambda_torch.emulator.loop_thread import LoopThread
from lambda_torch.errors import EmulatorError


class Says:
    """Answers each request with a text."""

    def __init__(self, text: str, thread: LoopThread) -> None:
        self.text, self.thread = text, thread

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Give the text."""
        return web.Response(text=self.text)


@pytest.fixture
def thread() -> Iterator[LoopThread]:
    """An event loop."""
    with contextlib.closing(LoopThread("test")) as made:
        yield made


@pytest.fixture(autouse=True)
def _note_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "NOTE", tmp_path / "emulator" / "serving.json")


def test_a_note_is_found_while_its_run_lasts(thread: LoopThread) -> None:
    """A note whose address answers with its identity is found; it is gone after the run."""
    identity = run.new_identity()
    with run.listen("127.0.0.1", 0) as taken, run.serving(Says(identity, thread), taken) as url:
        note = run.RunNote(url, identity, os.getpid())
        with note.left():
            assert run.find_running() == note
    assert run.find_running() is None
    assert not run.NOTE.exists()


def test_a_stale_note_is_ignored(thread: LoopThread) -> None:
    """A note whose port belongs to somebody else by now, or to nobody, is no running serve."""
    with (
        run.listen("127.0.0.1", 0) as taken,
        run.serving(Says("somebody else", thread), taken) as url,
        run.RunNote(url, run.new_identity(), os.getpid()).left(),
    ):
        assert run.find_running() is None
    with run.RunNote(url, run.new_identity(), os.getpid()).left():
        assert run.find_running() is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1}', '{"invoke_url": 1, "identity": "", "process": 1}'])
def test_a_damaged_note_is_ignored(text: str) -> None:
    """Whatever the note's file holds, it is at worst ignored."""
    run.NOTE.parent.mkdir()
    run.NOTE.write_text(text)
    assert run.find_running() is None


def test_a_newer_runs_note_stays() -> None:
    """A run that ends takes only its own note away."""
    older, newer = (run.RunNote("http://127.0.0.1:9", run.new_identity(), os.getpid()) for _ in range(2))
    with ExitStack() as stack:
        stack.enter_context(older.left())
        with newer.left():
            stack.close()
            assert newer.identity in run.NOTE.read_text()
        assert not run.NOTE.exists()


def test_a_port_in_use_is_told_with_the_next_step() -> None:
    """A port that somebody listens on cannot be taken, and the message names another one."""
    with run.listen("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EmulatorError, match=rf"Port {port} is in use.*Next: .*{port % 65535 + 1}"):
            run.listen("127.0.0.1", port)
