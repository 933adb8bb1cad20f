"""Steps 1 to 3: the tree that stock torch would be in a layer. A build goes on from it, and so does a recording."""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from builder.account import ledger
from builder.console import Console
from builder.options import BuildOptions
from builder.stage import install, prune, strip

SCRATCH = ".building-"
"""How the name of a folder begins in which a build prepares what goes into the output."""


class Staging:
    """The work folder, which one build at a time may use, and the trees in it.

    Args:
        options: What to build.
        console: Where the steps are shown.
        book: The ledger that the steps are noted in.
    """

    def __init__(self, options: BuildOptions, console: Console, book: ledger.Ledger | None = None) -> None:
        self._options, self._console = options, console
        self._book = book or ledger.Ledger()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait for another build with the same work folder to end, and remove what a killed build has left behind."""
        self._options.work.mkdir(parents=True, exist_ok=True)
        self._options.output.mkdir(parents=True, exist_ok=True)
        with (self._options.work / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._console.line(f"waiting for another build in {self._options.work} to end")
                fcntl.flock(lock, fcntl.LOCK_EX)
            for folder, prefix in ((self._options.work, "*ing-*"), (self._options.output, SCRATCH + "*")):
                for left in folder.glob(prefix):
                    shutil.rmtree(left, ignore_errors=True)
            yield

    def stage(self) -> tuple[install.Installed, Path]:
        """Steps 1 to 3: what pip installed, and the tree that stock torch would be in a layer, which stays for comparison."""
        installed = self._install()
        return installed, self._strip(installed)

    def _install(self) -> install.Installed:
        """Step 1."""
        names = " and ".join(file.name for file in self._options.requirements)
        with self._console.step("install", names) as step:
            installed = install.install(
                self._options.requirements, self._options.work, any_torch=self._options.eager_imports
            )
            step.result = f"{len(installed.wheels)} packages" + (", from the last build" if installed.reused else "")
        self._book.measure("install", installed.tree, self._console.seconds["install"])
        return installed

    def _strip(self, installed: install.Installed) -> Path:
        """Steps 2 and 3."""
        staged = self._options.work / "staged"
        scratch = Path(tempfile.mkdtemp(prefix="staging-", dir=self._options.work))
        try:
            with self._console.step("prune", "leave out what no running program can miss") as step:
                pruned = prune.prune(installed.tree, scratch / "python")
                step.result = f"{sum(p.files for p in pruned):,} files, {sum(p.bytes for p in pruned) / 1e6:.1f} MB out"
            self._book.measure(
                "prune", scratch / "python", self._console.seconds["prune"], [p._asdict() for p in pruned]
            )
            with self._console.step("strip", "take symbol tables out, and load every library") as step:
                stripped = strip.strip(scratch / "python")
                step.result = (
                    f"{stripped.files} files, {stripped.saved_bytes / 1e6:.1f} MB out, {stripped.kept} left alone, "
                    f"{stripped.loaded} loaded"
                )
            self._book.measure("strip", scratch / "python", self._console.seconds["strip"], [stripped._asdict()])
            if staged.exists():
                shutil.rmtree(staged)
            (scratch / "python").rename(staged)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return staged
