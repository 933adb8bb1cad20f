"""template-models.yaml: the derived template as a file."""

import hashlib
import re
from pathlib import Path
from typing import Any

import yaml

from lambda_torch.errors import StackError
from lambda_torch.several.deriving import derive
from lambda_torch.several.model_table import ModelTable
from lambda_torch.stacks.template import load_template

FILE_NAME = "template-models.yaml"
SOURCE_NAME = "template.yaml"
HEADER = """\
# `lambda-torch models` wrote this template, from {source} and {table}: change those, and run it again. docs/several-models.md
# of lambda-torch explains it.
# Content: {digest}
"""
_DIGEST = re.compile(r"^# Content: ([0-9a-f]{16})$", re.MULTILINE)
WIDTH = 120


class _Dumper(yaml.SafeDumper):
    """Writes each part out in full, and texts of several lines as such."""

    def ignore_aliases(self, data: Any) -> bool:
        """The same part may be used in several places. SAM takes no aliases."""
        return True


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def text_of(folder: Path, table: ModelTable) -> str:
    """What the file must have, for the template.yaml of a folder.

    Raises:
        StackError: template.yaml is missing, or is not that of lambda-torch.
        ProjectError: the table does not fit the template.
    """
    source = folder / SOURCE_NAME
    if not source.is_file():
        raise StackError(
            f"There is no {source}, from which the template for several models is derived.\n"
            "Next: run this in a project that lambda-torch init has made, or in a checkout of lambda-torch."
        )
    document = derive(load_template(source), table)
    body = yaml.dump(
        document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=WIDTH, default_flow_style=None
    )
    digest = hashlib.sha256(body.encode()).hexdigest()[:16]
    return HEADER.format(source=SOURCE_NAME, table=table.path.name, digest=digest) + "\n" + body


def is_edited(text: str) -> bool:
    """Whether a file was changed by hand since it was written."""
    head, _, body = text.partition("\n\n")
    match = _DIGEST.search(head)
    return match is None or match[1] != hashlib.sha256(body.encode()).hexdigest()[:16]
