"""The import recorder notes what a program and its children run, in order, and whose source they read."""

from pathlib import Path

import pytest

from builder import clean
from builder.profile import record
from layer_kit.packages import make_tree


def notes_of(tree: Path, folder: Path, program: str, *, status: int = 0) -> list[str]:
    """Run a program under the recorder, on a small tree, and return its notes."""
    script, output = folder / "program.py", folder / "notes.txt"
    script.write_text(program)
    done = clean.run(tree, "-m", "builder.profile.recorder", str(output), str(script))
    assert done.returncode == status, done.stderr
    return output.read_text().splitlines()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The small tree as pip leaves one."""
    return make_tree(tmp_path / "python")


def test_modules_are_noted_in_the_order_in_which_they_run(tree: Path, tmp_path: Path) -> None:
    """Every module of the tree that runs is noted once, packages first, by path; others are not."""
    found = notes_of(tree, tmp_path, "import json, lake.deep.eel, lake\nimport hill\n")
    assert found == [f"module {name}.py" for name in
                     ("lake/__init__", "lake/fish", "lake/deep/__init__", "lake/deep/eel", "hill/__init__")]  # fmt: skip


def test_children_are_noted_that_leave_without_saying_so(tree: Path, tmp_path: Path) -> None:
    """A forked child's imports count, also when it ends by `_exit`."""
    found = notes_of(tree, tmp_path, "import os\nif os.fork() == 0:\n    import hill\n    os._exit(0)\nos.wait()\n")
    assert "module hill/__init__.py" in found


def test_sources_count_when_somebody_reads_the_text(tree: Path, tmp_path: Path) -> None:
    """The import system reads sources to compile them, which does not count; inspect reads them for their text, which does."""
    found = notes_of(tree, tmp_path, "import inspect, lake.fish, hill\ninspect.getsource(lake.fish)\n")
    assert [line for line in found if line.startswith("source")] == ["source lake/fish.py"]


def test_a_failing_program_fails(tree: Path, tmp_path: Path) -> None:
    """The program's exit status goes through, and what it did until then is noted."""
    assert "module lake/fish.py" in notes_of(tree, tmp_path, "import lake.fish, sys\nsys.exit(3)\n", status=3)


def test_capabilities_are_those_of_this_cpu() -> None:
    """What this CPU chooses by itself is always recorded, and nothing that it cannot run."""
    import platform

    names = [capability.name for capability in record.capabilities(platform.machine())]
    flags = Path("/proc/cpuinfo").read_text()
    assert names[-1] == "native"
    assert ("avx512" in names) == ("avx512f" in flags)


@pytest.mark.parametrize(
    ("information", "maker"),
    [
        ("processor\t: 0\nvendor_id\t: GenuineIntel\n", "intel"),
        ("vendor_id\t: AuthenticAMD\n", "amd"),
        ("vendor_id\t: CentaurHauls\n", "other"),
        ("CPU implementer\t: 0x41\n", "other"),
    ],
)
def test_a_processor_has_a_maker(information: str, maker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The maker comes from Linux's own words; one that has no paths of its own in MKL is "other"."""
    (tmp_path / "cpuinfo").write_text(information)
    monkeypatch.setattr(record, "PROCESSOR", tmp_path / "cpuinfo")
    assert record.maker() == maker
    assert record.workload_name() == ("workload" if maker == "other" else f"workload-{maker}")
