"""The pager for aarch64, on an emulated processor: its code for that machine runs, where no such machine is at hand."""

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from builder.native.compile_pager import COMPILERS
from builder.native.split import LibraryPlan, thin
from paging.kit import BLOCK_BYTES, LAYOUTS, PLAIN, ROOT, Tree, compile_library, compiled_pager, plain_source

COMPILER, EMULATOR, LIBC = COMPILERS["aarch64"], "qemu-aarch64", Path("/usr/aarch64-linux-gnu")
pytestmark = pytest.mark.skipif(
    platform.machine() == "aarch64" or not (shutil.which(COMPILER) and shutil.which(EMULATOR) and LIBC.is_dir()),
    reason="needs Debian's gcc-aarch64-linux-gnu and qemu-user, and another machine than aarch64",
)

# The emulator has no syndrome register, so writes to code are left out, and signals that wait lose a field in it.
SCRIPTS = [
    "cold cold cold mask",
    "fault@0",
    "segv=i:cold,jump fault@0 fault@8 fault@1 fault@64 cold mask",
    "segv=d:jump fault@0 bare@3 bare@30",
    "segv=i:cold,jump bare@0 cold fault@3",
    "segv=i:cold,skip fault@0 cold fault@2",
    "segv=i:cold,fault@0 fault@0",
    "segv=i:cold,unblock,mask,fault@1,cold,skip fault@0",
    "usr1=f:cold,mask,unblock,fault@0,cold segv=i:cold,skip tell mask",
    "segv=ik:cold,jump stack=16384 fault@0 stack fault@4 stack",
    "segv=i:cold,jump thread cold fault@3 fault@9 cold",
    "segv=i:cold,jump fork cold fault@0 fault@12",
    "usr1=f:cold,mask suspend ppoll pselect epoll cold mask",
]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script program, for aarch64."""
    path = tmp_path_factory.mktemp("script") / "signal_script"
    source = ROOT / "tests" / "paging" / "signal_script.c"
    subprocess.run([COMPILER, "-O1", "-w", "-pthread", "-o", path, source, "-ldl"], check=True)
    return path


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """A whole library for aarch64."""
    tree = Tree(tmp_path_factory.mktemp("whole") / "tree")
    compile_library(plain_source(), tree.root / PLAIN, *LAYOUTS["not at zero"], compiler=COMPILER)
    return tree


@pytest.fixture(scope="module", params=["", " -DWORKSPACES=0"], ids=["workspaces", "no workspaces"])
def foreign_split(request: pytest.FixtureRequest, foreign: Tree, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """The same library, split; with workspaces that are set aside, and as if all were in use."""
    tree = foreign.copy(tmp_path_factory.mktemp("split") / "tree")
    shutil.copytree(compiled_pager(arch="aarch64", flags=f"-O2{request.param}"), tree.side_file.parent)
    thin({PLAIN: LibraryPlan()}, tree.root, tree.side_file, BLOCK_BYTES, 3)
    return tree


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_ends_as_in_stock(program: Path, foreign: Tree, foreign_split: Tree, script: str) -> None:
    """Cold code comes back on aarch64, and handlers run, nest and are left as with the whole library."""

    def run(tree: Tree) -> tuple[int, str]:
        command = [EMULATOR, "-L", str(LIBC), str(program), str(tree.root / PLAIN), script]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        return done.returncode, done.stdout

    assert run(foreign_split) == run(foreign)


LISTS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void show(const char *path) {
    char text[64] = "";
    int file = open(path, O_RDONLY);
    printf("%s %s\n", path, file < 0 ? strerror(errno) : read(file, text, sizeof text - 1) < 0 ? "unreadable" : text);
    close(file);
}

int main(int count, char **arguments) {
    struct stat made;
    if (count < 3 || !dlopen(arguments[1], RTLD_NOW))
        return 1;
    printf("%ld\n", sysconf(_SC_NPROCESSORS_CONF));
    show("/sys/devices/system/cpu/possible");
    show("/sys/devices/system/cpu/present");
    show("/sys/devices/system/cpu/online");
    show("/etc/hostname-that-is-not-there");
    close(open(arguments[2], O_CREAT | O_WRONLY, 0640));
    return stat(arguments[2], &made) || (made.st_mode & 0777) != 0640;
}
"""


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap")
def test_a_sandbox_without_sys_has_the_lists_of_processors(foreign_split: Tree, tmp_path: Path) -> None:
    """Where Linux shows no processors, as on Lambda, both lists can be read all the same; other files are as they are."""
    program = tmp_path / "lists"
    command = [COMPILER, "-O1", "-x", "c", "-", "-o", str(program), "-ldl"]
    subprocess.run(command, input=LISTS, text=True, check=True)
    sandbox = ["bwrap", "--dev-bind", "/", "/", "--tmpfs", "/sys"]
    command = [EMULATOR, "-L", str(LIBC), str(program), str(foreign_split.root / PLAIN), str(tmp_path / "made")]
    done = subprocess.run([*sandbox, *command], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    count, *lines = done.stdout.splitlines()
    listed = "0" if count == "1" else f"0-{int(count) - 1}"
    folder, missing = "/sys/devices/system/cpu", "No such file or directory"
    assert [line for line in lines if line] == [
        f"{folder}/possible {listed}",
        f"{folder}/present {listed}",
        f"{folder}/online {missing}",
        f"/etc/hostname-that-is-not-there {missing}",
    ]
