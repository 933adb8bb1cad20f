"""`torch.compile` writes C++: it works where there is a compiler, and elsewhere the message is that of stock torch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from builder import clean

if TYPE_CHECKING:
    from integration.layer.conftest import Layer

PROGRAM = """
import json, torch
function = lambda x: (x.sin() + x.cos()).relu()
x = torch.linspace(0, 1, 100)
try:
    print(json.dumps(["", torch.allclose(torch.compile(function)(x), function(x))]))
except Exception as error:
    print(json.dumps([str(error).partition(chr(10))[0], False]))
"""


def compiled(tree: Path, folder: Path, path: str | None) -> Any:
    """The first line of the error, and whether the compiled function is right, where programs are found in `path`."""
    variables = {"TORCHINDUCTOR_CACHE_DIR": str(folder / "cache"), "HOME": str(folder)}
    done = clean.run(tree, "-c", PROGRAM, extra=variables | ({} if path is None else {"PATH": path}), timeout=900)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_without_a_compiler_the_message_is_stocks(layer: Layer, stock: Path, tmp_path: Path) -> None:
    """Where no compiler is found, the error is stock torch's, which names the compiler."""
    (tmp_path / "empty").mkdir()
    expected, actual = (compiled(tree, tmp_path, str(tmp_path / "empty")) for tree in (stock, layer.tree))
    assert actual == expected
    assert "No working C++ compiler found" in actual[0]


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++ (Debian: apt-get install g++)")
@pytest.mark.timeout(900)
def test_with_a_compiler_it_works(layer: Layer, tmp_path: Path) -> None:
    """Where g++ is found, the function is compiled with the layer's headers and libraries, and computes the right numbers."""
    assert compiled(layer.tree, tmp_path, None) == ["", True]
