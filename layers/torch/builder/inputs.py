"""One digest of everything that a layer is made from. A layer whose report has the same digest need not be built again."""

from __future__ import annotations

import hashlib
import platform
import sys
from pathlib import Path

from builder import paths

# Builds write these and never read them; and documents.
_PRODUCTS = (".pyc", ".so", ".o", ".a", ".md")


def digest(root: Path = paths.LAYER) -> str:
    """SHA-256 over the interpreter, the architecture and every file of `layers/torch` that a build reads, in hex."""
    whole = hashlib.sha256(f"{sys.version}\n{platform.machine()}\n".encode())
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        made = "__pycache__" in relative.parts or relative.parts[0].startswith(".")  # .work, of the Makefile
        if not made and path.is_file() and path.suffix not in _PRODUCTS:
            whole.update(f"{relative.as_posix()}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()
