"""Static initialisers of torch that a start does without: they run when something needs what they register.

A source file of torch registers its kernels in its static initialisers, which the loader calls one after another. Where
nothing but these files registers kernels for a dispatch key, a program cannot miss them before it uses the key. So the
loader calls an empty function instead, and `torch_layer/registrations.py` calls them later.

The functions have their names in the wheel's symbol table, which the layer does not have. `strip` moves nothing, so the
addresses are the same in both.
"""

import re
import struct
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from builder.errors import ElfError
from builder.native.elf import SharedLibrary, Tag, page_ceil
from builder.native.page_set import PAGE_BYTES

LIBRARY = "torch/lib/libtorch_cpu.so"
# What a compiler calls the function that runs a source file's static initialisers.
INITIALISER = re.compile(rb"_GLOBAL__sub_I_(\w+)\.cpp")
# What torch/library.h calls the functions that an initialiser calls; only it does.
_REGISTERING = b"TORCH_LIBRARY_IMPL_init_"
_FUNCTION, _FILE, _GLOBAL, _DEFAULT = 2, 4, 1, 0  # STT_FUNC, STT_FILE, STB_GLOBAL, STV_DEFAULT
_RELOCATION = struct.Struct("<QQq")


class LateGroup(NamedTuple):
    """Source files that wait together.

    Attributes:
        files: patterns of their names, without `.cpp`. If one of them matches no file, the group does not wait.
        keys: the dispatch keys for which they register all kernels that there are.
        torch: a pattern of the versions of torch for which this was shown (tests/integration/layer/test_registrations.py).
        reason: what needs these kernels.
    """

    files: tuple[str, ...]
    keys: tuple[str, ...]
    torch: str
    reason: str


LATE_GROUPS = (
    LateGroup(("TraceType_\\d+", "TraceTypeManual"), ("Tracer",), r"2\.13\.", "only torch.jit.trace records operators"),
    LateGroup(
        ("BatchRules\\w+", "LegacyBatchingRegistrations", "VmapModeRegistrations"),
        ("FuncTorchBatched", "BatchedNestedTensor", "FuncTorchVmapMode", "Batched", "VmapMode"),
        r"2\.13\.",
        "only vmap makes tensors with a hidden dimension",
    ),
    LateGroup(
        ("RegisterFunctionalization_\\d+", "FunctionalizeFallbackKernel"),
        ("Functionalize",),
        r"2\.13\.",
        "only export and compilation turn changes of tensors into functions",
    ),
)


class LateInitialisers(NamedTuple):
    """Which functions of a library wait.

    Attributes:
        symbol: a function that the library exports, by which a program finds where the library is in memory.
        symbol_address: its address in the library.
        addresses: those of the functions, in the order in which the loader would call them; empty if none waits.
        pages: numbers of pages that have nothing but code of these functions. A start does not need them.
    """

    symbol: str = ""
    symbol_address: int = 0
    addresses: tuple[int, ...] = ()
    pages: frozenset[int] = frozenset()

    def for_plan(self) -> dict[str, object]:
        """What the layer needs at run time, in plain containers; empty if nothing waits."""
        if not self.addresses:
            return {}
        return {
            "library": LIBRARY,
            "symbol": self.symbol,
            "symbol_address": self.symbol_address,
            "addresses": self.addresses,
        }


def find(installed: Path) -> LateInitialisers:
    """The initialisers that can wait.

    Args:
        installed: The tree as pip made it, with symbol tables.
    """
    if not (installed / LIBRARY).is_file():
        return LateInitialisers()
    version = re.search(r"__version__ = '(.*)'", (installed / "torch" / "version.py").read_text(encoding="utf-8"))
    groups = [group for group in LATE_GROUPS if version is not None and re.match(group.torch, version[1])]
    library = SharedLibrary.read(installed / LIBRARY)
    if not groups or library.tag(Tag.INIT) is None:
        return LateInitialisers()
    files: dict[int, str] = {}  # by the initialiser's address
    called: dict[int, list[range]] = {}  # the functions that it calls, by the same
    inside: list[range] = []
    for name, (kind, _), addresses in library.named_symbols(".symtab"):
        if kind & 15 == _FILE:  # the local symbols of a source file follow its name
            inside = []
        elif _REGISTERING in name:
            inside.append(addresses)
        elif match := INITIALISER.fullmatch(name):
            files[addresses.start], called[addresses.start] = match[1].decode(), inside
    patterns = [
        pattern
        for group in groups
        if all(any(re.fullmatch(pattern, file) for file in files.values()) for pattern in group.files)
        for pattern in group.files
    ]
    waiting = tuple(
        address
        for _, address in sorted(entries(library).items())
        if address in files and any(re.fullmatch(pattern, files[address]) for pattern in patterns)
    )
    if not waiting:
        return LateInitialisers()
    exported = min(
        (name.decode(), addresses.start)
        for name, (kind, other), addresses in library.named_symbols(".dynsym")
        if addresses and kind == _GLOBAL << 4 | _FUNCTION and other == _DEFAULT and name.startswith(b"_ZN3c10")
    )
    pages = {
        page
        for address in waiting
        for code in called[address]
        for page in range(page_ceil(code.start) // PAGE_BYTES, code.stop // PAGE_BYTES)
    }
    return LateInitialisers(*exported, waiting, frozenset(pages))


def take_out(path: Path, addresses: Collection[int]) -> None:
    """Let the loader call the library's empty `_init` in the place of these initialisers.

    Args:
        path: The library. It gets a new file: other trees may have hard links to the old one.
        addresses: The functions that wait.

    Raises:
        ElfError: One of them is not among the library's initialisers.
    """
    library = SharedLibrary.read(path)
    missing = set(addresses) - set(entries(library).values())
    table, empty = library.tag(Tag.RELA), library.tag(Tag.INIT)
    if missing or table is None or empty is None:
        raise ElfError(f"{path} does not call {len(missing)} of the initialisers that wait", "report this")
    data = bytearray(library.data)
    start = library.offset(table)
    for number, (place, info, addend) in enumerate(library.relocations()):
        if addend in addresses and place in _places(library):
            _RELOCATION.pack_into(data, start + number * _RELOCATION.size, place, info, empty)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data)
    partial.chmod(path.stat().st_mode)
    partial.replace(path)


def _places(library: SharedLibrary) -> range:
    start, size = library.tag(Tag.INIT_ARRAY), library.tag(Tag.INIT_ARRAYSZ)
    return range(start or 0, (start or 0) + (size or 0))


def entries(library: SharedLibrary) -> dict[int, int]:
    """Place in the list of initialisers -> address of the function, as far as relocations fill it."""
    places = _places(library)
    return {place: addend for place, _, addend in library.relocations() if place in places}
