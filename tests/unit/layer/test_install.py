"""Step 1: pip installs, and what Lambda cannot load is refused by name."""

import os
import re
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from builder import paths
from builder.__main__ import main as build
from builder.errors import BuildError, RequirementsError
from builder.stage import install, policy
from layer_kit.libraries import compiled
from layer_kit.wheels import make_wheel

MACHINE = policy.running_machine()
OTHER_MACHINE = next(machine for machine in policy.MACHINES if machine != MACHINE)
THIS = f"cp{sys.version_info[0]}{sys.version_info[1]}"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that is all that pip can find."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


def requirements(folder: Path, *lines: str) -> list[Path]:
    """A requirements file with these lines."""
    path = folder / "requirements.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return [path]


def test_installs_and_knows_hashes(index: Path, tmp_path: Path) -> None:
    """The tree holds the packages, the wheels' hashes are those of the files, and owners are known by path."""
    import hashlib

    wheel = make_wheel(index, "lake", "1.0", {"lake/__init__.py": b"DEPTH = 1\n"}, requires="hill")
    make_wheel(index, "hill", "2.0", {"hill.py": b""})
    found = install.install(requirements(tmp_path, "lake"), tmp_path / "work")
    assert (found.tree / "lake" / "__init__.py").read_text() == "DEPTH = 1\n"
    assert [(wheel.name, wheel.version) for wheel in found.wheels] == [("hill", "2.0"), ("lake", "1.0")]
    assert found.wheels[1].sha256 == hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert found.owners()["lake/__init__.py"] == "lake 1.0"
    assert not found.reused


def test_the_same_requirements_are_not_installed_again(index: Path, tmp_path: Path) -> None:
    """A second build takes the tree that is there; one with other requirements makes a new one and drops the old."""
    make_wheel(index, "lake", "1.0", {"lake.py": b""})
    make_wheel(index, "hill", "2.0", {"hill.py": b""})
    first = install.install(requirements(tmp_path, "lake"), tmp_path / "work")
    for wheel in index.iterdir():
        if wheel.name.startswith("lake"):
            wheel.rename(wheel.with_suffix(".away"))
    again = install.install(requirements(tmp_path, "lake"), tmp_path / "work")
    assert (again.reused, again.tree, again.wheels) == (True, first.tree, first.wheels)
    other = install.install(requirements(tmp_path, "hill"), tmp_path / "work")
    assert not other.reused
    assert [path.name for path in (tmp_path / "work").iterdir()] == [other.tree.parent.name]


@pytest.mark.parametrize(
    "name", ["nvidia-cublas-cu12", "nvidia_cuda_runtime", "triton", "pytorch-triton", "cuda-bindings"]
)
def test_cuda_is_refused_by_name_before_anything_is_installed(index: Path, tmp_path: Path, name: str) -> None:
    """A requirement that brings CUDA is refused with the package's name, and no folder is left."""
    make_wheel(index, name.replace("-", "_"), "1.0", {"gpu.py": b""})
    make_wheel(index, "lake", "1.0", {"lake.py": b""}, requires=name)
    with pytest.raises(BuildError, match=r"GPU") as caught:
        install.install(requirements(tmp_path, "lake"), tmp_path / "work")
    assert policy.normalised(name) in policy.normalised(caught.value.cause)
    assert caught.value.next_step.startswith("ask for the CPU build")
    assert not (tmp_path / "work").exists()


def test_a_package_that_is_not_found_is_told_with_pips_words(index: Path, tmp_path: Path) -> None:
    """pip's failure comes with its last lines and the requirements file; nothing is left."""
    with pytest.raises(BuildError, match=r"(?s)pip could not install requirements.txt.*lake==9"):
        install.install(requirements(tmp_path, "lake==9"), tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_a_cuda_build_is_refused_with_the_right_pin(index: Path, tmp_path: Path) -> None:
    """torchvision as PyPI has it is refused right after install, and nothing of it is left; the next step is its CPU build."""
    (tmp_path / "stub.so").write_bytes(compiled(tmp_path, "int gpu(void) { return 1; }", "-Wl,-soname,libcudart.so.13"))
    extension = compiled(
        tmp_path, "int gpu(void); int use(void) { return gpu(); }", "-xnone", str(tmp_path / "stub.so")
    )
    make_wheel(index, "torchvision", "0.28.0", {"torchvision/_C.so": extension})
    with pytest.raises(RequirementsError, match=r"torchvision 0\.28\.0: torchvision/_C\.so needs libcudart") as caught:
        install.install(requirements(tmp_path, "torchvision"), tmp_path / "work")
    assert caught.value.next_step == (
        "ask for the CPU build: torchvision==0.28.0+cpu, found in https://download.pytorch.org/whl/cpu"
    )
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize(("version", "known"), [("2.13.7", True), ("2.9.0", False)])
def test_a_torch_without_rules_is_refused_before_it_is_fetched(
    index: Path, tmp_path: Path, version: str, known: bool
) -> None:
    """A torch that no rules know is refused by pip's plan alone, with the versions that are known, unless it is asked for."""
    make_wheel(index, "torch", version, {"torch/__init__.py": b""})
    wanted = requirements(tmp_path, "torch")
    if not known:
        with pytest.raises(RequirementsError, match=rf"bring torch {version}, and .* 2\.13\.\*") as caught:
            install.install(wanted, tmp_path / "work")
        assert "--eager-imports" in caught.value.next_step
        assert not (tmp_path / "work").exists()
    installed = install.install(wanted, tmp_path / "work", any_torch=not known)
    assert [wheel.version for wheel in installed.wheels] == [version]
    if not known:  # nor is the tree of such a build taken by another
        with pytest.raises(RequirementsError, match="bring torch"):
            install.install(wanted, tmp_path / "work")


@pytest.mark.parametrize("line", ["torch==2.9.0+cpu", "torch == 2.9.0 ; python_version > '3'", "Torch==2.9"])
def test_a_pinned_torch_without_rules_is_refused_before_pip_looks_for_it(
    index: Path, tmp_path: Path, line: str
) -> None:
    """A pin that no rules know is refused with the versions that are known, also where pip finds no such wheel."""
    with pytest.raises(RequirementsError, match=r"bring torch 2\.9\S*, and .* 2\.13\.\*"):
        install.install(requirements(tmp_path, "lake", line), tmp_path / "work")
    with pytest.raises(RequirementsError, match="pip could not install"):
        install.install(requirements(tmp_path, line), tmp_path / "work", any_torch=True)


def test_requirements_that_contradict_each_other_are_named(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where two lines, or a line and a constraint in pip's configuration, do not go together, both are in the message."""
    make_wheel(index, "lake", "1.0", {"lake.py": b""})
    make_wheel(index, "lake", "2.0", {"lake.py": b""})
    (tmp_path / "constraints.txt").write_text("lake<2\n")
    monkeypatch.setenv("PIP_CONSTRAINT", str(tmp_path / "constraints.txt"))
    with pytest.raises(RequirementsError, match=r"(?s)lake==2\.0.*\(constraint\) lake<2") as caught:
        install.install(requirements(tmp_path, "lake==2.0"), tmp_path / "work")
    assert "PIP_CONSTRAINT" in caught.value.next_step


@pytest.mark.parametrize("constraint", ["", "torch<99\n"])
def test_an_index_that_cannot_be_reached_is_told(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, constraint: str
) -> None:
    """A missing CPU build is looked for in PyTorch's index, with or without a constraint; that it did not answer is said."""
    make_wheel(index, "torch", "2.13.0", {"torch/__init__.py": b""})
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "empty").as_uri())
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.setattr(policy, "CPU_INDEX", "http://127.0.0.1:9/simple")
    if constraint:
        (tmp_path / "constraints.txt").write_text(constraint)
        monkeypatch.setenv("PIP_CONSTRAINT", str(tmp_path / "constraints.txt"))
    with pytest.raises(RequirementsError, match=r"(?s)torch==2\.13\.0\+cpu.*an index could not be reached"):
        install.install(requirements(tmp_path, "torch==2.13.0+cpu"), tmp_path / "work")


@pytest.mark.parametrize("tag", ["cp27-cp27m-manylinux1_x86_64", f"{THIS}-{THIS}-manylinux2014_{OTHER_MACHINE}"])
def test_a_wheel_for_another_python_or_processor_is_refused(index: Path, tmp_path: Path, tag: str) -> None:
    """A wheel that is named by path and is for another Python or processor is refused with what the layer is built for."""
    wheel = make_wheel(index, "lake", "1.0", {"lake.py": b""}, tag=tag)
    with pytest.raises(RequirementsError, match=r"lake-1\.0-cp\S+ is a wheel for another Python or") as caught:
        install.install(requirements(tmp_path, str(wheel)), tmp_path / "work")
    assert f"cp{sys.version_info[0]}{sys.version_info[1]}" in caught.value.next_step
    assert MACHINE in caught.value.next_step
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("name", ["torch", "lake"])
@pytest.mark.parametrize("tag", ["cp27-cp27m-manylinux1_x86_64", f"{THIS}-{THIS}-manylinux2014_{OTHER_MACHINE}"])
def test_a_package_without_a_wheel_for_the_target_is_refused(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, tag: str
) -> None:
    """torch or an extra requirement that has wheels for other Pythons or processors only is refused by name before a download."""
    monkeypatch.setattr(policy, "CPU_INDEX", "http://127.0.0.1:9/simple")
    make_wheel(index, name, "2.13.0", {f"{name}.py": b""}, tag=tag)
    with pytest.raises(
        RequirementsError, match=rf"there is no wheel of {name} for Python 3\.\d+ on {MACHINE}"
    ) as caught:
        install.install(requirements(tmp_path, name), tmp_path / "work")
    assert "make layer PYTHON=python3.13" in "".join(caught.value.next_step.split("\n"))
    assert not (tmp_path / "work").exists()


def test_a_package_without_a_wheel_is_not_compiled(index: Path, tmp_path: Path) -> None:
    """A package that has only a source distribution is refused before it is built, with the option that builds it."""
    content = tmp_path / "lake-1.0"
    content.mkdir()
    (content / "setup.py").write_text("raise SystemExit('it was built')")
    (content / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: lake\nVersion: 1.0\n")
    with tarfile.open(index / "lake-1.0.tar.gz", "w:gz") as archive:
        archive.add(content, "lake-1.0")
    with pytest.raises(RequirementsError, match=r"there is no wheel of lake for Python 3") as caught:
        install.install(requirements(tmp_path, "lake"), tmp_path / "work")
    assert "--no-binary" in caught.value.next_step


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (OTHER_MACHINE, rf"wanted for {OTHER_MACHINE}, and this machine is {MACHINE}"),
        ("arm64" if MACHINE == "x86_64" else "x86_64", rf"and this machine is {MACHINE}"),
        ("riscv64", "Lambda has no riscv64 processors"),
    ],
)
def test_a_layer_for_other_processors_is_refused_before_anything_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, wanted: str, says: str
) -> None:
    """A build that is asked for other processors than this machine's ends at once, with both and what to do."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # it is for a process of its own
    output = tmp_path / "layer"
    assert build(["--output", str(output), "--requirements", str(tmp_path / "none.txt"), "--architecture", wanted]) == 1
    said = capsys.readouterr().err
    assert re.search(says, said)
    assert "Next: " in said
    assert list(tmp_path.iterdir()) == []


def test_sams_build_takes_the_architecture_from_the_environment(tmp_path: Path) -> None:
    """`ARCHITECTURE=arm64 sam build` hands it to the builder, and without it the builder gets none."""
    for variables, wanted in (({"ARCHITECTURE": "arm64"}, True), ({}, False)):
        done = subprocess.run(
            ["make", "--dry-run", "build-TorchLayer"],
            cwd=paths.LAYER,
            env={"PATH": os.environ["PATH"], "ARTIFACTS_DIR": str(tmp_path), **variables},
            capture_output=True,
            text=True,
            check=True,
        )
        assert f"-m builder --output {tmp_path}" in done.stdout.replace('"', "")
        assert ("--architecture arm64" in done.stdout) == wanted


def test_this_machines_processors_may_be_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build that is asked for this machine's processors goes on, under Lambda's name for them too."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    named = "arm64" if MACHINE == "aarch64" else MACHINE
    for wanted in (MACHINE, named):
        arguments = ["--output", str(tmp_path / "layer"), "--requirements", str(tmp_path / "none.txt")]
        assert build([*arguments, "--architecture", wanted]) == 1
        assert "none.txt does not exist" in capsys.readouterr().err


def test_missing_requirements_are_named(tmp_path: Path) -> None:
    """A requirements file that is not there is told before pip is started."""
    with pytest.raises(BuildError, match=r"gone\.txt does not exist"):
        install.install([tmp_path / "gone.txt"], tmp_path / "work")


def test_the_builders_own_pins_agree_with_the_projects() -> None:
    """What the builder installs for itself in SAM's container is what the developers' environment has."""
    root = Path(__file__).resolve().parents[3]
    pinned = set((root / "requirements" / "dev.txt").read_text().split())
    own = [line for line in (root / "layers/torch/builder/requirements.txt").read_text().splitlines() if "==" in line]
    assert own
    assert set(own) <= pinned
