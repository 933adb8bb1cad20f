"""`lambda-torch train` as a person runs it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lambda_torch.names.data import from_faker
from model import Model, Request

CATEGORIES = ("Greek", "Polish")


@pytest.fixture
def names(tmp_path: Path) -> Path:
    """A folder of names in the tutorial's layout."""
    folder = tmp_path / "names"
    folder.mkdir()
    for category in CATEGORIES:
        lines = from_faker(20).names[category][:400]
        (folder / f"{category}.txt").write_text("\n".join([*lines, "Ślusàrski"]), encoding="utf-8")
    return folder


def lambda_torch(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    call = "from lambda_torch.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", call, *map(str, arguments)], capture_output=True, text=True, timeout=300
    )


def test_a_folder_of_names_becomes_a_release(names: Path, tmp_path: Path) -> None:
    """Training writes a release that loads, and prints where it is and its held-out loss; the same seed gives the same bytes."""
    outputs = [tmp_path / "first", tmp_path / "second"]
    for output in outputs:
        done = lambda_torch("train", "--data", names, "--output", output, "--batches", "40", "--max-start-letters", "3")
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == str(output)
        assert "802 names in 2 categories, from folder names" in done.stderr
        assert "Loss on names that were not learned" in done.stderr

    model = Model.load(outputs[0])
    assert model.config.categories == list(CATEGORIES)
    assert model.config.max_start_letters == 3
    (response,) = model.predict([Request(category="Greek", start_letters="MV")])
    assert [name[0] for name in response.root] == ["M", "V"]
    first, second = ((output / "weights.safetensors").read_bytes() for output in outputs)
    assert first == second
    assert json.loads((outputs[0] / "model.json").read_text())["training"]["held_out_loss"] > 0


def test_a_failed_training_leaves_the_older_release(release: Path, names: Path, tmp_path: Path) -> None:
    """When nothing was learned the command fails, says so, and the release that was there is untouched."""
    output = tmp_path / "release"
    shutil.copytree(release, output)
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    for file in names.glob("*.txt"):
        file.unlink()
    # Learned and held-out names share no letter, so that frequencies are the better guess.
    (names / "Odd.txt").write_text("\n".join(chr(ord("a") + n) * 3 for n in range(4)))

    done = lambda_torch("train", "--data", names, "--output", output, "--batches", "2")

    assert done.returncode == 1
    assert "nothing was learned" in done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"names", "release"}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--data", "missing"], "missing is not a folder"),
        (["--output", "."], "has files that do not belong to a release"),
        (["--batches", "1"], "Invalid value for '--batches'"),
    ],
)
def test_bad_arguments_are_explained(
    names: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], reason: str
) -> None:
    """A wrong folder or number ends the command with its reason, before anything is trained."""
    monkeypatch.chdir(names.parent)
    done = lambda_torch("train", *arguments)
    assert done.returncode in (1, 2)
    assert reason in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert [path.name for path in names.parent.iterdir()] == ["names"]
