"""Step 1: pip installs, and what Lambda cannot load is refused by name."""

import subprocess
from pathlib import Path

import pytest

from builder.errors import BuildError
from builder.stage import install, policy
from layer_kit.wheels import make_wheel

MACHINE = policy.running_machine()


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


def library(folder: Path, source: str, *flags: str) -> bytes:
    """A shared library compiled from C."""
    output = folder / "compiled.so"
    command = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(output), *flags]
    subprocess.run(command, input=source.encode(), check=True)
    return output.read_bytes()


def library_that_needs(folder: Path, version: str) -> bytes:
    """A library that asks for a symbol of `version`, from a stand-in that is linked in only for its name."""
    (folder / "map").write_text(f"{version} {{ global: new_call; }};")
    (folder / "libnew.so").write_bytes(
        library(
            folder,
            "int new_call(void) { return 1; }",
            "-Wl,-soname,libnew.so",
            f"-Wl,--version-script={folder / 'map'}",
        )
    )
    return library(folder, "int new_call(void); int use(void) { return new_call(); }", f"-L{folder}", "-lnew")


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


@pytest.mark.parametrize(
    ("version", "refused"),
    [
        ("GLIBC_2.34", False),
        ("GLIBC_2.35", True),
        ("GLIBC_2.4", False),
        ("GLIBCXX_3.4.29", False),
        ("GLIBCXX_3.4.30", True),
    ],
)
def test_symbol_versions_are_held_to_the_runtime(index: Path, tmp_path: Path, version: str, refused: bool) -> None:
    """A library may need what Amazon Linux 2023 has and nothing later; the error names package, file and version."""
    make_wheel(index, "lake", "1.0", {"lake/deep.so": library_that_needs(tmp_path, version)})
    if not refused:
        install.install(requirements(tmp_path, "lake"), tmp_path / "work")
        return
    with pytest.raises(BuildError, match=rf"lake 1\.0: lake/deep\.so needs {version}, and python3") as caught:
        install.install(requirements(tmp_path, "lake"), tmp_path / "work")
    assert caught.value.next_step
    assert list((tmp_path / "work").iterdir()) == []


def test_the_wrong_architecture_is_refused(index: Path, tmp_path: Path) -> None:
    """A library for another processor is refused with package, file and both architectures."""
    data = bytearray(library(tmp_path, "int one(void) { return 1; }"))
    data[18:20] = (183 if MACHINE == "x86_64" else 62).to_bytes(2, "little")  # e_machine
    make_wheel(index, "lake", "1.0", {"lake/deep.so": bytes(data)})
    other = "aarch64" if MACHINE == "x86_64" else "x86_64"
    with pytest.raises(BuildError, match=rf"lake 1\.0: lake/deep\.so is for {other}, not {MACHINE}"):
        install.install(requirements(tmp_path, "lake"), tmp_path / "work")


def test_a_damaged_library_is_named(index: Path, tmp_path: Path) -> None:
    """A file that begins as ELF files do and is cut off is refused by name."""
    make_wheel(index, "lake", "1.0", {"lake/deep.so": library(tmp_path, "int one;")[:40]})
    with pytest.raises(BuildError, match=r"lake/deep\.so is a damaged ELF file"):
        install.install(requirements(tmp_path, "lake"), tmp_path / "work")


def test_a_package_that_is_not_found_is_told_with_pips_words(index: Path, tmp_path: Path) -> None:
    """pip's failure comes with its last lines and the requirements file; nothing is left."""
    with pytest.raises(BuildError, match=r"(?s)pip could not install requirements.txt.*lake==9"):
        install.install(requirements(tmp_path, "lake==9"), tmp_path / "work")
    assert not (tmp_path / "work").exists()


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
