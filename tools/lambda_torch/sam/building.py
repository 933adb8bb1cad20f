"""`sam build --use-container`, with all that it needs on this machine."""

import subprocess
from collections.abc import Callable
from pathlib import Path

from lambda_torch import project
from lambda_torch.errors import SamError
from lambda_torch.sam import command, image_names, pip_settings
from lambda_torch.sam.docker import has_image, host
from lambda_torch.sam.runtime import PythonRuntime, architecture_of, template_for

BUILT_TEMPLATE = Path(".aws-sam", "build", "template.yaml")


def build(runtime: PythonRuntime, say: Callable[[str], None], root: Path = project.ROOT) -> None:
    """Build the function and the layer in Amazon's build image, if they changed since the last build.

    The output of SAM goes to the standard error of this process.

    Raises:
        SamError: the build failed. SAM has then removed what an earlier build made.
        DockerError: Docker cannot be used.
    """
    say(f"sam build --use-container for {runtime.name} (the layer takes some minutes the first time)")
    image = image_names.build(runtime.version, architecture_of(root / project.TEMPLATE.name))
    with pip_settings.for_containers(host(), image) as variables:
        options = [f"--container-env-var={name}={value}" for name, value in variables.items()]
        done = subprocess.run(
            [command.executable(), *arguments(runtime, root), *options],
            cwd=root,
            env=command.environment(),
            stdin=subprocess.DEVNULL,
        )
    if done.returncode or not (root / BUILT_TEMPLATE).is_file():
        if not has_image(image):
            raise SamError(
                f"sam build needs the image {image}, and it cannot be pulled. "
                "Next: connect to public.ecr.aws, or run make images for a stand-in (Debian). make serve needs neither."
            )
        raise SamError(
            f"sam build failed with status {done.returncode}. Its last lines say why. "
            "Next: correct that and run it again. make serve works without a build."
        )


def arguments(runtime: PythonRuntime, root: Path) -> list[str]:
    """The arguments of `sam` for a build for this runtime, without the arguments for this machine."""
    template = template_for(runtime, root / project.TEMPLATE.name)
    if template.parent == root:
        return ["build", "--use-container"]
    # SAM looks for its configuration, and for the sources, beside the template.
    config = ["--config-file", str(root / "samconfig.toml"), "--base-dir", str(root)]
    return ["build", "--use-container", "--template-file", str(template), *config]
