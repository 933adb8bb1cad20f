"""PyTorch's own operator database, on two trees of packages: the digests of all outputs and gradients."""

from __future__ import annotations

import importlib.util
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from builder import clean
from lambda_torch.project import ROOT

PROGRAM = ROOT / "tests" / "integration" / "layer" / "programs" / "operators.py"
# Beside float32: what models compute in, what they are trained in, and what has kernels of its own.
DTYPES = ("float64", "complex64", "bfloat16", "int32", "bool")
SAMPLES = 10


class UnstableOperators(NamedTuple):
    """Operators whose bytes differ from run to run of stock torch as well: only the shapes of their outputs are compared."""

    prefix: str
    reason: str


UNSTABLE = (
    UnstableOperators("empty", "memory that nothing was written to"),
    UnstableOperators("new_empty", "memory that nothing was written to"),
    UnstableOperators("linalg.lstsq", "MKL's gelsy rounds by where its work memory lies"),
)


class Digests(NamedTuple):
    """What two trees gave, by `operator/dtype/sample`: digests of outputs and gradients, or the error.

    Attributes:
        expected: stock PyTorch's.
        actual: the layer's.
    """

    expected: dict[str, str]
    actual: dict[str, str]

    def compared(self) -> list[str]:
        """The samples whose bytes must be equal."""
        prefixes = tuple(unstable.prefix for unstable in UNSTABLE)
        return [name for name in self.expected if not name.startswith(prefixes)]

    def different(self) -> dict[str, tuple[str, str]]:
        """The samples that differ: their bytes, or the shapes where the bytes are unstable. One that is not there differs."""
        compared = set(self.compared())
        found = {}
        for name in self.expected.keys() | self.actual.keys():
            one, other = self.expected.get(name, "absent"), self.actual.get(name, "absent")
            if one != other if name in compared else _shapes(one) != _shapes(other):
                found[name] = (one, other)
        return dict(sorted(found.items()))


def digests(stock: Path, layer: Path, folder: Path, *options: str, timeout: float = 1200) -> Digests:
    """Run the program with these options on both trees at the same time; `folder` is for what it writes."""
    spec = importlib.util.find_spec("expecttest")
    assert spec is not None
    assert spec.origin is not None
    needed = Path(spec.origin).parent  # imported by the operator database, and not a part of torch

    def run(tree: Path, file: Path) -> dict[str, str]:
        order = {"PYTHONHASHSEED": "0"}  # some samples come out of sets of strings
        process = clean.run(tree, str(PROGRAM), str(file), *options, extra=order, beside=[needed], timeout=timeout)
        assert process.returncode == 0, f"status {process.returncode}: {process.stderr[-2000:]}"
        found: dict[str, str] = json.loads(file.read_text())
        return found

    with ThreadPoolExecutor(2) as pool:
        expected, actual = pool.map(run, (stock, layer), (folder / "stock.json", folder / "layer.json"))
    return Digests(expected, actual)


def _shapes(digest: str) -> list[str]:
    return [word for word in digest.replace(", ", ",").split() if word.startswith("torch.")]
