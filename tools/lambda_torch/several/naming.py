"""Names in a template: which ones a part of it refers to, and the same part with other names."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

# In Fn::Sub: ${Name}, ${Name.Attribute}, and ${!Literal}, which is none.
_PLACE = re.compile(r"\$\{([A-Za-z0-9:]+)((?:\.[A-Za-z0-9.]+)?)\}")


def names_in(value: Any) -> set[str]:
    """The parameters, conditions and resources that a part of a template refers to."""
    return set(_names(value))


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for each in value:
            yield from _names(each)
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _named(key, each)
            yield from _names(each)


def _named(key: str, value: Any) -> Iterator[str]:
    """What one entry of a mapping names by itself."""
    if key in ("Ref", "Condition", "Fn::GetAtt") and isinstance(value, str):
        yield value.partition(".")[0]
    elif key in ("Fn::GetAtt", "Fn::If") and isinstance(value, list) and isinstance(value[0], str):
        yield value[0].partition(".")[0]
    elif key == "Fn::Sub":
        text, local = (value[0], value[1]) if isinstance(value, list) else (value, {})
        yield from (match[1] for match in _PLACE.finditer(text) if match[1] not in local)
    elif key == "DependsOn":
        yield from [value] if isinstance(value, str) else value


def renamed(value: Any, names: Mapping[str, str]) -> Any:
    """A copy of a part of a template, with these names replaced where it refers to them."""
    if isinstance(value, list):
        return [renamed(each, names) for each in value]
    if not isinstance(value, dict):
        return value
    return {key: _entry(key, each, names) for key, each in value.items()}


def _entry(key: str, value: Any, names: Mapping[str, str]) -> Any:
    if key in ("Ref", "Condition", "Fn::GetAtt") and isinstance(value, str):
        return _other(value, names)
    if key in ("Fn::GetAtt", "Fn::If") and isinstance(value, list):
        return [_other(value[0], names), *renamed(value[1:], names)]
    if key == "Fn::Sub":
        if isinstance(value, list):
            text, local = value
            return [_substituted(text, names, local), renamed(local, names)]
        return _substituted(value, names, {})
    if key == "DependsOn":
        return _other(value, names) if isinstance(value, str) else [_other(each, names) for each in value]
    return renamed(value, names)


def _other(name: str, names: Mapping[str, str]) -> str:
    first, dot, rest = name.partition(".")
    return f"{names.get(first, first)}{dot}{rest}"


def _substituted(text: str, names: Mapping[str, str], local: Mapping[str, Any]) -> str:
    def place(match: re.Match[str]) -> str:
        name = match[1] if match[1] in local else names.get(match[1], match[1])
        return f"${{{name}{match[2]}}}"

    return _PLACE.sub(place, text)
