"""What the person who runs a build sees."""

from io import StringIO

import pytest

from builder.console import Console


class Terminal(StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Yes."""
        return True


def shown(stream: StringIO) -> list[str]:
    """The lines that are left on a terminal, or in a file: what a carriage return and "clear the line" leave."""
    return [line.rpartition("\r\033[K")[2] for line in stream.getvalue().split("\n")]


@pytest.mark.parametrize("stream", [StringIO(), Terminal()])
def test_a_note_stays_and_what_runs_does_not_on_a_terminal(stream: StringIO) -> None:
    """The sentence that says how long a step takes stays above its progress; a terminal shows one line of progress at a time."""
    console = Console(stream)
    with console.step("record", "read profiles") as step:
        step.note("That takes about 10 minutes.")
        step.say("1 of 2: one")
        step.say("2 of 2: two")
        step.progress(0.5)
        step.result = "done"
    lines = shown(stream)
    assert lines[-2].startswith("record   done (")
    assert "record   That takes about 10 minutes." in lines
    assert ("record   1 of 2: one ..." in lines) != stream.isatty()


def test_a_long_step_says_how_long_it_has_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part of a step that runs for more than a second has the seconds so far."""
    now = [100.0]
    monkeypatch.setattr("builder.console.time.monotonic", lambda: now[0])
    stream = StringIO()
    with Console(stream).step("record", "read profiles") as step:
        step.say("1 of 2: one")
        now[0] += 61
        step.say("2 of 2: two")
    assert stream.getvalue().splitlines()[1:3] == ["record   1 of 2: one ...", "record   2 of 2: two ... (after 61 s)"]
