"""The layer as a container image: its files, their order, and what a start reads of them."""

import json
import sys
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from lambda_torch.cli import main
from lambda_torch.errors import LayerError
from lambda_torch.layers import chunks, image
from lambda_torch.layers.chunks import CHUNK, PAGE, TouchedTree

# A torch that reads the first and the last page of one file, and nothing of another one.
TORCH = """
import contextlib, mmap, pathlib
class nn:
    LSTM = lambda *sizes: lambda data: None
ones, inference_mode = (lambda *sizes: None), contextlib.nullcontext
with (pathlib.Path(__file__).parent / "large.so").open("rb") as file:
    read = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    read.madvise(mmap.MADV_RANDOM)
    read[0], read[-1]
"""
TAG = f"cpython-3{sys.version_info[1]}-x86_64"


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    """A small tree that looks like a layer, with a file of 8 MB and one of 1 MB."""
    torch = tmp_path / "layer" / "python" / "torch"
    torch.mkdir(parents=True)
    (torch / "__init__.py").write_text(TORCH)
    (torch / "large.so").write_bytes(bytes(16 * CHUNK))
    (torch / "cold.bin").write_bytes(bytes(2 * CHUNK))
    (torch / f"_C.{TAG}-linux-gnu.so").write_bytes(b"\x7fELF")
    (torch / "empty").touch()
    (torch / "run").write_text("#!/bin/sh\n")
    (torch / "run").chmod(0o755)
    return tmp_path / "layer"


def members(path: Path) -> list[str]:
    """The names in a tar file, in order."""
    with tarfile.open(path) as archive:
        return archive.getnames()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mincore of Linux")
def test_a_start_is_measured_and_its_files_come_first(layer: Path, tmp_path: Path) -> None:
    """Of the large file two chunks are read, of the cold one none; the image has the files that were read before the others."""
    tree = chunks.measure(layer, layer / "python")
    assert {"python/torch/__init__.py", "python/torch/large.so"} <= tree.pages.keys()
    assert "python/torch/cold.bin" not in tree.pages
    pages = tree.pages["python/torch/large.so"]
    assert (pages[0], pages[-1]) == (0, 16 * CHUNK // PAGE - 1)
    assert tree.chunks() < tree.all_chunks == 19
    first = [name for name in tree.order() if name in tree.pages]
    image.write_context(image.ImagePlan(layer, "base", first), tmp_path / "out")
    one, two = (members(tmp_path / "out" / part) for part in image.PARTS)
    assert one == ["python", "python/torch", *first]
    assert "python/torch/cold.bin" in two
    assert not set(first) & set(two)


@given(
    st.dictionaries(st.text("abc", min_size=1), st.tuples(st.integers(0, 5 * CHUNK), st.sets(st.integers(0, 600)))),
    st.randoms(),
)
def test_what_lies_together_is_never_more_chunks(files: dict[str, tuple[int, set[int]]], random: object) -> None:
    """Files that are read lie in at most the chunks of their own bytes and one more; no order reads more than all."""
    sizes = {name: size for name, (size, _) in sorted(files.items())}
    touched = {name: sorted(page for page in pages if page * PAGE < sizes[name]) for name, (_, pages) in files.items()}
    tree = TouchedTree(sizes, {name: pages for name, pages in touched.items() if pages})
    together = sum(-(-sizes[name] // PAGE) * PAGE for name in tree.pages)
    assert sorted(tree.order()) == sorted(sizes)
    assert tree.chunks(tree.order()) <= -(-together // CHUNK)
    assert tree.chunks() <= tree.all_chunks


def test_the_same_layer_makes_the_same_bytes(layer: Path, tmp_path: Path) -> None:
    """Times and owners are not the machine's; modes are the file's."""
    plan = image.ImagePlan(layer, "base")
    image.write_context(plan, tmp_path / "one")
    (layer / "python" / "torch" / "cold.bin").touch()
    image.write_context(plan, tmp_path / "two")
    assert (tmp_path / "one" / "rest.tar").read_bytes() == (tmp_path / "two" / "rest.tar").read_bytes()
    with tarfile.open(tmp_path / "one" / "rest.tar") as archive:
        assert archive.getmember("python/torch/run").mode == 0o755
        assert {(each.uid, each.uname) for each in archive} == {(0, "root")}


def test_the_command_writes_a_context(layer: Path, tmp_path: Path) -> None:
    """The base is AWS's image of the layer's own Python, the function and its handler follow the layer."""
    (compiled,) = (layer / "python" / "torch").glob("_C.*.so")
    compiled.rename(compiled.with_name("_C.cpython-313-x86_64-linux-gnu.so"))
    function = tmp_path / "function"
    function.mkdir()
    (function / "app.py").touch()
    words = ["layer", "image", str(layer), "--output", str(tmp_path / "out"), "--json"]
    done = CliRunner().invoke(main, [*words, "--function", str(function), "--handler", "app.handler"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout[done.stdout.index("{") :])["base"] == "public.ecr.aws/lambda/python:3.13-x86_64"
    lines = (tmp_path / "out" / "Dockerfile").read_text().splitlines()
    said = [line.partition(" ")[0] for line in lines if not line.startswith("#")]
    assert said == ["FROM", "ADD", "ADD", "COPY", "CMD"]
    assert 'CMD ["app.handler"]' in lines
    assert (tmp_path / "out" / "function" / "app.py").is_file()
    again = CliRunner().invoke(main, words)
    assert again.exit_code == 0, again.output
    assert not (tmp_path / "out" / "function").exists()


def test_a_layer_for_arm64_gets_such_a_base(layer: Path, tmp_path: Path) -> None:
    """The base image is for the layer's own processor."""
    (compiled,) = (layer / "python" / "torch").glob("_C.*.so")
    compiled.rename(compiled.with_name("_C.cpython-313-aarch64-linux-gnu.so"))
    done = CliRunner().invoke(main, ["layer", "image", str(layer), "--output", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "FROM public.ecr.aws/lambda/python:3.13-arm64" in (tmp_path / "out" / "Dockerfile").read_text()


def test_a_base_that_cannot_load_the_layer_is_refused(layer: Path, tmp_path: Path) -> None:
    """A layer for CPython 3.11 gets none of AWS's images, whose C library is too old for torch; another base may be named."""
    (compiled,) = (layer / "python" / "torch").glob("_C.*.so")
    compiled.rename(compiled.with_name("_C.cpython-311-x86_64-linux-gnu.so"))
    words = ["layer", "image", str(layer), "--output", str(tmp_path / "out")]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1
    assert "Next: make layer PYTHON=python3.13" in done.output
    assert not (tmp_path / "out").exists()
    assert CliRunner().invoke(main, [*words, "--base", "own-image"]).exit_code == 0


def test_what_does_not_fit_is_said_before_anything_is_written(layer: Path, tmp_path: Path) -> None:
    """No torch, a function without a handler, a handler without its file, a folder with other files: each has a next step."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").touch()
    for plan, folder, said in (
        (image.ImagePlan(tmp_path, "base"), "out", "has no python/torch"),
        (image.ImagePlan(layer, "base", (), tmp_path), "out", "needs its handler"),
        (image.ImagePlan(layer, "base", (), tmp_path, "app.handler"), "out", "app.py does not exist"),
        (image.ImagePlan(layer, "base"), "other", "has other files"),
    ):
        with pytest.raises(LayerError, match=rf"{said}[^\n]*\nNext: "):
            image.write_context(plan, tmp_path / folder)
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "other" / "mine.txt").exists()


def test_a_start_that_fails_says_why(layer: Path) -> None:
    """The program's last line is in the message."""
    (layer / "python" / "torch" / "__init__.py").write_text("raise ImportError('no such library')")
    with pytest.raises(LayerError, match=r"no such library\nNext: "):
        chunks.measure(layer, layer / "python")
