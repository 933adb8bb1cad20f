from pathlib import Path

import pytest

from lambda_torch.emulator.watching import Watch

SOON = 20.0


def test_a_saved_file_is_told_by_its_path(tmp_path: Path) -> None:
    """A save below a watched folder is told once, with its path, and then no more."""
    (tmp_path / "package").mkdir()
    with Watch([tmp_path]) as watch:
        path = tmp_path / "package" / "module.py"
        path.write_text("one = 1")
        assert watch.changed(SOON) == {path}
        assert watch.changed(0) == set()


def test_a_save_by_renaming_is_told(tmp_path: Path) -> None:
    """Editors write a new file and move it over the old one."""
    path = tmp_path / "module.py"
    path.write_text("one = 1")
    with Watch([tmp_path]) as watch:
        (tmp_path / ".module.py.swap").write_text("one = 2")
        (tmp_path / ".module.py.swap").rename(path)
        assert watch.changed(SOON) == {path}


@pytest.mark.parametrize("name", ["__pycache__/module.cpython-311.pyc", ".module.py.swp", "module.py~", ".git/index"])
def test_what_is_not_code_does_not_count(tmp_path: Path, name: str) -> None:
    """Bytecode, hidden files and backups start nothing; neither does reading."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / "read.py").write_text("")
    with Watch([tmp_path]) as watch:
        (tmp_path / name).write_text("x")
        (tmp_path / "read.py").read_text()
        saved = tmp_path / "saved.py"
        saved.write_text("")
        assert watch.changed(SOON) == {saved}


def test_a_watched_folder_below_a_hidden_one_counts(tmp_path: Path) -> None:
    """Only what is hidden below the watched folder is left out, not the folder's own place."""
    folder = tmp_path / ".hidden"
    folder.mkdir()
    with Watch([folder]) as watch:
        (folder / "module.py").write_text("")
        assert watch.changed(SOON) == {folder / "module.py"}
