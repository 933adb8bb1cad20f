"""Starts the runtime client in the function's interpreter, with `sys.path` in the order of Lambda.

`environment` runs this script in an isolated interpreter (`-I -S`). So only the standard library and the folders in
LAMBDA_EMULATOR_PATH can be imported: task root, layer, runtime. As on Lambda, they come before the standard library.
"""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

sys.path[:0] = os.environ.pop("LAMBDA_EMULATOR_PATH").split(os.pathsep)


def _beside(name: str, file: str) -> ModuleType:
    """A module in this folder, which the function cannot import."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(file))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_beside("sandbox_notes", "sandbox_notes.py").install()
try:
    import runtime_client  # noqa: F401
except ImportError:  # AWS compiles it for Linux only
    sys.modules["runtime_client"] = _beside("runtime_client", "plain_client.py")

from awslambdaric.__main__ import main  # noqa: E402

main(["awslambdaric", sys.argv[1]])
