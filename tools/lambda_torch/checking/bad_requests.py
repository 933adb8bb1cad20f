"""Bad and unusual requests, made from a good one: what clients send by mistake."""

import json
from collections.abc import Iterator
from typing import Any

# Values that a field may get in place of its own, by what a client did wrong.
_OTHERS: tuple[Any, ...] = (None, "", "x" * 2000, -1, 0, 10**30, 1.5e308, True, [], {}, [[]], ["x"], "\u0000\ud7ff")
# Whole bodies that are no request.
_BODIES = ("", "null", "1", '"text"', "[", "{", '{"a":}', "NaN", '{"no_such_field_of_this_model": 1}')
MOST = 400


def texts(example: Any) -> list[str]:
    """JSON texts that differ from the example in one place, and texts that are no JSON at all."""
    made = list(_BODIES)
    made += [json.dumps(each) for each in _changed(example)]
    return list(dict.fromkeys(made))[:MOST]


def _changed(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for name, held in value.items():
            yield {other: each for other, each in value.items() if other != name}
            for other in (*_OTHERS, *_changed(held)):
                yield {**value, name: other}
    elif isinstance(value, list) and value:
        yield value[:-1]
        yield [*value, value[-1]]
        for other in (*_OTHERS, *_changed(value[0])):
            yield [other, *value[1:]]
    elif isinstance(value, str):
        yield value[: len(value) // 2]
        yield value[::-1]
        yield value + value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value + 1
        yield -value - 1
        yield str(value)
