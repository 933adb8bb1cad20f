"""`--from torchvision:NAME`: an architecture of torchvision.

torchvision runs on Lambda from the layer, where only what is used takes room. Its version follows from torch's.
"""

import re

from lambda_torch import project
from lambda_torch.errors import ProjectError
from lambda_torch.packages import resolving
from lambda_torch.scaffold.blueprints import Blueprint, png_of, requirement

# torch's minor version -> torchvision's version (https://github.com/pytorch/vision#installation).
VERSIONS = {"2.13": "0.28.0"}


def blueprint(name: str) -> Blueprint:
    """The project for an architecture. Its make_release.py makes the weights.

    Raises:
        ProjectError: the name cannot be one of torchvision's.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ProjectError(
            f"torchvision has no model {name!r}. Next: use a name of torchvision.models.list_models(), such as resnet18."
        )
    version = VERSIONS[_torch()]
    return Blueprint(
        "torchvision",
        {"image": png_of("red")},
        {"ARCHITECTURE": name},
        requirements=(
            f'torchvision=={version}+cpu ; sys_platform == "linux"',
            f'torchvision=={version} ; sys_platform != "linux"',
            requirement("pillow"),
        ),
    )


def _torch() -> str:
    """The minor version of the layer's torch."""
    lines = resolving.lines_of(project.LAYER_SOURCE / resolving.FILE_NAME)
    found = next(match for line in lines if (match := re.match(r"torch==(\d+\.\d+)\.", line)))
    return found[1]
