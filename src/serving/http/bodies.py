"""Bodies of other types than JSON: the file itself, or a form with files. Each becomes a request as JSON would give it.

`curl --data-binary @cat.png -H 'Content-Type: image/png'` sends the only file of a request; its other fields come from
the query string. `curl -F image=@cat.png -F threshold=0.5` sends a form (RFC 7578).
"""

import io
import json
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from pydantic import BaseModel

from serving.errors import HttpError
from serving.http import events
from serving.http.events import HttpRequest
from serving.types.contents import Content
from serving.types.finding import body_field, content_fields

FORM = "multipart/form-data"
ANY_BYTES = "application/octet-stream"
# A request has some fields, and not thousands.
MAX_PARTS = 256


class ReadBody(NamedTuple):
    """A body as JSON text, with the files beside it that the text names as `{"part": name}`."""

    text: str
    parts: dict[str, Content]


def taken(kind: type[BaseModel]) -> list[str]:
    """The media types that a body may have for this request, the usual one first."""
    field = body_field(kind)
    of_field = () if field is None else field[1].media_types
    form = (FORM,) if content_fields(kind) else ()
    return ["application/json", *form, *of_field, *((ANY_BYTES,) if field and ANY_BYTES not in of_field else ())]


def read(kind: type[BaseModel], request: HttpRequest, media_type: str, max_bytes: int) -> ReadBody:
    """A body that is not JSON, as a request of this kind.

    Raises:
        HttpError: 415 `unsupported_media_type`, 400 `invalid_form`, or as `events.bytes_of`.
    """
    if media_type == FORM and content_fields(kind):
        return _form(kind, request, _bytes_of(request, max_bytes))
    field = body_field(kind)
    if field is None or not (media_type == ANY_BYTES or field[1].takes(media_type)):
        types = taken(kind)
        message = f"A body of the type {media_type[:100]} is not taken. Taken: {', '.join(types)}."
        raise HttpError(415, "unsupported_media_type", message, {"taken": types}, {"Accept": ", ".join(types)})
    name, _ = field
    content = Content(_bytes_of(request, max_bytes), None if media_type == ANY_BYTES else media_type)
    values = _values(kind, _query(request.query))
    return ReadBody(json.dumps({**values, name: {"part": name}}), {name: content})


def _bytes_of(request: HttpRequest, max_bytes: int) -> bytes:
    try:
        return events.bytes_of(request, max_bytes)
    except HttpError as error:
        if error.status == 413:
            error.message += " Next: send the file to the address that POST /uploads gives, and name it in the request."
        raise


def _query(query: Any) -> Iterable[tuple[str, str]]:
    if isinstance(query, str):
        return parse_qsl(query, keep_blank_values=True, errors="replace")
    if not isinstance(query, Mapping):
        return ()
    lists = ((str(name), found if isinstance(found, list) else [found]) for name, found in query.items())
    return [(name, str(each)) for name, found in lists for each in found]


def _form(kind: type[BaseModel], request: HttpRequest, body: bytes) -> ReadBody:
    from multipart import MultipartError, MultipartParser, parse_options_header

    _, options = parse_options_header(request.header("content-type") or "")
    boundary = options.get("boundary", "")
    texts: list[tuple[str, str]] = []
    parts: dict[str, Content] = {}
    try:
        # Everything stays in memory, where the body is already.
        for part in MultipartParser(
            io.BytesIO(body),
            boundary,
            len(body),
            strict=True,
            part_limit=MAX_PARTS,
            spool_limit=len(body),
            memory_limit=len(body),
        ):
            if part.filename is None:
                # Browsers send each line break of a form's text as CR LF (HTML standard, "multipart form data").
                texts.append((part.name, part.value.replace("\r\n", "\n")))
            else:
                name = part.filename.replace("\\", "/").rpartition("/")[2]
                field = _field_of(kind, part.name)
                if field in parts:
                    raise HttpError(400, "invalid_form", f"The form has two files for the field {field[:100]}.")
                parts[field] = Content(part.raw, _kind_of(part.content_type), name or None)
            part.close()
    except (MultipartError, UnicodeDecodeError, LookupError) as error:
        raise HttpError(400, "invalid_form", f"The body is not the form that its Content-Type says: {error}.") from None
    named = {name: {"part": name} for name in parts}
    return ReadBody(json.dumps({**_values(kind, texts), **named}), parts)


def _field_of(kind: type[BaseModel], name: str) -> str:
    """The field that a file is for: where only one field holds a file, a name that is no field's means that one."""
    field = body_field(kind)
    known = {found.alias or each for each, found in kind.model_fields.items()}
    return name if field is None or name in known else field[0]


def _kind_of(content_type: str) -> str | None:
    media_type = content_type.partition(";")[0].strip().lower()
    return None if media_type in ("", ANY_BYTES) else media_type


def _values(kind: type[BaseModel], texts: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Texts of a form or a query string as JSON values, by what the request's schema says about their fields."""
    values: dict[str, Any] = {}
    types, with_bytes = _types(kind), content_fields(kind)
    for name, text in texts:
        if name in with_bytes:
            # Base64, or an array as JSON, or the name of an upload.
            values[name] = _value(text, frozenset()) if text.lstrip()[:1] in ("[", "{") else text
            continue
        known = types.get(name, frozenset())
        is_list = "array" in known and not text.lstrip().startswith("[")
        value = _value(text, known)
        values[name] = [*values.get(name, []), value] if is_list else value
    return values


def _value(text: str, types: frozenset[str]) -> Any:
    if "string" in types and "array" not in types:
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    # json.loads takes NaN, which the check of the request's text would call a mistake of JSON.
    return text if (isinstance(value, float) and value in (float("inf"), -float("inf"))) or value != value else value


@cache
def _types(kind: type[BaseModel]) -> dict[str, frozenset[str]]:
    """The JSON types that each field may have."""
    schema = kind.model_json_schema()
    definitions = schema.get("$defs", {})

    def collect(each: Mapping[str, Any]) -> Iterable[str]:
        if "$ref" in each:
            yield from collect(definitions.get(each["$ref"].rpartition("/")[2], {}))
        for inner in (*each.get("anyOf", ()), *each.get("oneOf", ()), *each.get("allOf", ())):
            yield from collect(inner)
        found = each.get("type", [])
        yield from [found] if isinstance(found, str) else found

    return {name: frozenset(collect(found)) for name, found in schema.get("properties", {}).items()}
