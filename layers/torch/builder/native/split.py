"""Splits libraries: each becomes a thin file, and one side file has the cold pages of all (see DESIGN.md)."""

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import zstandard

from builder.errors import BuildError
from builder.memo import NOTHING_KEPT, Memo
from builder.native import arm64_filter, branch_filter
from builder.native.compile_pager import COMPANION_NAME
from builder.native.elf import Protection, Segment, SharedLibrary
from builder.native.layout import Layout, PageRun, PageState, plan_layout
from builder.native.side_file import Block, ColdLibrary, Fragment, SideFileWriter, compressor
from builder.native.thin import Additions, rewrite, search_path

Progress = Callable[[str, int, int], None]
"""Called with a library's name, the bytes compressed so far and the bytes in all (of all libraries)."""

MIN_COLD_PAGES = 2
"""Shorter cold runs stay hot: a quarter fewer program headers for 1 % of the cold bytes (benchmarks.layer.faults)."""


FAR_RUNS = ((1 << 20, 16), (256 << 10, 2))
"""`(bytes, factor)`: a cold run of that many bytes or more is cut into blocks of `factor` times the usual size.

A long piece of code without a single hot page is code that programs rarely need: mostly kernels of MKL, oneDNN and
OpenBLAS for other CPUs. In large blocks it compresses better. Short runs lie between hot pages. A new input touches
those first, so their blocks stay small.
"""


@dataclass(frozen=True)
class LibraryPlan:
    """How one library is to be split.

    Attributes:
        hot: Page numbers that stay in the file (`PageSet.of(name)`).
    """

    hot: frozenset[int] = frozenset()


@dataclass
class SectionReport:
    """Where the bytes of an ELF section are. `compressed` is its share of the frames that hold its cold bytes."""

    name: str
    bytes: int
    hot: int = 0
    cold: int = 0
    compressed: int = 0


@dataclass
class LibraryReport:
    """One library before and after; sizes in bytes. `headers`: program headers of the thin file."""

    name: str
    original: int
    thin: int
    side: int
    headers: int
    sections: list[SectionReport] = field(default_factory=list)


@dataclass
class SplitReport:
    """What a split did; sizes in bytes. `side_file` includes the index."""

    side_file: int
    block_bytes: int
    level: int
    blocks: int
    seconds: float
    libraries: list[LibraryReport] = field(default_factory=list)


@dataclass(frozen=True)
class _Job:
    name: str
    library: SharedLibrary
    layout: Layout
    additions: Additions
    blocks: tuple[Block, ...]


def thin(
    libraries: Mapping[str, LibraryPlan],
    tree: Path,
    side_file: Path,
    block_bytes: int = 262144,
    level: int = 19,
    progress: Progress | None = None,
    *,
    min_cold_pages: int = MIN_COLD_PAGES,
    memo: Memo = NOTHING_KEPT,
) -> SplitReport:
    """Split libraries in place.

    The pager must have been built into the side file's folder before (`compile_pager.build_pager`): each library gets a
    copy of the companion that lies there. All libraries are read and checked before the first is changed.

    Args:
        libraries: Plans by path relative to `tree`, with forward slashes.
        tree: The layer's Python folder.
        side_file: The file for the cold blocks of all libraries.
        block_bytes: How much is compressed, and brought back, at once; more in long runs (`FAR_RUNS`).
        level: zstd's compression level, 1 to 22.
        progress: Called after every block.
        min_cold_pages: Shorter cold runs stay hot.
        memo: Where compressed blocks are kept for the next build.

    Raises:
        BuildError: A library is missing or cannot be split, or the pager is not there.
    """
    started = time.monotonic()
    companion = _companion(side_file)
    jobs = [
        _plan(name, libraries[name], tree, side_file, number, block_bytes, min_cold_pages)
        for number, name in enumerate(sorted(libraries))
    ]
    report = SplitReport(0, block_bytes, level, sum(len(job.blocks) for job in jobs), 0.0)
    with SideFileWriter(side_file, _machine(jobs)) as cold:
        frames = _compress_all(jobs, level, memo, progress)
        for job in (job for job in jobs if job.blocks):
            stored = tuple(
                replace(block, stored=len(frame), offset=cold.add_frame(frame))
                for block, frame in ((block, next(frames)) for block in job.blocks)
            )
            cold.libraries.append(ColdLibrary(job.name, job.additions.id, stored))
    stored_blocks = {library.name: library.blocks for library in cold.libraries}
    for job in jobs:
        if not job.blocks:  # no page goes cold, so nothing changes
            report.libraries.append(_report(job, (), len(job.library.data), len(job.library.segments)))
            continue
        data, headers = rewrite(job.library, job.layout, job.additions)
        _install(job, tree, side_file, companion, data)
        report.libraries.append(_report(job, stored_blocks[job.name], len(data), headers))
    companion.unlink()
    report.side_file = side_file.stat().st_size
    report.seconds = round(time.monotonic() - started, 1)
    return report


def prepare_recording(libraries: Mapping[str, LibraryPlan], tree: Path, side_file: Path) -> None:
    """Make every splittable page of these libraries untouchable, in place, so that the recording pager sees each touch.

    The pages stay in the libraries, and the side file has only the index. Run the workload on such a tree with
    TORCH_LAYER_PAGER_RECORD=<absolute path>, and read that file with `PageSet.from_record`.

    Args:
        libraries: Plans by path relative to `tree`. Their hot pages are recorded like any other.
        tree: A copy of the layer's Python folder, with the recording pager (`build_pager(..., recording=True)`).
        side_file: As for `thin`.

    Raises:
        BuildError: As for `thin`.
    """
    companion = _companion(side_file)
    jobs = [
        _plan(name, LibraryPlan(), tree, side_file, number, 1 << 31, 1) for number, name in enumerate(sorted(libraries))
    ]
    with SideFileWriter(side_file, _machine(jobs)) as cold:
        cold.libraries.extend(ColdLibrary(job.name, job.additions.id, job.blocks) for job in jobs if job.blocks)
    for job in (job for job in jobs if job.blocks):
        data, _ = rewrite(job.library, job.layout, job.additions, in_place=True)
        _install(job, tree, side_file, companion, data)
    companion.unlink()


def _companion(side_file: Path) -> Path:
    companion = side_file.with_name(COMPANION_NAME)
    if not companion.is_file():
        raise BuildError(f"{companion} is missing", f"build the pager into {side_file.parent} first (build_pager)")
    return companion


def _machine(jobs: list[_Job]) -> int:
    machines = {job.library.machine_number for job in jobs}
    if len(machines) != 1:
        raise BuildError(
            "the libraries to split are for several architectures, or there are no libraries to split",
            "install packages for one architecture",
        )
    return machines.pop()


def _plan(
    name: str, plan: LibraryPlan, tree: Path, side_file: Path, number: int, block_bytes: int, min_cold_pages: int
) -> _Job:
    library = SharedLibrary.read(tree / name)
    layout = plan_layout(library, plan.hot, min_cold_pages)
    blocks = tuple(_cut(library, layout, block_bytes))
    if not library.sections:
        raise BuildError(f"{name} has no section headers, which tell code from data", "leave it out of the split")
    identity = hashlib.sha256(name.encode() + b"\0" + library.data)
    identity.update(repr((blocks, block_bytes)).encode())
    additions = Additions(
        identity.digest()[:16],
        COMPANION_NAME.replace(".so", f"_{number}.so"),
        search_path(tree / name, side_file.parent),
    )
    return _Job(name, library, layout, additions, blocks)


def _cut(library: SharedLibrary, layout: Layout, block_bytes: int) -> Iterator[Block]:
    """Blocks, filled with one cold run after another. A run with other rights, filter or block size begins a new block."""
    pending: list[Fragment] = []
    room, kind = block_bytes, None
    for segment, run in layout.cold():
        factor = next((factor for length, factor in FAR_RUNS if run.end - run.start >= length), 1)
        rights = (_protection(segment), FILTERS[library.machine].number if run.is_code else branch_filter.NONE)
        this = (*rights, block_bytes * factor)
        if this != kind:
            if pending and kind is not None:
                yield Block(tuple(pending), *kind[:2])
            pending, room, kind = [], this[2], this
        start = run.start
        while start < run.end:
            size = min(room, run.end - start)
            pending.append(Fragment(start, size))
            start, room = start + size, room - size
            if room == 0:
                yield Block(tuple(pending), *kind[:2])
                pending, room = [], kind[2]
    if pending and kind is not None:
        yield Block(tuple(pending), *kind[:2])


def _protection(segment: Segment) -> int:
    """PT_LOAD flags (R 4, W 2, X 1) as mmap's rights (R 1, W 2, X 4)."""
    return (1 if segment.flags & Protection.READ else 0) | (4 if segment.flags & Protection.EXECUTE else 0)


_thread = threading.local()


class _Filter(NamedTuple):
    """A branch filter: its number in the side file, and the source of its encoder."""

    number: int
    encode: Callable[[bytes, int], bytes]
    source: bytes


FILTERS = {  # by the processors
    "x86_64": _Filter(branch_filter.X86, branch_filter.encode_x86, Path(branch_filter.__file__).read_bytes()),
    "aarch64": _Filter(arm64_filter.ARM64, arm64_filter.encode_arm64, Path(arm64_filter.__file__).read_bytes()),
}
# What a frame depends on, beside its block and the code of the filter.
_ZSTD = f"{zstandard.__version__} {zstandard.ZSTD_VERSION}".encode()


def _frame(library: SharedLibrary, block: Block, level: int, memo: Memo) -> bytes:
    parts = [library.at(fragment.address, fragment.bytes) for fragment in block.fragments]
    addresses = repr([(fragment.address, fragment.bytes) for fragment in block.fragments]) if block.filter else ""
    parameters = f"frame {level} {block.filter} {addresses}".encode()
    branches = FILTERS[library.machine]
    made_by = _ZSTD + branches.source
    return memo.result([made_by, parameters, *parts], lambda: _compress(parts, block, level, branches))


def _compress(parts: list[bytes], block: Block, level: int, branches: _Filter) -> bytes:
    if block.filter != branch_filter.NONE:
        parts = [branches.encode(part, fragment.address) for part, fragment in zip(parts, block.fragments, strict=True)]
    content = b"".join(parts)
    tools: dict[int, zstandard.ZstdCompressor] = _thread.__dict__.setdefault("tools", {})
    if level not in tools:
        tools[level] = compressor(level)  # one for each thread: a compressor must not be shared
    return tools[level].compress(content)


def _compress_all(jobs: list[_Job], level: int, memo: Memo, progress: Progress | None) -> Iterator[bytes]:
    """The frames of all blocks of all jobs, in order. zstd releases the interpreter's lock, so threads are enough."""
    total, done = sum(block.bytes for job in jobs for block in job.blocks), 0
    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        work = [
            (job, block, pool.submit(_frame, job.library, block, level, memo)) for job in jobs for block in job.blocks
        ]
        try:
            for job, block, future in work:
                frame = future.result()
                done += block.bytes
                if progress:
                    progress(job.name, done, total)
                yield frame
        finally:
            pool.shutdown(cancel_futures=True)


def _install(job: _Job, tree: Path, side_file: Path, companion: Path, data: bytes) -> None:
    shutil.copyfile(companion, side_file.with_name(job.additions.companion))
    target = tree / job.name
    partial = target.with_name(target.name + ".partial")
    partial.write_bytes(data)
    shutil.copymode(target, partial)
    partial.replace(target)  # in one step; other trees may have hard links to the old file


def _report(job: _Job, blocks: tuple[Block, ...], size: int, headers: int) -> LibraryReport:
    report = LibraryReport(job.name, len(job.library.data), size, sum(block.stored for block in blocks), headers)
    ratio = [
        (fragment.address, fragment.address + fragment.bytes, block.stored / block.bytes)
        for block in blocks
        for fragment in block.fragments
    ]
    # An unchanged library drops nothing. Dropped strings are in the thin file all the same, in another place.
    dead = [run for _, runs in job.layout.runs for run in runs if run.state is PageState.DEAD] if blocks else []
    for section in job.library.sections:
        entry = SectionReport(section.name, section.bytes)
        compressed = 0.0
        for start, end, rate in ratio:
            shared = min(end, section.end) - max(start, section.address)
            if shared > 0:
                entry.cold += shared
                compressed += shared * rate
        entry.compressed = round(compressed)
        dropped = 0 if section.name == ".dynstr" else _shared(dead, section.address, section.end)
        entry.hot = section.bytes - entry.cold - dropped if section.in_file else 0
        report.sections.append(entry)
    return report


def _shared(runs: list[PageRun], start: int, end: int) -> int:
    return sum(max(0, min(run.end, end) - max(run.start, start)) for run in runs)
