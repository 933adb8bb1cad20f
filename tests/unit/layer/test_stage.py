"""Steps 2 and 3: pruning and stripping."""

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import BuildError
from builder.native.compile_pager import COMPILERS
from builder.stage import policy, prune, strip


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("torch/include/ATen/ATen.h", "headers"),
        ("torch/share/cmake/Torch/TorchConfig.cmake", "headers"),
        ("numpy/random/lib/libnpyrandom.a", "static libraries"),
        ("torch/bin/test_api", "test binaries"),
        ("torch/lib/libtorchbind_test.so", "test libraries"),
        ("torch/_C/_VariableFunctions.pyi", "type stubs"),
        ("numpy/linalg/tests/test_linalg.py", "tests of dependencies"),
        ("bin/torchrun", "console scripts"),
        ("torch-2.13.0+cpu.dist-info/REQUESTED", "installer's notes"),
        ("torch/include/torch/csrc/api/include/torch/nn.h", "headers"),
        ("torch/include/torch/csrc/inductor/cpp_prefix.h", None),
        ("torch-2.13.0+cpu.dist-info/RECORD", None),
        ("torch/nn/__pycache__/init.cpython-313.pyc", "bytecode"),
        ("torch/bin/torch_shm_manager", None),
        ("torch/testing/_internal/common_utils.py", None),
        ("torch-2.13.0+cpu.dist-info/METADATA", None),
        ("torch-2.13.0+cpu.dist-info/entry_points.txt", None),
        ("torch-2.13.0+cpu.dist-info/licenses/LICENSE", None),
        ("torch/lib/libtorch_cpu.so", None),
        ("torch/_inductor/codegen/aoti_runtime/interface.cpp", None),
        ("numpy/testing/__init__.py", None),
        ("sympy/testing/runtests.py", None),
        ("skimage/io/__init__.pyi", None),
        ("mine/tests/data.py", None),
    ],
)
def test_only_what_no_program_can_miss_goes(path: str, rule: str | None) -> None:
    """Each rule takes what it is for, and what programs import, load or open stays."""
    found = prune.rule_for(path)
    assert (found.name if found else None) == rule


@given(
    st.sampled_from(["METADATA", "WHEEL", "entry_points.txt", "top_level.txt", "licenses/LICENSE"]),
    st.from_regex(r"[a-z]{1,8}", fullmatch=True),
)
def test_metadata_of_any_package_stays(file: str, name: str) -> None:
    """No rule takes metadata, entry points or licences of any package."""
    assert prune.rule_for(f"{name}-1.0.dist-info/{file}") is None


def test_pruning_leaves_the_installed_tree_alone(tmp_path: Path) -> None:
    """The pruned tree is a new one; counts are by rule; replacing a file in it does not change the installed one."""
    source = tmp_path / "installed"
    for name in ("torch/include/a.h", "torch/bin/torch_shm_manager", "torch/x.py"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("four")
    counts = {pruned.rule: (pruned.files, pruned.bytes) for pruned in prune.prune(source, tmp_path / "staged")}
    assert counts["headers"] == (1, 4)
    assert {
        path.relative_to(tmp_path / "staged").as_posix() for path in (tmp_path / "staged").rglob("*") if path.is_file()
    } == {
        "torch/bin/torch_shm_manager",
        "torch/x.py",
    }
    assert (source / "torch/include/a.h").exists()


def test_a_link_out_of_the_tree_is_refused(tmp_path: Path) -> None:
    """A symbolic link to somewhere else would be broken on Lambda: it is named."""
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed" / "link.so").symlink_to("/usr/lib")
    with pytest.raises(BuildError, match=r"link.so links to /usr/lib"):
        prune.prune(tmp_path / "installed", tmp_path / "staged")


def compiled(path: Path, *flags: str) -> Path:
    """A shared library with debugging symbols."""
    path.parent.mkdir(parents=True, exist_ok=True)
    command = ["gcc", "-g", "-shared", "-fPIC", "-x", "c", "-", "-o", str(path), *flags]
    subprocess.run(command, input=b"int answer(void) { return 42; }", check=True)
    return path


def test_strip_shrinks_and_keeps_what_the_rules_keep(tmp_path: Path) -> None:
    """A library loses its symbols and still loads; a vendored one is not touched; hard links keep the old bytes."""
    library, vendored = compiled(tmp_path / "lake/deep.so"), compiled(tmp_path / "lake.libs/libold-1a2b.so.5")
    installed, before = tmp_path.parent / f"{tmp_path.name}-installed.so", vendored.read_bytes()
    installed.hardlink_to(library)
    size = library.stat().st_size
    done = strip.strip(tmp_path)
    assert done == strip.Stripped(files=1, saved_bytes=size - library.stat().st_size, kept=1, loaded=2)
    assert done.saved_bytes > 0
    assert vendored.read_bytes() == before
    assert installed.stat().st_size == size


@pytest.mark.skipif(shutil.which("patchelf") is None, reason="needs patchelf")
def test_a_library_that_strip_would_damage_is_left_alone(tmp_path: Path) -> None:
    """A library that patchelf rewrote several times, as it does with torchvision's, stays as it was, and loads."""
    library = compiled(tmp_path / "lake/deep.so")
    for length in range(300, 1500, 300):
        subprocess.run(["patchelf", "--set-rpath", "$ORIGIN/" + "0" * length, library], check=True)
    before = library.read_bytes()
    assert strip.strip(tmp_path) == strip.Stripped(files=0, saved_bytes=0, kept=1, loaded=1)
    assert library.read_bytes() == before


def test_a_library_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    """Before strip every library is opened by the loader; one that fails is refused with its name and the loader's reason."""
    compiled(tmp_path / "libneeded.so", "-Wl,-soname,libneeded.so")
    compiled(tmp_path / "lake/broken.so", f"-L{tmp_path}", "-Wl,--no-as-needed", "-lneeded")
    (tmp_path / "libneeded.so").unlink()
    with pytest.raises(BuildError, match=r"lake/broken.so cannot be loaded: .*libneeded.so") as caught:
        strip.strip(tmp_path)
    assert "leave the package out" in caught.value.next_step


def test_a_library_that_ends_the_process_is_named(tmp_path: Path) -> None:
    """A library whose initialiser crashes takes the child process down, not the build, and is named."""
    path = tmp_path / "lake/crash.so"
    path.parent.mkdir()
    source = b"#include <stdlib.h>\n__attribute__((constructor)) static void start(void) { abort(); }"
    subprocess.run(["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(path)], input=source, check=True)
    with pytest.raises(BuildError, match=r"lake/crash.so cannot be loaded"):
        strip.strip(tmp_path)


def test_what_strip_breaks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that no longer loads after strip stops the build with its name, and with the rule that would leave it alone."""
    compiled(tmp_path / "tree/lake/deep.so")
    tool = tmp_path / "bin" / "strip"
    tool.parent.mkdir()
    tool.write_text('#!/bin/sh\nhead -c 300 "$3" > "$2"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent), prepend=":")
    with pytest.raises(BuildError, match=r"lake/deep.so cannot be loaded after strip") as caught:
        strip.strip(tmp_path / "tree")
    assert "leaves it alone" in caught.value.next_step


def test_another_architectures_libraries_are_stripped_by_its_own_tool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tree of another architecture is stripped by the cross strip; without it, the message names the package to install."""
    other = next(machine for machine in policy.MACHINES if machine != policy.running_machine())
    compiler, tool = shutil.which(COMPILERS[other]), shutil.which(f"{other}-linux-gnu-strip")
    if compiler is None or tool is None:
        pytest.skip(f"needs the cross compiler for {other}")
    (tmp_path / "code.c").write_text("int deep(int x) { return x + 1; }\n")
    library = tmp_path / "lake" / "deep.so"
    library.parent.mkdir()
    subprocess.run([compiler, "-g", "-shared", "-nostdlib", "-o", library, tmp_path / "code.c"], check=True)
    size = library.stat().st_size
    done = strip.take_out(tmp_path, other)
    assert (done.files, done.saved_bytes) == (1, size - library.stat().st_size)
    assert done.saved_bytes > 0
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match=f"no strip for {other}") as caught:
        strip.take_out(tmp_path, other)
    assert f"apt-get install binutils-{other.replace('_', '-')}-linux-gnu" in caught.value.next_step
