"""The whole build, step by step; each step is a module of its own that can be read and tested alone.

Nothing is changed in the output before the last step: the layer is built beside it and put in its place at the end.
"""

import fcntl
import json
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from builder import inputs, paths, verify
from builder.account import ledger, packaging, treemap
from builder.console import Console
from builder.errors import BuildError
from builder.native import compile_pager, selection, split
from builder.profile import profiles, record
from builder.python import bundle
from builder.python.deferred.planning import HeldModules
from builder.stage import install, policy, prune, strip
from torch_layer import SIDE_FILE

_SCRATCH = ".building-"


@dataclass
class Options:
    """What to build.

    Attributes:
        requirements: pip requirement files.
        output: The folder that becomes `/opt`; its `python/` is replaced.
        work: What a later build can use again.
        profiles: Folder of recorded profiles.
        zip: The zip file to write, if any.
        report: The JSON report to write, if any.
        treemap: The HTML picture to write, if any.
        verify: Compare the result with the staged tree.
        eager_imports: Hold no module of torch back.
        record: Record the shipped workload again, also where a profile fits.
        budget_bytes: What `output` may have, unzipped.
    """

    requirements: list[Path]
    output: Path
    work: Path
    profiles: Path = paths.PROFILES
    zip: Path | None = None
    report: Path | None = None
    treemap: Path | None = None
    verify: bool = True
    record: bool = False
    eager_imports: bool = False
    budget_bytes: int = policy.BUDGET_BYTES


@dataclass
class Build:
    """A build under way: the trees of its steps, and the ledger that is kept over them."""

    options: Options
    console: Console
    book: ledger.Ledger = field(default_factory=ledger.Ledger)

    def run(self) -> ledger.Report:
        """Build the layer and return its report.

        Raises:
            BuildError: Something is wrong with an input, a tool or the result; the output is as it was before.
        """
        # Before the minutes of work that come before their use.
        compile_pager.require_compiler(platform.machine())
        strip.require_tool()
        with self.alone():
            return self._run()

    def is_current(self) -> bool:
        """Whether the last build had these very inputs, and what it left is all still there, unchanged."""
        options = self.options
        wanted = [path for path in (options.zip, options.treemap) if path is not None]
        if (
            options.record
            or options.eager_imports
            or options.report is None
            or not options.report.is_file()
            or not all(p.is_file() for p in wanted)
        ):
            return False
        try:
            built = json.loads(options.report.read_text(encoding="utf-8"))
        except ValueError:
            return False
        return bool(
            built.get("inputs") == inputs.digest()
            and (not options.verify or any(step["name"] == "verify" for step in built["steps"]))
            and built.get("budget_bytes") == options.budget_bytes
            and (options.zip is None or built.get("zip_bytes") == options.zip.stat().st_size)
            and built.get("tree_sha256") == ledger.tree_sha256(options.output)
        )

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait for another build with the same work folder to end, and remove what one that was killed has left behind."""
        self.options.work.mkdir(parents=True, exist_ok=True)
        self.options.output.mkdir(parents=True, exist_ok=True)
        with (self.options.work / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.console.line(f"waiting for another build in {self.options.work} to end")
                fcntl.flock(lock, fcntl.LOCK_EX)
            for folder, prefix in ((self.options.work, "*ing-*"), (self.options.output, _SCRATCH + "*")):
                for left in folder.glob(prefix):
                    shutil.rmtree(left, ignore_errors=True)
            yield

    def _run(self) -> ledger.Report:
        installed, staged = self.stage()
        profile = self._profile(installed, staged)
        # Beside the old tree, since it is renamed in the end: that must not lead to another file system.
        scratch = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=self.options.output))
        try:
            finished = scratch / "layer" / "python"
            self._split(staged, finished, profile)
            report = self._account(finished, installed)
            if self.options.verify:
                self._verify(staged, finished)
            if self.options.zip is not None:
                self._zip(finished.parent, scratch / "layer.zip", report)
            self._publish(scratch, report)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return report

    def stage(self) -> tuple[install.Installed, Path]:
        """Steps 1 to 3: what pip installed, and the tree that stock torch would be in a layer, which stays for comparison."""
        installed = self._install()
        return installed, self._strip(installed)

    def _install(self) -> install.Installed:
        """Step 1."""
        names = " and ".join(file.name for file in self.options.requirements)
        with self.console.step("install", names) as step:
            installed = install.install(self.options.requirements, self.options.work)
            step.result = f"{len(installed.wheels)} packages" + (", from the last build" if installed.reused else "")
        self.book.measure("install", installed.tree, self.console.seconds["install"])
        return installed

    def _strip(self, installed: install.Installed) -> Path:
        """Steps 2 and 3."""
        staged = self.options.work / "staged"
        scratch = Path(tempfile.mkdtemp(prefix="staging-", dir=self.options.work))
        try:
            with self.console.step("prune", "take out what no running program can miss") as step:
                pruned = prune.prune(installed.tree, scratch / "python")
                step.result = f"{sum(p.files for p in pruned):,} files, {sum(p.bytes for p in pruned) / 1e6:.1f} MB out"
            self.book.measure("prune", scratch / "python", self.console.seconds["prune"], [p._asdict() for p in pruned])
            with self.console.step("strip", "take symbol tables out, and load every library") as step:
                stripped = strip.strip(scratch / "python")
                step.result = (
                    f"{stripped.files} files, {stripped.saved_bytes / 1e6:.1f} MB out, {stripped.kept} left alone, "
                    f"{stripped.loaded} loaded"
                )
            self.book.measure("strip", scratch / "python", self.console.seconds["strip"], [stripped._asdict()])
            if staged.exists():
                shutil.rmtree(staged)
            (scratch / "python").rename(staged)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return staged

    def _profile(self, installed: install.Installed, staged: Path) -> profiles.Profile:
        """Step 4: what is hot, from recorded profiles or by recording."""
        machine = platform.machine()
        with self.console.step("record", "look for a recorded profile of these wheels") as step:
            found = None if self.options.record else profiles.find(self.options.profiles, installed.wheels, machine)
            if found is None:
                found = record.record_workload(staged, self.options.work, installed.wheels, step.say)
                path = self.options.profiles / profiles.file_name(installed.wheels, machine, "workload")
                found.save(path)
                # Models that users recorded on the same wheels count as well.
                found = profiles.find(self.options.profiles, installed.wheels, machine) or found
                step.result = f"recorded into {path}: "
            step.result += (
                f"{len(found.hot):,} modules and {found.pages.count() * 4096 / 1e6:.1f} MB of libraries are hot "
                f"({', '.join(found.capabilities)})"
            )
        self.book.measure("record", staged, self.console.seconds["record"])
        return found

    def _split(self, staged: Path, finished: Path, profile: profiles.Profile) -> None:
        """Step 5: Python modules into their tiers, libraries into hot pages and cold blocks."""
        with self.console.step("bundle", "compile modules, and pack the cold ones") as step:
            temperatures = bundle.Temperatures(profile.hot, profile.warm, profile.sources)
            held = HeldModules() if self.options.eager_imports else profile.held
            bundled = bundle.bundle(staged, finished, temperatures, held=held, progress=step.progress)
            step.result = (
                f"{bundled.hot:,} modules hot, of which {len(held.modules):,} wait; {bundled.warm:,} warm, "
                f"{bundled.cold:,} cold; {bundled.source_bytes / 1e6:.1f} MB of sources and "
                f"{bundled.bytecode_bytes / 1e6:.1f} MB of bytecode are {bundled.archive_bytes / 1e6:.1f} MB"
            )
        self.book.measure("bundle", finished, self.console.seconds["bundle"], [bundled._asdict()])
        with self.console.step("split", "compress the cold pages of the libraries") as step:
            folder = finished / "torch_layer"
            compile_pager.build_pager(folder / compile_pager.PAGER_NAME, arch=platform.machine())
            plans = {name: split.LibraryPlan(hot=profile.pages.of(name)) for name in selection.libraries_of(finished)}
            parts = split.thin(
                plans,
                finished,
                folder / SIDE_FILE,
                progress=lambda _name, done, total: step.progress(done / (total or 1)),
            )
            before = sum(library.original for library in parts.libraries)
            thin = sum(library.thin for library in parts.libraries)
            step.result = (
                f"{len(parts.libraries)} libraries, {before / 1e6:.1f} MB, are {thin / 1e6:.1f} MB hot and "
                f"{parts.side_file / 1e6:.1f} MB compressed"
            )
        self.book.split(parts)
        self.book.measure("split", finished, self.console.seconds["split"])

    def _account(self, finished: Path, installed: install.Installed) -> ledger.Report:
        """Step 7; before verification, since a layer over its budget need not be verified."""
        report = self.book.report(finished.parent, installed.wheels, self.options.budget_bytes)
        if report.unzipped_bytes > self.options.budget_bytes:
            largest = "\n".join(f"  {entry.bytes:>13,}  {entry.path}" for entry in report.largest[:12])
            raise BuildError(
                f"the layer has {report.unzipped_bytes:,} bytes unzipped, and its budget is {self.options.budget_bytes:,} "
                f"(function and layers together may have {policy.LIMIT_BYTES:,}). The largest:\n{largest}",
                "leave packages out of extra-requirements.txt, or raise the budget with --budget if your function is small",
            )
        return report

    def _verify(self, staged: Path, finished: Path) -> None:
        """Step 6: the finished tree gives what the staged tree gives."""
        with self.console.step("verify", "compare the finished tree with the staged one") as step:
            verified = verify.verify(staged, finished, step.say)
            step.result = (
                f"{verified.outputs} outputs of the workload and {verified.check_outputs} outputs of {verified.checks} "
                "checks are equal bit for bit"
            )
        self.book.measure("verify", finished, self.console.seconds["verify"])

    def _zip(self, folder: Path, output: Path, report: ledger.Report) -> None:
        """The zip file, and its size in the report."""
        with self.console.step("zip", "pack the layer as SAM would") as step:
            report.zip_bytes = packaging.write_zip(folder, output, step.progress)
            step.result = f"{report.zip_bytes / 1e6:.1f} MB"

    def _publish(self, scratch: Path, report: ledger.Report) -> None:
        """Put everything in its place, the layer first."""
        target = self.options.output / "python"
        old = scratch / "old"
        if target.exists():
            target.rename(old)
        (scratch / "layer" / "python").rename(target)
        if self.options.zip is not None:
            shutil.move(scratch / "layer.zip", self.options.zip)
        if self.options.report is not None:
            report.save(self.options.report)
        if self.options.treemap is not None:
            title = f"Torch layer: {report.unzipped_bytes:,} bytes, {report.headroom_bytes:,} left under Lambda's limit"
            self.options.treemap.write_text(treemap.draw(report.tree(), title), encoding="utf-8")
