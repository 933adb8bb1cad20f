"""Hot functions by their names: what a recording says of another build of a library."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from builder.native.page_set import PAGE_BYTES, PageSet
from builder.profile import functions
from builder.profile.profiles import Profile
from layer_kit.libraries import compiled

NAME = "torch/lib/libtorch_python.so"
# Each function begins on a page of its own.
FUNCTION = (
    ".balign 4096\n.globl {name}\n.type {name}, @function\n{name}: .zero {bytes}, 0x90\nret\n.size {name}, . - {name}\n"
)


def library(folder: Path, **sizes: int) -> Path:
    """A library of some pages with these functions in this order, each of so many bytes."""
    text = ".section .note.GNU-stack,\"\",@progbits\n.text\n" + "".join(
        FUNCTION.format(name=name, bytes=count) for name, count in sizes.items()
    )  # fmt: skip
    path = folder / NAME
    path.parent.mkdir(parents=True)
    source = f"__asm__({' '.join(_quoted(line) for line in text.splitlines())});"
    path.write_bytes(compiled(folder, source))
    return path


def _quoted(line: str) -> str:
    escaped = line.replace('"', '\\"')
    return f'"{escaped}\\n"'


def pages_with(path: Path, *names: str) -> frozenset[int]:
    """The pages of some functions."""
    return functions.pages_of(path, frozenset(functions.key_of(name.encode()) for name in names))


def profile_of(path: Path, *hot: str) -> Profile:
    """A profile of a library of which these functions were run."""
    pages = PageSet({NAME: pages_with(path, *hot)})
    return Profile({}, "cpython-313", "x86_64", {NAME: "a" * 64}, (), (), frozenset(), frozenset(), pages)


def test_another_build_is_hot_where_it_has_the_same_functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Functions in another order, and of another size, are found by their names; the library is no unknown build any more."""
    monkeypatch.setattr(functions, "THRESHOLD_BYTES", 1)
    one, other = tmp_path / "one", tmp_path / "other"
    recorded = library(one, first=100, second=5000, third=100)
    recording = functions.named(profile_of(recorded, "first", "second"), one)
    recording.save(tmp_path / "profile.json")
    target = library(other, third=9000, second=100, new=100, first=5000)
    found = replace(Profile.load(tmp_path / "profile.json"), pages=PageSet(), other_builds=frozenset({NAME}))
    placed = functions.placed(found, other)
    assert placed.other_builds == frozenset()
    assert placed.by_name == {NAME}
    assert placed.pages.of(NAME) == pages_with(target, "first", "second")
    assert len(placed.pages.of(NAME)) == 3


def test_a_name_of_several_functions_counts_if_all_of_them_are_hot(tmp_path: Path) -> None:
    """Two functions may share a name, or a page: those on a hot page count, and a name with a cold function does not."""
    path = library(tmp_path, one=100, two=100)
    (hot,) = pages_with(path, "one")
    assert functions.hot_functions(path, frozenset({hot})) == {functions.key_of(b"one")}
    both = [each._replace(key="same") for each in functions.functions_of(path) if each.pages[0] >= hot]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(functions, "functions_of", lambda _path: both)
        assert functions.hot_functions(path, frozenset({hot})) == frozenset()
        assert functions.hot_functions(path, functions.pages_of(path, frozenset({"same"}))) == {"same"}


def test_a_library_without_a_symbol_table_stays_whole(tmp_path: Path) -> None:
    """Where the wheel was stripped, or no recording names its functions, nobody knows what is hot."""
    path = library(tmp_path, one=100)
    profile = replace(profile_of(path, "one"), pages=PageSet(), other_builds=frozenset({NAME}))
    assert functions.placed(profile, tmp_path) == profile
    named = replace(profile, functions={NAME: frozenset({functions.key_of(b"one")})})
    assert functions.placed(named, tmp_path).by_name == {NAME}
    subprocess.run(["strip", str(path)], check=True)
    assert functions.placed(named, tmp_path) == named


def test_only_libraries_of_some_size_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small libraries are not split, and for the largest it does not pay."""
    path = library(tmp_path, one=5000)
    profile = profile_of(path, "one")
    assert functions.named(profile, tmp_path).functions == {}
    monkeypatch.setattr(functions, "THRESHOLD_BYTES", 1)
    assert functions.named(profile, tmp_path).functions == {NAME: {functions.key_of(b"one")}}
    monkeypatch.setattr(functions, "MOST_BYTES", PAGE_BYTES)
    assert functions.named(profile, tmp_path).functions == {}


def test_the_functions_of_several_profiles_count_together(tmp_path: Path) -> None:
    """A user's model adds functions to those of the shipped workload."""
    path = library(tmp_path, one=1, two=1)
    one, two = (
        replace(profile_of(path, name), functions={NAME: frozenset({functions.key_of(name.encode())})})
        for name in ("one", "two")
    )
    assert one.union(two).functions == {NAME: {functions.key_of(b"one"), functions.key_of(b"two")}}
