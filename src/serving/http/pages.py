"""The pages for people: `/` to try the model, `/docs` for the API.

Each is one document with its styles and scripts in it. Several requests at once, as for files of their own, would start several
environments. A policy names the hash of every style and script, so that nothing else runs, and nothing is loaded from elsewhere.
"""

import base64
import functools
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import aws_lambda_powertools

_OURS = Path(__file__).with_name("web")
# Swagger UI comes with aws-lambda-powertools: shipping our own copy would bring the same 1.7 MB twice.
_SWAGGER_UI = Path(aws_lambda_powertools.__file__).parent / "event_handler" / "openapi" / "swagger_ui"
_INCLUDE = re.compile(r"<!-- (style|script): ([\w.-]+) -->")


@dataclass(frozen=True)
class Page:
    """One HTML document, with the headers that it is answered with."""

    body: str
    headers: Mapping[str, str]

    def is_known(self, etag: str | None) -> bool:
        """Whether the browser has it already, by its If-None-Match (RFC 9110 section 13.1.2)."""
        # Compression on the way makes a strong tag weak.
        return etag is not None and etag.removeprefix("W/") == self.headers["ETag"]


@functools.cache
def front() -> Page:
    """The page to try the model."""
    return _page("page.html")


@functools.cache
def docs() -> Page:
    """Swagger UI on `/openapi.json`."""
    return _page("docs.html")


def _page(name: str) -> Page:
    hashes: dict[str, list[str]] = {"style": [], "script": []}

    def include(found: re.Match[str]) -> str:
        kind, file = found.groups()
        folder = _OURS if (_OURS / file).exists() else _SWAGGER_UI
        content = (folder / file).read_text(encoding="utf-8")
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        hashes[kind].append(f"'sha256-{digest}'")
        return f"<{kind}>{content}</{kind}>"

    body = _INCLUDE.sub(include, (_OURS / name).read_text(encoding="utf-8"))
    policy = (
        "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        f"style-src {' '.join(hashes['style'])}; script-src {' '.join(hashes['script'])}"
    )
    headers = {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
        "ETag": f'"{hashlib.sha256(body.encode()).hexdigest()[:32]}"',
    }
    return Page(body, headers)
