"""The checks of the doctor: each yields what it found. None of them imports torch, and none builds anything."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from builder.account import forecast
from builder.doctor.findings import FITS, LOOK, MISFIT, SKIPPED, Finding
from builder.doctor.wheels import Examined
from builder.errors import BuildError, ElfError, RequirementsError
from builder.native.elf import SharedLibrary
from builder.native.layout import plan_layout
from builder.native.selection import THRESHOLD_BYTES, WHOLE, libraries_of
from builder.native.split import MIN_COLD_PAGES
from builder.profile import profiles
from builder.python import source_changes, tiers
from builder.python.deferred import fitting
from builder.python.deferred.sources import SourceTree
from builder.stage import loadable, policy, prune, strip
from builder.stage.needs import elf_files, needs_of


def version(wheel: Examined) -> Iterator[Finding]:
    """Whether the builder knows this torch, and Lambda has a runtime for the wheel's Python and processor."""
    part, where = "version", "stage/policy.py"
    try:
        policy.require_known_torch(wheel.version)
        yield Finding(part, where, "KNOWN_TORCH", FITS)
    except RequirementsError:
        minor = ".".join(map(str, wheel.minor))
        yield Finding(part, where, "KNOWN_TORCH", MISFIT, f"no row for {minor}: add it when all below fits")
    pythons = {tag.interpreter for tag in wheel.tags}
    known = {f"cp{runtime.python[0]}{runtime.python[1]}" for runtime in policy.RUNTIMES}
    status = FITS if pythons & known or "py3" in pythons else MISFIT
    yield Finding(part, where, f"RUNTIMES, {', '.join(sorted(pythons))}", status, _unless(status, "no such runtime"))
    platforms = {tag.platform for tag in wheel.tags}
    status = FITS if machine_of(wheel) else MISFIT
    text = _unless(status, f"Lambda has {' and '.join(policy.MACHINES)} only")
    yield Finding(part, where, f"MACHINES, {', '.join(sorted(platforms))}", status, text)


def machine_of(wheel: Examined) -> str:
    """The wheel's architecture, as `uname -m` has it; empty if Lambda has none such."""
    named = (machine for machine in policy.MACHINES for tag in wheel.tags if tag.platform.endswith(f"_{machine}"))
    return next(named, "")


def requirements(wheel: Examined, files: Iterable[Path]) -> Iterator[Finding]:
    """Whether the layer's pins are what the wheel asks for.

    Args:
        wheel: The wheel.
        files: pip requirement files.
    """
    part, where = "requirements", "requirements.txt"
    pins = list(_pins(files))
    environment = {
        "extra": "",
        "platform_system": "Linux",
        "sys_platform": "linux",
        "platform_machine": machine_of(wheel),
    }
    if python := next((tag.interpreter for tag in wheel.tags if re.fullmatch(r"cp3\d+", tag.interpreter)), ""):
        environment |= {"python_version": f"3.{python[3:]}", "python_full_version": f"3.{python[3:]}.0"}
    for wanted in wheel.requirements:
        if wanted.marker is not None and not wanted.marker.evaluate(environment):
            continue
        name = canonicalize_name(wanted.name)
        fitting_pins = [pin for pin in pins if canonicalize_name(pin.name) == name]
        fitting_pins = [pin for pin in fitting_pins if pin.marker is None or pin.marker.evaluate(environment)]
        status, text = FITS, ""
        if any(re.fullmatch(rule.pattern, name) for rule in policy.FORBIDDEN_DISTRIBUTIONS):
            status, text = MISFIT, "no place in a CPU layer: this is a CUDA build, take the wheel with +cpu"
        elif not fitting_pins:
            status, text = MISFIT, "not pinned: add a line, and what it requires in turn"
        elif not all(wanted.specifier.contains(_version(pin), prereleases=True) for pin in fitting_pins):
            status, text = MISFIT, f"pinned is {', '.join(_version(pin) for pin in fitting_pins)}: change the pin"
        yield Finding(part, where, f"{wanted.name}{wanted.specifier}", status, text)


def _pins(files: Iterable[Path]) -> Iterator[Requirement]:
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                found = Requirement(re.sub(r"(^|\s)#.*|\s--hash\S*", "", line).strip())
            except InvalidRequirement:
                continue  # an option of pip, or nothing
            if re.fullmatch(r"==[^*]+", str(found.specifier)):
                yield found


def pinned_version(name: str, files: Iterable[Path]) -> str:
    """The version that a package is pinned to; empty if it is not pinned."""
    return next((_version(pin) for pin in _pins(files) if canonicalize_name(pin.name) == name), "")


def _version(pin: Requirement) -> str:
    return next(iter(pin.specifier)).version


def modules(sources: SourceTree) -> Iterator[Finding]:
    """The rules about modules that wait."""
    part, where = "modules that wait", "python/deferred/rules.py"
    for row in fitting.checked_rows(sources):
        status = MISFIT if row.problem else SKIPPED if row.skipped else FITS
        yield Finding(part, where, f"{row.table}, {row.row}", status, row.problem or row.skipped)
    yield Finding(part, where, "COMPLETING, MISSING_KERNELS", SKIPPED, "the search of the first build tries them")


def numpy_modules(folder: Path | None) -> Iterator[Finding]:
    """The rules about NumPy; `folder` has its sources."""
    part, where = "modules of NumPy", "python/deferred/rules.py"
    if folder is None:
        yield Finding(part, where, "CONSTANTS, NUMPY_PREPARES", SKIPPED, "name NumPy's wheel, too")
        return
    for row in fitting.checked_numpy_rows(SourceTree(folder, ["numpy"])):
        yield Finding(part, where, f"{row.table}, {row.row}", MISFIT if row.problem else FITS, row.problem)


def sources(tree: Path, names: Iterable[str]) -> Iterator[Finding]:
    """Sources that are changed, and sources that stay files.

    Args:
        tree: The wheels' files without what is left out.
        names: Paths of the files of all wheels.
    """
    files = list(names)
    packages = {name.partition("/")[0] for name in files}
    for change in source_changes.CHANGES:
        file, package = tree / change.path, change.path.partition("/")[0]
        if package not in packages:
            text = f"about {package}, which is not among these wheels"
            yield Finding("changed sources", "python/source_changes.py", f"CHANGES, {change.path}", SKIPPED, text)
            continue
        try:
            if not file.is_file():
                raise BuildError(f"there is no {change.path}")
            source_changes.applied({change.path: file.read_bytes()})
            status, text = FITS, ""
        except BuildError as error:
            status, text = MISFIT, error.cause
        yield Finding("changed sources", "python/source_changes.py", f"CHANGES, {change.path}", status, text)
    for rule in tiers.STAYING:
        status = FITS if any(re.fullmatch(rule.pattern, name) for name in files) else MISFIT
        text = _unless(status, f"no file has such a path ({rule.reason})")
        yield Finding("sources that stay files", "python/tiers.py", f"STAYING, {rule.pattern}", status, text)


def left_out(wheels: list[Examined]) -> Iterator[Finding]:
    """What the prune rules leave out of these wheels, and the rows that match nothing in them."""
    part, where = "left out", "stage/prune.py"
    names = {wheel.name for wheel in wheels}
    files = {name: size for wheel in wheels for name, size in wheel.sizes.items()}
    for rule in prune.RULES:
        matched = [name for name in files if prune.rule_for(name) is rule]
        if matched:
            size = sum(files[name] for name in matched) / 1e6
            yield Finding(part, where, rule.name, FITS, f"{len(matched):,} files, {size:.1f} MB")
        elif not names.isdisjoint(rule.packages):
            yield Finding(
                part, where, rule.name, LOOK, "matches no file: are they gone, or do they have other names now?"
            )
        else:
            yield Finding(part, where, rule.name, SKIPPED, "about files of other packages, or of an installed tree")
    for pattern in prune.COMPILED_INCLUDES:
        kept = any(re.fullmatch(rf"torch/include/{pattern}", name) for name in files)
        status = FITS if kept else MISFIT
        yield Finding(
            part, where, f"COMPILED_INCLUDES, {pattern}", status, _unless(status, "matches no header any more")
        )


def libraries(tree: Path, machine: str) -> Iterator[Finding]:
    """Every library of the tree: what it needs, and whether the splitter knows its form."""
    runtimes = list({runtime.symbol_versions: runtime for runtime in policy.RUNTIMES}.values())
    for path in elf_files(tree):
        name = path.relative_to(tree).as_posix()
        needs = needs_of(path, name)
        problems = [
            problem for runtime in runtimes for problem in loadable.problems_of(needs, "torch", runtime, machine)
        ]
        texts = dict.fromkeys(problem.text for problem in problems)
        status = MISFIT if problems else FITS
        yield Finding("what libraries need", "stage/loadable.py", name, status, "; ".join(texts))
    for whole in WHOLE:
        if whole.pattern.startswith("torch/"):
            found = any(re.match(whole.pattern, path.relative_to(tree).as_posix()) for path in elf_files(tree))
            status = FITS if found else MISFIT
            yield Finding("libraries to split", "native/selection.py", f"WHOLE, {whole.pattern}", status)
    for name in libraries_of(tree):
        try:
            library = SharedLibrary.read(tree / name)
            cold = sum(run.end - run.start for _, run in plan_layout(library, frozenset(), MIN_COLD_PAGES).cold())
            status, text = FITS, f"{len(library.data) / 1e6:.1f} MB, of which {cold / 1e6:.1f} may go cold"
        except ElfError as error:
            status, text = MISFIT, error.cause
        yield Finding("libraries to split", "native/selection.py", name, status, text)


def profile(wheel: Examined, numpy: str, folder: Path) -> Iterator[Finding]:
    """Whether a recorded profile fits this wheel.

    Args:
        wheel: torch's.
        numpy: NumPy's version, which a profile is about, too.
        folder: Where the profiles are.
    """
    part, where = "recorded profile", "profiles/"
    python = next((tag.interpreter for tag in wheel.tags if tag.interpreter.startswith("cp")), "")
    libraries = {name: value for name, value in wheel.hashes.items() if ".so" in name.rpartition("/")[2]}
    versions = {"torch": wheel.version, "numpy": numpy}
    target = profiles.Target(versions, python.replace("cp", "cpython-"), machine_of(wheel), libraries)
    row = f"torch {wheel.version}, NumPy {numpy}, {target.python}, {target.machine}"
    found = profiles.find(folder, target)
    if found is None:
        text = "none: the first build records the workload and searches for modules that wait, some ten minutes"
        yield Finding(part, where, row, SKIPPED, text)
    else:
        other = [name for name in found.other_builds if wheel.sizes.get(name, 0) >= THRESHOLD_BYTES]
        text = f"{', '.join(sorted(other))}: another build than the recorded one" if other else ""
        yield Finding(part, where, row, FITS, text)


def size(tree: Path, machine: str, built: dict[str, Any] | None, budget_bytes: int) -> Iterator[Finding]:
    """What the layer will have.

    Args:
        tree: The wheels' files without what is left out. Its libraries are stripped here.
        machine: Their architecture, as `uname -m` has it.
        built: The ledger of the last build (`report.json`), for the packages that are not among the wheels.
        budget_bytes: What the layer may have.
    """
    part, where = "sizes", "account/forecast.py"
    try:
        strip.take_out(tree, machine)
        expected = forecast.forecast(tree, None)
    except BuildError as error:
        yield Finding(part, where, "forecast", SKIPPED, error.cause)
        return
    here = {name for name, _ in expected.packages}
    others = {each["name"]: each["bytes"] for each in built["packages"]} if built else {}
    rest = sum(count for name, count in others.items() if name not in here)
    for name, count in expected.packages:
        before = f", and {others[name] / 1e6:.1f} MB in the last build" if name in others else ""
        yield Finding(part, where, name, FITS, f"about {count / 1e6:.1f} MB without a profile{before}")
    if not built:
        yield Finding(part, where, "the other packages", SKIPPED, "no ledger of an earlier build: make layer")
        return
    status = FITS if expected.least + rest <= budget_bytes else MISFIT
    least, likely = (f"{(count + rest) / 1e6:.1f}" for count in (expected.least, expected.likely))
    text = f"about {likely} MB (at least {least}) of the budget of {budget_bytes / 1e6:.1f} MB"
    yield Finding(part, where, "the layer", status, text)


def _unless(status: str, text: str) -> str:
    return "" if status == FITS else text
