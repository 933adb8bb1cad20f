"""The whole build, step by step; each step is a module of its own that can be read and tested alone.

Nothing in the output changes before the last step: the layer is built beside it and is put in its place at the end.
"""

import platform
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from builder import verify
from builder.account import forecast, ledger, packaging, treemap
from builder.console import Console
from builder.memo import Memo
from builder.native import compile_pager, late_initialisers, selection, split
from builder.options import KEPT, BuildOptions
from builder.profile import extra, functions, profiles, record
from builder.python import bundle, extras
from builder.python.deferred.planning import HeldModules
from builder.python.tiers import RecordedModules
from builder.stage import install, policy, strip
from builder.staging import SCRATCH, Staging
from torch_layer import SIDE_FILE

# Libraries that were recorded as another build stay whole up to so many bytes, which takes seconds; for more than that the
# workload is recorded, which takes many minutes and gives a smaller layer. libtorch_python.so has 23 MB.
MOST_WHOLE_BYTES = 40_000_000


class Build:
    """One build. It keeps the ledger of all steps."""

    def __init__(self, options: BuildOptions, console: Console) -> None:
        self.options, self.console = options, console
        self.book = ledger.Ledger()
        self.staging = Staging(options, console, self.book)
        self.memo = Memo(options.work / KEPT, [work / KEPT for work in options.results_of])

    def run(self) -> ledger.LayerReport:
        """Build the layer and return its report.

        Raises:
            BuildError: Something is wrong with an input, a tool or the result; the output is as it was before.
        """
        # These would fail late otherwise, after minutes of work.
        policy.running_runtime()
        compile_pager.require_compiler(policy.running_machine())
        strip.require_tool()
        with self.staging.alone():
            return self._run()

    def _run(self) -> ledger.LayerReport:
        installed, staged = self.staging.stage()
        found = self._find_profile(installed, staged)
        self._forecast(staged, found)
        profile = self._profile(installed, staged, found)
        use = self._use_extras(staged)
        # Beside the old tree: it is renamed at the end, and a rename cannot go to another file system.
        scratch = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=self.options.output))
        try:
            finished = scratch / "layer" / "python"
            late = _late(self.options, profile, installed.tree)
            self._bundle(staged, finished, profile, use, late)
            self._split(finished, profile, late)
            report = self._account(finished, installed)
            if self.options.verify:
                self._verify(staged, finished, use)
            if self.options.zip is not None:
                self._zip(finished.parent, scratch / "layer.zip", report)
            self._publish(scratch, report)
            self.memo.forget_others()
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return report

    def _find_profile(self, installed: install.Installed, staged: Path) -> profiles.Profile | None:
        """The union of the recorded profiles that fit; None if none fits well enough, or recording was asked for."""
        if self.options.record:
            return None
        found = profiles.find(self.options.profiles, profiles.target_of(installed, platform.machine()))
        if found is not None:
            found = functions.placed(found, installed.tree)
        if found is not None and _bytes_of(staged, found.other_builds) > MOST_WHOLE_BYTES:
            return None
        return found

    def _forecast(self, staged: Path, found: profiles.Profile | None) -> None:
        """Before the slow steps: refuse what cannot keep within the budget."""
        with self.console.step("forecast", "add up what the layer will have") as step:
            expected = forecast.forecast(staged, found)
            step.result = (
                f"about {expected.likely / 1e6:.1f} MB (at least {expected.least / 1e6:.1f}) of the budget of "
                f"{self.options.budget_bytes / 1e6:.1f} MB"
            )
        forecast.require_room(expected, self.options.budget_bytes)
        self.book.forecast_bytes = expected.likely

    def _profile(self, installed: install.Installed, staged: Path, found: profiles.Profile | None) -> profiles.Profile:
        """Step 4: what is hot, from the profile that was found or by recording."""
        with self.console.step("record", "read what is hot from the recorded profiles of these wheels") as step:
            if found is None:
                target = profiles.target_of(installed, platform.machine())
                step.note(record.what_it_takes(target))
                known = profiles.held_elsewhere(self.options.profiles, target)
                found = record.record_workload(staged, self.options.work, target, step.say, known)
                path = self.options.profiles / profiles.file_name(target, record.workload_name())
                functions.named(found, installed.tree).save(path)
                # Profiles of users' own models on the same wheels count, too.
                found = profiles.find(self.options.profiles, target) or found
                step.result = f"recorded into {path}: "
            step.result += _what_is_hot(found)
        self.book.measure("record", staged, self.console.seconds["record"])
        return found

    def _use_extras(self, staged: Path) -> extra.ExtraUse:
        """Step 4 for the packages that a user has added: what a first answer with them imports."""
        files = [path.relative_to(staged).as_posix() for path in sorted(staged.rglob("*")) if path.is_file()]
        self.extras = extras.choose(staged, files)
        if not (self.extras.extra or self.extras.left):
            return extra.ExtraUse((), {})
        with self.console.step("extra", "run a first answer with the extra packages") as step:
            for left in self.extras.left:
                step.say(f"{left.name} stays files: {left.reason}")
            use = extra.record(staged, self.extras.extra, self.options.work, self.memo, ledger.tree_sha256(staged))
            step.result = f"{', '.join(self.extras.extra) or 'nothing'} packed; {len(use.modules):,} modules used"
        return use

    def _bundle(
        self,
        staged: Path,
        finished: Path,
        profile: profiles.Profile,
        use: extra.ExtraUse,
        late: late_initialisers.LateInitialisers,
    ) -> None:
        """Step 5, the Python half: modules into their tiers."""
        with self.console.step("bundle", "compile modules, and pack the cold ones") as step:
            recorded = RecordedModules(profile.hot, profile.warm, profile.sources, use.modules)
            held = HeldModules() if self.options.eager_imports else profile.held
            bundled = bundle.bundle(
                staged,
                finished,
                recorded,
                held=held,
                registrations=late.for_plan(),
                memo=self.memo,
                progress=step.progress,
            )
            if late.addresses:
                late_initialisers.take_out(finished / late_initialisers.LIBRARY, late.addresses)
            step.result = (
                f"{bundled.hot:,} modules hot, of which {len(held.modules):,} wait; {bundled.warm:,} warm, "
                f"{bundled.cold:,} cold; {bundled.source_bytes / 1e6:.1f} MB of sources and "
                f"{bundled.bytecode_bytes / 1e6:.1f} MB of bytecode are {bundled.archive_bytes / 1e6:.1f} MB"
            )
        self.book.measure("bundle", finished, self.console.seconds["bundle"], [bundled._asdict()])

    def _split(self, finished: Path, profile: profiles.Profile, late: late_initialisers.LateInitialisers) -> None:
        """Step 5, the native half: libraries into hot pages and cold blocks."""
        with self.console.step("split", "compress the cold pages of the libraries") as step:
            folder = finished / "torch_layer"
            compile_pager.build_pager(folder / compile_pager.PAGER_NAME, arch=platform.machine())
            unused = {late_initialisers.LIBRARY: late.pages}
            plans = {
                name: split.LibraryPlan(hot=profile.pages.of(name) - unused.get(name, frozenset()))
                for name in selection.libraries_of(finished, profile.other_builds)
            }
            parts = split.thin(
                plans,
                finished,
                folder / SIDE_FILE,
                progress=lambda _name, done, total: step.progress(done / (total or 1)),
                memo=self.memo,
            )
            before = sum(library.original for library in parts.libraries)
            thin = sum(library.thin for library in parts.libraries)
            step.result = (
                f"{len(parts.libraries)} libraries, {before / 1e6:.1f} MB, are {thin / 1e6:.1f} MB hot and "
                f"{parts.side_file / 1e6:.1f} MB compressed"
            )
        self.book.split(parts)
        self.book.measure("split", finished, self.console.seconds["split"])

    def _account(self, finished: Path, installed: install.Installed) -> ledger.LayerReport:
        """Step 7. It comes before verification, since a layer over its budget need not be verified."""
        report = self.book.report(finished.parent, installed.wheels, self.options.budget_bytes)
        if report.unzipped_bytes > self.options.budget_bytes:
            raise forecast.too_large(
                f"the layer has {report.unzipped_bytes:,} bytes unzipped",
                report.unzipped_bytes,
                self.options.budget_bytes,
                [(entry.bytes, entry.path) for entry in report.largest],
            )
        return report

    def _verify(self, staged: Path, finished: Path, use: extra.ExtraUse) -> None:
        """Step 6: the finished tree computes what the staged tree computes."""
        with self.console.step("verify", "compare the finished tree with the staged one") as step:
            kept = verify.KeptReference(self.memo, ledger.tree_sha256(staged))
            verified = verify.verify(staged, finished, step.say, kept)
            if use.answers:
                step.say("answer with the extra packages")
                verify.same_answers(use.answers, extra.run(finished, self.extras.extra, self.options.work).answers)
            step.result = (
                f"{verified.outputs} outputs of the workload and {verified.check_outputs} outputs of {verified.checks} "
                "checks are equal bit for bit"
            )
        self.book.measure("verify", finished, self.console.seconds["verify"])

    def _zip(self, folder: Path, output: Path, report: ledger.LayerReport) -> None:
        """The zip file, and its size in the report."""
        with self.console.step("zip", "pack the layer as SAM would") as step:
            report.zip_bytes = packaging.write_zip(folder, output, step.progress)
            step.result = f"{report.zip_bytes / 1e6:.1f} MB"

    def _publish(self, scratch: Path, report: ledger.LayerReport) -> None:
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


def _what_is_hot(found: profiles.Profile) -> str:
    """The size of what was recorded, and the libraries of other builds, for people."""
    text = (
        f"{len(found.hot):,} modules and {found.pages.count() * 4096 / 1e6:.1f} MB of libraries are hot "
        f"({', '.join(found.capabilities)})"
    )
    if found.by_name:
        named = ", ".join(sorted(found.by_name))
        text += f"; {named}: another build than the recorded one, so hot by the names of its functions"
    if found.other_builds:
        text += f"; {', '.join(sorted(found.other_builds))}: another build than the recorded one, so left whole"
    return text


def _late(options: BuildOptions, profile: profiles.Profile, installed: Path) -> late_initialisers.LateInitialisers:
    """Which initialisers wait: as with modules, none where everything is imported at once."""
    if options.eager_imports or not profile.held.modules:
        return late_initialisers.LateInitialisers()
    return late_initialisers.find(installed)


def _bytes_of(tree: Path, names: Iterable[str]) -> int:
    """The size of these files of the tree together."""
    return sum((tree / name).stat().st_size for name in names if (tree / name).is_file())
