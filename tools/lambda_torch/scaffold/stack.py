"""The template of a project: that of lambda-torch, with the project's folders, and a part for the user's own resources."""

import hashlib
import re

from lambda_torch import project
from lambda_torch.errors import ProjectError

HEADER = """\
# lambda-torch {version} wrote this template. `lambda-torch upgrade` writes it again, and keeps the part between the two
# lines OWN RESOURCES. Settings of the stack are parameters: set them in samconfig.toml (parameter_overrides).
# Content: {digest}
"""
OWN_BEGIN = (
    "  # ------------------------------------------------- OWN RESOURCES: begin. Yours: upgrade keeps what is here."
)
OWN_END = "  # ------------------------------------------------- OWN RESOURCES: end."
_DIGEST = re.compile(r"^# Content: ([0-9a-f]{16})$", re.MULTILINE)
_OWN = re.compile(f"{re.escape(OWN_BEGIN)}\n(.*?){re.escape(OWN_END)}\n", re.DOTALL)

# What differs from the template of lambda-torch: text there, text in a project, how often, and why.
CHANGES = (
    ("      ContentUri: layers/torch\n", "      ContentUri: layer\n", 1, "the layer's Makefile and list of packages"),
    ("      CodeUri: src\n", "      CodeUri: model\n", 2, "the model; its Makefile brings the function's code"),
    (
        "  DeployCheckFunction:\n    Type: AWS::Serverless::Function\n",
        "  DeployCheckFunction:\n    Type: AWS::Serverless::Function\n    Metadata:\n      BuildMethod: makefile\n",
        1,
        "its code is in no folder of the project, so SAM's own build cannot find it",
    ),
    (
        "lambda-torch publish examples/names/release ",
        "lambda-torch publish release ",
        1,
        "the release is a folder of the project",
    ),
    ("      # src/Makefile installs", "      # model/Makefile installs", 1, "the same Makefile"),
)


def render(version: str, own: str = "") -> str:
    """The whole template.

    Args:
        version: the version of lambda-torch, for the head of the file.
        own: the user's own resources, as they stand between the two lines.

    Raises:
        ProjectError: the template of lambda-torch is not what `CHANGES` were written for.
    """
    text = project.TEMPLATE.read_text(encoding="utf-8")
    for there, here, times, why in CHANGES:
        if text.count(there) != times:
            raise ProjectError(f"{project.TEMPLATE} has {text.count(there)} times {there!r}, not {times} ({why}).")
        text = text.replace(there, here)
    before, outputs, after = text.partition("\nOutputs:\n")
    body = f"{before}\n{OWN_BEGIN}\n{own}{OWN_END}\n{outputs}{after}"
    return HEADER.format(version=version, digest=_digest(body)) + "\n" + body


def own_resources(template: str) -> str:
    """The part of a template that belongs to the user. Empty if there is none."""
    match = _OWN.search(template)
    return match[1] if match else ""


def is_edited(template: str) -> bool:
    """Whether a template was changed outside of the user's part since `render` wrote it."""
    head, _, body = template.partition("\n\n")
    match = _DIGEST.search(head)
    return match is None or match[1] != _digest(body)


def _digest(body: str) -> str:
    return hashlib.sha256(_OWN.sub("", body).encode()).hexdigest()[:16]
