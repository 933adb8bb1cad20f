"""Bytecode is valid, unchecked and the same in every build."""

import importlib.util
import marshal
import sys
from pathlib import Path

from builder.python import bytecode

SOURCE = b"import os\nNAMES = {'b', 'a', 'c'}\ndef f(x):\n    return x in {'one', 'two', 'three'} and os.sep\n"


def test_bytecode_says_where_it_will_lie_and_runs() -> None:
    """Compiled code carries the name that it was given, and does what the source says."""
    (code,) = bytecode.compile_all([bytecode.CompileJob("/opt/python/x.py", SOURCE)], positions=True)
    assert code is not None
    loaded = marshal.loads(code)
    assert loaded.co_filename == "/opt/python/x.py"
    names: dict[str, object] = {}
    exec(loaded, names)
    assert names["NAMES"] == {"a", "b", "c"}


def test_compiling_is_reproducible() -> None:
    """The same modules give the same bytes, also in other company in this process, and with another hash seed."""
    modules = [bytecode.CompileJob(f"/opt/python/m{number}.py", SOURCE + b"N = %d\n" % number) for number in range(200)]
    keep = sys.intern("three")
    assert bytecode.compile_all(modules, positions=True) == bytecode.compile_all(modules, positions=True)
    assert keep == "three"


def test_columns_can_be_left_out() -> None:
    """Without positions the code is smaller and still has its line numbers."""
    job = [bytecode.CompileJob("/opt/python/x.py", SOURCE)]
    (full,), (small,) = bytecode.compile_all(job, positions=True), bytecode.compile_all(job, positions=False)
    assert full is not None
    assert small is not None
    assert len(small) < len(full)
    function = next(const for const in marshal.loads(small).co_consts if hasattr(const, "co_code"))
    assert {line for _, _, line in function.co_lines()} == {3, 4}


def test_what_cannot_be_compiled_is_none_and_the_rest_goes_on() -> None:
    """A source for another Python gives no bytecode, and its neighbours give theirs."""
    codes = bytecode.compile_all(
        [
            bytecode.CompileJob("a.py", b"x = (\n"),
            bytecode.CompileJob("b.py", b"x = 1\n"),
            bytecode.CompileJob("c.py", b"\0"),
        ],
        positions=True,
    )
    assert [code is None for code in codes] == [True, False, True]


def test_files_are_never_checked_against_a_source(tmp_path: Path) -> None:
    """The header is an unchecked hash: the import system runs the bytecode whatever the source's date and text are."""
    (code,) = bytecode.compile_all([bytecode.CompileJob("x.py", b"VALUE = 1\n")], positions=True)
    assert code is not None
    data = bytecode.pyc(b"VALUE = 1\n", code)
    assert data[:4] == importlib.util.MAGIC_NUMBER
    assert int.from_bytes(data[4:8], "little") == 0b01
    source = tmp_path / "valued.py"
    source.write_text("VALUE = 2\n")
    cached = Path(importlib.util.cache_from_source(str(source)))
    cached.parent.mkdir()
    cached.write_bytes(data)
    spec = importlib.util.spec_from_file_location("valued", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.VALUE == 1
