"""Starts the runtime client in the function's interpreter, with `sys.path` in the order of Lambda.

`environment` runs this script in an isolated interpreter (`-I -S`). So only the standard library and the folders in
LAMBDA_EMULATOR_PATH can be imported: task root, layer, runtime. As on Lambda, they come before the standard library.
"""

import importlib.util
import os
import sys
from pathlib import Path

sys.path[:0] = os.environ.pop("LAMBDA_EMULATOR_PATH").split(os.pathsep)

try:
    import runtime_client  # noqa: F401
except ImportError:  # AWS compiles it for Linux only
    spec = importlib.util.spec_from_file_location("runtime_client", Path(__file__).with_name("plain_client.py"))
    assert spec is not None
    assert spec.loader is not None
    sys.modules["runtime_client"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["runtime_client"])

from awslambdaric.__main__ import main  # noqa: E402

main(["awslambdaric", sys.argv[1]])
