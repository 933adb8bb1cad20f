"""Reads `modules.cold`: the bytecode and the sources of the layer's Python modules. DESIGN.md, "The Python half", has the format.

A block has many modules, in the order in which a start needs them. It is decompressed as a whole, and the blocks that were used
last stay in memory. There is no lock: at worst two threads decompress the same block, and a fork finds no lock taken.
"""

import ctypes
import marshal
import os
import zlib
from typing import Any

from torch_layer import ARCHIVE_HEADER_BYTES, ARCHIVE_MAGIC, ARCHIVE_VERSION

# Imports go back and forth between blocks. Completing torch's import uses six, of 17 MB together, and each several times.
KEPT_BYTES = 25_000_000


class ModuleArchive:
    """An opened archive.

    Attributes:
        head: What the builder put beside the first index (`torch_layer.finder` keeps its table there).

    Raises:
        ImportError: The file is missing, damaged or of another format; the message names it.
    """

    def __init__(self, path: str, decoder: str) -> None:
        self.path, self._decoder = path, decoder
        header = self._read(0, ARCHIVE_HEADER_BYTES)
        numbers = [int.from_bytes(header[at : at + 8], "little") for at in range(8, ARCHIVE_HEADER_BYTES, 8)]
        if header[:8] != ARCHIVE_MAGIC or numbers[0] != ARCHIVE_VERSION:
            raise self._damaged("it is not an archive of this layer")
        if os.stat(path).st_size != numbers[4] + numbers[5]:  # noqa: PTH116
            raise self._damaged("it is too short")
        self._second = numbers[4:]
        self.head, self._blocks, self._code = self._index(*numbers[1:4])
        self._source: dict[str, tuple[int, int, int]] | None = None
        self._decode: Any = None
        self._kept: dict[int, memoryview] = {}

    def bytecode(self, path: str) -> memoryview | None:
        """The marshalled code of the module whose source is `path`, relative to the layer's root; None if there is none."""
        return self._member(self._code.get(path))

    def source(self, path: str) -> bytes | None:
        """The text of the source `path`, relative to the layer's root; None if there is none."""
        if self._source is None:
            self._source = self._index(*self._second)
        data = self._member(self._source.get(path))
        return None if data is None else bytes(data)

    def forget(self) -> None:
        """Free the blocks that are in memory: when an import has ended, and another one is not likely."""
        self._kept = {}

    def _index(self, offset: int, count: int, crc: int) -> Any:
        packed = self._read(offset, count)
        if zlib.crc32(packed) != crc:
            raise self._damaged("the checksum of its index does not fit")
        return marshal.loads(zlib.decompress(packed))  # noqa: S302 -- the builder's own bytes: the checksum fits

    def _member(self, extent: tuple[int, int, int] | None) -> memoryview | None:
        if extent is None:
            return None
        number, offset, count = extent
        return self._used(number)[offset : offset + count]

    def _used(self, number: int) -> memoryview:
        """The bytes of a block, which stays in memory from now on, before those that were used earlier."""
        found = self._kept.get(number)
        block = self._block(number) if found is None else found
        kept, room = {number: block}, KEPT_BYTES - len(block)
        for other, data in self._kept.items():
            if other != number:
                room -= len(data)
                if room < 0:
                    break
                kept[other] = data
        # A new dict in one step, so that no other thread sees it change.
        self._kept = kept
        return block

    def _block(self, number: int) -> memoryview:
        offset, stored, count, crc, before = self._blocks[number]
        # The sources of hot modules were compressed with their bytecode before them: they share most of their strings.
        prefix = self._used(before) if before >= 0 else memoryview(bytearray())
        packed = self._read(offset, stored)
        if zlib.crc32(packed) != crc:
            raise self._damaged(f"the checksum of block {number} does not fit")
        if self._decode is None:
            decode = ctypes.CDLL(self._decoder).torch_layer_pager_decompress
            decode.argtypes = [
                ctypes.c_void_p,
                ctypes.c_size_t,
                ctypes.c_char_p,
                ctypes.c_size_t,
                ctypes.c_void_p,
                ctypes.c_size_t,
            ]
            decode.restype = ctypes.c_size_t
            self._decode = decode
        data = bytearray(count)
        out, dictionary = ((ctypes.c_char * len(each)).from_buffer(each) for each in (data, prefix))
        if self._decode(out, count, packed, stored, dictionary, len(prefix)) != count:
            raise self._damaged(f"block {number} cannot be decompressed")
        return memoryview(data)

    def _read(self, offset: int, count: int) -> bytes:
        try:
            with open(self.path, "rb", 0) as file:  # noqa: PTH123 -- pathlib is not imported at start-up
                data = os.pread(file.fileno(), count, offset)
        except OSError as error:
            raise self._damaged(str(error)) from error
        if len(data) != count:
            raise self._damaged("it is too short")
        return data

    def _damaged(self, reason: str) -> ImportError:
        return ImportError(
            f"the torch layer's {self.path} cannot be used: {reason}.\nNext: build the layer again and deploy all of it",
            path=self.path,
        )
