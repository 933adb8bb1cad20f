"""Which fields of a request or a response hold bytes."""

from functools import cache
from typing import Any, get_args

from pydantic import BaseModel, RootModel

from serving.types.array import ArrayRules
from serving.types.audio import Audio, AudioRules
from serving.types.contents import ContentRules
from serving.types.file import File, FileRules

# The types that stand for themselves, without `Annotated`.
_PLAIN: dict[Any, ContentRules] = {Audio: AudioRules(), File: FileRules()}


@cache
def content_fields(kind: type[BaseModel]) -> dict[str, ContentRules]:
    """The fields with bytes, by their names in JSON, in order. Those that are lists of files are not among them."""
    found = {}
    for name, field in kind.model_fields.items():
        rules = _rules(field.metadata, field.annotation)
        if rules is not None:
            found[field.alias or name] = rules
    return found


@cache
def body_field(kind: type[BaseModel]) -> tuple[str, ContentRules] | None:
    """The field that a body of another type than JSON gives: the only file, or else the only array.

    Where there are several, it is the only one that is required.
    """
    if issubclass(kind, RootModel):
        return None
    fields = content_fields(kind)
    files = [each for each in fields.items() if not isinstance(each[1], ArrayRules)]
    candidates = files or list(fields.items())
    required = {field.alias or name for name, field in kind.model_fields.items() if field.is_required()}
    needed = candidates if len(candidates) == 1 else [each for each in candidates if each[0] in required]
    return needed[0] if len(needed) == 1 else None


@cache
def only_content(kind: type[BaseModel]) -> tuple[str, ContentRules] | None:
    """The one field of a response that is nothing but a file; None where there is more, or something else."""
    fields = content_fields(kind)
    if len(kind.model_fields) != 1 or len(fields) != 1:
        return None
    (name,), (rules,) = kind.model_fields, fields.values()
    return name, rules


def _rules(metadata: Any, annotation: Any) -> ContentRules | None:
    """The rules of an annotation; those that stand last hold. `X | None` has those of X."""
    for each in reversed(list(metadata)):
        if isinstance(each, ContentRules):
            return each
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    inner = [each for each in get_args(annotation) if each is not type(None)]
    if len(inner) != 1 or type(None) not in get_args(annotation):
        return None
    return _rules(getattr(inner[0], "__metadata__", ()), getattr(inner[0], "__origin__", inner[0]))
