"""Calls every operator that programs may call with random arguments, in processes of their own, and lists those that end one.

An operator that checks its arguments raises an error, whatever they are. One that ends the process does not belong into the
table of `serving.releases.programs.operators`, unless the arguments that do it are refused elsewhere.
"""

import argparse
import contextlib
import os
import random
import resource
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch

from serving.releases.programs import divisions, operators

CALLS: Final = 100
SECONDS_A_CALL: Final = 5
MEMORY_BYTES: Final = 3 * 1024**3

# Operators that can end the process and are let through all the same, with the reason.
KNOWN: Final = {
    f"aten::{name}.data": "packed sequences: scripted recurrent layers name it in a branch"
    for name in ("lstm", "gru", "rnn_relu", "rnn_tanh")
}

_LEAST = -(2**63)
_NUMBERS = (0, 1, -1, 2, 3, 4, -2, 7, 2**31, -(2**31), 2**32 - 1, 2**63 - 1, _LEAST)
_TYPES = (
    torch.float32,
    torch.int64,
    torch.int32,
    torch.bool,
    torch.uint8,
    torch.float64,
    torch.complex64,
    torch.float16,
)
_TEXTS = (
    "trunc",
    "floor",
    "reflect",
    "constant",
    "mean",
    "sum",
    "none",
    "linear",
    "fro",
    "nuc",
    "",
    "a",
    "ij->ji",
    "ii",
)


def schemas() -> list[Any]:
    """The operators that are let through, one for each overload. Divisions have rules of their own."""
    found = []
    for schema in torch._C._jit_get_all_schemas():
        space, _, name = schema.name.partition("::")
        allowed = operators.is_allowed(name) and operators.is_allowed_overload(schema.overload_name)
        if space == "aten" and allowed and not divisions.divides(name, schema.overload_name, ["trunc"]):
            found.append(schema)
    return sorted(found, key=label)


def label(schema: Any) -> str:
    """The operator's name with its overload."""
    return f"{schema.name}.{schema.overload_name}"


def _tensor(chance: random.Random) -> torch.Tensor:
    kind = chance.choice(_TYPES)
    shape = [chance.choice((0, 1, 2, 3, 4)) for _ in range(chance.choice((0, 1, 1, 2, 2, 3, 4)))]
    numbers = torch.zeros(shape).numel()
    if kind.is_floating_point or kind.is_complex:
        return torch.tensor([chance.gauss(0, 1) for _ in range(numbers)]).reshape(shape).to(kind)
    chosen = (chance.choice((0, 1, -1, 2, 3, _LEAST, 5)) for _ in range(numbers))
    if kind == torch.bool:
        return torch.tensor([bool(number) for number in chosen], dtype=kind).reshape(shape)
    limits = torch.iinfo(kind)
    fitting = [max(limits.min, min(limits.max, number)) for number in chosen]
    return torch.tensor(fitting, dtype=kind).reshape(shape)


def _value(kind: Any, chance: random.Random) -> Any:
    simple: dict[str, Callable[[], Any]] = {
        "TensorType": lambda: _tensor(chance),
        "IntType": lambda: chance.choice(_NUMBERS),
        "SymIntType": lambda: chance.choice(_NUMBERS),
        "FloatType": lambda: chance.choice((0.0, 1.0, -1.0, 0.5, float("inf"), float("nan"), 1e30)),
        "BoolType": lambda: chance.random() < 0.5,
        "NumberType": lambda: chance.choice((*_NUMBERS, 0.5, float("nan"))),
        "StringType": lambda: chance.choice(_TEXTS),
    }
    name = kind.kind()
    if name == "OptionalType":
        return None if chance.random() < 0.4 else _value(kind.getElementType(), chance)
    if name == "ListType":
        return [_value(kind.getElementType(), chance) for _ in range(chance.choice((0, 1, 2, 2, 3)))]
    return simple[name]() if name in simple else None


def call(schema: Any, chance: random.Random) -> None:
    """Call it once. Raises what the operator raises."""
    name = schema.name.partition("::")[2]
    operator = getattr(getattr(torch.ops.aten, name), schema.overload_name or "default")
    given: list[Any] = []
    named: dict[str, Any] = {}
    for argument in schema.arguments:
        if argument.name == "dtype":
            value: Any = chance.choice((None, *_TYPES))
        elif argument.name in ("layout", "device", "pin_memory", "generator", "memory_format"):
            value = None  # the check of programs lets only known ones through
        elif argument.has_default_value() and chance.random() < 0.4:
            value = argument.default_value
        else:
            value = _value(argument.type, chance)
        if argument.kwarg_only:
            named[argument.name] = value
        else:
            given.append(value)
    with torch.no_grad():
        operator(*given, **named)


@dataclass(frozen=True)
class Ended:
    """An operator that ended the process: its name, the signal, and the seed of the call."""

    operator: str
    signal: str
    seed: int


def _child(found: list[Any], first: int, seed: int, report: int) -> None:
    """Call one operator after the other, and write which call comes next. Never returns."""
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    torch.set_num_threads(1)
    for number in range(first, len(found)):
        for attempt in range(CALLS):
            here = seed + number * CALLS + attempt
            os.write(report, f"{number} {here}\n".encode())
            signal.alarm(SECONDS_A_CALL)
            # Whatever it raises is a check that holds.
            with contextlib.suppress(BaseException):
                call(found[number], random.Random(here))
    os._exit(0)


def ended(seconds: float, seed: int) -> Iterator[Ended]:
    """Every call that ends its process by a fault, until all operators are called or the time is over.

    A call that takes long or fills the memory is ended too, and is no fault.
    """
    found, number, end = schemas(), 0, time.monotonic() + seconds
    while number < len(found) and time.monotonic() < end:
        reading, writing = os.pipe()
        process = os.fork()
        if not process:
            _child(found, number, seed, writing)
        os.close(writing)
        last = b""
        while time.monotonic() < end and (piece := os.read(reading, 65536)):
            last = (last + piece)[-200:]
        if time.monotonic() >= end:
            os.kill(process, signal.SIGKILL)
        os.close(reading)
        _, status = os.waitpid(process, 0)
        if not os.WIFSIGNALED(status):
            print(f"All {len(found)} operators were called {CALLS} times", file=sys.stderr)
            return
        number, here = map(int, last.split()[-2:])
        if os.WTERMSIG(status) not in (signal.SIGALRM, signal.SIGKILL):
            yield Ended(label(found[number]), signal.Signals(os.WTERMSIG(status)).name, here)
        number += 1
    print(f"{number} of {len(found)} operators were called {CALLS} times", file=sys.stderr)


def main() -> None:
    """Fuzz from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1800.0, help="the longest time (default: 1800)")
    parser.add_argument("--seed", type=int, default=1, help="for the arguments (default: 1)")
    arguments = parser.parse_args()
    unknown = 0
    for each in ended(arguments.seconds, arguments.seed):
        reason = KNOWN.get(each.operator)
        unknown += reason is None
        print(f"{each.signal}  {each.operator}  seed {each.seed}  {reason or 'FOUND'}", flush=True)
    if unknown:
        sys.exit(f"{unknown} operators end the process")


if __name__ == "__main__":
    main()
