"""From a verified release to a model that may serve: built, warmed up, and tried with its golden examples."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from serving.contract import ModelPackage, ServedModel
from serving.errors import ReleaseUnavailableError
from serving.releases import golden
from serving.releases.deaths import DeathMarks
from serving.releases.golden import GoldenError
from serving.releases.reading import PreparedRelease
from serving.releases.room import Room, memory_in_use
from serving.releases.slot import LoadedRelease
from serving.settings import child_environment
from serving.telemetry import receipts


class Loader:
    """Builds the models of releases.

    Args:
        package: the package `src/model`.
        room: the function's space.
        marks: remembers releases that end the process.
        trial_seconds: how long the trial of a release with programs may take.
    """

    def __init__(self, package: ModelPackage, room: Room, marks: DeathMarks, trial_seconds: float) -> None:
        self.marks = marks
        self._package = package
        self._room = room
        self._trial_seconds = trial_seconds

    def build(self, prepared: PreparedRelease) -> LoadedRelease:
        """Build the model, warm it up, and check its golden examples. The prepared release is closed then.

        Raises:
            ReleaseUnavailableError: `release_refused` with the model's own reason, or the example that failed.
            DeadlyReleaseError: it ended the process when it was loaded before.
        """
        try:
            with self.marks.loading(prepared.ref.version):
                loaded = self._build(prepared)
        finally:
            prepared.close()
        self.marks.remember(prepared.ref)
        return loaded

    def _build(self, prepared: PreparedRelease) -> LoadedRelease:
        version = prepared.ref.version
        try:
            self._try_programs(prepared)
            with receipts.phase("load"):
                model = self._package.Model.load(prepared.folder)
            with receipts.phase("warm-up"):
                if prepared.manifest.golden:
                    golden.check(model, self._package.Request, prepared.manifest.golden)
                else:
                    warm_up(model)
        except GoldenError as error:
            raise ReleaseUnavailableError(
                "release_refused", f"Release {version} does not answer as recorded: {error}"
            ) from error
        except Exception as error:
            # Whatever the model's own code raises: this release is refused, and the function goes on.
            raise ReleaseUnavailableError("release_refused", f"Release {version} does not load: {error}") from error
        return LoadedRelease(model, prepared.ref, prepared.manifest.created, datetime.now(UTC))

    def _try_programs(self, prepared: PreparedRelease) -> None:
        """Load a release with programs in a process of its own first.

        Raises:
            ProbeError: it cannot be loaded there.
        """
        if all(entry.format is None for entry in prepared.manifest.files.values()):
            return
        from serving.releases import probe  # few releases have programs

        with receipts.phase("try"):
            classes: dict[str, Any] = {"Model": self._package.Model, "Request": self._package.Request}
            free = (self._room.memory_bytes or 0) - 2 * memory_in_use()
            limits = probe.ProbeLimits(max(probe.WORKING_BYTES, free), self._trial_seconds)
            probe.check(prepared, classes, limits, child_environment())

    def fits_beside(self, prepared: PreparedRelease) -> bool:
        """Whether the model can be built while the one in service stays in memory."""
        return self._room.fits_beside(prepared.more_bytes)

    def memory_problem(self, prepared: PreparedRelease) -> str:
        """Why it cannot be built beside the models in service, with the figures and the next step."""
        return self._room.memory_problem(prepared.ref.version, prepared.manifest.size)


def example_of(model: ServedModel) -> Any | None:
    """A request that the model can answer; None where it has no `example`."""
    example: Callable[[], Any] | None = getattr(model, "example", None)
    return None if example is None else example()


def warm_up(model: ServedModel) -> None:
    """Make one prediction, so that the first client does not wait for what torch sets up on first use."""
    example = example_of(model)
    if example is not None:
        model.predict([example])
