"""A container image of the layer: AWS's base image, the layer's tree at /opt, and a function.

The files that a start reads come first, in a layer of the image of their own, so that they lie together (`chunks`).
"""

import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lambda_torch.errors import LayerError

DOCKERFILE = "Dockerfile"
# With each part of the layer an instruction of its own: Lambda lays them out in this order.
PARTS = ("first.tar", "rest.tar")
# Files of an image have the same time in each build, so that the same content has the same digest.
TIME = 315_532_800  # 1980-01-01, as in SAM's zip files


@dataclass(frozen=True)
class ImagePlan:
    """What an image is made of.

    Attributes:
        layer: the folder of the built layer, which becomes /opt.
        base: the image below it.
        first: paths in `layer` that a start reads; the others follow.
        function: the folder of the function's package, which becomes /var/task; None for a base of functions.
        handler: the function's handler, such as app.lambda_handler.
    """

    layer: Path
    base: str
    first: Sequence[str] = ()
    function: Path | None = None
    handler: str | None = None

    def check(self) -> None:
        """Look at what is named, before anything is written.

        Raises:
            LayerError: something is missing, or does not fit.
        """
        if not (self.layer / "python" / "torch").is_dir():
            raise LayerError(
                f"{self.layer} has no python/torch.\nNext: name the folder that `make layer` made, or run it."
            )
        if (self.function is None) != (self.handler is None):
            raise LayerError(
                "A function needs its handler, and a handler its function.\nNext: give --function and --handler."
            )
        if self.function is not None and self.handler is not None:
            module = self.function / (self.handler.rpartition(".")[0].replace(".", "/") + ".py")
            if not module.is_file():
                raise LayerError(
                    f"{module} does not exist.\nNext: name the built package, such as .aws-sam/build/PredictFunction."
                )


def write_context(plan: ImagePlan, folder: Path) -> None:
    """Write what `docker build` needs into a folder. An older one of these is replaced.

    Raises:
        LayerError: the plan does not fit, or the folder has something else in it.
    """
    plan.check()
    if folder.exists() and not (folder / DOCKERFILE).is_file() and any(folder.iterdir()):
        raise LayerError(f"{folder} has other files in it.\nNext: name an empty folder with --output.")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    files = [path.relative_to(plan.layer).as_posix() for path in sorted(plan.layer.rglob("*")) if not path.is_dir()]
    chosen = set(plan.first)
    parts = ([name for name in plan.first if name in set(files)], [name for name in files if name not in chosen])
    for name, members in zip(PARTS, parts, strict=True):
        _write_tar(folder / name, plan.layer, members)
    if plan.function is not None:
        ignored = shutil.ignore_patterns(".git", ".venv")
        shutil.copytree(plan.function, folder / "function", ignore=ignored)
    (folder / DOCKERFILE).write_text(dockerfile(plan))


def dockerfile(plan: ImagePlan) -> str:
    """The Dockerfile of an image."""
    lines = [
        "# Written by `lambda-torch layer image`.",
        f"FROM {plan.base}",
        "# The layer: what a start reads lies together, before all else.",
        *(f"ADD {part} /opt/" for part in PARTS),
    ]
    if plan.function is None:
        lines += ["# Your function: COPY its files to ${LAMBDA_TASK_ROOT}, and name its handler with CMD."]
    else:
        lines += ["COPY function/ ${LAMBDA_TASK_ROOT}/", f'CMD ["{plan.handler}"]']
    return "\n".join(lines) + "\n"


def build(folder: Path, tag: str, say: Callable[[str], None]) -> None:
    """Build the image with Docker.

    Raises:
        LayerError: `docker build` failed. The message has its last lines.
    """
    say(f"docker build --tag {tag} {folder}")
    # Lambda takes no image index, which buildx makes for its attestations.
    variables = {**os.environ, "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
    words = ["docker", "build", "--quiet", "--tag", tag, str(folder)]
    done = subprocess.run(words, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise LayerError(f"docker build failed: {last}\nNext: correct that, or build {folder} yourself.")


def _write_tar(path: Path, root: Path, names: Iterable[str]) -> None:
    """The files in this order, with the folders that they are in."""
    made: set[str] = set()
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name in names:
            for parent in reversed(Path(name).parents[:-1]):
                if parent.as_posix() not in made:
                    made.add(parent.as_posix())
                    archive.addfile(_owned(archive.gettarinfo(root / parent, parent.as_posix())))
            archive.add(root / name, name, filter=_owned)


def _owned(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """Root's, and with one time: a tar of the same files has the same bytes."""
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    info.mtime = TIME
    return info
