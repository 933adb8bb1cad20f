"""Initialisers that the loader does not call: which these are, and that a program calls them itself, once."""

import ctypes
import os
import subprocess
from pathlib import Path
from textwrap import dedent

import pytest

from builder.errors import ElfError
from builder.native.late_initialisers import LIBRARY, LateInitialisers, find, take_out
from layer_kit.children import printed

FILES = ("TraceType_0", "Other", "TraceType_1", "TraceTypeManual", "BatchRulesViews")
SOURCE = 'int order;\nint answer(void) __asm__("_ZN3c106answerEv");\nint answer(void) { return 42; }\n' + "".join(
    f'static void f{number}(void) __asm__("_GLOBAL__sub_I_{file}.cpp") __attribute__((constructor, used));\n'
    f"static void f{number}(void) {{ order = order * 10 + {number}; }}\n"
    for number, file in enumerate(FILES, 1)
)


def make(tree: Path, *options: str, version: str = "2.13.0+cpu") -> Path:
    """A tree with a library that notes which of its initialisers ran."""
    library = tree / LIBRARY
    library.parent.mkdir(parents=True)
    (tree / "torch" / "version.py").write_text(f"__version__ = '{version}'\n")
    (tree / "library.c").write_text(SOURCE)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, tree / "library.c", *options], check=True)
    return library


def order_of(library: Path) -> int:
    """The initialisers that loading the library runs, by their numbers."""
    program = f"import ctypes; print(ctypes.c_int.in_dll(ctypes.CDLL({str(library)!r}), 'order').value)"
    return int(printed(program, library.parent))


def test_what_waits(tmp_path: Path) -> None:
    """Initialisers of a group wait if all its files are there; the others run in their order, and the old file stays."""
    library = make(tmp_path)
    os.link(library, tmp_path / "old.so")
    late = find(tmp_path)
    assert late.symbol == "_ZN3c106answerEv"
    assert len(late.addresses) == 3, "BatchRules wait with another file only"
    take_out(library, late.addresses)
    assert (order_of(tmp_path / "old.so"), order_of(library)) == (12345, 25)
    loaded = ctypes.CDLL(str(library))
    base = (ctypes.cast(getattr(loaded, late.symbol), ctypes.c_void_p).value or 0) - late.symbol_address
    for address in late.addresses:
        ctypes.CFUNCTYPE(None)(base + address)()
    assert ctypes.c_int.in_dll(loaded, "order").value == 25134


@pytest.mark.parametrize(
    ("options", "version"),
    [((), "2.99.0"), (("-s",), "2.13.0"), (("-nostartfiles",), "2.13.0")],
    ids=["an unknown version", "no symbol table", "no function _init"],
)
def test_where_nothing_waits(tmp_path: Path, options: tuple[str, ...], version: str) -> None:
    """With another torch, without names, or with nothing to call in their place, all initialisers run at load."""
    make(tmp_path, *options, version=version)
    assert find(tmp_path) == LateInitialisers()
    assert find(tmp_path / "torch") == LateInitialisers(), "a tree without torch"


def test_another_library(tmp_path: Path) -> None:
    """Addresses that are not among a library's initialisers are refused, and the file stays as it is."""
    library = make(tmp_path)
    before = library.read_bytes()
    with pytest.raises(ElfError, match="1 of the initialisers"):
        take_out(library, [*find(tmp_path).addresses, 8])
    assert library.read_bytes() == before


def test_a_program_runs_them_when_it_needs_them(tmp_path: Path) -> None:
    """A gate runs them once before its function, for all threads; a completed import runs them too; then no gate is left."""
    library = make(tmp_path)
    late = find(tmp_path)
    take_out(library, late.addresses)
    program = f"""
        import ctypes, json, sys, threading, types
        from torch_layer import registrations
        from torch_layer.completion import Completion
        registrations._ROOT = {str(tmp_path)!r}
        torch = sys.modules["torch"] = types.ModuleType("torch")
        torch._C = types.SimpleNamespace(_dispatch_dump=lambda name: found.append((name, order.value)))
        order = ctypes.c_int.in_dll(ctypes.CDLL({str(library)!r}), "order")
        late = registrations.LateRegistrations(Completion("torch", 1), {late.for_plan()!r})
        late.watch()
        own = torch._C._dispatch_dump.__wrapped__
        found = [late.is_waiting, order.value]
        threads = [threading.Thread(target=torch._C._dispatch_dump, args=["x"]) for _ in range(4)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        found += [late.is_waiting, torch._C._dispatch_dump is own]
        completion = Completion("torch", 1)
        registrations.LateRegistrations(completion, {late.for_plan()!r})
        completion.complete()
        print(json.dumps([*found, order.value]))
    """
    assert printed(dedent(program), tmp_path) == [True, 25, *[["x", 25134]] * 4, False, True, 25134134]
