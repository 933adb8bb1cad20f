"""What the layer did in this process, as a program's own log may have it. Nothing here runs unless a program asks.

Example:
    >>> import torch, torch_layer
    >>> torch_layer.receipt()
    {'import_ms': 412.7, 'threads': 1, 'torch': {'held': 594, 'complete': False, 'reason': '', 'ms': 0.0}, 'numpy': {...},
     'pager': {'faults': 24, 'bytes': 5242880, 'ms': 9.1}}
"""

import sys
from typing import Any

from torch_layer import pager, start


def receipt() -> dict[str, object]:
    """The receipt of this process so far.

    Returns:
        `import_ms`: milliseconds of `import torch`; 0 before it.
        `threads`: that torch computes with; None before it is imported.
        `torch` and `numpy`: how many modules wait until something touches them (`held`), whether they have run since
        (`complete`), what they were needed for (`reason`), and how long that took (`ms`). None before the import.
        `pager`: how often compressed code was touched (`faults`), its bytes in memory, and the milliseconds.
    """
    torch: Any = sys.modules.get("torch")
    finder: Any = sys.modules.get("torch_layer.finder")
    counters = pager.stats()
    return {
        "import_ms": round(start.import_nanoseconds / 1e6, 1),
        "threads": None if torch is None else torch.get_num_threads(),
        "torch": None if finder is None else _of(finder.imports("torch")),
        "numpy": None if finder is None else _of(finder.imports("numpy")),
        "pager": {
            "faults": counters.faults,
            "bytes": counters.bytes,
            "ms": round(counters.microseconds / 1e3, 1),
        },
    }


def _of(stats: Any) -> dict[str, object]:
    return {
        "held": stats.held,
        "complete": stats.complete,
        "reason": stats.reason,
        "ms": round(stats.microseconds / 1e3, 1),
    }
