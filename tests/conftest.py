"""What several folders of the tests share."""

import hashlib
from importlib.metadata import version
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

# Machines are shared and noisy: no test fails for being slow.
settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")

ROOT = Path(__file__).resolve().parents[1]

# What a trained release depends on: these files, these packages and the settings below.
SOURCES = ("tools/lambda_torch/names/*.py", "src/model/*.py")
PACKAGES = ("faker", "anyascii", "torch", "safetensors")
BATCHES = 150


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
