"""The parameters of the stack, as the project's samconfig.toml sets them."""

import shlex
import tomllib
from pathlib import Path
from typing import NamedTuple


class ChosenParameters(NamedTuple):
    """What this machine needs to know of them. The defaults are the template's."""

    memory_mb: int = 3008
    storage_mb: int = 512
    allow_programs: bool = False


def of(folder: Path) -> ChosenParameters:
    """The parameters of `sam deploy` without options, in a project. The defaults where nothing can be read."""
    try:
        document = tomllib.loads((folder / "samconfig.toml").read_text(encoding="utf-8"))
        given = document["default"]["deploy"]["parameters"]["parameter_overrides"]
        words = shlex.split(given) if isinstance(given, str) else [str(each) for each in given]
        values = dict(word.partition("=")[::2] for word in words)
        return ChosenParameters(
            int(values.get("MemorySize", ChosenParameters().memory_mb)),
            int(values.get("EphemeralStorage", ChosenParameters().storage_mb)),
            values.get("AllowPrograms") == "true",
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ChosenParameters()
