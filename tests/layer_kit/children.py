"""Programs that a test runs with the layer's run time, in processes of their own."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

LAYER = Path(__file__).resolve().parents[2] / "layers" / "torch"


def write_modules(folder: Path, modules: Mapping[str, str]) -> Path:
    """Make modules in a folder, from their texts by path, and return the folder."""
    for name, text in modules.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text).strip("\n") + "\n")
    return folder


def printed(program: str, tree: Path) -> Any:
    """What a program prints as JSON on its last line, in a process that finds a tree and the layer's sources."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": f"{tree}:{LAYER}", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
