"""Finds which modules can be held: those that ordinary inference does not touch.

First each module runs by itself when something touches it. This finds most of what `import torch` needs in one go. Then the
search tries the import as it will be on the layer, where the first touch completes everything. What completes it at import,
or in a group of the workload that must not, runs at once in the next round, until nothing does.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from builder import clean, paths
from builder.errors import BuildError
from builder.python.deferred import fitting, planning, rules
from builder.python.deferred.planning import HeldModules
from builder.python.deferred.sources import SourceTree
from torch_layer.plan import Plan

_ROUNDS = 200  # each adds a module at least; some 30 are needed


class _Trials:
    """Runs `builder.python.deferred.trial` on a tree."""

    def __init__(self, tree: Path, work: Path) -> None:
        self._tree, self._work = tree, work

    def run(self, what: str, *arguments: Plan | str) -> Any:
        """What the trial answers. Raises BuildError if it does not."""
        with tempfile.TemporaryDirectory(dir=self._work) as folder:
            given = []
            for number, argument in enumerate(arguments):
                if not isinstance(argument, str):
                    file = Path(folder, f"plan{number}.json")
                    file.write_text(json.dumps(argument._asdict()), encoding="utf-8")
                given.append(argument if isinstance(argument, str) else str(file))
            variables = {"PYTHONPYCACHEPREFIX": str(self._work / "bytecode")}
            with clean.environment(self._tree, variables, [paths.RUN_TIME]) as complete:
                complete.pop("PYTHONDONTWRITEBYTECODE")
                command = [sys.executable, "-S", "-P", "-s", "-m", "builder.python.deferred.trial", what, *given]
                done = subprocess.run(command, env=complete, capture_output=True, text=True, check=False, timeout=600)
        try:
            return json.loads(done.stdout.splitlines()[-1])
        except (IndexError, ValueError):
            raise BuildError(
                f"trying which modules of torch can wait ({what}) failed with status {done.returncode}:\n"
                + (done.stdout + done.stderr)[-4000:],
                "build with --eager-imports, which holds nothing back, and report this",
            ) from None


def search(
    tree: Path,
    work: Path,
    progress: Callable[[str], None] = lambda _text: None,
    begin_with: Iterable[str] = (),
) -> HeldModules:
    """The modules of a tree's torch that can be held.

    Args:
        tree: a folder of packages, as plain files.
        work: a folder for scratch files.
        progress: called with a line of text as each trial starts.
        begin_with: modules that run at once in any case: what an earlier search found for the same torch. It saves most of
            the trials.

    Raises:
        BuildError: torch does not work with any set of modules held.
    """
    trials, sources = _Trials(tree, work), SourceTree(tree)
    fitting.require_fitting(sources)
    progress("in which order torch imports its modules")
    order = [name for name in trials.run("order", "torch") if name in sources]
    error = ""
    running = {name for name in order if rules.is_never_held(name, sources.module(name).source)}
    running.update(set(begin_with).intersection(order))
    for round_number in range(_ROUNDS):
        held = _held(order, running)
        if not round_number or error:
            progress(f"which of {len(held.modules)} modules an import needs")
            found = trials.run("discover", planning.everything(sources, order, held.modules))
            error = str(found["error"])
            more = set(found["touched"])
            if error and not more - running:
                raise BuildError(
                    f"torch cannot be imported with modules held: {error}",
                    "add a rule to builder/python/deferred/rules.py",
                )
        else:
            progress(f"inference with {len(held.modules)} modules held")
            touches = trials.run("groups", planning.make(sources, held))
            if not touches:
                progress("what C code makes for them")
                there = trials.run("native", planning.make(sources, held))
                native = [name for name in trials.run("native") if name not in there]
                progress("the operators that wait with them")
                held = _operators(trials, sources, held._replace(native=tuple(native)))
                progress("which modules of NumPy torch needs")
                return held._replace(numpy=_numpy(trials, tree, planning.make(sources, held), progress))
            more = {_module_of(reason, held) for reason in touches.values()}
            for reason, where in {reason: where for where, reason in touches.items()}.items():
                progress(f"{where} touches {reason}")
        running |= more
    raise BuildError("no set of modules was found that can wait", "build with --eager-imports")


def _held(order: Sequence[str], running: set[str]) -> HeldModules:
    return HeldModules(
        tuple(name for name in order if name not in running), tuple(name for name in order if name in running)
    )


def _module_of(reason: str, held: HeldModules) -> str:
    """The held module that a reason names: `torch.fx.Graph` is an attribute of `torch.fx`."""
    if reason.startswith("error: "):
        raise BuildError(
            f"inference fails with modules held: {reason[7:]}", "add a rule to builder/python/deferred/rules.py"
        )
    name = reason.partition(" in ")[0]
    waiting = set(held.modules)
    while name and name not in waiting:
        name = name.rpartition(".")[0]
    if not name:
        raise BuildError(
            f"inference completes the import by {reason}", "add a rule to builder/python/deferred/rules.py"
        )
    return name


def _operators(trials: _Trials, sources: SourceTree, held: HeldModules) -> HeldModules:
    """Add what the dispatcher lacks while modules are held. Raises BuildError if that is more than is watched for."""
    stock = trials.run("operators")
    lacking = trials.run("operators", planning.make(sources, held))
    namespaces = {name.partition("::")[0] for name in stock.keys() - lacking.keys()}
    there = namespaces & {name.partition("::")[0] for name in lacking}
    if there:
        raise BuildError(f"held modules define operators in {', '.join(sorted(there))}, which others define too", _RULE)
    for name, kernels in lacking.items():
        unknown = {key for key in kernels.keys() ^ stock[name].keys() if key not in rules.MISSING_KERNELS}
        if unknown:
            raise BuildError(f"held modules register kernels of {name} for {', '.join(sorted(unknown))}", _RULE)
    if trials.run("complete", planning.make(sources, held)) != stock:
        raise BuildError("after everything has run, torch's operators are not those of stock torch", _RULE)
    factories = [
        name
        for name, kernels in lacking.items()
        if name.startswith("aten::") and "Meta" in kernels and "Tensor" not in kernels["schema"].rpartition(" -> ")[0]
    ]
    return held._replace(factories=tuple(sorted(factories)), namespaces=tuple(sorted(namespaces)))


def _numpy(trials: _Trials, tree: Path, plan: Plan, progress: Callable[[str], None]) -> tuple[str, ...]:
    """The modules of NumPy that can be held; none where torch touches one as it is imported."""
    sources = SourceTree(tree, ["numpy"])
    order = [name for name in trials.run("order", "numpy") if name in sources]
    waiting = [name for name in order if not rules.is_left_alone(name, sources.module(name).source)]
    needed = set(trials.run("numpy-needs", planning.of_numpy(sources, waiting)))
    held = tuple(name for name in waiting if name not in needed)
    if touch := trials.run("numpy-at-start", plan, planning.of_numpy(sources, held)):
        progress(f"none of NumPy's modules can wait: importing torch touches {touch}")
        return ()
    return held


_RULE = "add a rule to builder/python/deferred/rules.py (MISSING_KERNELS says what is watched for)"
