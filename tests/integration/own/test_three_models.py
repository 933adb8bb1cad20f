"""The models that people bring: an image classifier, a tabular regressor, a text generator. Each from `init` to a rollback."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from integration.own.conftest import checked, environment, run, served

# For each kind: the name of a tensor to change, for another release with other answers.
KINDS = {"image": "scores.bias", "tabular": "layers.2.bias", "chat": "scores.bias"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_made_checked_served_swapped_and_rolled_back(kind: str, tmp_path: Path) -> None:
    """A fresh project serves at the first try, `check` is green, and a release is published, swapped and rolled back."""
    run(tmp_path, "init", "mine", "--kind", kind)
    folder = tmp_path / "mine"
    assert {tick["state"] for tick in checked(folder).values()} == {"ok"}
    example = (folder / "events" / "bare.json").read_bytes()
    other = folder / "other"
    other.mkdir()
    (other / "config.json").write_bytes((folder / "release" / "config.json").read_bytes())
    weights = load_file(folder / "release" / "weights.safetensors")
    weights[KINDS[kind]] += 0.5 * weights[KINDS[kind]].flip(0) + 0.25
    save_file(weights, other / "weights.safetensors")
    with served(folder) as running:
        first = running.release()
        before = running.ask(example)
        options, variables = running.publish_words()
        second = run(folder, "publish", "other", *options, more=variables).stdout.strip()
        assert second != first
        running.until(second)
        assert set(running.ask(example)) == set(before)
        run(folder, "rollback", *options, more=variables)
        running.until(first)
        assert running.ask(example) == before


def test_an_image_is_sent_as_the_file_itself(tmp_path: Path) -> None:
    """The image classifier of `init` takes a PNG as the body, and sees what is on it."""
    from PIL import Image

    run(tmp_path, "init", "mine", "--kind", "image")
    Image.new("RGB", (300, 200), (10, 20, 250)).save(tmp_path / "blue.png")
    with served(tmp_path / "mine") as running:
        answer = running.ask((tmp_path / "blue.png").read_bytes(), "image/png")
    assert answer["label"] == "blue"


def test_the_projects_own_tests_pass(tmp_path: Path) -> None:
    """The tests that `init` writes pass, and its text classifier knows a kind sentence."""
    run(tmp_path, "init", "mine", "--kind", "text")
    folder = tmp_path / "mine"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    answer = run(folder, "invoke", "events/api.json", "--layer", "stock").stdout
    assert json.loads(json.loads(answer)["body"])["label"] == "positive"
