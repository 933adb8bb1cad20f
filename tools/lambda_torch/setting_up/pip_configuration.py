"""The settings of pip on this machine: indexes, folders of wheels, certificates."""

import shlex
import subprocess
import sys
from pathlib import Path


def settings(python: str | Path = sys.executable) -> dict[str, list[str]]:
    """The settings of this Python's pip, such as `{"find-links": ["/wheels"]}`.

    Later sources (site, user, environment) replace earlier ones, as in pip.
    """
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = {}
    for line in sorted(listed.splitlines(), key=lambda line: line.startswith(":env:")):
        key, _, value = line.partition("=")
        section, _, name = key.partition(".")
        if section in ("global", "install", ":env:"):
            found[name] = "".join(shlex.split(value)).split()
    return found
