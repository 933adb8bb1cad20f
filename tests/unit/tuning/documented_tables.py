"""The tables in docs/cost.md and docs/watching.md, which `lambda-torch cost` prints. `make docs-tables` puts them there."""

import re
import shlex

from click.testing import CliRunner

from lambda_torch.cli import main
from lambda_torch.project import ROOT

DOCUMENTS = (ROOT / "docs" / "cost.md", ROOT / "docs" / "watching.md")
BLOCK = re.compile(r"<!-- output of `(lambda-torch cost [^`]+)` -->\n(.*?)\n?<!-- end of output -->", re.DOTALL)


def documented() -> list[tuple[str, str]]:
    """The commands in the documents whose output follows them, and that output."""
    found = {document: BLOCK.findall(document.read_text()) for document in DOCUMENTS}
    assert all(found.values())
    return [each for blocks in found.values() for each in blocks]


def output_of(words: str) -> str:
    """What a command prints."""
    done = CliRunner().invoke(main, shlex.split(words)[1:])
    assert done.exit_code == 0, done.output
    return done.output.strip()


def write() -> None:
    """Put the present output into the documents."""

    def block(match: re.Match[str]) -> str:
        return f"<!-- output of `{match[1]}` -->\n{output_of(match[1])}\n<!-- end of output -->"

    for document in DOCUMENTS:
        document.write_text(BLOCK.sub(block, document.read_text()))


if __name__ == "__main__":
    write()
