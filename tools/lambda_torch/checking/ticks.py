"""One line of the list: what was looked at, what was seen, and what to do if it is not as it must be."""

from dataclasses import asdict, dataclass
from typing import Literal

State = Literal["ok", "failed", "skipped"]


@dataclass(frozen=True)
class Tick:
    """The outcome of one check.

    Attributes:
        name: what was checked; it does not change.
        state: "skipped" if an earlier failure left nothing to look at.
        message: what was seen.
        next: what to do. Empty unless the check failed.
    """

    name: str
    state: State
    message: str
    next: str = ""

    def facts(self) -> dict[str, str]:
        """For JSON."""
        return asdict(self)


# Each check in its order, with what it means that it is green.
NAMES = {
    "packages": "every module that the model imports is at hand on Lambda",
    "imports": "the package model has Model, Request and Response",
    "release": "the release folder holds weights and data, and nothing that runs",
    "loads": "Model.load reads the release",
    "example": "the model answers its own example",
    "repeats": "the same request has the same answer twice",
    "batch": "two requests together have the answers that each has alone",
    "schema": "the API's document and the page can be made",
    "refusals": "bad requests are refused with status 400",
    "memory": "release and model fit into the function",
    "size": "function and layer fit into Lambda",
}
