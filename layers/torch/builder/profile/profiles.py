"""Recorded profiles: what a workload touches, stored with the hashes of the wheels that it was recorded on.

A profile is a committed JSON file. So the same requirements give the same layer on any machine, also on one whose CPU
has fewer capabilities than the recording machine. Several profiles may fit one set of wheels: that of the shipped
workload, and those of a user's models. A build takes their union.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

from builder.errors import ProfileError
from builder.native.page_set import PageSet
from builder.python.deferred.planning import HeldModules
from builder.stage.install import Wheel

SCHEMA = 1
# The wheels whose libraries are split. Page numbers are valid only for the very same build of them.
KEYED = ("torch", "numpy")


@dataclass(frozen=True)
class Profile:
    """What a workload touched.

    Attributes:
        wheels: sha256 of the wheels in KEYED, by name.
        python: The interpreter's tag, `cpython-313`: modules differ between versions.
        machine: `x86_64` or `aarch64`.
        capabilities: The CPU capabilities under which it was recorded.
        hot: Names of the modules that were imported, in the order of the imports.
        warm: Names of the modules that only the checks of code outside the workload imported.
        sources: Paths of sources that were read as text.
        pages: Pages of libraries that were touched.
        held: Modules of torch that wait until they are touched. Only the shipped workload's profile has them.
    """

    wheels: dict[str, str]
    python: str
    machine: str
    capabilities: tuple[str, ...]
    hot: tuple[str, ...]
    warm: frozenset[str]
    sources: frozenset[str]
    pages: PageSet
    held: HeldModules = field(default_factory=HeldModules)

    def fits(self, wheels: Sequence[Wheel], machine: str) -> bool:
        """Whether it was recorded with these very wheels, this version of Python and this architecture."""
        return (
            self.wheels == keys_of(wheels) and self.python == sys.implementation.cache_tag and self.machine == machine
        )

    def union(self, other: "Profile") -> "Profile":
        """What either of both touched."""
        hot = tuple(dict.fromkeys([*self.hot, *other.hot]))
        return Profile(
            self.wheels,
            self.python,
            self.machine,
            tuple(sorted({*self.capabilities, *other.capabilities})),
            hot,
            (self.warm | other.warm).difference(hot),
            self.sources | other.sources,
            self.pages.union(other.pages),
            self.held if self.held.modules else other.held,
        )

    def save(self, path: Path) -> None:
        """Write the profile, in one step. Each entry has a line of its own, so that a change can be reviewed."""
        value = {
            "schema": SCHEMA,
            "wheels": self.wheels,
            "python": self.python,
            "machine": self.machine,
            "capabilities": list(self.capabilities),
            "pages": self.pages.to_json(),
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
                dict(value["wheels"]),
                str(value["python"]),
                str(value["machine"]),
                tuple(value["capabilities"]),
                tuple(value["hot"]),
                frozenset(value["warm"]),
                frozenset(value["sources"]),
                PageSet.from_json(value["pages"]),
                HeldModules(**{name: tuple(values) for name, values in value.get("held", {}).items()}),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ProfileError(f"{path} is no recorded profile: {error!r}", "delete it and record again") from error


def keys_of(wheels: Iterable[Wheel]) -> dict[str, str]:
    """The hashes by which a profile is found."""
    return {wheel.name: wheel.sha256 for wheel in wheels if wheel.name in KEYED}


def file_name(wheels: Sequence[Wheel], machine: str, what: str) -> str:
    """`torch-2.13.0+cpu-cpython-311-x86_64-1a2b3c4d-workload.json`."""
    torch = next(wheel for wheel in wheels if wheel.name == "torch")
    return f"torch-{torch.version}-{sys.implementation.cache_tag}-{machine}-{torch.sha256[:8]}-{what}.json"


def find(folder: Path, wheels: Sequence[Wheel], machine: str) -> Profile | None:
    """The union of all profiles in the folder that fit; None if none fits."""
    fitting = [
        profile for path in sorted(folder.glob("*.json")) if (profile := Profile.load(path)).fits(wheels, machine)
    ]
    return reduce(Profile.union, fitting) if fitting else None
