"""Answers that are a file: an image as image/png, and not as base64 in JSON, where the client accepts that."""

import base64
from typing import Any

from pydantic import BaseModel

from serving.http.responses import HttpResponse, success
from serving.types.finding import only_content


def wanted(kind: type[BaseModel], response: BaseModel, accept: str, version: str) -> HttpResponse | None:
    """The response as a file; None where it is more than one file, or the client prefers JSON.

    Args:
        kind: the model's `Response`.
        accept: the client's header Accept (RFC 9110, section 12.5.1).
    """
    field = only_content(kind)
    value: Any = None if field is None else getattr(response, field[0])
    if field is None or value is None:
        return None
    content = field[1].encode(value)
    media_type = content.media_type or "application/octet-stream"
    qualities = _qualities(accept)
    # `*/*` alone is what clients send that did not choose: they get JSON, as always.
    asked = max(qualities.get(media_type, 0), qualities.get(f"{media_type.partition('/')[0]}/*", 0))
    if not asked or asked < qualities.get("application/json", 0):
        return None
    headers = {**success("", version).headers, "Vary": "Accept"}
    if content.name is not None:
        headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{_quoted(content.name)}"
    return HttpResponse(200, base64.b64encode(content.data).decode(), headers, media_type, is_base64=True)


def _quoted(name: str) -> str:
    from urllib.parse import quote

    return quote(name, safe="")


def _qualities(accept: str) -> dict[str, float]:
    """The media ranges of the header with their weights."""
    found = {}
    for each in accept.split(","):
        name, *parameters = (part.strip().lower() for part in each.split(";"))
        weights = [part.removeprefix("q=") for part in parameters if part.startswith("q=")]
        try:
            found[name] = float(weights[0]) if weights else 1.0
        except ValueError:
            found[name] = 0.0
    return found
