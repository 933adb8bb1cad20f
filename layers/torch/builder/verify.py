"""Step 6: the finished tree computes what the staged tree computes, bit for bit, in hot code and in cold code.

python -m builder.verify --staged STAGING/python --finished build/layer/python
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from builder import attributes, clean, paths
from builder.errors import BuildError, VerifyError
from builder.memo import NOTHING_KEPT, Memo
from builder.outputs import FrozenOutput, differences, read_outputs

_SHOWN = 12  # differences named in an error; the rest are counted


class Verified(NamedTuple):
    """What was compared and found equal."""

    version: str  # torch.__version__ of the finished tree
    outputs: int  # outputs of the workload
    checks: int  # checks of code that the workload does not touch
    check_outputs: int  # their outputs


class KeptReference(NamedTuple):
    """Where the results of the staged tree are kept: as long as it stays the same, a build need not run it again.

    Attributes:
        memo: The kept results.
        tree: A hash over the staged tree's files.
    """

    memo: Memo
    tree: str


# The results of the staged tree depend on the tree, on the machine, and on these files of the builder, which run on it.
REFERENCE_CODE = ("attributes.py", "clean.py", "outputs.py", "python/deferred/operators.py", "workload", "cold_checks")


def _made_from(reference: KeptReference) -> list[bytes]:
    code = hashlib.sha256()
    for name in REFERENCE_CODE:
        place = paths.BUILDER / name
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            code.update(file.read_bytes())
    # The number of threads decides in which order sums are taken, and the processor which kernels run.
    cpu = re.findall(r"(?m)^(?:model name|flags|Features|CPU part)\s*:(.*)$", Path("/proc/cpuinfo").read_text())
    machine = f"{sys.version} {platform.release()} {len(os.sched_getaffinity(0))} {sorted(set(cpu))}"
    return [b"reference", reference.tree.encode(), code.digest(), machine.encode()]


def verify(
    staged: Path,
    finished: Path,
    progress: Callable[[str], None] = lambda _text: None,
    kept: KeptReference | None = None,
) -> Verified:
    """Import from `finished` in a clean process, replay the workload, then run the checks of cold code.

    Args:
        staged: Folder of packages before anything was split or moved.
        finished: Folder of packages that the layer will have as `/opt/python`.
        progress: Called with a line of text as each part starts.
        kept: Where the results of the staged tree are kept for the next build.

    Raises:
        VerifyError: Something cannot be imported, crashes, or gives other bytes; the message names it.
    """
    memo, made_from = (kept.memo, _made_from(kept)) if kept is not None else (NOTHING_KEPT, [])
    progress("import from the finished tree")
    version = _import(finished)
    progress("compare every attribute of every module with the staged tree's")
    _same_attributes(staged, finished, lambda make: memo.result([*made_from, b"attributes"], make))
    with ThreadPoolExecutor(2) as pool:
        progress("replay the workload on both trees")
        run = pool.submit(_workload, finished)
        expected = _outputs(memo.result([*made_from, b"workload"], lambda: _workload(staged)))
        actual = _outputs(run.result())
        _compare("workload", expected, actual)
        progress("run code that the workload never touched, on both trees")
        run = pool.submit(_checks, finished)
        reference = _unpacked(memo.result([*made_from, b"checks"], lambda: _checks(staged)))
        answers = _unpacked(run.result())
        for name in sorted(reference | answers):
            _compare(f"check {name}", reference.get(name, {}), answers.get(name, {}))
    return Verified(version, len(actual), len(answers), sum(len(outputs) for outputs in answers.values()))


def same_answers(expected: Mapping[str, str], actual: Mapping[str, str]) -> None:
    """Compare what the workload of extra packages gave on the staged and on the finished tree.

    Raises:
        VerifyError: Something differs; the message names it.
    """
    differing = [name for name in sorted({*expected, *actual}) if expected.get(name) != actual.get(name)]
    if differing:
        raise VerifyError(
            f"with the extra packages, the finished tree differs from the staged one in: {', '.join(differing)}",
            "let the package stay files (KEPT_AS_FILES in builder/python/extras.py), and report this",
        )


def _import(tree: Path) -> str:
    """torch's version. Makes sure that this tree's torch was imported."""
    program = (
        "import json, sys, torch, numpy; finder = sys.modules.get('torch_layer.finder'); "
        "completed = finder.imports().reason if finder else ''; "
        "print(json.dumps([completed, torch.__version__, torch.__file__, numpy.__file__]))"
    )
    completed, version, *files = json.loads(_succeed(tree, "import torch, numpy", "-c", program).splitlines()[-1])
    if completed:
        raise VerifyError(
            f"`import torch` itself needed a module that should wait: {completed}",
            "record again which modules can wait (--record), or build with --eager-imports",
        )
    for file in files:
        if not Path(file).resolve().is_relative_to(tree.resolve()):
            raise VerifyError(
                f"{file} was imported instead of the one in {tree}", f"see which of its files {tree} lacks"
            )
    return str(version)


def _same_attributes(staged: Path, finished: Path, of_stock: attributes.Keep) -> None:
    lines = attributes.compare(staged, finished, of_stock).differences
    if lines:
        more = f"\n... and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
        listed = "\n".join(f"  {line}" for line in lines[:_SHOWN])
        raise VerifyError(f"{len(lines)} attributes of modules differ from stock's:\n{listed}{more}", _NEXT_ATTRIBUTES)


def _workload(tree: Path) -> bytes:
    """The file of the workload's outputs."""
    with tempfile.TemporaryDirectory(prefix="layer-verify-") as folder:
        file = Path(folder, "outputs")
        _succeed(tree, "the workload", "-m", "builder.workload", "--output", str(file))
        return file.read_bytes()


def _checks(tree: Path) -> bytes:
    """The files of all checks' outputs, as one zip file. Raises `VerifyError` with the failed checks and their errors."""
    with tempfile.TemporaryDirectory(prefix="layer-verify-") as name:
        folder = Path(name)
        process = clean.run(tree, "-m", "builder.cold_checks", "--output", name, "--jobs", "1", timeout=1200)
        errors = folder / "errors.json"
        if not errors.exists():
            raise VerifyError(_ending(tree, "the checks of code that the workload does not touch", process), _NEXT)
        failed = json.loads(errors.read_text())
        if failed:
            texts = "\n".join(f"{name}: {text.rstrip()}" for name, text in failed.items())
            raise VerifyError(f"{len(failed)} checks failed on {tree}:\n{texts}", _NEXT)
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for file in sorted(folder.glob("*.safetensors")):
                archive.write(file, file.stem)
        return packed.getvalue()


def _unpacked(packed: bytes) -> dict[str, dict[str, FrozenOutput]]:
    """The outputs of every check by its name."""
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        return {name: _outputs(archive.read(name)) for name in archive.namelist()}


def _outputs(data: bytes) -> dict[str, FrozenOutput]:
    """The outputs in the bytes of such a file."""
    with tempfile.NamedTemporaryFile(prefix="layer-verify-") as file:
        file.write(data)
        file.flush()
        return read_outputs(Path(file.name))[0]


def _compare(what: str, expected: dict[str, FrozenOutput], actual: dict[str, FrozenOutput]) -> None:
    lines = differences(expected, actual)
    if lines:
        more = f"\n... and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
        listed = "\n".join(f"  {line}" for line in lines[:_SHOWN])
        raise VerifyError(f"{what}: {len(lines)} outputs differ from those of the staged tree:\n{listed}{more}", _NEXT)


_NEXT_ATTRIBUTES = (
    "see which module binds the name, and how (`python -m builder.attributes` lists what a tree has). "
    "Rules for names that wait are in builder/python/deferred/rules.py; --eager-imports builds without them."
)
_NEXT = "run `python -m builder.workload` or `python -m builder.cold_checks` on the tree by hand, and see which step broke it"


def _succeed(tree: Path, what: str, *arguments: str) -> str:
    process = clean.run(tree, *arguments)
    if process.returncode:
        raise VerifyError(_ending(tree, what, process), _NEXT)
    return process.stdout


def _ending(tree: Path, what: str, process: subprocess.CompletedProcess[str]) -> str:
    """How a process ended, with the last lines that it printed."""
    code = process.returncode
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
    said = "\n".join(process.stderr.rstrip().splitlines()[-20:])
    return f"{what} {how} on {tree}:\n{said}"


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(argv: list[str] | None = None) -> int:
    """Return 0 if the trees are equal, else 1 with the differences on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m builder.verify", description="Compare a finished tree with a staged one."
    )
    parser.add_argument("--staged", type=Path, required=True, help="folder of packages before splitting")
    parser.add_argument(
        "--finished", type=Path, required=True, help="folder of packages of the layer (build/layer/python)"
    )
    arguments = parser.parse_args(argv)
    try:
        verified = verify(arguments.staged, arguments.finished, _say)
    except BuildError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(
        f"torch {verified.version}: {verified.outputs} outputs of the workload and {verified.check_outputs} of "
        f"{verified.checks} checks are equal bit for bit\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
