"""Kinds of JSON values and texts, of which `schema` makes its table: each refuses what is not of its kind."""

import json
import keyword
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from serving.releases.programs.refusal import ProgramError

Check = Callable[[Any], None]
"""Looks at one JSON value. Raises ProgramError."""

MOST_ITEMS: Final = 1_000_000
DEEPEST_TREE: Final = 30


def read_json(content: bytes, what: str) -> Any:
    """JSON without doubled keys and without numbers that are none.

    Raises:
        ProgramError: it is not such JSON, or nests too deeply.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            raise ProgramError(f"has a key twice in {what}")
        return value

    def constant(name: str) -> None:
        raise ProgramError(f"has {name} in {what}, which is not JSON")

    try:
        return json.loads(content.decode(), object_pairs_hook=once, parse_constant=constant)
    except ProgramError:
        raise
    except (ValueError, RecursionError) as error:
        raise ProgramError(f"has a damaged {what} ({str(error)[:100]})") from error


def text(kind: str, fits: Callable[[str], Any]) -> Check:
    """A text of a kind, such as "a name"."""

    def check(value: Any) -> None:
        if type(value) is not str or not fits(value):
            raise ProgramError(f"has {str(value)[:100]!r} where {kind} belongs")

    return check


def pattern(kind: str, expression: str) -> Check:
    """A text that a regular expression describes as a whole."""
    return text(kind, re.compile(expression, re.ASCII).fullmatch)


def parsed(kind: str, parse: Callable[[str], None]) -> Check:
    """A text that a parser of its own takes; the parser raises ProgramError."""

    def check(value: Any) -> None:
        if type(value) is not str:
            raise ProgramError(f"has {str(value)[:100]!r} where {kind} belongs")
        parse(value)

    return check


def optional(check: Check) -> Check:
    """The value, or null."""
    return lambda value: None if value is None else check(value)


def listed(check: Check) -> Check:
    """A list of such values."""

    def each(values: Any) -> None:
        if type(values) is not list or len(values) > MOST_ITEMS:
            raise ProgramError("has something else where a list belongs")
        for value in values:
            check(value)

    return each


def mapped(key: Check, check: Check) -> Check:
    """An object whose keys the program chooses."""

    def each(values: Any) -> None:
        if type(values) is not dict or len(values) > MOST_ITEMS:
            raise ProgramError("has something else where an object belongs")
        for name, value in values.items():
            key(name)
            check(value)

    return each


def nothing(what: str) -> Check:
    """An empty list or object: what could be in it is not let through."""

    def check(value: Any) -> None:
        if value not in ([], {}):
            raise ProgramError(f"uses {what}")

    return check


def integer(value: Any) -> None:
    """A whole number of 64 bits."""
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise ProgramError(f"has {str(value)[:60]!r} where a whole number belongs")


def truth(value: Any) -> None:
    """True or false."""
    if type(value) is not bool:
        raise ProgramError(f"has {str(value)[:60]!r} where true or false belongs")


def real(value: Any) -> None:
    """A number; torch writes those that JSON has not as texts."""
    number = type(value) in (int, float) and math.isfinite(value)
    if not number and value not in ("Infinity", "-Infinity", "NaN"):
        raise ProgramError(f"has {str(value)[:60]!r} where a number belongs")


class Fields:
    """An object with these fields: those with a default may be missing, others may not be there."""

    def __init__(self, required: Mapping[str, Check], defaulted: Mapping[str, Check] | None = None) -> None:
        self.required = required
        self.fields = {**required, **(defaulted or {})}

    def __call__(self, value: Any) -> None:
        """Look at a value. Raises ProgramError."""
        if type(value) is not dict:
            raise ProgramError("has something else where an object belongs")
        if unknown := sorted(set(value) - set(self.fields)):
            raise ProgramError(f"has a field {unknown[0][:60]!r}, which torch does not write there")
        if missing := sorted(set(self.required) - set(value)):
            raise ProgramError(f"lacks the field {missing[0]!r}")
        for name, each in value.items():
            self.fields[name](each)


class OneField:
    """An object with one of these fields. `refused` are fields that torch knows and that are not let through."""

    def __init__(self, fields: Mapping[str, Check], refused: tuple[str, ...] = ()) -> None:
        self.fields = fields
        self.refused = refused

    def __call__(self, value: Any) -> None:
        """Look at a value. Raises ProgramError."""
        if type(value) is not dict or len(value) != 1:
            raise ProgramError("has something else where an object of one field belongs")
        ((name, each),) = value.items()
        if name not in self.fields:
            raise ProgramError(f"has an argument of the kind {name[:60]!r}, which is not let through")
        self.fields[name](each)


# Names that the Python code which torch makes of a graph uses itself.
_TAKEN: Final = {"torch", "device", "inf", "nan", "math", "operator", "pytree", "fx_pytree", "builtins", "NoneType"}


def is_identifier(value: str) -> bool:
    """Whether a text may become a variable of the Python code that torch makes of a graph."""
    plain = len(value) <= 255 and value.isascii() and value.isidentifier() and not keyword.iskeyword(value)
    return plain and not value.startswith("__") and value not in _TAKEN


def is_path(value: str) -> bool:
    """Whether a text is a path to a module or a tensor: `layers.0.weight`, `encoder@1`; no part is a name of Python's."""
    parts = value.split(".")
    return len(value) <= 1000 and all(re.fullmatch(r"(?!__)[A-Za-z0-9_@]+", part, re.ASCII) for part in parts)


def is_tree(value: str) -> bool:
    """A tree of tuples, lists and dicts with identifiers as keys, as torch's pytree writes one."""

    def fits(node: Any, depth: int) -> bool:
        if type(node) is not dict or set(node) != {"type", "context", "children_spec"} or depth > DEEPEST_TREE:
            return False
        children, context = node["children_spec"], node["context"]
        if node["type"] is None:
            return context is None and children == []
        keys = read_json(context.encode(), "context of a tree") if type(context) is str else 0
        named = type(keys) is list and all(type(key) is str and is_identifier(key) for key in keys)
        if node["type"] == "builtins.dict":
            fitting = named and type(keys) is list and len(keys) == len(children)
        else:
            fitting = node["type"] in ("builtins.tuple", "builtins.list") and keys is None
        return fitting and type(children) is list and all(fits(each, depth + 1) for each in children)

    tree = read_json(value.encode(), "tree of arguments")
    return type(tree) is list and len(tree) == 2 and tree[0] == 1 and fits(tree[1], 0)


def is_note(value: str) -> bool:
    """Notes that torch keeps as JSON and never evaluates."""
    read_json(value.encode(), "note")
    return len(value) < 100_000
