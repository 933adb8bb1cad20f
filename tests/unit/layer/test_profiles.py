"""Recorded profiles are stored with what they were recorded on, and are taken only where they fit."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from builder import paths
from builder.errors import BuildError
from builder.native.page_set import PageSet
from builder.profile import profiles
from builder.profile.profiles import Profile, Target
from builder.python.deferred.planning import HeldModules
from builder.stage import policy
from builder.stage.install import Installed, Wheel

CPU, BINDINGS = "torch/lib/libtorch_cpu.so", "torch/lib/libtorch_python.so"
VERSIONS = {"torch": "2.13.0+cpu", "numpy": "2.4.6"}
TARGET = Target(VERSIONS, "cpython-313", "x86_64", {CPU: "a" * 64, BINDINGS: "b" * 64, "other/lib.so": "c" * 64})
PROFILE = Profile(
    versions=VERSIONS,
    python="cpython-313",
    machine="x86_64",
    libraries={CPU: "a" * 64, BINDINGS: "b" * 64},
    capabilities=("avx2",),
    hot=("torch", "torch.nn"),
    warm=frozenset({"torch.fx"}),
    sources=frozenset({"torch/nn/functional.py"}),
    pages=PageSet({CPU: frozenset({1, 2, 9}), BINDINGS: frozenset({5})}),
)


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    """Saving and loading gives an equal profile; a folder that is missing is made."""
    PROFILE.save(tmp_path / "new" / "p.json")
    assert Profile.load(tmp_path / "new" / "p.json") == PROFILE


@pytest.mark.parametrize(
    "other",
    [
        replace(PROFILE, versions={"torch": "2.14.0+cpu", "numpy": "2.4.6"}),
        replace(PROFILE, python="cpython-399"),
        replace(PROFILE, machine="aarch64"),
    ],
)
def test_a_profile_of_anything_else_does_not_count(tmp_path: Path, other: Profile) -> None:
    """Another version of torch, another Python or another architecture: the profile does not count."""
    other.save(tmp_path / "p.json")
    assert profiles.find(tmp_path, TARGET) is None


def test_a_search_begins_where_that_of_the_nearest_profile_ended(tmp_path: Path) -> None:
    """Held modules of the same versions are found: those for the same architecture, or else for another one."""
    elsewhere = HeldModules(modules=("torch.jit",), running=("torch",))
    held = HeldModules(modules=("torch.fx",), running=("torch",))
    replace(PROFILE, python="cpython-312").save(tmp_path / "a.json")  # a user's own: it has no held modules
    replace(PROFILE, versions={"torch": "2.14.0+cpu", "numpy": "2.4.6"}, held=held).save(tmp_path / "b.json")
    assert profiles.held_elsewhere(tmp_path, TARGET) == HeldModules()
    replace(PROFILE, machine="aarch64", held=elsewhere).save(tmp_path / "c.json")
    assert profiles.held_elsewhere(tmp_path, TARGET) == elsewhere
    replace(PROFILE, python="cpython-312", held=held).save(tmp_path / "d.json")
    assert profiles.held_elsewhere(tmp_path, TARGET) == held


def test_all_profiles_that_fit_count_together(tmp_path: Path) -> None:
    """A user's model adds to the shipped workload: pages and modules are united, and hot beats warm."""
    PROFILE.save(tmp_path / "a.json")
    mine = replace(
        PROFILE,
        capabilities=("native",),
        hot=("torch", "torch.fx"),
        warm=frozenset(),
        libraries={"other/lib.so": "c" * 64},
        pages=PageSet({"other/lib.so": frozenset({4})}),
    )
    mine.save(tmp_path / "b.json")
    found = profiles.find(tmp_path, TARGET)
    assert found is not None
    assert found.hot == ("torch", "torch.nn", "torch.fx")
    assert found.warm == frozenset()
    assert found.capabilities == ("avx2", "native")
    assert found.pages.count() == 5


def test_pages_that_another_python_touched_count_where_the_library_is_the_same(tmp_path: Path) -> None:
    """Of a profile for another Python count the pages of libraries with the same bytes, and not its modules."""
    PROFILE.save(tmp_path / "a.json")
    elsewhere = replace(
        PROFILE,
        python="cpython-311",
        hot=("torch.only_there",),
        libraries={CPU: "a" * 64, BINDINGS: "e" * 64},
        pages=PageSet({CPU: frozenset({7}), BINDINGS: frozenset({8})}),
    )
    elsewhere.save(tmp_path / "b.json")
    found = profiles.find(tmp_path, TARGET)
    assert found is not None
    assert (found.hot, found.python) == (PROFILE.hot, TARGET.python)
    assert (found.pages.of(CPU), found.pages.of(BINDINGS)) == (frozenset({1, 2, 7, 9}), frozenset({5}))
    assert not found.other_builds


@pytest.mark.parametrize("text", ["", "{}", "[]", json.dumps({"schema": 1}), json.dumps({"schema": 2})])
def test_a_file_that_is_no_profile_is_named(tmp_path: Path, text: str) -> None:
    """A damaged profile stops the build with its name and what to do."""
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(BuildError, match=r"p\.json") as caught:
        profiles.find(tmp_path, TARGET)
    assert "record again" in caught.value.next_step


def test_a_library_of_another_build_keeps_no_pages(tmp_path: Path) -> None:
    """Where one library of the same versions has other bytes, the pages of the others count, and that one is named."""
    PROFILE.save(tmp_path / "p.json")
    found = profiles.find(tmp_path, TARGET._replace(libraries={**TARGET.libraries, BINDINGS: "d" * 64}))
    assert found is not None
    assert (found.pages.of(CPU), found.pages.of(BINDINGS)) == (frozenset({1, 2, 9}), frozenset())
    assert found.other_builds == {BINDINGS}


def test_a_profile_of_that_build_settles_it(tmp_path: Path) -> None:
    """A library is no other build where any fitting profile recorded the very one."""
    PROFILE.save(tmp_path / "p.json")
    replace(PROFILE, libraries={BINDINGS: "d" * 64}, pages=PageSet({BINDINGS: frozenset({7})})).save(
        tmp_path / "q.json"
    )
    found = profiles.find(tmp_path, TARGET._replace(libraries={**TARGET.libraries, BINDINGS: "d" * 64}))
    assert found is not None
    assert found.pages.of(BINDINGS) == frozenset({7})
    assert found.other_builds == frozenset()


def test_the_target_is_read_from_the_installed_tree(tmp_path: Path) -> None:
    """Versions come from pip's list of wheels and hashes of libraries from RECORD; other files do not count."""
    record = tmp_path / "torch-2.13.0+cpu.dist-info" / "RECORD"
    record.parent.mkdir()
    lines = ["torch/lib/libtorch_cpu.so,sha256=qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqo,5"]
    record.write_text(
        "\n".join([*lines, "torch/__init__.py,sha256=AA,3", "torch-2.13.0+cpu.dist-info/RECORD,,"]) + "\n"
    )
    wheels = (Wheel("sympy", "1.14.0", ""), Wheel("torch", "2.13.0+cpu", ""))
    target = profiles.target_of(Installed(tmp_path, wheels, reused=False), "x86_64")
    assert target == Target({"torch": "2.13.0+cpu"}, str(sys.implementation.cache_tag), "x86_64", {CPU: "aa" * 32})


def test_names_say_what_a_profile_is_of() -> None:
    """A profile's file name has the version of torch, the Python, the architecture and what was recorded."""
    assert profiles.file_name(TARGET, "resnet") == "torch-2.13.0+cpu-cpython-313-x86_64-resnet.json"


@pytest.mark.parametrize("runtime", policy.RUNTIMES, ids=lambda runtime: runtime.name)
def test_the_default_torch_is_recorded_on_every_runtime(runtime: policy.RuntimePolicy) -> None:
    """The project brings a profile of the pinned versions for each Python, so that a build on x86_64 records nothing."""
    pins = dict(re.findall(r"^(torch|numpy)==(\S+)", (paths.LAYER / "requirements.txt").read_text(), re.MULTILINE))
    target = profiles.Target(pins, "cpython-{}{}".format(*runtime.python), "x86_64", {})
    assert profiles.find(paths.PROFILES, target) is not None
