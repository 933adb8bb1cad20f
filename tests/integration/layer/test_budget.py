"""The layer's byte budgets: a build that outgrows them fails here before it fails in a deploy."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

from builder.native.elf import SharedLibrary
from builder.python import archive_writer
from builder.python.tiers import USED_ALONE

if TYPE_CHECKING:
    from integration.layer.conftest import Layer

# All of torch, NumPy and what they need; Lambda takes 262,144,000 bytes with the function's own code.
UNZIPPED_BYTES = 200_000_000
# The wheels that tests/runtimes makes for later Pythons carry the CUDA bindings, which no real CPU wheel has.
ZIP_BYTES = 121_000_000 if sys.version_info < (3, 12) else 123_000_000


def _files(layer: Layer) -> dict[str, int]:
    return {
        path.relative_to(layer.root).as_posix(): path.stat().st_size for path in layer.root.rglob("*") if path.is_file()
    }


def test_the_unzipped_layer_keeps_within_its_budget(layer: Layer) -> None:
    """All files of the layer together take 200,000,000 bytes or less, counted as Lambda counts them."""
    files = _files(layer)
    largest = sorted(files.items(), key=lambda item: -item[1])[:10]
    assert sum(files.values()) <= UNZIPPED_BYTES, f"the largest: {largest}"


def test_the_zip_keeps_within_its_budget(layer: Layer) -> None:
    """The archive that is uploaded takes 120,000,000 bytes or less; 122,000,000 where a made wheel is in it."""
    assert layer.zip.stat().st_size <= ZIP_BYTES


def test_the_report_states_what_is_there(layer: Layer) -> None:
    """report.json's totals are the sizes of the tree and of the archive, and every part that it promises is in it."""
    report = json.loads(layer.report.read_text())
    assert report["unzipped_bytes"] == sum(_files(layer).values())
    assert report["zip_bytes"] == layer.zip.stat().st_size
    assert report["limit_bytes"] == 262_144_000
    assert {"packages", "libraries", "steps"} <= report.keys()


def test_the_forecast_was_near(layer: Layer) -> None:
    """What the build forecast before its slow steps is within 5 % of what it built."""
    report = json.loads(layer.report.read_text())
    assert abs(report["forecast_bytes"] - report["unzipped_bytes"]) <= 0.05 * report["unzipped_bytes"]


def test_the_zip_holds_the_tree(layer: Layer) -> None:
    """The archive has the tree's files and no others, each with its size, and unpacks without damage."""
    with zipfile.ZipFile(layer.zip) as archive:
        listed = {entry.filename: entry.file_size for entry in archive.infolist() if not entry.is_dir()}
        assert archive.testzip() is None
    assert listed == _files(layer)


def test_a_template_reads_no_other_packages_code(layer: Layer) -> None:
    """Jinja, its sandbox and markupsafe have their bytecode in blocks of their own: 2 MB at most are decompressed for it."""
    index = archive_writer.read_index(layer.tree / "torch_layer" / "modules.cold")
    used = {member[0] for path, member in index.code.items() if path.split("/")[0] in USED_ALONE}
    others = {member[0] for path, member in index.code.items() if path.split("/")[0] not in USED_ALONE}
    assert "jinja2/sandbox.py" in index.code
    assert not used & others
    assert sum(index.blocks[number].bytes for number in used) <= 2_000_000


def test_no_file_leaves_the_layer(layer: Layer) -> None:
    """Nothing in the layer is a link, a device or writable for other users: zips and /opt keep plain files only."""
    odd = [path for path in layer.root.rglob("*") if path.is_symlink() or not (path.is_file() or path.is_dir())]
    assert odd == []


# What a start with an LSTM opens from Python, of the layer's files: the finder and its modules, the archive, the table of
# plugins (`entry_points.txt` of each distribution).
OPENED_FILES = 30
OPENED = """
import sys
opened = []
below = sys.argv[1]
sys.addaudithook(lambda event, args: opened.append(args[0]) if event == "open" and str(args[0]).startswith(below) else None)
import torch
lstm = torch.nn.LSTM(64, 128)
with torch.inference_mode():
    lstm(torch.ones(10, 1, 64))
print(*opened, sep="\\n")
"""
# Each is a mapping of its own, which every start makes (`MIN_COLD_PAGES` in builder/native/split.py).
MAPPED_RUNS = 4_300


def test_a_start_opens_few_files(layer: Layer) -> None:
    """A first answer opens at most 30 of the layer's files: the modules of torch are in one archive."""
    command = [sys.executable, "-S", "-P", "-s", "-B", "-c", OPENED, str(layer.tree)]
    done = subprocess.run(command, env={"PYTHONPATH": str(layer.tree)}, capture_output=True, text=True, check=True)
    opened = done.stdout.splitlines()
    assert any(name.endswith("modules.cold") for name in opened)
    assert len(opened) <= OPENED_FILES, opened


def test_a_start_maps_few_runs(layer: Layer) -> None:
    """The libraries that `import torch` loads have 4,300 runs of hot and cold pages or fewer."""
    names = ("libtorch_cpu.so", "libtorch_python.so")
    libraries = [SharedLibrary.read(layer.tree / "torch" / "lib" / name) for name in names]
    assert 100 < sum(len(library.loads) for library in libraries) <= MAPPED_RUNS
