"""Measures what could make the layer smaller, in bytes: `python -m benchmarks.layer.smaller` (needs `make layer`).

Each row is one idea: how much of the unzipped layer it would save at most. Ideas about compression are measured on a part
of the blocks, spread evenly, and multiplied. DESIGN.md says which of them are used, and why the others are not.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import struct
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import zstandard

from benchmarks.layer.native import LAYER
from builder.native import branch_filter
from builder.native.elf import Segment, SegmentType, SharedLibrary, Tag
from builder.native.page_set import PAGE_BYTES
from builder.native.side_file import compressor, read_index
from builder.python import archive_writer
from torch_layer import ARCHIVE_FILE, SIDE_FILE

LEVEL = 19
# r_type of a relocation that only adds the load address: "elf.h", R_X86_64_RELATIVE and R_AARCH64_RELATIVE.
RELATIVE = {"x86_64": 8, "aarch64": 1027}
RELR_BITS = 63  # places that one word of DT_RELR covers, by the generic ABI
DICTIONARY_BYTES = 1 << 20


def libraries(layer: Path) -> Iterator[SharedLibrary]:
    """All shared libraries of the layer."""
    for path in sorted(layer.rglob("*.so*")):
        if path.read_bytes()[:4] == b"\x7fELF":
            yield SharedLibrary.read(path)


def packed_relocations(library: SharedLibrary) -> int:
    """The bytes that DT_RELR saves in a library: its relative relocations, without the words that take their place."""
    address, size = library.tag(Tag.RELA), library.tag(Tag.RELASZ)
    if address is None or not size:
        return 0
    places = sorted(
        place
        for place, info, _ in struct.iter_unpack("<QQq", library.at(address, size))
        if info & 0xFFFFFFFF == RELATIVE[library.machine]
    )
    return 24 * len(places) - 8 * relr_words(places)


def relr_words(places: list[int]) -> int:
    """How many words DT_RELR needs for these ascending addresses: an address, then bits for the 63 words after it."""
    words, at = 0, 0
    while at < len(places):
        words, base, at = words + 1, places[at] + 8, at + 1
        while at < len(places) and places[at] < base + RELR_BITS * 8 and not (places[at] - base) % 8:
            words += 1
            while at < len(places) and places[at] < base + RELR_BITS * 8 and not (places[at] - base) % 8:
                at += 1
            base += RELR_BITS * 8
    return words


def blocks(layer: Path) -> list[list[tuple[int, bytes]]]:
    """The content of the side file's blocks as it was compressed, with the bytes that each takes; one list per library."""
    path = layer / "torch_layer" / SIDE_FILE
    data, decoder = path.read_bytes(), zstandard.ZstdDecompressor()
    return [
        [
            (block.stored, decoder.decompress(data[block.offset : block.offset + block.stored]))
            for block in library.blocks
            if block.filter == branch_filter.X86
        ]
        for library in read_index(path)
    ]


def joined(parts: list[tuple[int, bytes]], count: int) -> list[tuple[int, bytes]]:
    """Neighbouring blocks as one, `count` of them each."""
    groups = [parts[at : at + count] for at in range(0, len(parts), count)]
    return [(sum(stored for stored, _ in group), b"".join(part for _, part in group)) for group in groups]


def saved(parts: list[tuple[int, bytes]], every: int, tool: zstandard.ZstdCompressor) -> float:
    """What share of their compressed bytes another compressor saves, on each `every`-th of them."""
    sample = parts[::every]
    before = sum(stored for stored, _ in sample)
    return 1 - sum(len(tool.compress(part)) for _, part in sample) / before if before else 0.0


def trained(parts: list[tuple[int, bytes]], every: int) -> tuple[float, int]:
    """The share that a dictionary of the other blocks saves, and the bytes that it takes itself."""
    others: list[bytes | bytearray | memoryview] = [
        part[:65536] for number, (_, part) in enumerate(parts) if number % every
    ]
    dictionary = zstandard.train_dictionary(DICTIONARY_BYTES, others[:: max(1, len(others) // 200)], k=1024, d=8)
    tool = zstandard.ZstdCompressor(
        level=LEVEL, dict_data=dictionary, write_checksum=True, write_content_size=True, write_dict_id=False
    )
    return saved(parts, every, tool), len(compressor(LEVEL).compress(dictionary.as_bytes()))


def equal_pages(found: list[SharedLibrary]) -> int:
    """The bytes of pages, in the files of libraries, that another page of any library has too; zeros do not count."""
    seen: collections.Counter[bytes] = collections.Counter()
    for library in found:
        for segment in library.loads:
            seen.update(_pages(library, segment))
    return sum(count - 1 for count in seen.values()) * PAGE_BYTES


def _pages(library: SharedLibrary, segment: Segment) -> Iterator[bytes]:
    for start in range(segment.offset, segment.offset + segment.file_bytes - PAGE_BYTES + 1, PAGE_BYTES):
        page = library.data[start : start + PAGE_BYTES]
        if any(page):
            yield hashlib.sha256(page).digest()


def zero_pages(found: list[SharedLibrary]) -> int:
    """The bytes of pages of zeros in the files of libraries."""
    zeros = bytes(PAGE_BYTES)
    return sum(
        PAGE_BYTES
        for library in found
        for segment in library.segments
        if segment.type == SegmentType.LOAD
        for start in range(segment.offset, segment.offset + segment.file_bytes - PAGE_BYTES + 1, PAGE_BYTES)
        if library.data[start : start + PAGE_BYTES] == zeros
    )


def strings(layer: Path) -> int:
    """What the read-only data that stays in libtorch_cpu would save in compressed blocks."""
    name = "torch/lib/libtorch_cpu.so"
    installed = SharedLibrary.read(Path(sysconfig.get_path("purelib")) / name)
    section = next(each for each in installed.sections if each.name == ".rodata")
    kept = bytearray()
    for load in SharedLibrary.read(layer / name).loads:
        start, end = max(load.address, section.address), min(load.address + load.file_bytes, section.end)
        kept += installed.at(start, end - start) if load.file_bytes and start < end else b""
    tool = compressor(LEVEL)
    blocks = [bytes(kept[at : at + 262144]) for at in range(0, len(kept), 262144)]
    return len(kept) - sum(len(tool.compress(block)) for block in blocks)


def equal_files(layer: Path) -> int:
    """The bytes of files that have the same content as another one."""
    sizes: dict[bytes, int] = {}
    total = 0
    for path in layer.rglob("*"):
        if path.is_file():
            digest = hashlib.sha256(path.read_bytes()).digest()
            total += path.stat().st_size if digest in sizes else 0
            sizes[digest] = path.stat().st_size
    return total


def modules(layer: Path, every: int) -> dict[str, int]:
    """What other blocks of the archive of modules would save, by idea."""
    path = layer / "torch_layer" / ARCHIVE_FILE
    index = archive_writer.read_index(path)
    data, decoder = path.read_bytes(), zstandard.ZstdDecompressor()
    plain = [block for block in index.blocks if block.prefix < 0]
    parts = [(block.stored, decoder.decompress(data[block.offset : block.offset + block.stored])) for block in plain]
    total = sum(stored for stored, _ in parts)
    wide = zstandard.ZstdCompressionParameters.from_level(22, window_log=27, enable_ldm=True)
    four = joined(parts, 4)
    return {
        "modules: level 22": round(total * saved(parts, every, zstandard.ZstdCompressor(level=22))),
        "modules: blocks four times as large, level 22": round(
            total * saved(four, every, zstandard.ZstdCompressor(compression_params=wide))
        ),
    }


def ideas(every: int) -> Iterator[tuple[str, float]]:
    """Each idea with the bytes that it saves."""
    found = list(libraries(LAYER))
    yield "relative relocations as DT_RELR", sum(map(packed_relocations, found))
    yield "read-only data of libtorch_cpu that stays, all of it in blocks", strings(LAYER)
    yield "pages that another page of a library equals", equal_pages(found)
    yield "pages of zeros in libraries", zero_pages(found)
    yield "files that are there twice", equal_files(LAYER)
    by_library = blocks(LAYER)
    code = [part for library in by_library for part in library]
    total = sum(stored for stored, _ in code)
    yield "blocks of code: level 22", total * saved(code, every, compressor(22))
    for count in (4, 16):
        larger = [part for library in by_library for part in joined(library, count)]
        yield (
            f"blocks of code: {count} times as large",
            total * saved(larger, max(1, every // count), compressor(LEVEL)),
        )
    share, size = trained(code, every)
    yield "blocks of code: a dictionary of 1 MB", total * share - size
    yield from modules(LAYER, max(1, every // 8)).items()


def main(argv: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layer.smaller", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--every", type=int, default=16, help="compress each block of this number only (default: %(default)s)"
    )
    every = parser.parse_args(argv).every
    if not LAYER.is_dir():
        parser.error("there is no layer in build/layer. Next: make layer")
    print("| idea | saves, MB |\n|---|--:|", flush=True)
    for title, number in ideas(every):
        print(f"| {title} | {number / 1e6:.2f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
