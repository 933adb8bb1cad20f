"""Tries golden examples as other processors compute: with each kind of kernel that this processor can run.

Lambda's hosts differ. PyTorch chooses its kernels by what a processor can do, and other kernels round otherwise. A
release that only one kind of host answers as recorded would be refused by the functions on the others.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from lambda_torch.errors import BucketError
from serving.releases.format import GoldenExample

# The kinds of kernels on x86_64, lowest first, with the variables that choose them: of ATen, oneDNN and MKL.
CAPABILITIES = {
    "default": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    },
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "avx512": {
        "ATEN_CPU_CAPABILITY": "avx512",
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
        "MKL_ENABLE_INSTRUCTIONS": "AVX512",
    },
}


def others() -> tuple[str, ...]:
    """The kinds of kernels that this processor can run, besides the ones that this process uses."""
    import torch

    used = torch.backends.cpu.get_cpu_capability().lower()
    names = list(CAPABILITIES)
    return tuple(names[: names.index(used)]) if used in names else ()


def try_examples(
    folder: Path, examples: Sequence[GoldenExample], names: Sequence[str], say: Callable[[str], None]
) -> None:
    """Answer the examples with other kernels, each kind in a process of its own.

    Args:
        folder: the release.
        examples: with the responses that this process gave.
        names: of CAPABILITIES.
        say: gets a line before each.

    Raises:
        BucketError: an answer is another one there.
    """
    import model
    from lambda_torch import project

    own = Path(str(model.__file__)).parents[1]
    task = {
        "folder": str(folder.resolve()),
        "model": None if own == project.SRC else str(own),
        "examples": [each.model_dump(mode="json") for each in examples],
    }
    path = os.pathsep.join(dict.fromkeys([*sys.path, str(Path(__file__).resolve().parents[2])]))
    for name in names:
        say(f"Trying the golden examples with the kernels of other processors ({name})")
        done = subprocess.run(
            [sys.executable, "-m", __name__],
            input=json.dumps(task),
            env={**os.environ, "PYTHONPATH": path, **CAPABILITIES[name]},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BucketError(_refusal(name, done.stdout.strip() or done.stderr.strip()))


def _refusal(name: str, reason: str) -> str:
    from lambda_torch.releases.recording import golden_path

    return (
        f"The release answers otherwise on processors that run PyTorch's {name!r} kernels "
        f"(ATEN_CPU_CAPABILITY={name}): {reason}\nFunctions on such hosts would refuse it. No channel was moved. "
        f'Next: raise the "tolerance" of that example in {golden_path()} ([{{"request": ..., "tolerance": 0.05}}]), '
        "round the response in Model.predict, or publish without golden examples: write [] into that file."
    )


def main() -> None:
    """In the process for one kind of kernels: read the task from standard input, and print what differs."""
    from lambda_torch import project

    task = json.load(sys.stdin)
    project.use_function_code(None if task["model"] is None else Path(task["model"]))
    from model import Model, Request
    from serving.releases import golden

    examples = [GoldenExample.model_validate(each) for each in task["examples"]]
    try:
        golden.check(Model.load(Path(task["folder"])), Request, examples)
    except golden.GoldenError as error:
        sys.stdout.write(str(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
