"""What the workload of extra packages imports, found out at each build: it takes seconds, and depends on their versions."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from builder import clean, paths
from builder.errors import BuildError
from builder.memo import Memo
from builder.python.tiers import module_name


class ExtraUse(NamedTuple):
    """What the workload of extra packages did on a tree.

    Attributes:
        modules: names of the modules that it imported, in that order. None of them if that was not recorded.
        answers: its answers by name.
    """

    modules: tuple[str, ...]
    answers: dict[str, str]


def record(staged: Path, packages: Sequence[str], work: Path, memo: Memo, tree_sha256: str) -> ExtraUse:
    """Run the workload of these packages on the staged tree, and note what it imports.

    Args:
        staged: the tree after strip.
        packages: its packed extra packages.
        work: the folder for what a later build can use again.
        memo: where the result is kept for the next build.
        tree_sha256: of the staged tree.

    Raises:
        BuildError: the workload fails.
    """
    if not packages:
        return ExtraUse((), {})
    files = [*sorted((paths.BUILDER / "extra_workload").glob("*.py")), paths.BUILDER / "attributes.py"]
    code = b"".join(path.read_bytes() for path in files)
    made_from = [b"extra packages", tree_sha256.encode(), sys.version.encode(), repr(packages).encode(), code]
    found = json.loads(
        memo.result(made_from, lambda: json.dumps(run(staged, packages, work, is_recorded=True)).encode())
    )
    return ExtraUse(tuple(found[0]), found[1])


def run(tree: Path, packages: Sequence[str], work: Path, *, is_recorded: bool = False) -> ExtraUse:
    """Run the workload of these packages on a tree.

    Raises:
        BuildError: it fails.
    """
    # Bytecode that this process writes lies beside the tree, so that the next one need not compile again.
    variables = {"PYTHONPYCACHEPREFIX": str(work / "bytecode"), "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryDirectory(prefix="extra-", dir=work) as name:
        folder = Path(name)
        output, notes = folder / "answers.json", folder / "modules.txt"
        variables["HOME"] = name
        program = ["builder.extra_workload"]
        _run(tree, ["-m", *program, "make", name, *packages], variables)
        recorder = ["builder.profile.recorder", str(notes), "-m"] if is_recorded else []
        _run(tree, ["-m", *recorder, *program, "use", name, str(output), *packages], variables)
        lines = notes.read_text(encoding="utf-8").splitlines() if is_recorded else []
        modules = [line.partition(" ")[2] for line in lines if line.startswith("module ")]
        return ExtraUse(tuple(dict.fromkeys(map(module_name, modules))), json.loads(output.read_text(encoding="utf-8")))


def _run(tree: Path, arguments: list[str], variables: dict[str, str]) -> None:
    with clean.environment(tree, variables) as complete:
        complete.pop("PYTHONDONTWRITEBYTECODE")
        done = subprocess.run(
            [sys.executable, "-S", "-P", "-s", *arguments], env=complete, capture_output=True, text=True, check=False,
            timeout=600,
        )  # fmt: skip
    if done.returncode:
        raise BuildError(
            f"a first answer with the extra packages failed on {tree}:\n{done.stderr[-4000:]}",
            "try versions that fit the layer's torch and NumPy, or leave the package out of extra-requirements.txt",
        )
