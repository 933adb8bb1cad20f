"""Prints, as JSON, what the dispatcher does before and after the initialisers that wait have run.

Two lists of operator -> dispatch key -> kernel, and whether the import of torch was completed.
"""

from __future__ import annotations

import json
import re
from typing import Any

from torch_layer.registrations import LateRegistrations

# Without it, the questions below would run the initialisers.
LateRegistrations.watch = lambda self: None  # type: ignore[method-assign]

import torch  # noqa: E402

from torch_layer import finder  # noqa: E402


def tables() -> dict[str, dict[str, str]]:
    """What the dispatcher calls for each operator and each key of a tensor; keys without a kernel are left out."""
    core: Any = torch._C
    return {
        name: dict(re.findall(r"(?m)^(\w+): (.*)$", core._dispatch_dump_table(name)))
        for name in core._dispatch_get_all_op_names()
    }


before = tables()
finder._LATE.run()
print(json.dumps([before, tables(), finder.imports().complete]))
