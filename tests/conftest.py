"""What several folders of the tests share."""

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

# Machines are shared and noisy: no test fails for being slow.
settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent

# What a trained release depends on: these files, these packages and the settings below.
SOURCES = ("tools/lambda_torch/names/*.py", "src/model/*.py")
PACKAGES = ("faker", "anyascii", "torch", "safetensors")
BATCHES = 150

# `make test` runs two processes. A folder's tests are in one of them, so that what they share is made once. These folders are
# together in one, in this order: building the layer takes minutes, and the box takes what integration/layer has built.
NEED_THE_LAYER = ("container", "integration/layer", "testbox")
# The pager's tests need a small library of their own.
NEED_NOT = "integration/layer/pager"


def group_of(folder: str) -> str:
    """The tests that run in one process with those of a folder below tests/.

    >>> group_of("integration/layer")
    'the layer'
    >>> group_of("unit/serving/http")
    'unit/serving'
    """
    if not folder.startswith(NEED_NOT) and folder.startswith(NEED_THE_LAYER):
        return "the layer"
    return "/".join(folder.split("/")[:2])


class FolderScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Gives each process of pytest-xdist whole groups of tests."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid.partition("::")[0].rpartition("/")[0].removeprefix("tests/"))


@pytest.hookimpl(optionalhook=True)  # it is pytest-xdist's
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FolderScheduling | None:
    """Schedule by folder for `make test`, and as pytest-xdist does for `make test-fast`."""
    return FolderScheduling(config, log) if config.getvalue("dist") == "loadscope" else None


@pytest.fixture(scope="session")
def release() -> Path:
    """A release folder of the sample model, trained briefly (names look rough), for reading only: copy it to change it.

    It is kept below build/, under the hash of what it depends on, so that only the first run waits for it. Of test processes
    that run side by side (`make test-fast`), one makes it and the others wait.
    """
    from lambda_torch.names.data import from_faker
    from lambda_torch.names.folder import write_release
    from lambda_torch.names.training import TrainingSettings, train

    digest = hashlib.sha256(repr((BATCHES, [version(package) for package in PACKAGES])).encode())
    for pattern in SOURCES:
        for path in sorted(ROOT.glob(pattern)):
            digest.update(path.read_bytes())
    folder = ROOT / "build" / "tests" / f"release-{digest.hexdigest()[:16]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            settings = TrainingSettings(batches=BATCHES)
            write_release(folder, *train(from_faker(settings.max_length), settings))
    return folder
