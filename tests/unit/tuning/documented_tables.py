"""The tables in docs/cost.md, which `lambda-torch cost` prints. `make docs-tables` puts them there."""

import re
import shlex

from click.testing import CliRunner

from lambda_torch.cli import main
from lambda_torch.project import ROOT

DOCUMENT = ROOT / "docs" / "cost.md"
BLOCK = re.compile(r"<!-- output of `(lambda-torch cost [^`]+)` -->\n(.*?)\n<!-- end of output -->", re.DOTALL)


def documented() -> list[tuple[str, str]]:
    """The commands in the document whose output follows them, and that output."""
    found = BLOCK.findall(DOCUMENT.read_text())
    assert found
    return found


def output_of(words: str) -> str:
    """What a command prints."""
    done = CliRunner().invoke(main, shlex.split(words)[1:])
    assert done.exit_code == 0, done.output
    return done.output.strip()


def write() -> None:
    """Put the present output into the document."""

    def block(match: re.Match[str]) -> str:
        return f"<!-- output of `{match[1]}` -->\n{output_of(match[1])}\n<!-- end of output -->"

    DOCUMENT.write_text(BLOCK.sub(block, DOCUMENT.read_text()))


if __name__ == "__main__":
    write()
