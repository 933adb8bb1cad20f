"""Starts the runtime client in the function's interpreter, with `sys.path` in the order of Lambda.

`environment` runs this script in an isolated interpreter (`-I -S`). So only the standard library and the folders in
LAMBDA_EMULATOR_PATH can be imported: task root, layer, runtime. As on Lambda, they come before the standard library.
"""

import os
import sys

sys.path[:0] = os.environ.pop("LAMBDA_EMULATOR_PATH").split(os.pathsep)

from awslambdaric.__main__ import main  # noqa: E402

main(["awslambdaric", sys.argv[1]])
