"""What goes wrong in a served model, raised in C++ and caught in Python."""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional


class _Unknown:
    """A class that no weights file may name."""


def _damaged_file() -> object:
    buffer = io.BytesIO()
    torch.save({"weight": torch.ones(100)}, buffer)
    return torch.load(io.BytesIO(buffer.getvalue()[:-200]))


def _unsafe_file() -> object:
    buffer = io.BytesIO()
    torch.save({"weight": _Unknown()}, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def _unpicklable() -> None:
    torch.save({"function": lambda: None}, io.BytesIO())


_MISTAKES: tuple[tuple[str, Callable[[], object]], ...] = (
    ("product", lambda: torch.ones(2, 3) @ torch.ones(2, 3)),
    ("broadcast", lambda: torch.ones(2) + torch.ones(3)),
    ("view", lambda: torch.ones(6).view(4)),
    ("join", lambda: torch.cat([torch.ones(2, 2), torch.ones(3, 3)])),
    ("index", lambda: torch.ones(3)[5]),
    ("dimension", lambda: torch.ones(3).sum(4)),
    ("gather", lambda: torch.ones(3).gather(0, torch.tensor([7]))),
    ("embedding", lambda: nn.Embedding(4, 2)(torch.tensor([9]))),
    ("linear", lambda: nn.Linear(4, 2)(torch.ones(1, 5))),
    ("dtype", lambda: nn.Linear(4, 2)(torch.ones(1, 4, dtype=torch.float64))),
    ("convolution", lambda: nn.Conv2d(3, 4, 3)(torch.ones(1, 5, 8, 8))),
    ("lstm", lambda: nn.LSTM(4, 2)(torch.ones(3, 1, 5))),
    ("chances", lambda: torch.multinomial(torch.tensor([-1.0, 1.0]), 1)),
    ("item", lambda: torch.ones(2).item()),
    ("argument", lambda: functional.softmax("text", 0)),  # type: ignore[arg-type]
    ("device", lambda: torch.ones(1, device="cuda")),
    ("gradient", lambda: torch.ones(1).backward()),
    ("state", lambda: nn.Linear(4, 2).load_state_dict({"weight": torch.ones(1)})),
    ("damaged-file", _damaged_file),
    ("unsafe-file", _unsafe_file),
    ("unpicklable", _unpicklable),
)
_EXPECTED = (
    RuntimeError,
    IndexError,
    ValueError,
    TypeError,
    AssertionError,
    pickle.PickleError,
    AttributeError,
    EOFError,
)


def errors() -> dict[str, str]:
    """Every mistake, and the first line of what it raised, without addresses.

    Raises `RuntimeError` if a mistake goes through unnoticed.
    """
    outputs = {}
    for name, mistake in _MISTAKES:
        try:
            mistake()
        except _EXPECTED as error:
            lines = str(error).strip().splitlines()
            # CPython 3.14 shows an object that cannot be pickled, with its address.
            said = re.sub(r"\b0x[0-9a-f]+\b", "ADDRESS", lines[0]) if lines else ""
            outputs[name] = f"{type(error).__name__}: {said}"
        else:
            raise RuntimeError(f"{name}: torch raised nothing where it should have")
    return outputs
