"""What `sam build` runs in a user's own project: builds the function and the layer from the installed package.

The two Makefiles of the project install the wheel of lambda-torch beside themselves, without what it requires, and run
`python -m lambda_torch.sam_build`. So this module and what it imports need the standard library and pip alone.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from lambda_torch import project
from lambda_torch.errors import LambdaTorchError, ProjectError
from lambda_torch.packages import resolving

# In the folder of the model, but not for the function.
NOT_DEPLOYED = ("Makefile", resolving.FILE_NAME, ".*", "*.whl", "__pycache__")


def function(model: Path, output: Path, packages: str, digest: str) -> None:
    """Build the function: its code, the model, and their packages, with bytecode.

    Args:
        model: the package `model`, with requirements.txt.
        output: the folder for the result.
        packages: where the packages of requirements.txt go: "layer", "function" or "nothing".
        digest: `resolving.digest_of` the requirements for which that was decided.

    Raises:
        ProjectError: the requirements have changed since then, or `make` failed.
        PackagesError: pip cannot install the model's packages.
    """
    requirements = model / resolving.FILE_NAME
    if resolving.digest_of(requirements) != digest:
        raise ProjectError(
            f"{resolving.FILE_NAME} of the model has changed, and the layer does not know it yet. "
            "Next: run lambda-torch check, and then sam build again."
        )
    scratch = _copy(project.SRC, output.parent / f".{output.name}-source")
    try:
        shutil.rmtree(scratch / "model", ignore_errors=True)
        shutil.copytree(model, scratch / "model", ignore=shutil.ignore_patterns(*NOT_DEPLOYED))
        if packages == "function":
            wheels, _ = resolving.resolve(requirements)
            with (scratch / resolving.FILE_NAME).open("a", encoding="utf-8") as file:
                file.write("".join(f"{wheel.requirement}\n" for wheel in wheels))
        _make(scratch, "build-PredictFunction", output)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def layer(requirements: Path, output: Path) -> None:
    """Build the layer: torch, NumPy, and the packages in a requirements file, which may be empty.

    Raises:
        ProjectError: the builder failed. Its last lines say why.
    """
    scratch = _copy(project.LAYER_SOURCE, output.parent / f".{output.name}-source")
    try:
        if resolving.lines_of(requirements):
            shutil.copy(requirements, scratch / "extra-requirements.txt")
        _make(scratch, "build-TorchLayer", output)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _copy(source: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    return Path(shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".work")))


def _make(folder: Path, target: str, output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    command = ["make", "--no-print-directory", target, f"ARTIFACTS_DIR={output}", f"PYTHON={sys.executable}"]
    if subprocess.run(command, cwd=folder, check=False).returncode:
        raise ProjectError(f"{target} failed. The lines above say why.")


def main(arguments: list[str]) -> int:
    """Return 0 if it was built, 1 if not (standard error has the reason)."""
    parser = argparse.ArgumentParser(prog="python -m lambda_torch.sam_build", description=__doc__)
    parts = parser.add_subparsers(dest="part", required=True)
    for_function, for_layer = parts.add_parser("function"), parts.add_parser("layer")
    for_function.add_argument("--model", type=Path, required=True)
    for_function.add_argument("--packages", choices=("layer", "function", "nothing"), required=True)
    for_function.add_argument("--requirements", metavar="DIGEST", required=True)
    for_layer.add_argument("--requirements", type=Path, required=True)
    for each in (for_function, for_layer):
        each.add_argument("--output", type=Path, required=True)
    asked = parser.parse_args(arguments)
    try:
        if asked.part == "layer":
            layer(asked.requirements.resolve(), asked.output.resolve())
        else:
            function(asked.model.resolve(), asked.output.resolve(), asked.packages, asked.requirements)
    except LambdaTorchError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
