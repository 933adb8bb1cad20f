"""A tiny random model, as checkpoints, as releases, and loaded."""

from pathlib import Path

import pytest
from examples.chat.model import Model

from unit.chat import tiny


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as a Hugging Face folder."""
    return tiny.write_folder(tmp_path_factory.mktemp("tiny") / "folder", tiny.random_weights())


@pytest.fixture(scope="session")
def release(folder: Path) -> Path:
    """Its release in float32."""
    return tiny.write_tiny_release(folder.parent / "release", folder, "float32")


@pytest.fixture
def model(release: Path) -> Model:
    """That release, loaded."""
    return Model.load(release)
