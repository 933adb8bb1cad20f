"""Which files of a folder become a release."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_torch.releases import release_files
from serving.releases import format


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A release folder with one file."""
    (tmp_path / "weights.safetensors").write_bytes(b"weights")
    return tmp_path


@pytest.mark.parametrize("name", [".DS_Store", "._weights.safetensors", "vocab/.DS_Store", ".git/config", "Thumbs.db"])
def test_what_systems_leave_in_a_folder_is_left_out_and_named(folder: Path, name: str) -> None:
    """Such a file is no part of the release, changes no version, and is named."""
    before, _ = release_files.describe(folder)
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"left")
    release_files.check_names(folder)
    assert release_files.describe(folder) == (before, (name,))


@pytest.mark.parametrize(
    ("name", "better"), [("my weights.bin", "my_weights.bin"), ("été/ö.txt", "_t_/_.txt"), (".env", "env")]
)
def test_a_name_that_does_not_fit_is_told_with_the_rule_and_one_that_fits(folder: Path, name: str, better: str) -> None:
    """The message has the name, the rule and a name that a release may have."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    with pytest.raises(ValueError, match=r"names have letters.* Next: rename it") as caught:
        release_files.check_names(folder)
    assert repr(name) in str(caught.value)
    assert f"such as to {better}," in str(caught.value)


def test_a_manifest_of_the_users_own_is_explained(folder: Path) -> None:
    """The name that publishing itself uses is refused with the reason."""
    (folder / "manifest.json").write_text("{}")
    with pytest.raises(ValueError, match=r"written by publish itself\. Next: remove it"):
        release_files.check_names(folder)


@given(st.text(min_size=1, max_size=300))
def test_what_is_proposed_is_a_name_that_fits(name: str) -> None:
    """Whatever the name, the proposal is one that a release may have, or there is none."""
    better = release_files._better(name)
    assert better is None or format.is_file_name(better)
