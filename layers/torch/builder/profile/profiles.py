"""Recorded profiles: what a workload touches, stored with what it was recorded on.

A profile is a committed JSON file. So the same requirements give the same layer on any machine, also on one whose CPU
has fewer capabilities than the recording machine. Several profiles may fit one build: that of the shipped workload, and
those of a user's models. A build takes their union.

Which modules a workload imports depends on the versions of torch, NumPy and Python. Which pages it touches depends on the
very bytes of a library. So modules are found by version, and pages by the hash of the library. Two wheels of one version
that differ in one library share the pages of all others.
"""

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

from builder.errors import ProfileError
from builder.native.page_set import PageSet
from builder.python.deferred.planning import HeldModules
from builder.stage import install

SCHEMA = 2
# The distributions whose modules and libraries a profile is about.
KEYED = ("torch", "numpy")
_KEYS_IN_A_LINE = 100


class Target(NamedTuple):
    """What a layer is built from, as far as a profile depends on it.

    Attributes:
        versions: The version of each distribution in KEYED, by name.
        python: The interpreter's tag, `cpython-313`.
        machine: `x86_64` or `aarch64`.
        libraries: sha256 of every native library as it was installed, in hex, by its path relative to the tree.
    """

    versions: Mapping[str, str]
    python: str
    machine: str
    libraries: Mapping[str, str]


def target_of(installed: install.Installed, machine: str) -> Target:
    """What the installed tree is, for the Python that runs this."""
    versions = {wheel.name: wheel.version for wheel in installed.wheels if wheel.name in KEYED}
    hashes = install.hashes_of(installed.tree)
    libraries = {name: value for name, value in hashes.items() if ".so" in name.rpartition("/")[2]}
    return Target(versions, str(sys.implementation.cache_tag), machine, libraries)


@dataclass(frozen=True)
class Profile:
    """What a workload touched.

    Attributes:
        versions: The version of each distribution in KEYED, by name.
        python: The interpreter's tag, `cpython-313`: modules differ between versions.
        machine: `x86_64` or `aarch64`.
        libraries: sha256 of every library that was recorded, in hex, by its path.
        capabilities: The CPU capabilities under which it was recorded.
        hot: Names of the modules that were imported, in the order of the imports.
        warm: Names of the modules that only the checks of code outside the workload imported.
        sources: Paths of sources that were read as text.
        pages: Pages of libraries that were touched.
        held: Modules of torch that wait until they are touched. Only the shipped workload's profile has them.
        other_builds: Paths of libraries that the target has as another build than the recorded one, so that nobody knows
            which of their pages are hot. A file never has any; `on` says which there are.
        functions: Keys of the functions on hot pages, by library: `builder.profile.functions`.
        by_name: Paths of libraries that are another build, and whose hot pages are known by their functions. A file never
            has any.
    """

    versions: dict[str, str]
    python: str
    machine: str
    libraries: dict[str, str]
    capabilities: tuple[str, ...]
    hot: tuple[str, ...]
    warm: frozenset[str]
    sources: frozenset[str]
    pages: PageSet
    held: HeldModules = field(default_factory=HeldModules)
    other_builds: frozenset[str] = frozenset()
    functions: Mapping[str, frozenset[str]] = field(default_factory=dict)
    by_name: frozenset[str] = frozenset()

    def like(self, target: Target) -> bool:
        """Whether it was recorded with these versions and for this architecture, on any Python."""
        return (self.versions, self.machine) == (target.versions, target.machine)

    def fits(self, target: Target) -> bool:
        """Whether it was recorded with these versions, on this Python and for this architecture."""
        return self.like(target) and self.python == target.python

    def only_pages(self) -> "Profile":
        """The profile without what depends on the Python."""
        return Profile(
            self.versions,
            self.python,
            self.machine,
            self.libraries,
            self.capabilities,
            (),
            frozenset(),
            frozenset(),
            self.pages,
        )

    def on(self, target: Target) -> "Profile":
        """The profile without the pages of libraries that are another build in the target."""
        same = {name: value for name, value in self.libraries.items() if target.libraries.get(name) == value}
        others = frozenset(self.libraries).intersection(target.libraries).difference(same)
        return replace(self, libraries=same, pages=self.pages.only(same), other_builds=others)

    def union(self, other: "Profile") -> "Profile":
        """What either of both touched."""
        hot = tuple(dict.fromkeys([*self.hot, *other.hot]))
        libraries = {**self.libraries, **other.libraries}
        return Profile(
            self.versions,
            self.python,
            self.machine,
            libraries,
            tuple(sorted({*self.capabilities, *other.capabilities})),
            hot,
            (self.warm | other.warm).difference(hot),
            self.sources | other.sources,
            self.pages.union(other.pages),
            self.held if self.held.modules else other.held,
            (self.other_builds | other.other_builds).difference(libraries),
            {
                name: self.functions.get(name, frozenset()) | other.functions.get(name, frozenset())
                for name in {*self.functions, *other.functions}
            },
        )

    def save(self, path: Path) -> None:
        """Write the profile, in one step. Each entry has a line of its own, so that a change can be reviewed."""
        value = {
            "schema": SCHEMA,
            "versions": self.versions,
            "python": self.python,
            "machine": self.machine,
            "libraries": dict(sorted(self.libraries.items())),
            "capabilities": list(self.capabilities),
            "pages": self.pages.to_json(),
            "functions": {name: _lines(keys) for name, keys in sorted(self.functions.items())},
            "sources": sorted(self.sources),
            "held": self.held._asdict(),
            "hot": list(self.hot),
            "warm": sorted(self.warm),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Profile":
        """Read a profile.

        Raises:
            ProfileError: The file is no profile, or one of another builder.
        """
        try:
            value: Any = json.loads(path.read_text(encoding="utf-8"))
            if value["schema"] != SCHEMA:
                raise ProfileError(
                    f"{path} has schema {value['schema']}, this builder reads {SCHEMA}", "delete it and record again"
                )
            return cls(
                dict(value["versions"]),
                str(value["python"]),
                str(value["machine"]),
                dict(value["libraries"]),
                tuple(value["capabilities"]),
                tuple(value["hot"]),
                frozenset(value["warm"]),
                frozenset(value["sources"]),
                PageSet.from_json(value["pages"]),
                HeldModules(**{name: tuple(values) for name, values in value.get("held", {}).items()}),
                functions={name: _keys(lines) for name, lines in value.get("functions", {}).items()},
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ProfileError(f"{path} is no recorded profile: {error!r}", "delete it and record again") from error


def _lines(keys: Iterable[str]) -> list[str]:
    """Keys of functions, as lines for a file."""
    listed = sorted(keys)
    return [" ".join(listed[at : at + _KEYS_IN_A_LINE]) for at in range(0, len(listed), _KEYS_IN_A_LINE)]


def _keys(lines: Iterable[str]) -> frozenset[str]:
    return frozenset(key for line in lines for key in line.split())


def file_name(target: Target, what: str) -> str:
    """`torch-2.13.0+cpu-cpython-311-x86_64-workload.json`."""
    return f"torch-{target.versions['torch']}-{target.python}-{target.machine}-{what}.json"


def held_elsewhere(folder: Path, target: Target) -> HeldModules:
    """The held modules of a profile for the same versions on another Python or architecture; none if there is none.

    The nearest is the one for the same architecture, then the one for the same Python.
    """
    found = [profile for path in sorted(folder.glob("*.json")) if (profile := Profile.load(path)).held.modules]
    same = [profile for profile in found if profile.versions == target.versions]
    same.sort(key=lambda profile: (profile.machine != target.machine, profile.python != target.python))
    return same[0].held if same else HeldModules()


def find(folder: Path, target: Target) -> Profile | None:
    """The union of all profiles in the folder that fit; None if none does.

    Profiles of the same versions on another Python add the pages of libraries whose bytes are the same.
    """
    known = [profile for path in sorted(folder.glob("*.json")) if (profile := Profile.load(path)).like(target)]
    fitting = [profile.on(target) for profile in known if profile.fits(target)]
    if not fitting:
        return None
    elsewhere = [profile.on(target).only_pages() for profile in known if not profile.fits(target)]
    return reduce(Profile.union, [*fitting, *elsewhere])
