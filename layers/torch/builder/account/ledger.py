"""Step 7: the ledger of the layer: whose every byte is, and what each step saved."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from builder import inputs
from builder.account import contents
from builder.account.treemap import TreeNode
from builder.native.split import SplitReport
from builder.stage import policy
from builder.stage.install import Wheel

SCHEMA = 1
_LARGEST = 40


@dataclass
class StepAccount:
    """The size of the layer after a step. `detail` is what the step itself reports."""

    name: str
    bytes: int
    saved_bytes: int
    seconds: float
    detail: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class PackageAccount:
    """The bytes of one top-level package."""

    name: str
    bytes: int
    kinds: dict[str, int]  # bytes by contents.KINDS


@dataclass
class LibraryAccount:
    """The bytes of one library: its file, and its part of the side file."""

    path: str
    bytes: int
    cold_bytes: int
    original_bytes: int
    sections: list[dict[str, Any]]


@dataclass
class LayerReport:
    """The result of the ledger, which report.json holds. Sizes are in bytes."""

    unzipped_bytes: int
    limit_bytes: int
    budget_bytes: int
    headroom_bytes: int  # what Lambda's limit leaves for the user's own code
    files: int
    packages: list[PackageAccount]
    libraries: list[LibraryAccount]
    largest: list[contents.Entry]
    entries: list[contents.Entry]
    steps: list[StepAccount] = field(default_factory=list)
    wheels: list[Wheel] = field(default_factory=list)
    tree_sha256: str = ""
    inputs: str = ""  # digest of what it was built from (builder.inputs); empty if it was only inspected
    zip_bytes: int | None = None
    forecast_bytes: int | None = None  # of `unzipped_bytes`, made before the slow steps of the build

    def to_json(self) -> dict[str, Any]:
        """The report as in report.json: without `entries`, which has every file."""
        value = {key: item for key, item in asdict(self).items() if key != "entries"}
        value["largest"] = [entry._asdict() for entry in self.largest]
        value["wheels"] = [wheel._asdict() for wheel in self.wheels]
        return {"schema": SCHEMA, **value}

    def save(self, path: Path) -> None:
        """Write report.json in one step."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        partial.write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")
        partial.replace(path)

    def tree(self) -> TreeNode:
        """The packages, their folders and their files, for the treemap."""
        root = TreeNode("layer", 0, "data")
        for entry in self.entries:
            root.add([entry.package, *entry.path.removeprefix("python/").split("/")], entry.bytes, entry.kind)
        return root


class Ledger:
    """Measures the tree after each step of a build."""

    def __init__(self) -> None:
        self.steps: list[StepAccount] = []
        self.forecast_bytes: int | None = None
        self._split: SplitReport | None = None

    def measure(self, name: str, tree: Path, seconds: float, detail: Iterable[dict[str, Any]] = ()) -> None:
        """Note the size of `tree`, which a step has made."""
        size = sum(path.stat().st_size for path in tree.rglob("*") if path.is_file())
        before = self.steps[-1].bytes if self.steps else size
        self.steps.append(StepAccount(name, size, before - size, round(seconds, 1), list(detail)))

    def split(self, parts: SplitReport) -> None:
        """Keep the report of the split, which has the sections of the libraries."""
        self._split = parts

    def report(self, layer: Path, wheels: Iterable[Wheel], budget_bytes: int) -> LayerReport:
        """The report of the finished layer."""
        report = inspect(layer, budget_bytes)
        report.steps, report.wheels, report.tree_sha256 = self.steps, list(wheels), tree_sha256(layer)
        report.inputs, report.forecast_bytes = inputs.digest(), self.forecast_bytes
        if self._split is not None:
            by_path = {f"python/{library.name}": library for library in self._split.libraries}
            for library in report.libraries:
                if library.path in by_path:
                    part = by_path[library.path]
                    library.original_bytes = part.original
                    library.sections = [asdict(section) for section in part.sections if section.bytes]
        return report


def inspect(path: Path, budget_bytes: int = policy.BUDGET_BYTES) -> LayerReport:
    """The report of any layer, a folder or a zip file, by its content. Raises `BuildError` if it is neither."""
    found = contents.look_into(path)
    packages: dict[str, PackageAccount] = {}
    cold: dict[str, int] = {}
    for entry in found.entries:
        package = packages.setdefault(entry.package, PackageAccount(entry.package, 0, {}))
        package.bytes += entry.bytes
        package.kinds[entry.kind] = package.kinds.get(entry.kind, 0) + entry.bytes
        if entry.kind == "cold-native":
            folder, _, name = entry.path.partition("torch_layer/libraries.cold/")
            cold[folder + name] = entry.bytes
    sizes = {entry.path: entry.bytes for entry in found.entries}
    libraries = [
        LibraryAccount(
            name,
            sizes[name],
            cold.get(name, 0),
            sizes[name],
            [asdict(section) for section in found.sections.get(name, ())],
        )
        for name in sorted(found.sections.keys() | (cold.keys() & sizes.keys()))
    ]
    return LayerReport(
        unzipped_bytes=found.bytes,
        limit_bytes=policy.LIMIT_BYTES,
        budget_bytes=budget_bytes,
        headroom_bytes=policy.LIMIT_BYTES - found.bytes,
        files=found.files,
        packages=sorted(packages.values(), key=lambda package: -package.bytes),
        libraries=sorted(libraries, key=lambda library: -(library.bytes + library.cold_bytes)),
        largest=sorted(found.entries, key=lambda entry: -entry.bytes)[:_LARGEST],
        entries=list(found.entries),
        zip_bytes=path.stat().st_size if path.is_file() else None,
    )


def tree_sha256(folder: Path) -> str:
    """One hash over names, modes and contents of all files. Two builds are the same if their hashes are."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            executable = "x" if path.stat().st_mode & 0o100 else "-"
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"{path.relative_to(folder).as_posix()}\0{executable}\0{content}\n".encode())
    return digest.hexdigest()
