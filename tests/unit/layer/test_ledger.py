"""Step 7: every byte has an owner, also in layers of others; the picture needs nothing from outside."""

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from builder.account import contents, ledger, packaging, table, treemap
from builder.errors import BuildError
from lambda_torch.cli import main
from layer_kit.packages import make_bundle, make_tree

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def layer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layer's folder with a bundled tree in it."""
    folder = tmp_path_factory.mktemp("layer")
    make_bundle(make_tree(folder / "staged"), folder / "opt" / "python")
    return folder / "opt"


def test_every_byte_is_counted_once(layer: Path) -> None:
    """Packages, and kinds within them, add up to the size of all files, shared archives included."""
    size = sum(path.stat().st_size for path in layer.rglob("*") if path.is_file())
    report = ledger.inspect(layer)
    assert report.unzipped_bytes == size
    assert sum(package.bytes for package in report.packages) == size
    assert sum(sum(package.kinds.values()) for package in report.packages) == size
    assert report.headroom_bytes == 262_144_000 - size
    names = {package.name for package in report.packages}
    assert {"lake", "hill", "single", "stranger", "torch_layer"} <= names


def test_a_zip_is_reported_like_the_folder(layer: Path, tmp_path: Path) -> None:
    """The zip of a layer gives the same packages and libraries as its folder, and its own size besides."""
    size = packaging.write_zip(layer, tmp_path / "layer.zip")
    folder, zipped = ledger.inspect(layer), ledger.inspect(tmp_path / "layer.zip")
    assert zipped.zip_bytes == size
    assert zipped.packages == folder.packages
    assert zipped.libraries == folder.libraries


def test_zipping_is_reproducible_and_keeps_modes(layer: Path, tmp_path: Path) -> None:
    """Two zips of a tree are equal bytes, dated 1980, in order of names, and say which files may be executed."""
    program = tmp_path / "opt" / "tool"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (program.parent / "data").write_text("x")
    packaging.write_zip(program.parent, tmp_path / "a.zip")
    program.touch()
    packaging.write_zip(program.parent, tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        entries = archive.infolist()
    assert [(entry.filename, entry.external_attr >> 16 & 0o777) for entry in entries] == [
        ("data", 0o644),
        ("tool", 0o755),
    ]
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}


@pytest.mark.parametrize(
    ("path", "package"),
    [
        ("python/torch/lib/libtorch_cpu.so", "torch"),
        ("python/numpy.libs/libopenblas.so", "numpy"),
        ("python/torch-2.13.0+cpu.dist-info/METADATA", "torch"),
        ("python/typing_extensions.py", "typing_extensions"),
        ("python/__pycache__/typing_extensions.cpython-313.pyc", "typing_extensions"),
        ("python/lib/python3.13/site-packages/scipy/x.py", "scipy"),
        ("bin/tool", "bin"),
        ("lib/libx.so", "lib"),
    ],
)
def test_files_belong_to_packages(path: str, package: str) -> None:
    """A file's package is its top-level name on Lambda's sys.path, with vendored libraries and metadata at their package."""
    assert contents.package_of(path) == package


def _nothing(_path: Path) -> None:
    """Leave it missing."""


@pytest.mark.parametrize(
    ("make", "message"),
    [(_nothing, "does not exist"), (lambda path: path.write_text("no zip"), "neither a folder nor a zip")],
)
def test_what_is_no_layer_is_told(tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    """A path that is missing or no zip gives an error with what to do next."""
    make(tmp_path / "x.zip")
    with pytest.raises(BuildError, match=message) as caught:
        ledger.inspect(tmp_path / "x.zip")
    assert caught.value.next_step


def test_the_command_shows_tables_and_json(layer: Path, tmp_path: Path) -> None:
    """`lambda-torch layer inspect` prints the tables, or the report as JSON, and writes the picture."""
    shown = CliRunner().invoke(main, ["layer", "inspect", str(layer), "--html", str(tmp_path / "x.html")])
    assert shown.exit_code == 0
    assert "lake" in shown.output
    assert "are left for the function and its other layers" in shown.output
    assert (tmp_path / "x.html").read_text().startswith("<!doctype html>")
    value = json.loads(CliRunner().invoke(main, ["layer", "inspect", "--json", str(layer)]).output)
    assert {"unzipped_bytes", "zip_bytes", "limit_bytes", "packages", "libraries", "steps"} <= value.keys()


def test_a_layer_that_lambda_would_refuse_is_said_so(tmp_path: Path) -> None:
    """More than 262,144,000 bytes unzipped gives exit status 1 and says by how much."""
    with (tmp_path / "big.bin").open("wb") as file:
        file.truncate(262_144_001)
    shown = CliRunner().invoke(main, ["layer", "inspect", str(tmp_path)])
    assert shown.exit_code == 1
    assert "1 bytes more than Lambda's 262,144,000: this cannot be deployed" in shown.output


def test_the_picture_is_one_file_without_outside_resources(layer: Path) -> None:
    """The treemap loads nothing, runs no script, and names every package that is large enough to see."""
    page = treemap.draw(ledger.inspect(layer).tree(), "A <layer>")
    assert not re.search(r"https?:|//|<script|@import|url\(|src=|href=", page)
    assert "A &lt;layer&gt;" in page
    assert "modules.cold" in page


@given(st.lists(st.floats(0.01, 1e6), min_size=1, max_size=40), st.floats(0.2, 5))
def test_squares_fill_the_box_in_proportion(sizes: list[float], aspect: float) -> None:
    """Areas are in proportion to sizes, add up to the box, and stay inside it."""
    ordered = sorted(sizes, reverse=True)
    boxes = treemap.squarify(ordered, treemap.Rectangle(0, 0, 100, 100), aspect)
    assert len(boxes) == len(ordered)
    for size, box in zip(ordered, boxes, strict=True):
        assert box.width * box.height == pytest.approx(size / sum(ordered) * 10_000, rel=1e-6, abs=1e-6)
        assert box.x >= -1e-6
        assert box.y >= -1e-6
        assert box.x + box.width <= 100 + 1e-6
        assert box.y + box.height <= 100 + 1e-6


def test_a_table_says_what_is_not_shown(layer: Path) -> None:
    """Rows beyond the limit are counted."""
    report = ledger.inspect(layer)
    assert f"... and {len(report.packages) - 2} more" in table.text(report, rows=2)
