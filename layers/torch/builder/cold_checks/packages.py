"""The packages that torch depends on, used as a program would use them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def numpy_corners() -> dict[str, Tensor]:
    """NumPy's own submodules, LAPACK by OpenBLAS among them."""
    generator = np.random.default_rng(5)
    square = generator.normal(size=(9, 9))
    left, values, right = np.linalg.svd(square)
    np.testing.assert_allclose(left * values @ right, square, atol=1e-10)
    masked = np.ma.masked_less(square, 0)
    polynomial = np.polynomial.Polynomial([1, -3, 2])
    legacy = np.random.RandomState(3)
    return {
        "singular": torch.from_numpy(values),
        "solution": torch.from_numpy(np.linalg.solve(square, square[:, :2])),
        "eigenvalues": torch.from_numpy(np.linalg.eigvalsh(square + square.T)),
        "large-product": torch.from_numpy(generator.normal(size=(130, 140)) @ generator.normal(size=(140, 70))),
        "transform": torch.from_numpy(np.fft.rfft(square, axis=0).real.copy()),
        "masked": torch.tensor(float(masked.sum())),
        "roots": torch.from_numpy(np.sort(polynomial.roots())),
        "choice": torch.from_numpy(generator.choice(100, 10, replace=False)),
        "legacy": torch.from_numpy(legacy.gamma(2.0, size=8)),
        "einsum": torch.from_numpy(np.einsum("ij,kj->ik", square, square, optimize=True)),
        "interpolated": torch.from_numpy(np.interp(np.linspace(0, 1, 7), [0, 1], [2.0, 5.0])),
        "dates": torch.tensor(int((np.datetime64("2024-03-01") - np.datetime64("2024-02-01")).astype(int))),
        "strings": torch.from_numpy(np.strings.str_len(np.array(["a", "abc"]))),
    }


def symbolic() -> dict[str, str]:
    """An integral, a solution, a simplification, and forty digits of pi."""
    import mpmath  # type: ignore[import-untyped]
    import sympy  # type: ignore[import-untyped]

    x = sympy.Symbol("x")
    with mpmath.workdps(40):
        digits = str(mpmath.pi)
    return {
        "integral": str(sympy.integrate(sympy.exp(-x) * sympy.sin(x), x)),
        "roots": str(sympy.solve(x**2 - 5 * x + 6, x)),
        "simplified": str(sympy.simplify(sympy.sin(x) ** 2 + sympy.cos(x) ** 2)),
        "digits": digits,
    }


def graphs() -> dict[str, str]:
    """A shortest path and a topological order."""
    import networkx  # type: ignore[import-untyped]

    graph = networkx.DiGraph([("a", "b"), ("b", "d"), ("a", "c"), ("c", "d"), ("d", "e")])
    return {
        "path": " ".join(networkx.shortest_path(graph, "a", "e")),
        "order": " ".join(networkx.lexicographical_topological_sort(graph)),
        "rank": f"{networkx.density(graph):.3f}",
    }


def templates() -> dict[str, str]:
    """A template with a loop, a filter and escaping, in the open and in the sandbox, where language models' templates run."""
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    source = "{% for word in words %}{{ word | upper }} {% endfor %}"
    environments = {
        "text": jinja2.Environment(autoescape=True),
        "sandboxed": ImmutableSandboxedEnvironment(autoescape=True),
    }
    return {name: each.from_string(source).render(words=["a", "<b>"]) for name, each in environments.items()}


def file_systems() -> dict[str, str]:
    """A file in fsspec's memory, a lock on a file, a version compared by setuptools' packaging."""
    import filelock
    import fsspec  # type: ignore[import-untyped]
    import setuptools  # type: ignore[import-untyped]

    with fsspec.open("memory://folder/file.txt", "w") as file:
        file.write("kept")
    with fsspec.open("memory://folder/file.txt") as file:
        text = file.read().decode()
    with tempfile.TemporaryDirectory() as folder:
        lock = filelock.FileLock(Path(folder, "lock"))
        with lock.acquire(timeout=1):
            locked = lock.is_locked
        found = setuptools.find_packages(folder)
    return {"text": text, "locked": str(locked), "found": str(found), "local": fsspec.filesystem("file").protocol[0]}
