"""The whole build, on tiny wheels that are called torch and numpy."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest

from builder import clean, paths
from builder.__main__ import main as build
from builder.account import table
from builder.console import Console
from builder.errors import BuildError, LayerSizeError
from builder.native import compile_pager, selection, split
from builder.native.page_set import PageSet
from builder.options import BuildOptions
from builder.pipeline import Build
from builder.profile import profiles, record
from builder.profile.profiles import Profile
from builder.stage import policy
from layer_kit.wheels import make_wheel
from paging.kit import compile_library, compiled_pager, plain_source


def _compiled(output: Path, *, arch: str, recording: bool = False) -> Path:
    """The pager as `build_pager` leaves it, compiled once for all tests."""
    for name in (compile_pager.PAGER_NAME, compile_pager.COMPANION_NAME):
        shutil.copy(compiled_pager(recording, arch) / name, output.with_name(name))
    return output


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BuildOptions:
    """A build of two small packages, one with a library that is split, with a recorded profile."""
    index = tmp_path / "wheels"
    library = compile_library(plain_source(), tmp_path / "libdeep.so")
    code = b"import ctypes, os\nfrom torch.nn import layer\n"
    code += b"deep = ctypes.CDLL(os.path.join(os.path.dirname(__file__), 'lib', 'libdeep.so'))\n"
    code += b"deep.call.restype, deep.call.argtypes = ctypes.c_uint64, [ctypes.c_int, ctypes.c_uint64]\n"
    files = {
        "torch/__init__.py": code,
        "torch/nn.py": b"layer = 1\n",
        "torch/cold.py": b"deep = 1\n",
        "torch/include/a.h": b"int a;\n",
        "torch/lib/libdeep.so": library.read_bytes(),
    }
    make_wheel(index, "torch", "2.13.0", files, requires="numpy")
    make_wheel(index, "numpy", "0.2", {"numpy/__init__.py": b"", "numpy/tests/test_x.py": b""})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setattr(selection, "THRESHOLD_BYTES", 50_000)
    monkeypatch.setattr(compile_pager, "build_pager", _compiled)
    (tmp_path / "requirements.txt").write_text("torch\n")
    import hashlib
    import platform

    profile = Profile(
        versions={"torch": "2.13.0", "numpy": "0.2"},
        python=str(sys.implementation.cache_tag),
        machine=platform.machine(),
        libraries={"torch/lib/libdeep.so": hashlib.sha256(library.read_bytes()).hexdigest()},
        capabilities=("native",),
        hot=("torch", "torch.nn"),
        warm=frozenset(),
        sources=frozenset(),
        pages=PageSet(),
    )
    profile.save(tmp_path / "profiles" / "p.json")
    return BuildOptions(
        requirements=[tmp_path / "requirements.txt"],
        output=tmp_path / "out" / "layer",
        work=tmp_path / "work",
        profiles=tmp_path / "profiles",
        zip=tmp_path / "out" / "layer.zip",
        report=tmp_path / "out" / "report.json",
        treemap=tmp_path / "out" / "layer.html",
        verify=False,
    )


def test_a_build_leaves_a_working_layer_and_its_accounts(options: BuildOptions) -> None:
    """The layer runs with nothing else on the path; report, zip and picture are there; a second build gives equal bytes."""
    shown = StringIO()
    report = Build(options, Console(shown)).run()
    done = clean.run(
        options.output / "python", "-c", "import torch, torch.cold; print(torch.deep.call(3, 5) > 0, torch.layer)"
    )
    assert done.stdout.strip() == "True 1", done.stderr
    value = json.loads((options.output.parent / "report.json").read_text())
    assert value["unzipped_bytes"] == sum(path.stat().st_size for path in options.output.rglob("*") if path.is_file())
    assert [step["name"] for step in value["steps"]] == ["install", "prune", "strip", "record", "bundle", "split"]
    assert value["zip_bytes"] == (options.output.parent / "layer.zip").stat().st_size
    (library,) = [entry for entry in value["libraries"] if entry["path"].endswith("libdeep.so")]
    assert 0 < library["bytes"] + library["cold_bytes"] < library["original_bytes"]
    assert {section["name"] for section in library["sections"]} >= {".text", ".eh_frame"}
    assert "install" in shown.getvalue()
    assert Build(options, Console(StringIO())).run().tree_sha256 == report.tree_sha256
    assert sorted(path.name for path in options.output.iterdir()) == ["python"]
    assert sorted(path.name.split("-")[0] for path in options.work.iterdir()) == ["installed", "kept", "lock", "staged"]


def test_what_cannot_fit_is_refused_before_the_slow_steps(options: BuildOptions) -> None:
    """A tree that cannot keep within the budget is refused after the forecast, with its largest packages and a budget for it."""
    shown = StringIO()
    with pytest.raises(LayerSizeError, match=r"its budget is 1,000 .*\n.*torch") as caught:
        Build(replace(options, budget_bytes=1000), Console(shown)).run()
    assert "--budget 1000000" in caught.value.next_step
    assert [line.split()[0] for line in shown.getvalue().splitlines()][-1] == "forecast"
    assert "about 0." in shown.getvalue()
    assert not list(options.output.iterdir())


def test_over_the_budget_the_largest_are_named_and_the_old_layer_stays(options: BuildOptions) -> None:
    """A layer that is larger than its forecast and its budget fails the build; what was there before is untouched."""
    report = Build(replace(options, output=options.work.parent / "other", zip=None), Console(StringIO())).run()
    assert report.forecast_bytes is not None
    (options.output / "python").mkdir(parents=True)
    (options.output / "python" / "old.py").write_text("")
    with pytest.raises(LayerSizeError, match=r"the layer has [0-9,]+ bytes(.|\n)*libdeep\.so") as caught:
        Build(replace(options, budget_bytes=report.unzipped_bytes - 1), Console(StringIO())).run()
    assert "extra-requirements.txt" in caught.value.next_step
    assert [path.name for path in options.output.rglob("*")] == ["python", "old.py"]
    assert not (options.output.parent / "layer.zip").exists()


@pytest.mark.parametrize(
    ("without", "says"), [(("cc", "gcc", "clang"), "no C compiler"), (("make",), "no make"), (("strip",), "no strip")]
)
def test_a_missing_tool_is_told_before_anything_is_done(
    options: BuildOptions, monkeypatch: pytest.MonkeyPatch, without: tuple[str, ...], says: str
) -> None:
    """Without a compiler, make or strip the build ends with what to install, before it has installed or written anything."""
    found = shutil.which
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None if name in without else found(name))
    with pytest.raises(BuildError, match=says) as caught:
        Build(options, Console(StringIO())).run()
    assert "install" in caught.value.next_step
    assert not options.work.exists()
    assert not options.output.exists()


def test_what_another_build_keeps_is_used(
    options: BuildOptions, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A build that names another one's work folder compiles and compresses nothing again, and has the same bytes."""
    first = Build(options, Console(StringIO())).run()

    def again(*_: object, **__: object) -> bytes:
        raise AssertionError("made again")

    for place in ("python.bytecode._compile", "python.archive_writer._compress", "native.split._compress"):
        monkeypatch.setattr(f"builder.{place}", again)
    other = replace(options, work=tmp_path / "other", output=tmp_path / "elsewhere", results_of=(options.work,))
    assert Build(other, Console(StringIO())).run().tree_sha256 == first.tree_sha256


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("RUNTIMES", ()), r"no Lambda runtime is known for Python 3\.\d+"),
        (("MACHINES", {"riscv64": "EM_RISCV"}), "Lambda has no .* processors"),
    ],
)
def test_a_python_or_processor_that_lambda_lacks_is_told_before_anything_is_done(
    options: BuildOptions, monkeypatch: pytest.MonkeyPatch, change: tuple[str, object], says: str
) -> None:
    """A build on a Python or a processor that Lambda does not have ends with those that it has, and has written nothing."""
    monkeypatch.setattr(policy, *change)
    with pytest.raises(BuildError, match=says) as caught:
        Build(options, Console(StringIO())).run()
    assert caught.value.next_step
    assert not options.work.exists()
    assert not options.output.exists()


def test_a_python_that_is_too_old_for_the_builder_is_told_so() -> None:
    """An older Python ends with what to name instead, before the builder's own modules fail in it."""
    program = "import sys; sys.version_info = (3, 10, 13, 'final', 0); import builder"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(paths.LAYER)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Python 3.10 runs the build" in done.stderr
    assert "Next: name such a Python" in done.stderr


def test_what_a_killed_build_left_is_removed(options: BuildOptions) -> None:
    """Scratch folders of a build that could not clean up go at the next one."""
    for left in (options.output / ".building-x" / "layer", options.work / "recording-x", options.work / "installing-x"):
        left.mkdir(parents=True)
    Build(options, Console(StringIO())).run()
    assert not list(options.output.glob(".building-*"))
    assert sorted(path.name.split("-")[0] for path in options.work.iterdir()) == ["installed", "kept", "lock", "staged"]


def test_a_profile_of_other_wheels_is_not_taken(options: BuildOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no profile fits, the build says what it will do and how long, records, and keeps the profile under its versions."""
    found = Profile.load(options.profiles / "p.json")
    (options.profiles / "p.json").unlink()
    replace(found, versions={"torch": "2.12.0", "numpy": "0.2"}).save(options.profiles / "other.json")
    recorded: list[Path] = []

    def recording(staged: Path, *_: object) -> Profile:
        recorded.append(staged)
        return found

    monkeypatch.setattr("builder.profile.record.record_workload", recording)
    shown = StringIO()
    Build(options, Console(shown)).run()
    assert recorded == [options.work / "staged"]
    assert re.search(
        r"no recorded profile fits .* torch \S+ and numpy \S+ on cpython-3\d+.* \d+ minutes", shown.getvalue()
    )
    target = profiles.Target(found.versions, found.python, found.machine, found.libraries)
    assert (options.profiles / profiles.file_name(target, record.workload_name())).is_file()


def test_a_small_library_of_another_build_stays_whole(options: BuildOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library with other bytes than the recorded ones is not split, and the build says which; nothing is recorded."""
    found = Profile.load(options.profiles / "p.json")
    replace(found, libraries={"torch/lib/libdeep.so": "0" * 64}).save(options.profiles / "p.json")
    split_ones: list[str] = []

    def thin(plans: dict[str, split.LibraryPlan], *_: object, **__: object) -> split.SplitReport:
        split_ones.extend(plans)
        return split.SplitReport(0, 0, 0, 0, 0.0)

    monkeypatch.setattr(split, "thin", thin)
    said = StringIO()
    Build(options, Console(said)).run()
    assert split_ones == []
    assert "libdeep.so: another build than the recorded one" in said.getvalue()


def test_large_libraries_of_another_build_are_recorded(options: BuildOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where libraries with other bytes are larger than the limit, the workload is recorded on them."""
    found = Profile.load(options.profiles / "p.json")
    replace(found, libraries={"torch/lib/libdeep.so": "0" * 64}).save(options.profiles / "p.json")
    monkeypatch.setattr("builder.pipeline.MOST_WHOLE_BYTES", 10)
    recorded: list[Path] = []

    def recording(staged: Path, *_: object) -> Profile:
        recorded.append(staged)
        return found

    monkeypatch.setattr("builder.profile.record.record_workload", recording)
    Build(options, Console(StringIO())).run()
    assert recorded == [options.work / "staged"]


def test_a_large_extra_package_is_packed_and_tried_beside_the_staged_one(options: BuildOptions, tmp_path: Path) -> None:
    """The build says what it packs and what stays files; packed, the package is imported from the archive with its source."""
    index = tmp_path / "wheels"
    text = b"# \n" * 200_000
    listing = b"import os\nHERE = os.listdir(os.path.dirname(__file__))\n"
    make_wheel(index, "large", "1.0", {"large/__init__.py": text + b"VALUE = 7\n", "large/rare.py": b"RARE = 1\n"})
    make_wheel(index, "looking", "1.0", {"looking/__init__.py": text + listing})
    (tmp_path / "extra-requirements.txt").write_text("large\nlooking\n")
    requirements = [*options.requirements, tmp_path / "extra-requirements.txt"]
    shown = StringIO()
    Build(replace(options, requirements=requirements), Console(shown)).run()
    assert "looking stays files: looking/__init__.py" in shown.getvalue()
    assert "large packed; 1 modules used" in shown.getvalue()
    tree = options.output / "python"
    assert not list(tree.glob("large/*.py"))
    assert (tree / "looking" / "__init__.py").is_file()
    done = clean.run(tree, "-c", "import large.rare, inspect; print(large.VALUE, len(inspect.getsource(large)))")
    assert done.stdout.split() == ["7", str(len(text) + 10)], done.stderr


@pytest.mark.parametrize("runtime", policy.RUNTIMES, ids=lambda runtime: runtime.name)
def test_a_layer_for_this_machine_only_is_said_to_be_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    runtime: policy.RuntimePolicy,
) -> None:
    """A build for a Python whose layer Lambda cannot load ends with the reason and the next step, and no other build does."""
    monkeypatch.setattr(Build, "run", lambda _build: None)
    monkeypatch.setattr(table, "text", lambda _report: "")
    monkeypatch.setattr(policy, "running_runtime", lambda: runtime)
    assert build(["--output", str(tmp_path / "layer")]) == 0
    assert ("To deploy: make layer PYTHON=" in capsys.readouterr().out) is not runtime.is_deployed
