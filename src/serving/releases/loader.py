"""From a pointer to a model that may serve: fetched, verified, built, and held to its golden examples."""

import gc
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from serving.contract import ModelClass, ServedModel
from serving.releases import golden, screening
from serving.releases.format import Manifest, ReleaseRef
from serving.releases.golden import GoldenError
from serving.releases.store import ReleaseError, ReleaseStore
from serving.settings import child_environment
from serving.telemetry import receipts

# What a model needs beside its weights while it is built and warmed up: activations, allocator slack, Python objects.
WORKING_BYTES = 64 * 1024 * 1024


class Loaded:
    """A model in service: its release, when that was made, and since when it answers (both UTC)."""

    def __init__(self, model: ServedModel, ref: ReleaseRef, created: datetime, since: datetime) -> None:
        self._model: ServedModel | None = model
        self.ref = ref
        self.created = created
        self.since = since

    @property
    def model(self) -> ServedModel:
        """The model. Not to be asked for after `unload`."""
        assert self._model is not None
        return self._model

    @property
    def version(self) -> str:
        """The release's version."""
        return self.ref.version

    @property
    def is_loaded(self) -> bool:
        """Whether the model is there."""
        return self._model is not None

    def unload(self) -> None:
        """Give the model's memory back, whoever still holds this object."""
        self._model = None
        gc.collect()


@dataclass(frozen=True)
class Prepared:
    """A release on disk, verified: the next step is to build its model."""

    ref: ReleaseRef
    manifest: Manifest
    folder: Path


class Loader:
    """Prepares and builds releases.

    Args:
        store: where releases are read.
        classes: gives `Model` and `Request` of `src/model`; not called before a model is built, since their import takes longest.
        memory_bytes: the function's memory.
        allow_programs: whether a release may hold programs; they are tried in a process of their own first.
    """

    def __init__(
        self,
        store: ReleaseStore,
        classes: Callable[[], tuple[ModelClass, type[BaseModel]]],
        memory_bytes: int,
        *,
        allow_programs: bool = False,
    ) -> None:
        self._store = store
        self._classes = classes
        self._memory_bytes = memory_bytes
        self._allow_programs = allow_programs

    def prepare(self, ref: ReleaseRef) -> Prepared:
        """Fetch and verify. Raises ReleaseError."""
        with receipts.phase("pointer"):
            manifest = self._store.manifest(ref)
        with receipts.phase("fetch"):
            folder = self._store.fetch(manifest)
        prepared = Prepared(ref, manifest, folder)
        try:
            with receipts.phase("verify"):
                screening.check(prepared.folder, manifest.files, allow_programs=self._allow_programs)
        except ValueError as error:
            raise ReleaseError("release_refused", f"Release {ref.version}: {error}") from error
        return prepared

    def build(self, prepared: Prepared) -> Loaded:
        """Build the model, warm it up, and check its golden examples.

        Raises:
            ReleaseError: `release_refused` with the model's own reason, or the example that failed.
        """
        version = prepared.ref.version
        model_class, request_class = self._classes()
        try:
            self._try_programs(prepared, model_class, request_class)
            with receipts.phase("load"):
                model = model_class.load(prepared.folder)
            with receipts.phase("warm-up"):
                if prepared.manifest.golden:
                    golden.check(model, request_class, prepared.manifest.golden)
                else:
                    warm_up(model)
        except GoldenError as error:
            raise ReleaseError("release_refused", f"Release {version} does not answer as recorded: {error}") from error
        except Exception as error:
            # Whatever a model's own code raises on a release it cannot use: the release is refused, the function lives on.
            raise ReleaseError("release_refused", f"Release {version} does not load: {error}") from error
        return Loaded(model, prepared.ref, prepared.manifest.created, datetime.now(UTC))

    def _try_programs(self, prepared: Prepared, model_class: Any, request_class: type[BaseModel]) -> None:
        """A release with programs is loaded in a process of its own first. Raises ProbeError."""
        if all(entry.format is None for entry in prepared.manifest.files.values()):
            return
        from serving.releases import probe  # few releases have programs

        with receipts.phase("try"):
            probe.check(
                prepared.folder,
                prepared.manifest,
                {"Model": model_class, "Request": request_class},
                probe.Limits(max(probe.WORKING_BYTES, self._memory_bytes - 2 * resident_bytes())),
                child_environment(),
            )

    def fits_beside(self, prepared: Prepared) -> bool:
        """Whether the model can be built while the one in service stays in memory."""
        return resident_bytes() + prepared.manifest.size + WORKING_BYTES <= self._memory_bytes


def example_of(model: ServedModel) -> Any | None:
    """A request that the model can answer; None where it has no `example`."""
    example: Callable[[], Any] | None = getattr(model, "example", None)
    return None if example is None else example()


def warm_up(model: ServedModel) -> None:
    """One prediction, so that the first client does not pay for what torch sets up on first use."""
    example = example_of(model)
    if example is not None:
        model.predict([example])


def resident_bytes() -> int:
    """This process's resident memory (proc(5), /proc/self/statm); 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
