"""What happens to the releases of an environment: counted for `/health`, logged, and made into metrics."""

from dataclasses import dataclass

from serving.errors import ReleaseUnavailableError
from serving.releases.slot import InService
from serving.telemetry.emf import Metrics
from serving.telemetry.log import Log

# No release was published, or the function has no bucket. Every stack begins like that, so it is no failure to alarm
# about.
NOT_YET = ("no_release", "no_bucket")


@dataclass
class Counters:
    """What following the channel has done so far in this environment.

    Attributes:
        checks: how often the pointer was looked at.
        swaps: how often what serves changed, the first release aside.
        failures: how often a look, or what followed from it, failed.
        problem: why the last look failed; None once a look succeeds.
    """

    checks: int = 0
    swaps: int = 0
    failures: int = 0
    problem: str | None = None


class ReleaseLog:
    """Counts, logs and measures.

    Args:
        log: where the lines go.
        metrics: makes the lines' metrics.
    """

    def __init__(self, log: Log, metrics: Metrics) -> None:
        self.counters = Counters()
        self._log = log
        self._metrics = metrics

    def checked(self) -> None:
        """The pointer is about to be looked at."""
        self.counters.checks += 1

    def settled(self) -> None:
        """All that the channel names is in service."""
        self.counters.problem = None

    def swapped(self, before: InService | None, after: InService) -> None:
        """Other releases answer from now on. The first release of an environment is logged, but it is no swap."""
        facts = {
            "release": after.current.version,
            "before": before.current.version if before else None,
            "canary": after.canary.version if after.canary else None,
            "share": after.share,
        }
        self.counters.swaps += before is not None
        self._log.write("INFO", "release swapped", facts, self._metrics.embedded({"Swaps": 1}) if before else {})

    def refused(self, problem: ReleaseUnavailableError) -> None:
        """What the channel names could not be brought into service."""
        self.counters.failures += 1
        self.counters.problem = f"{problem.code}: {problem}"
        facts = {"code": problem.code, "reason": str(problem), "failures": self.counters.failures}
        fails = problem.code not in NOT_YET
        self._log.write("ERROR", "release refused", facts, self._metrics.embedded({"SwapFailures": 1}) if fails else {})

    def memory_is_short(self, version: str, size: int, consequence: str) -> None:
        """A release of this size in bytes does not fit beside those in service; the consequence is one sentence."""
        self._log.write("ERROR", "release memory", {"release": version, "bytes": size, "reason": consequence})
