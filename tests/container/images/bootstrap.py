"""Starts the runtime client with `sys.path` in the order of AWS's image: task root, layers, runtime, standard library."""

import os
import sys

sys.path.pop(0)  # this script's own folder; it comes back at its place below
if "PYTHONPATH" not in os.environ:
    sys.path[:0] = [f"/opt/python/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages", "/opt/python"]
    # Processes that the function starts find the runtime's packages, too.
    os.environ["PYTHONPATH"] = os.environ["LAMBDA_RUNTIME_DIR"]
sys.path.insert(0, os.environ["LAMBDA_TASK_ROOT"])
sys.path.append(os.environ["LAMBDA_RUNTIME_DIR"])

from awslambdaric.__main__ import main

main(["awslambdaric", os.environ["_HANDLER"]])
