"""Recorded profiles are stored with the wheels' hashes, and are taken only where they fit."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from builder.errors import BuildError
from builder.native.page_set import PageSet
from builder.profile import profiles
from builder.profile.profiles import Profile
from builder.stage.install import Wheel

WHEELS = [Wheel("numpy", "2.4.6", "b" * 64), Wheel("sympy", "1.14.0", "c" * 64), Wheel("torch", "2.13.0+cpu", "a" * 64)]
PROFILE = Profile(
    wheels={"torch": "a" * 64, "numpy": "b" * 64},
    python=str(sys.implementation.cache_tag),
    machine="x86_64",
    capabilities=("avx2",),
    hot=("torch", "torch.nn"),
    warm=frozenset({"torch.fx"}),
    sources=frozenset({"torch/nn/functional.py"}),
    pages=PageSet({"torch/lib/libtorch_cpu.so": frozenset({1, 2, 9})}),
)


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    """Saving and loading gives an equal profile; a folder that is missing is made."""
    PROFILE.save(tmp_path / "new" / "p.json")
    assert Profile.load(tmp_path / "new" / "p.json") == PROFILE


@pytest.mark.parametrize(
    "other",
    [
        replace(PROFILE, wheels={"torch": "d" * 64, "numpy": "b" * 64}),
        replace(PROFILE, python="cpython-399"),
        replace(PROFILE, machine="aarch64"),
    ],
)
def test_a_profile_of_anything_else_does_not_count(tmp_path: Path, other: Profile) -> None:
    """Another wheel, another Python or another architecture: the profile is left alone."""
    other.save(tmp_path / "p.json")
    assert profiles.find(tmp_path, WHEELS, "x86_64") is None


def test_all_profiles_that_fit_count_together(tmp_path: Path) -> None:
    """A user's model adds to the shipped workload: pages and modules are united, and hot beats warm."""
    PROFILE.save(tmp_path / "a.json")
    mine = replace(
        PROFILE,
        capabilities=("native",),
        hot=("torch", "torch.fx"),
        warm=frozenset(),
        pages=PageSet({"x.so": frozenset({4})}),
    )
    mine.save(tmp_path / "b.json")
    found = profiles.find(tmp_path, WHEELS, "x86_64")
    assert found is not None
    assert found.hot == ("torch", "torch.nn", "torch.fx")
    assert found.warm == frozenset()
    assert found.capabilities == ("avx2", "native")
    assert found.pages.count() == 4


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"schema": 1}', json.dumps({"schema": 2})])
def test_a_file_that_is_no_profile_is_named(tmp_path: Path, text: str) -> None:
    """A damaged profile stops the build with its name and what to do."""
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(BuildError, match=r"p\.json") as caught:
        profiles.find(tmp_path, WHEELS, "x86_64")
    assert "record again" in caught.value.next_step


def test_names_say_what_a_profile_is_of() -> None:
    """A profile's file name has version, Python, architecture, the wheel's hash and what was recorded."""
    tag = sys.implementation.cache_tag
    assert profiles.file_name(WHEELS, "x86_64", "resnet") == f"torch-2.13.0+cpu-{tag}-x86_64-aaaaaaaa-resnet.json"
