"""Changes real programs and weights at random for some time, and holds the checks to what they promise.

    no exception but the refusal comes out of a check, and none takes long
    what is let through has, for torch's own reader, the records that were checked
    nothing that is let through runs Python, writes a file, starts a program or opens a socket

What is let through goes to a process of its own, as in the function. If that process ends, it is counted: it is a refusal there.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from safetensors import SafetensorError, safe_open

from fuzz import mutations
from lambda_torch.project import ROOT
from program_kit import models
from program_kit.archives import Records, records_of
from serving.releases import format, screening
from serving.releases.programs.check import check_program
from serving.releases.programs.refusal import Kind, ProgramError

LONGEST_CHECK_SECONDS = 30.0
LONGEST_MEETING_SECONDS = 60.0


@dataclass
class FuzzOutcome:
    """What came of it.

    Attributes:
        counts: how often what happened.
        findings: what must not happen, each with the name of the kept file.
        ended: programs that ended the process of the trial, with its status. torch's own faults are among them.
    """

    counts: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    ended: list[tuple[str, bytes]] = field(default_factory=list)


class Worker:
    """The process that loads what was let through; started again after it ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def meet(self, path: Path, kind: Kind, inputs: Path) -> str:
        """What happened when torch loaded the file."""
        process = self._process
        if process is None or process.poll() is not None:
            process = self._process = self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        timer = threading.Timer(LONGEST_MEETING_SECONDS, process.kill)
        timer.start()
        try:
            process.stdin.write(json.dumps([str(path), kind, str(inputs)]) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        if not line:
            return f"ended: the process of the trial, status {process.wait()}"
        answer: str = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    _closed(pipe)

    @staticmethod
    def _start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("worker.py")), str(models.written() / "mlp.pt2")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process


def _closed(pipe: IO[str]) -> None:
    try:
        pipe.close()
    except BrokenPipeError:
        return


def fuzz(seconds: float, seed: int, kept: Path) -> FuzzOutcome:
    """Change files for so many seconds. Files with findings are kept in the folder."""
    chance, outcome, worker = random.Random(seed), FuzzOutcome(), Worker()
    folder = models.written()
    contents = {name: (folder / name).read_bytes() for name in models.names()}
    records = {name: records_of(folder / name) for name in models.names()}
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as scratch:
        weights = _weights(Path(scratch))
        try:
            while time.monotonic() < end:
                if chance.random() < 0.2:
                    problem = _one_of_weights(Path(scratch), weights, chance, outcome)
                    path = Path(scratch, "release", "weights.safetensors")
                else:
                    name = chance.choice(list(contents))
                    path = Path(scratch, f"model{Path(name).suffix}")
                    path.write_bytes(_changed(contents[name], records[name], chance))
                    problem = _one_of_programs(path, folder / f"{_sample(name)}.inputs", worker, outcome)
                if problem:
                    kept.mkdir(parents=True, exist_ok=True)
                    place = kept / f"{seed}-{sum(outcome.counts.values())}{path.suffix}"
                    place.write_bytes(path.read_bytes())
                    outcome.findings.append(f"{place.name}: {problem}")
        finally:
            worker.close()
    return outcome


def _sample(name: str) -> str:
    return name.partition(".")[0].partition("-")[0]


def _changed(content: bytes, records: Records, chance: random.Random) -> bytes:
    share = chance.random()
    if share < 0.15:
        return mutations.change_bytes(content, chance)
    if share < 0.3:
        return mutations.change_layout(records, chance)
    return mutations.change_records(records, chance)


def _one_of_programs(path: Path, inputs: Path, worker: Worker, outcome: FuzzOutcome) -> str:
    """What must not have happened with one changed program; empty where all is well."""
    kind: Kind = "torch.export" if path.suffix == ".pt2" else "torchscript"
    started = time.monotonic()
    try:
        check_program(path, kind)
    except ProgramError:
        outcome.counts["refused by the check"] += 1
        took = time.monotonic() - started
        return f"the check took {took:.0f} s" if took > LONGEST_CHECK_SECONDS else ""
    except BaseException as error:
        return f"the check raised {type(error).__name__}: {error}"
    said = worker.meet(path, kind, inputs)
    word = said.partition(":")[0]
    outcome.counts[f"let through, then {word}"] += 1
    if word == "ended":
        outcome.ended.append((said, path.read_bytes()))
    return said if word in ("event", "difference") else ""


def _weights(folder: Path) -> bytes:
    import torch
    from safetensors.torch import save_file

    path = folder / "weights.safetensors"
    save_file({"a": torch.ones(3, 4), "b.weight": torch.zeros(7), "c": torch.ones(0)}, path, metadata={"format": "pt"})
    return path.read_bytes()


def _one_of_weights(scratch: Path, content: bytes, chance: random.Random, outcome: FuzzOutcome) -> str:
    release = scratch / "release"
    release.mkdir(exist_ok=True)
    path = release / "weights.safetensors"
    path.write_bytes(mutations.change_bytes(content, chance))
    try:
        screening.check(release, format.describe(release))
    except ValueError:
        outcome.counts["weights refused"] += 1
        return ""
    except BaseException as error:
        return f"the check of weights raised {type(error).__name__}: {error}"
    try:
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 (no dict)
                file.get_tensor(name)
    except (SafetensorError, ValueError):
        outcome.counts["weights refused by safetensors"] += 1
        return ""
    outcome.counts["weights let through"] += 1
    return ""


def main() -> None:
    """Fuzz from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long (default: 600)")
    parser.add_argument("--seed", type=int, default=None, help="the same changes again; the default is a new one")
    arguments = parser.parse_args()
    seed = random.randrange(2**32) if arguments.seed is None else arguments.seed
    print(f"Seed {seed}, {arguments.seconds:.0f} s")
    outcome = fuzz(arguments.seconds, seed, ROOT / "build" / "fuzz")
    for what, count in outcome.counts.most_common():
        print(f"{count:8}  {what}")
    for number, (said, content) in enumerate(outcome.ended):
        place = ROOT / "build" / "fuzz" / f"ended-{seed}-{number}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        print(f"{said}: {place.relative_to(ROOT)}")
    for finding in outcome.findings:
        print(f"FOUND {finding}", file=sys.stderr)
    if outcome.findings:
        sys.exit(f"{len(outcome.findings)} findings; the files are in build/fuzz")


if __name__ == "__main__":
    main()
