"""`lambda-torch layer doctor`: what of the builder's rules does not fit a new wheel of torch."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from builder.doctor import checks, fetch, findings, wheels
from builder.doctor.findings import FITS, LOOK, MISFIT, SKIPPED, Finding
from builder.errors import RequirementsError
from builder.stage import policy
from lambda_torch.cli import main
from layer_kit.libraries import compiled, compiled_with_need
from layer_kit.wheels import make_wheel

MACHINE = policy.running_machine()
TAG = f"cp313-cp313-manylinux_2_28_{MACHINE}"
VERSION = f"{policy.KNOWN_TORCH[-1].version}.0+cpu"


def wheel(folder: Path, files: dict[str, bytes], *, version: str = VERSION, tag: str = TAG, requires: str = "") -> Path:
    """A wheel of torch with these files."""
    text = f"__version__ = '{version}'\n".encode()
    return make_wheel(folder, "torch", version, {"torch/version.py": text, **files}, tag=tag, requires=requires)


def by_row(found: list[Finding]) -> dict[str, str]:
    """Status by row."""
    return {each.row: each.status for each in found}


def test_a_wheel_of_nothing_misfits_row_by_row(tmp_path: Path) -> None:
    """All rows about what the wheel lacks are in the table, with their files, and the exit status is 1."""
    path = wheel(tmp_path, {"torch/__init__.py": b""})
    done = CliRunner().invoke(main, ["layer", "doctor", str(path)])
    assert done.exit_code == 1, done.output
    for said in (
        "does not fit  EAGER_STATEMENTS, torch.jit._script",
        "does not fit  STUBBED_ANSWERS, torch._guards.detect_fake_mode: torch has no such module",
        "does not fit  CLASSES_WITHOUT_INSTANCES, torch._subclasses.fake_tensor.FakeTensor: torch has no such module",
        "does not fit  CHANGES, torch/_inductor/codecache.py",
        "does not fit  STAYING, torch/package/_mock",
        "look at it    test libraries: matches no file",
        "not checked   COMPLETING, MISSING_KERNELS",
        "python/deferred/rules.py",
        "Next: CONTRIBUTING.md",
    ):
        assert said in done.output


def test_json_has_every_row(tmp_path: Path) -> None:
    """With --json, every finding is an object with part, file, row, status and text."""
    path = wheel(tmp_path, {"torch/__init__.py": b""})
    done = CliRunner().invoke(main, ["layer", "doctor", "--json", str(path)])
    value = json.loads(done.output)
    assert done.exit_code == 1
    assert value["wheels"] == [path.name]
    assert value["misfits"] == sum(each["status"] == MISFIT for each in value["findings"]) > 10
    assert {"part", "where", "row", "status", "text"} == set(value["findings"][0])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Name the file of a wheel of torch"),
        (["torch.whl"], "is not named as a wheel is"),
        (["torch-1-py3-none-any.whl"], "cannot be read as a wheel"),
        (["lake-1.0-py3-none-any.whl"], "none of these is a wheel of torch"),
    ],
)
def test_what_is_no_wheel_is_refused_with_a_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    """A file that is no wheel, or no wheel of torch, is refused by name."""
    monkeypatch.chdir(tmp_path)
    make_wheel(tmp_path, "lake", "1.0", {"lake.py": b""})
    (tmp_path / "torch.whl").write_bytes(b"x")
    (tmp_path / "torch-1-py3-none-any.whl").write_bytes(b"x")
    done = CliRunner().invoke(main, ["layer", "doctor", *arguments])
    assert done.exit_code in (1, 2)
    assert said in " ".join(done.output.split())
    assert "Next: " in done.output


@pytest.mark.parametrize(
    ("version", "tag", "misfit"),
    [
        (VERSION, TAG, None),
        ("9.9.0+cpu", TAG, "KNOWN_TORCH"),
        (VERSION, TAG.replace("cp313", "cp39"), "RUNTIMES, cp39"),
        (VERSION, "cp313-cp313-win_amd64", "MACHINES, win_amd64"),
    ],
)
def test_version_python_and_processor_are_held_against_the_policy(
    tmp_path: Path, version: str, tag: str, misfit: str | None
) -> None:
    """A version that no rules know, a Python without a runtime and a foreign processor are misfits."""
    found = list(checks.version(wheels.examine(wheel(tmp_path, {}, version=version, tag=tag))))
    assert [each.row for each in found if each.status == MISFIT] == ([misfit] if misfit else [])


@pytest.mark.parametrize(
    ("requires", "status", "said"),
    [
        ("lake>=1", FITS, ""),
        ("lake>=2", MISFIT, "pinned is 1.5"),
        ("Hill", MISFIT, "not pinned"),
        ("sea==1; python_version >= '3.13'", MISFIT, "not pinned"),
        ("nvidia-cublas-cu13>=1; platform_system == 'Linux'", MISFIT, "CUDA build"),
        ("hill; extra == 'tall'", None, ""),
        ("hill; python_version < '3.13'", None, ""),
    ],
)
def test_requirements_are_held_against_the_pins(tmp_path: Path, requires: str, status: str | None, said: str) -> None:
    """What the wheel requires on its own Python is pinned, to a version that it allows; markers count."""
    pins = tmp_path / "requirements.txt"
    pins.write_text("# pins\nlake==1.5  # a comment\nsea==1 ; python_full_version < '3.12'\n--no-binary hill\n")
    found = list(checks.requirements(wheels.examine(wheel(tmp_path, {}, requires=requires)), [pins]))
    assert [each.status for each in found] == ([status] if status else [])
    assert all(said in each.text for each in found)


def test_libraries_are_read(tmp_path: Path) -> None:
    """A library that needs a newer glibc, or a GPU's library, or that the splitter cannot read, is a misfit."""
    scratch, tree = tmp_path / "scratch", tmp_path / "tree"
    scratch.mkdir()
    folder = tree / "torch" / "lib"
    folder.mkdir(parents=True)
    (folder / "libc10.so").write_bytes(compiled(scratch, "int one(void) { return 1; }"))
    (folder / "libnew.so").write_bytes(compiled_with_need(scratch, "GLIBC_2.99"))
    (folder / "libcudart.so").write_bytes(compiled(scratch, "int two(void) { return 2; }"))
    large = compiled(scratch, "static const char data[500000] = {1}; const char *get(void) { return data; }")
    (folder / "liblarge.so").write_bytes(large)
    found = list(checks.libraries(tree, MACHINE))
    needs = by_row([each for each in found if each.part == "what libraries need"])
    assert needs == {
        "torch/lib/libc10.so": FITS,
        "torch/lib/libcudart.so": MISFIT,
        "torch/lib/liblarge.so": FITS,
        "torch/lib/libnew.so": MISFIT,
    }
    split = by_row([each for each in found if each.part == "libraries to split"])
    assert split == {r"WHOLE, torch/lib/libc10\.so$": FITS, "torch/lib/liblarge.so": FITS}
    other = next(machine for machine in policy.MACHINES if machine != MACHINE)
    assert {each.status for each in checks.libraries(tree, other) if each.part == "what libraries need"} == {MISFIT}


def test_prune_rules_tell_what_they_match(tmp_path: Path) -> None:
    """A rule that matches has its figures; one about a package that is there, and that matches nothing, is to be looked at."""
    examined = wheels.examine(wheel(tmp_path, {"torch/include/ATen/a.h": b"12345", "torch/x.pyi": b"1"}))
    found = list(checks.left_out([examined]))
    status = by_row(found)
    assert (status["headers"], status["type stubs"]) == (FITS, FITS)
    assert (status["test libraries"], status["test extensions of numpy"]) == (LOOK, SKIPPED)
    assert next(each.text for each in found if each.row == "headers").startswith("1 files")


@pytest.mark.parametrize(("package", "status"), [("lake", SKIPPED), ("transformers", MISFIT)])
def test_changes_of_packages_that_are_not_named_are_not_checked(tmp_path: Path, package: str, status: str) -> None:
    """A rule about a package that a user may add is held against the wheel of that package, and not against torch's alone."""
    found = checks.sources(tmp_path, ["torch/__init__.py", f"{package}/__init__.py"])
    changes = {each.row: each.status for each in found if each.part == "changed sources"}
    assert changes["CHANGES, torch/_inductor/codecache.py"] == MISFIT
    assert changes["CHANGES, transformers/utils/import_utils.py"] == status


def test_a_size_over_the_budget_is_a_misfit(tmp_path: Path) -> None:
    """The forecast of the wheel and the other packages of the last build together are held against the budget."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "data.bin").write_bytes(bytes(1000))
    built = {"packages": [{"name": "numpy", "bytes": 5_000_000}, {"name": "torch", "bytes": 7}]}
    assert by_row(list(checks.size(tmp_path, "", built, 6_000_000)))["the layer"] == FITS
    assert by_row(list(checks.size(tmp_path, "", built, 5_100_000)))["the layer"] == MISFIT
    assert by_row(list(checks.size(tmp_path, "", None, 1)))["the other packages"] == SKIPPED


def test_the_table_counts_and_hides_what_fits() -> None:
    """Rows that fit and have nothing to say are counted, and shown on demand."""
    found = [Finding("p", "f.py", "good", FITS), Finding("p", "f.py", "bad", MISFIT, "why")]
    short, long = "\n".join(findings.table(found)), "\n".join(findings.table(found, every_row=True))
    assert "good" not in short
    assert "good" in long
    assert "does not fit  bad: why" in short
    assert short.endswith("1 row does not fit")


def test_a_version_that_pip_does_not_find_is_told_with_pips_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without such a wheel the error has the version, the Python and pip's own words, and nothing is left."""
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(RequirementsError, match=r"(?s)no CPU wheel of torch 9\.9\.0 for Python 3\.13.*torch==9\.9\.0"):
        fetch.fetch("9.9.0", "3.13", "x86_64", tmp_path / "wheels")
    assert list((tmp_path / "wheels").iterdir()) == []


def test_a_wheel_is_fetched_through_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel that pip finds for that Python is kept in the folder, whatever this machine constrains torch to."""
    (tmp_path / "constraints.txt").write_text("torch<2\n")
    monkeypatch.setenv("PIP_CONSTRAINT", str(tmp_path / "constraints.txt"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    made = wheel(tmp_path, {}, tag="cp313-cp313-manylinux_2_28_x86_64")
    found = fetch.fetch(VERSION.partition("+")[0], "3.13", "x86_64", tmp_path / "wheels")
    assert found == tmp_path / "wheels" / made.name
    assert found.read_bytes() == made.read_bytes()
