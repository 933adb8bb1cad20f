"""Writes a release folder, completely or not at all."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from model import Model
from model.config import CONFIG_FILE, WEIGHTS_FILE, Config


def check_output(output: Path) -> None:
    """Check, before any work, that `output` is free or a release.

    Raises:
        ValueError: `output` is a file, or a folder with files that do not belong to a release.
    """
    if output.is_dir():
        others = sorted(path.name for path in output.iterdir() if path.name not in (CONFIG_FILE, WEIGHTS_FILE))
        if others:
            raise ValueError(
                f"{output} has files that do not belong to a release ({', '.join(others[:3])}). "
                "Name a new folder with --output"
            )
    elif output.exists() or output.is_symlink():
        raise ValueError(f"{output} is not a folder. Name a new folder with --output")


def write_release(output: Path, config: Config, weights: Mapping[str, Tensor]) -> None:
    """Write a release folder, load it and predict once, and only then replace an older release.

    Raises:
        ValueError: `output` is not a release, or the new release does not load.
        OSError: it cannot be written. An older release is still there.
    """
    check_output(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as scratch:
        new, old = Path(scratch, "new"), Path(scratch, "old")
        new.mkdir()
        (new / CONFIG_FILE).write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
        save_file(dict(weights), new / WEIGHTS_FILE)
        model = Model.load(new)
        model.predict([model.example()])
        if not output.exists():
            new.rename(output)
            return
        output.rename(old)
        try:
            new.rename(output)
        except OSError:
            old.rename(output)
            raise
        shutil.rmtree(old)
