"""Starts the runtime client in the function's interpreter, with `sys.path` in Lambda's own order.

Run as a script by `environment` in an isolated interpreter (`-I -S`), so that nothing but the folders named in
LAMBDA_EMULATOR_PATH and the standard library can be imported: task root, layer, runtime, as on Lambda, where all of them come
before the standard library.
"""

import os
import sys

sys.path[:0] = os.environ.pop("LAMBDA_EMULATOR_PATH").split(os.pathsep)

from awslambdaric.__main__ import main  # noqa: E402

main(["awslambdaric", sys.argv[1]])
