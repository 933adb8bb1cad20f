"""What the runtime or this torch cannot load is refused by package, file and reason."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import RequirementsError
from builder.stage import loadable, policy
from builder.stage.needs import Needs
from lambda_torch.project import ROOT
from layer_kit.libraries import compiled, compiled_with_need

MACHINE = policy.running_machine()
OTHER = "aarch64" if MACHINE == "x86_64" else "x86_64"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """An empty folder of packages."""
    folder = tmp_path / "tree"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A library that nothing is wrong with."""
    return compiled(tmp_path_factory.mktemp("small"), "int one;")


def put(tree: Path, name: str, content: bytes) -> None:
    """Add a file to the tree."""
    (tree / name).parent.mkdir(parents=True, exist_ok=True)
    (tree / name).write_bytes(content)


def looked_at(tree: Path) -> list[Needs]:
    """What `require_loadable` gives for a tree whose packages are called as their folders, all of version 1.0."""
    paths = [path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()]
    owners = {path: f"{path.split('/')[0].removesuffix('.libs')} 1.0" for path in paths}
    return loadable.require_loadable(tree, owners, policy.running_runtime(), MACHINE)


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
def test_symbol_versions_are_compared_with_the_runtime(tree: Path, version: str, refused: bool) -> None:
    """A library may need what Amazon Linux 2023 has and nothing later; the error names package, file and version."""
    put(tree, "lake/deep.so", compiled_with_need(tree.parent, version))
    if not refused:
        assert [needs.path for needs in looked_at(tree)] == ["lake/deep.so"]
        return
    with pytest.raises(RequirementsError, match=rf"lake 1\.0: lake/deep\.so needs {version}, and python3") as caught:
        looked_at(tree)
    assert caught.value.next_step


def test_the_wrong_architecture_is_refused(tree: Path, small: bytes) -> None:
    """A library for another processor is refused with package, file and both architectures."""
    data = bytearray(small)
    data[18:20] = (183 if MACHINE == "x86_64" else 62).to_bytes(2, "little")  # e_machine
    put(tree, "lake/deep.so", bytes(data))
    with pytest.raises(RequirementsError, match=rf"lake 1\.0: lake/deep\.so is for {OTHER}, not {MACHINE}"):
        looked_at(tree)


@given(st.integers(4, 10_000))
@settings(max_examples=50)
def test_a_damaged_library_is_named(tmp_path_factory: pytest.TempPathFactory, small: bytes, kept: int) -> None:
    """A file that begins as ELF files do and is cut off is refused by name, wherever it is cut."""
    folder = tmp_path_factory.mktemp("cut")
    put(folder, "lake/deep.so", small[: min(kept, len(small) // 2)])
    with pytest.raises(RequirementsError, match=r"lake/deep\.so is a damaged ELF file"):
        looked_at(folder)


@pytest.mark.parametrize(
    "soname",
    [
        "libcudart.so.13",
        "libcuda.so.1",
        "libtorch_cuda.so",
        "libc10_cuda.so",
        "libnvjpeg.36e11081.so.13",
        "libcublasLt.so.12",
    ],
)
def test_a_need_for_a_gpu_is_refused_with_the_right_pin(tree: Path, soname: str) -> None:
    """Libraries that need CUDA are refused; for projects of PyTorch's index the next step is the CPU build, and where it is."""
    stub = tree.parent / "stub.so"
    stub.write_bytes(compiled(tree.parent, "int gpu(void) { return 1; }", f"-Wl,-soname,{soname}"))
    source = "int gpu(void); int use(void) { return gpu(); }"
    put(tree, "torchaudio/lib/libtorchaudio.so", compiled(tree.parent, source, "-xnone", str(stub)))
    with pytest.raises(RequirementsError, match=rf"torchaudio/lib/libtorchaudio\.so needs {soname}") as caught:
        looked_at(tree)
    assert caught.value.next_step == (
        "ask for the CPU build: torchaudio==1.0+cpu, found in https://download.pytorch.org/whl/cpu"
    )


@pytest.mark.parametrize(
    "name", ["libcurl.so.4", "libcudgel.so", "libtorch_cpu.so", "libc10.so", "libhipster.so", "libnvme.so.1"]
)
def test_other_libraries_are_not_taken_for_a_gpus(tree: Path, small: bytes, name: str) -> None:
    """A name that only begins like that of a GPU's library is not refused."""
    put(tree, f"lake.libs/{name}", small)
    assert len(looked_at(tree)) == 1


def test_another_project_for_gpus_is_named_without_a_pin(tree: Path, small: bytes) -> None:
    """PyTorch's index has no other projects, so the advice is to leave them out; a CUDA library in a wheel counts, too."""
    put(tree, "lake.libs/libcudart.faf08d9a.so.13", small)
    with pytest.raises(RequirementsError, match=r"lake 1\.0: lake\.libs/libcudart\S+ is a library for a GPU") as caught:
        looked_at(tree)
    assert caught.value.next_step.startswith("leave lake 1.0 out")


TORCH = 'int aoti_torch_add(void) { return 1; } int value __asm__("_ZN3c106Scalar3oneEv");'


@pytest.mark.parametrize(
    ("calls", "refused"),
    [
        ("int aoti_torch_add(void);", ""),
        ("int printf(void);", ""),
        ("int aoti_torch_own(void) { return 3; }", ""),
        ("__attribute__((weak)) int aoti_torch_gone(void);", ""),
        ("int aoti_torch_gone(void);", "aoti_torch_gone"),
        ("int aoti_torch_get_current_cuda_stream(void);", "aoti_torch_get_current_cuda_stream"),
        ('int gone(void) __asm__("_ZN3c106Scalar3twoEv");', "_ZN3c106Scalar3twoEv"),
        ('int gone(void) __asm__("_ZNK2at10TensorBase4goneEv");', "_ZNK2at10TensorBase4goneEv"),
    ],
)
def test_a_wheel_for_another_torch_is_refused(tree: Path, calls: str, refused: str) -> None:
    """A library that calls what this torch lacks is refused by name; what torch or it has, weak symbols and others are not."""
    put(tree, "torch/lib/libtorch_cpu.so", compiled(tree.parent, TORCH, "-Wl,-soname,libtorch_cpu.so"))
    name = calls.partition("(void)")[0].rpartition(" ")[2]
    source = f"{calls} int use(void) {{ return {name}(); }}"
    torch = str(tree / "torch/lib/libtorch_cpu.so")
    put(tree, "torchvision/_C.so", compiled(tree.parent, source, "-Wl,--no-as-needed", "-xnone", torch))
    if not refused:
        assert len(looked_at(tree)) == 2
        return
    with pytest.raises(RequirementsError, match=rf"_C\.so calls {refused}, which this torch does not have") as caught:
        looked_at(tree)
    assert ("torchvision==1.0+cpu" in caught.value.next_step) == ("cuda" in refused)
    assert caught.value.next_step


@pytest.mark.parametrize(("version", "known"), [("2.13.0+cpu", True), ("2.15.7", True), ("2.1", False), ("3.0", False)])
def test_rules_are_for_versions_of_torch(version: str, known: bool) -> None:
    """Any patch release of a known version is taken; all other versions are refused with those that are known."""
    if known:
        policy.require_known_torch(version)
        return
    with pytest.raises(RequirementsError, match=r"written for 2\.13\.\*") as caught:
        policy.require_known_torch(version)
    assert "torch==2.13.0+cpu" in caught.value.next_step


def test_the_page_names_what_is_supported() -> None:
    """The user's page has the versions of torch that rules know, and the Pythons of Lambda that these can be loaded on."""
    page = (ROOT / "docs" / "deploying.md").read_text()
    torches = ", ".join(known.version for known in policy.KNOWN_TORCH)
    pythons = ", ".join(runtime.name.removeprefix("python") for runtime in policy.RUNTIMES if runtime.python > (3, 11))
    assert f"\n| torch | {torches} | " in page
    assert f"\n| Python | {pythons} | " in page
