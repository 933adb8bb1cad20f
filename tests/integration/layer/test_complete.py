"""Nothing is missing: what stock torch does in a clean process, the finished layer does, and with equal bytes."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from builder import attributes, clean
from builder.cold_checks import CHECKS
from builder.outputs import differences, read_outputs
from builder.stage.prune import rule_for
from integration.layer.conftest import Layer
from layer_kit.stock import OF_THE_INSTALLER

PROGRAMS = Path(__file__).parent / "programs"


class CheckedTree(NamedTuple):
    """What the checks gave on one tree."""

    folder: Path
    errors: dict[str, str]


@pytest.fixture(scope="session")
def outcomes(layer: Layer, stock: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[CheckedTree, CheckedTree]:
    """Every check on the stock tree and on the layer's, at the same time."""

    def check(tree: Path, folder: Path) -> CheckedTree:
        process = clean.run(tree, "-m", "builder.cold_checks", "--output", str(folder), "--jobs", "1", timeout=1200)
        errors = folder / "errors.json"
        assert errors.exists(), process.stderr
        return CheckedTree(folder, json.loads(errors.read_text()))

    folder = tmp_path_factory.mktemp("untouched")
    with ThreadPoolExecutor(2) as pool:
        reference, tried = pool.map(check, (stock, layer.tree), (folder / "stock", folder / "layer"))
    return reference, tried


@pytest.mark.parametrize("name", [check.name for check in CHECKS])
def test_code_that_the_workload_never_touches_works(outcomes: tuple[CheckedTree, CheckedTree], name: str) -> None:
    """A check of cold code passes on the layer, alone on the path, with the bytes that stock torch gives."""
    reference, tried = outcomes
    assert name not in reference.errors, f"also on stock torch: {reference.errors[name]}"
    assert name not in tried.errors, tried.errors[name]
    expected, actual = (read_outputs(outcome.folder / f"{name}.safetensors")[0] for outcome in outcomes)
    assert differences(expected, actual) == []


@pytest.mark.parametrize("capability", ["default", "avx2", "avx512"])
def test_the_workload_gives_the_stock_bytes(layer: Layer, stock: Path, tmp_path: Path, capability: str) -> None:
    """Under each CPU capability the inference workload gives the bytes that stock torch gives."""

    def run(tree: Path, file: Path) -> None:
        limit = {"ATEN_CPU_CAPABILITY": capability}
        process = clean.run(tree, "-m", "builder.workload", "--output", str(file), extra=limit)
        assert process.returncode == 0, process.stderr

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, (stock, layer.tree), (tmp_path / "stock", tmp_path / "layer")))
    (expected, _), (actual, _) = read_outputs(tmp_path / "stock"), read_outputs(tmp_path / "layer")
    assert differences(expected, actual) == []


def test_every_attribute_of_every_module_is_stocks(layer: Layer, stock: Path) -> None:
    """Each of some 30,000 attributes has stock's kind, name and value, in both import modes and before completion."""
    found = attributes.compare(stock, layer.tree)
    assert found.differences == []
    assert found.attributes > 25_000


def _kept(installed: tuple[str, ...]) -> list[str]:
    """Those files of the layer's packages that the rules of prune do not leave out."""
    return [path for path in installed if rule_for(path) is None]


def _module(path: str) -> str:
    """The name under which the file at `path` is imported; empty if it is not a module."""
    name = path.removesuffix(".py") if path.endswith(".py") else path.partition(".")[0] if ".cpython-" in path else ""
    return name.removesuffix("/__init__").replace("/", ".")


def test_every_module_is_found_with_its_source(
    layer: Layer, stock: Path, installed: tuple[str, ...], tmp_path: Path
) -> None:
    """Every module of torch and its dependencies, 4,000 and more, is found in the layer with the source that pip installed."""
    names = sorted({name for path in _kept(installed) if (name := _module(path))})
    assert len(names) > 4000
    (tmp_path / "names.json").write_text(json.dumps(names))

    def look_up(tree: Path, file: Path) -> dict[str, str]:
        process = clean.run(tree, str(PROGRAMS / "modules.py"), str(tmp_path / "names.json"), str(file))
        assert process.returncode == 0, process.stderr
        found: dict[str, str] = json.loads(file.read_text())
        return found

    with ThreadPoolExecutor(2) as pool:
        expected, actual = pool.map(look_up, (stock, layer.tree), (tmp_path / "stock", tmp_path / "layer"))
    different = {name: (expected[name], actual[name]) for name in names if expected[name] != actual[name]}
    assert different == {}


def test_every_data_file_is_there_unchanged(layer: Layer, stock: Path, installed: tuple[str, ...]) -> None:
    """Every file that is neither a module nor a library (tables, templates, licences, metadata) lies in the layer as it was."""
    data = [
        path
        for path in _kept(installed)
        # RECORD lists what the layer has, without hashes.
        if not _module(path) and ".so" not in Path(path).name and "/bin/" not in path and Path(path).name != "RECORD"
    ]
    assert len(data) > 100
    missing = [path for path in data if not (layer.tree / path).is_file()]
    changed = [p for p in data if p not in missing and (layer.tree / p).read_bytes() != (stock / p).read_bytes()]
    assert (missing, changed) == ([], [])


LISTING = """
import importlib.metadata, importlib.resources, json, torch
folder = importlib.resources.files("torch")
print(json.dumps([
    sorted(str(each) for each in importlib.metadata.files("torch")),
    sorted(each.name for each in folder.iterdir() if each.name.endswith(".py")),
    (folder / "version.py").read_text(),
    (folder / "nn" / "modules" / "rnn.py").read_bytes().decode(),
]))
"""


def test_metadata_and_resources_are_stocks(layer: Layer, stock: Path) -> None:
    """`importlib.metadata` lists torch's files, and `importlib.resources` lists and reads its sources, as from files."""

    def listed(tree: Path) -> Any:
        done = clean.run(tree, "-c", LISTING)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    (files, *resources), (files_of_layer, *resources_of_layer) = listed(stock), listed(layer.tree)
    assert resources_of_layer == resources
    kept = [path for path in files if rule_for(path) is None and not path.startswith("..")]
    # From Python 3.12 on, files that are not on disk are left out.
    wanted = [path for path in kept if sys.version_info < (3, 12) or (layer.tree / path).exists()]
    of_packages, wanted_of_packages = (
        [path for path in each if Path(path).name not in OF_THE_INSTALLER] for each in (files_of_layer, wanted)
    )
    assert of_packages == wanted_of_packages
    assert len(files_of_layer) > 100


def test_every_native_library_is_there(layer: Layer, installed: tuple[str, ...]) -> None:
    """Every shared library and the shared memory manager lie where pip put them, the manager executable."""
    native = [path for path in _kept(installed) if ".so" in Path(path).name or path.endswith("torch_shm_manager")]
    assert len(native) > 20
    assert [path for path in native if not (layer.tree / path).is_file()] == []
    assert (layer.tree / "torch/bin/torch_shm_manager").stat().st_mode & 0o111
