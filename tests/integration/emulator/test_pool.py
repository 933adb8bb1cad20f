"""A pool of environments takes events as Lambda would."""

import os
import shutil
import signal
from concurrent.futures import wait
from pathlib import Path

import pytest

from integration.emulator.conftest import PROBE, MakePool, event, said, wait_until
from lambda_torch.emulator.function import PAYLOAD_LIMIT
from lambda_torch.emulator.pool import PayloadTooLargeError
from lambda_torch.errors import EmulatorError, InitError


def ended(process: int) -> bool:
    """Whether a child of this process has ended.

    Its first thread is gone before the others are, and only with the last one the process has ended: what waitid(2)
    says.
    """
    try:
        return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # somebody has waited for it
        return True


def test_one_event_after_another_needs_one_environment(make_pool: MakePool) -> None:
    """A client that waits for each answer is served by the same process all the time."""
    pool = make_pool(concurrency=3)
    pool.start()
    processes = {said(pool.submit(event(n=n)).result())["pid"] for n in range(10)}
    assert len(processes) == 1
    assert pool.size == 1


def test_events_at_the_same_time_start_another_environment_up_to_the_limit(make_pool: MakePool, tmp_path: Path) -> None:
    """Six events at the same time are served by two environments, each event exactly once, and none gets lost."""
    pool = make_pool(concurrency=2)
    pool.start()
    go = tmp_path / "go"
    results = [pool.submit(event(do="wait", file=str(go), n=n)) for n in range(6)]
    assert wait_until(lambda: sum(result.running() for result in results) == 2)
    go.touch()
    answers = [said(result.result()) for result in results]
    assert [answer["event"]["n"] for answer in answers] == list(range(6))
    assert len({answer["pid"] for answer in answers}) == pool.size == 2


def test_the_first_event_is_sent_when_an_environment_starts(make_pool: MakePool) -> None:
    """With a first event, the start-up is over when the pool has started, and its duration is known."""
    pool = make_pool(first_event=event(hello="world"))
    outcome = pool.start()
    assert outcome is not None
    assert said(outcome)["event"] == {"hello": "world"}
    assert wait_until(lambda: pool.init_ms() is not None)  # a thread reads it from the log


def test_several_environments_can_be_started_at_once(make_pool: MakePool) -> None:
    """Asked for three, the pool starts three side by side, before any event."""
    pool = make_pool(concurrency=3, first_event=event())
    pool.start(3)
    assert pool.size == 3
    assert wait_until(lambda: all(pool.init_ms(number) for number in (1, 2, 3)))


def test_a_function_that_does_not_start_is_told_at_the_start(make_pool: MakePool) -> None:
    """A start-up that fails is an error of the pool's start, not of some later event."""
    pool = make_pool(first_event=event(), variables={"FAIL_AT_START": "1"})
    with pytest.raises(InitError, match="the start-up of the probe fails"):
        pool.start()


def test_a_lost_environment_is_replaced(make_pool: MakePool) -> None:
    """An environment whose process was killed while idle is replaced before the next event: no event is lost to it."""
    notes: list[str] = []
    pool = make_pool(on_note=notes.append)
    pool.start()
    before = said(pool.submit(event()).result())["pid"]
    leader = os.getsid(before)
    os.kill(leader, signal.SIGKILL)
    assert wait_until(lambda: ended(leader))
    outcome = pool.submit(event()).result()
    assert not outcome.failed
    assert said(outcome)["pid"] != before
    assert notes == ["Environment 1 has ended: starting another."]


def test_an_event_whose_environment_is_lost_fails_and_the_next_is_served(make_pool: MakePool) -> None:
    """An environment whose process is killed during an invocation fails that one only."""
    pool = make_pool(concurrency=1)
    pool.start()
    leader = os.getsid(said(pool.submit(event()).result())["pid"])
    busy = pool.submit(event(do="sleep", seconds=60))
    assert wait_until(busy.running)
    os.kill(leader, signal.SIGKILL)
    assert said(busy.result())["errorType"] in ("Sandbox.Failure", "Runtime.ExitError")
    assert not pool.submit(event()).result().failed


def test_a_cancelled_event_is_never_run(make_pool: MakePool, tmp_path: Path) -> None:
    """An event that is cancelled while it waits does not reach the function."""
    pool = make_pool(concurrency=1)
    pool.start()
    pool.submit(event()).result()
    go = tmp_path / "go"
    busy = pool.submit(event(do="wait", file=str(go)))
    assert wait_until(busy.running)
    dropped = pool.submit(event(do="exit"))
    assert dropped.cancel()
    go.touch()
    last = pool.submit(event())
    assert said(last.result())["pid"] == said(busy.result())["pid"]


def test_closing_ends_what_is_under_way_and_what_waits(make_pool: MakePool) -> None:
    """When the pool closes, an event under way fails, one that waits is cancelled, and new ones are refused."""
    pool = make_pool(concurrency=1)
    pool.start()
    pool.submit(event()).result()
    busy = pool.submit(event(do="sleep", seconds=60))
    assert wait_until(busy.running)
    waiting = pool.submit(event())
    pool.close()
    wait([busy], timeout=30)
    assert busy.result().failed
    assert waiting.cancelled()
    with pytest.raises(EmulatorError, match="closed"):
        pool.submit(event())


def test_a_renewal_starts_the_function_from_its_code_as_it_is_now(make_pool: MakePool, tmp_path: Path) -> None:
    """After a renewal one environment runs the saved code, however many there were; an event under way ends in the old one."""
    code = Path(shutil.copytree(PROBE, tmp_path / "code"))
    pool = make_pool(concurrency=2, first_event=event(), code=code)
    pool.start()
    go = tmp_path / "go"
    answers = [pool.submit(event(do="wait", file=str(go))) for _ in range(2)]
    assert wait_until(lambda: all(answer.running() for answer in answers))
    with (code / "probe.py").open("a") as source:
        source.write("\nhandler = lambda event, context: 'new'\n")
    renewal = pool.renew()
    after = pool.submit(event())
    go.touch()
    assert renewal.result() is None
    assert said(after.result()) == "new"
    assert all(said(answer.result())["pid"] for answer in answers)
    assert wait_until(lambda: pool.size == 1)


def test_code_that_does_not_start_is_told_and_the_next_renewal_tries_again(make_pool: MakePool, tmp_path: Path) -> None:
    """While saved code has a mistake, events are answered with it; once it is corrected, the function serves again."""
    code = Path(shutil.copytree(PROBE, tmp_path / "code"))
    pool = make_pool(concurrency=2, first_event=event(), code=code)
    pool.start()
    before = (code / "probe.py").read_text()
    (code / "probe.py").write_text(before + "\nhandler = (\n")
    problem = pool.renew().result()
    assert "was never closed" in str(problem)
    assert "was never closed" in said(pool.submit(event()).result())["errorMessage"]
    (code / "probe.py").write_text(before)
    assert pool.renew().result() is None
    assert not pool.submit(event()).result().failed


def test_a_renewal_after_another_is_the_one_that_counts(make_pool: MakePool) -> None:
    """Renewals that follow each other quickly are all answered or cancelled, and the pool serves on."""
    pool = make_pool(concurrency=2, first_event=event())
    pool.start()
    first = said(pool.submit(event()).result())["pid"]
    renewals = [pool.renew() for _ in range(5)]
    assert renewals[-1].result() is None
    assert all(renewal.cancelled() or renewal.result() is None for renewal in renewals)
    assert said(pool.submit(event()).result())["pid"] != first


def test_too_large_events_are_refused(make_pool: MakePool) -> None:
    """An event over Lambda's limit does not reach an environment."""
    pool = make_pool()
    with pytest.raises(PayloadTooLargeError, match="6291456 bytes"):
        pool.submit(b" " * (PAYLOAD_LIMIT + 1))
