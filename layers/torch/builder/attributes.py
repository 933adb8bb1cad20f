"""Every attribute of every module that importing torch and NumPy leaves, so that two trees can be compared.

    python -m builder.attributes OUTPUT            # in a process that finds torch where it is to be looked at
    python -m builder.attributes OUTPUT --held     # on the layer, before its import is complete
    python -m builder.attributes OUTPUT --separable first   # on the layer, when each separable module has run before the others

OUTPUT gets JSON: module -> attribute -> description. A function or class is described by its kind and its qualified name, plain
data by its value, and any other object by its class. Two trees with the same torch give the same.

With `--held` only what is there without a touch is described, and names that would be a touch are listed under `waiting`. A
sample of these is touched, each in a forked child, and described under `touched`: all that are also names of modules, and some.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from pathlib import Path
from types import (
    BuiltinFunctionType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any, NamedTuple

from builder import clean
from builder.errors import BuildError

# What the layer has of its own, or the import system for a module in an archive.
LEFT_OUT = {
    "__builtins__": "the same in all modules",
    "__cached__": "no file has the bytecode of a packed module",
    "__getattr__": "a module that runs has one of the layer's as long as names of it wait",
    "__dir__": "the same",
    "__loader__": "the archive's",
    "__spec__": "it names the loader",
    "__doc__": "compared as the code of modules is, by the sources",
    "_torch_layer": "what rewritten modules ask",
    "_torch_layer_deferred": "a deferred statement, until it is handed over",
}
# Not there before the import is complete, as module and start of names: a held module puts stand-ins for what a CPU build lacks.
LATE = {
    ("torch._C", "_gds_"): "GPU direct storage",
    ("torch._C", "_MPSStreamBase"): "Apple's GPUs, since torch 2.15",
} | {("torch._C", start): "XPU" for start in ("_xpu_", "_Xpu", "_XPU")}
# Its functions stand before functions of torch and call them.
GATES = "torch_layer.registrations"
_SAMPLE = 6  # names that are touched beside those that a module has too
_PLAIN = frozenset([bool, int, float, complex, str, bytes, type(None)])
_FUNCTIONS = (FunctionType, BuiltinFunctionType, MethodType, MethodDescriptorType, WrapperDescriptorType)
# Where Linux puts programs and libraries. Some modules hand addresses of C functions to compiled code.
_ADDRESSES = range(0x5000_0000_0000, 0x8000_0000_0000)
_TEXT_BYTES = 300  # of a value, so that a difference can be shown


def describe(value: Any, tree: str) -> str:
    """What an attribute is, without where it lies and what it holds for the moment."""
    kind = type(value)  # never `isinstance`, which asks some objects for their `__class__`, and these warn
    if kind is FunctionType and value.__module__ == GATES:
        return describe(value.__wrapped__, tree)
    if issubclass(kind, ModuleType):
        return f"module {ModuleType.__getattribute__(value, '__name__')}"
    if issubclass(kind, type):
        return f"class {value.__module__}.{value.__qualname__}"
    if kind is int and value in _ADDRESSES:
        return "int, an address"
    if kind in _PLAIN or (kind in (tuple, frozenset) and all(type(each) in _PLAIN for each in value)):
        text = repr(sorted(value, key=repr) if kind is frozenset else value).replace(tree, "TREE")
        return f"{kind.__name__} {text[:_TEXT_BYTES]}"
    what = f"{kind.__module__}.{kind.__qualname__}"
    return f"{what} {getattr(value, '__module__', None)}.{value.__qualname__}" if issubclass(kind, _FUNCTIONS) else what


def _modules() -> dict[str, ModuleType]:
    packages = {"torch", "torchgen", "functorch", "numpy"}
    return {
        name: module
        for name, module in sorted(sys.modules.items())
        if name.partition(".")[0] in packages and isinstance(module, ModuleType)
    }


def _described(namespace: dict[str, Any], tree: str) -> dict[str, str]:
    return {name: describe(value, tree) for name, value in sorted(namespace.items()) if name not in LEFT_OUT}


def complete(tree: str) -> dict[str, Any]:
    """All modules and their attributes, when everything has run."""
    finder = sys.modules.get("torch_layer.finder")
    if finder is not None:
        finder.complete_imports()
    return {"modules": {name: _described(vars(module), tree) for name, module in _modules().items()}}


def held(tree: str) -> dict[str, Any]:
    """The attributes that can be had without a touch, those that cannot, and a sample of these, touched."""
    from torch_layer import finder

    found: dict[str, dict[str, str]] = {}
    waiting: dict[str, list[str]] = {}
    for name, module in _modules().items():
        if (
            type(module) is not ModuleType
        ):  # one that is held, or one like `torch.ops`, which makes what it is asked for
            continue
        namespace = vars(module)
        found[name] = _described(namespace, tree)
        # Only these list names that wait. Others may have a `__dir__` of their own, which does things.
        waiting[name] = sorted(set(dir(module)).difference(namespace)) if "_torch_layer" in namespace else []
    single = [(module, name) for module, names in waiting.items() for name in names]
    modules = {name.rpartition(".")[2] for name in _modules()}
    twice = [(module, name) for module, name in single if name in modules]
    sample = dict.fromkeys([*twice, *single[:: max(len(single) // _SAMPLE, 1)]])
    touched = {f"{module}.{name}": _touched(module, name, tree) for module, name in sample}
    if finder.imports().complete:
        raise SystemExit(f"looking at modules has completed the import: {finder.imports().reason}")
    return {"modules": found, "waiting": waiting, "touched": touched}


def separable(tree: str, order: str) -> dict[str, Any]:
    """All modules and their attributes, when everything has run, and the separable modules have run before all others.

    Args:
        tree: the folder of the packages.
        order: which of them is touched first: the `first` in stock order, or the `last`.

    Raises:
        SystemExit: one of them completes the import, in this order or as the first of all.
    """
    from torch_layer import finder

    names = finder.separable_modules()[:: 1 if order == "first" else -1]
    if order == "first":
        for name in names:
            reason = _in_child(partial(_completed_by, name))
            if reason:
                raise SystemExit(f"{name} is no separable module: to touch it first completes the import: {reason}")
    for name in names:
        if reason := _completed_by(name):
            raise SystemExit(f"{name} is no separable module: it completes the import: {reason}")
    return complete(tree)


def _completed_by(name: str) -> str:
    """Touch a module, and say what has completed the import then."""
    from torch_layer import finder

    dir(import_module(name))
    reason: str = finder.imports().reason
    return reason


def _touched(module: str, name: str, tree: str) -> str:
    """The description of an attribute in a forked child, in which nothing was touched before."""
    return _in_child(lambda: describe(getattr(sys.modules[module], name), tree))


def _in_child(what: Callable[[], str]) -> str:
    """What a function returns in a forked child, or the error that it raises."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            text = what()
        except BaseException as error:
            text = f"error {type(error).__name__}: {error}"
        os.write(writing, text.encode()[:4000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text


class Comparison(NamedTuple):
    """What two trees have.

    Attributes:
        modules: how many modules were compared.
        attributes: how many attributes they have.
        differences: what differs, a line each.
    """

    modules: int
    attributes: int
    differences: list[str]


Keep = Callable[[Callable[[], bytes]], bytes]
"""Gives the bytes that a function makes, or those that it made before."""


def compare(stock: Path, layer: Path, of_stock: Keep = lambda make: make()) -> Comparison:
    """Compare what importing leaves in two trees: with modules held, when they have run in any order, and where all run at once.

    Args:
        stock: folder of packages before anything was split or moved.
        layer: folder of packages that the layer will have as `/opt/python`.
        of_stock: keeps what was listed of the stock tree.

    Raises:
        BuildError: torch cannot be imported in one of them.
    """

    def listed(job: tuple[Path, str, list[str], dict[str, str]]) -> dict[str, Any]:
        run = partial(_run, Path(folder), *job)
        found: dict[str, Any] = json.loads(of_stock(run) if job[1] == "stock" else run())
        return found

    with tempfile.TemporaryDirectory(prefix="layer-attributes-") as folder, ThreadPoolExecutor(2) as pool:
        jobs: list[tuple[Path, str, list[str], dict[str, str]]] = [
            (stock, "stock", [], {}),
            (layer, "complete", [], {}),
        ]
        if (layer / "torch_layer").is_dir():
            jobs += [
                (layer, "eager", [], {"TORCH_LAYER_IMPORTS": "eager"}),
                (layer, "held", ["--held"], {}),
                (layer, "separable first", ["--separable", "first"], {}),
                (layer, "separable last", ["--separable", "last"], {}),
            ]
        found = dict(zip([job[1] for job in jobs], pool.map(listed, jobs), strict=True))
    expected = found.pop("stock")
    held = found.pop("held", None)
    lines = [f"{line} ({name})" for name, actual in found.items() for line in differences(expected, actual)]
    lines += differences_while_held(expected, held) if held is not None else []
    return Comparison(len(expected["modules"]), sum(map(len, expected["modules"].values())), lines)


def _run(folder: Path, tree: Path, name: str, options: list[str], variables: dict[str, str]) -> bytes:
    file = folder / name
    done = clean.run(tree, "-m", "builder.attributes", str(file), *options, extra=variables)
    if done.returncode:
        said = "\n".join(done.stderr.rstrip().splitlines()[-20:])
        raise BuildError(
            f"the modules of {tree} could not be listed ({name}):\n{said}",
            f"Run `python -m builder.attributes {' '.join(['FILE', *options])}` on the tree by hand.",
        )
    return file.read_bytes()


def differences(stock: dict[str, Any], complete_layer: dict[str, Any]) -> list[str]:
    """What differs between two trees whose imports are complete, a line each."""
    expected, actual = stock["modules"], complete_layer["modules"]
    lines = [
        f"{name}: the module is {'missing' if name in expected else 'new'}" for name in expected.keys() ^ actual.keys()
    ]
    for module in expected.keys() & actual.keys():
        for name in expected[module].keys() | actual[module].keys():
            one, other = expected[module].get(name, "nothing"), actual[module].get(name, "nothing")
            if one != other:
                lines.append(f"{module}.{name} is {other}, and in stock torch {one}")
    return sorted(lines)


def differences_while_held(stock: dict[str, Any], layer: dict[str, Any]) -> list[str]:
    """The same for a layer on which modules are held: what is there, and what a touch gives."""
    expected: dict[str, dict[str, str]] = stock["modules"]
    lines = []
    for module, names in layer["modules"].items():
        waiting = layer["waiting"].get(module, ())
        for name in names.keys() | expected.get(module, {}).keys() - set(waiting):
            what, one = names.get(name, "nothing"), expected.get(module, {}).get(name, "nothing")
            if what != one and not _is_late(module, name):
                lines.append(f"{module}.{name} is {what} while modules are held, and in stock torch {one}")
        for name in waiting:
            if name not in expected.get(module, {}):
                lines.append(f"{module}.{name} waits, and stock torch has no such name")
    for path, what in layer["touched"].items():
        module, _, name = path.rpartition(".")
        one = expected.get(module, {}).get(name, "nothing")
        if what != one:
            lines.append(f"{path} is {what} when it is touched, and in stock torch {one}")
    return sorted(lines)


def _is_late(module: str, name: str) -> bool:
    return any(module == where and name.startswith(start) for where, start in LATE)


def main(argv: list[str] | None = None) -> None:
    """Describe the modules of this process's torch."""
    parser = argparse.ArgumentParser(prog="python -m builder.attributes", description="List what torch's modules hold.")
    parser.add_argument("output", type=Path, help="the JSON file to write")
    parser.add_argument("--held", action="store_true", help="before the layer's import is complete")
    parser.add_argument(
        "--separable", choices=["first", "last"], help="run separable modules before all others, in this order"
    )
    arguments = parser.parse_args(argv)
    import numpy  # noqa: F401
    import torch

    tree = re.sub(r"/torch/__init__\.py$", "", str(torch.__file__))
    if arguments.held:
        found = held(tree)
    elif arguments.separable:
        found = separable(tree, arguments.separable)
    else:
        found = complete(tree)
    arguments.output.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
