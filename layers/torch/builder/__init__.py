"""Builds the torch layer: all of PyTorch, hot code as it is, cold code compressed beside it (see ../DESIGN.md)."""

import sys

# Before anything is imported: an older Python would fail by a name that it lacks.
if sys.version_info < (3, 11):  # noqa: UP036 -- this is the check itself
    sys.exit(
        f"The layer was not built: Python {sys.version_info[0]}.{sys.version_info[1]} runs the build, and a layer is built with "
        "the Python that it is for: 3.11 or later.\nNext: name such a Python (make layer PYTHON=python3.13)"
    )
