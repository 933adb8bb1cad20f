"""The layer's run-time half: `finder` finds its Python modules, and `pager` brings its libraries' cold pages back.

A program may call `torch_layer.receipt()`, `torch_layer.pager.stats()` and `torch_layer.finder.imports()`; the rest is the
layer's own. The layer's DESIGN.md in the lambda-torch project explains it.

The names of the layer's files stand here for all Python code, and in `pager/pager.h` for all C code. A test compares them.
"""

ARCHIVE_FILE = "modules.cold"
ARCHIVE_MAGIC = b"TLMODS\r\n"
ARCHIVE_VERSION = 3
# Magic, then little-endian 64-bit numbers: version; offset, bytes and CRC-32 of the first index, and of the second, which
# ends the file.
ARCHIVE_HEADER_BYTES = 8 + 8 * 7

SIDE_FILE = "libraries.cold"
SIDE_FILE_MAGIC = b"TLCOLD\r\n"
PAGER_LIBRARY = "libtorch_layer_pager.so"
COMPANION_LIBRARY = "libtorch_layer_companion.so"
NOTE_NAME = b"torch-layer"


def receipt() -> dict[str, object]:
    """What `import torch` cost in this process, and what the layer did since: for a log line. See `torch_layer.receipts`."""
    from torch_layer import receipts

    return receipts.receipt()
