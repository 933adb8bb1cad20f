import json
from datetime import UTC, datetime
from typing import Any

import pytest

from serving.errors import ReleaseUnavailableError
from serving.releases.format import ReleaseRef
from serving.releases.reporting import ReleaseLog
from serving.releases.slot import InService, LoadedRelease
from serving.telemetry.emf import Metrics
from serving.telemetry.log import Log

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def serves(version: str) -> InService:
    """A slot's content with a release of this version, and no model."""
    model: Any = None
    return InService(LoadedRelease(model, ReleaseRef(version=version * 64, manifest_sha256="0" * 64), NOW, NOW))


@pytest.fixture
def log() -> ReleaseLog:
    """One that has seen nothing."""
    return ReleaseLog(Log("INFO"), Metrics("PredictFunction"))


def line(capsys: pytest.CaptureFixture[str]) -> Any:
    """The one line that was written."""
    (text,) = capsys.readouterr().out.splitlines()
    return json.loads(text)


def test_swaps_are_counted_and_beginnings_are_not(log: ReleaseLog, capsys: pytest.CaptureFixture[str]) -> None:
    """A new release in the place of another is a swap; the first one of an environment is not."""
    log.swapped(None, serves("a"))
    first = line(capsys)
    assert (first["message"], first["release"], first["before"]) == ("release swapped", "a" * 64, None)
    assert "Swaps" not in first
    log.swapped(serves("a"), serves("b"))
    assert line(capsys)["Swaps"] == 1
    assert log.counters.swaps == 1


@pytest.mark.parametrize(("code", "counts"), [("release_refused", 1), ("no_release", None), ("no_bucket", None)])
def test_an_empty_bucket_is_no_failure_to_alarm_about(
    log: ReleaseLog, capsys: pytest.CaptureFixture[str], code: str, counts: int | None
) -> None:
    """Each failed look is logged with its reason; only those that are a fault count in the metric."""
    log.refused(ReleaseUnavailableError(code, "why"))
    said = line(capsys)
    assert (said["code"], said["reason"], said.get("SwapFailures")) == (code, "why", counts)
    assert (log.counters.failures, log.counters.problem) == (1, f"{code}: why")
    log.settled()
    assert log.counters.problem is None


def test_short_memory_is_logged_with_what_follows(log: ReleaseLog, capsys: pytest.CaptureFixture[str]) -> None:
    """The line has the release, its size, and what happens because of it."""
    log.memory_is_short("a" * 64, 5, "requests wait")
    said = line(capsys)
    assert (said["message"], said["bytes"], said["reason"]) == ("release memory", 5, "requests wait")
