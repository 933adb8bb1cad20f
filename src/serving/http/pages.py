"""The pages for people: `/` to try the model, `/docs` for the API.

Each page is one document that contains its styles and scripts: a browser would ask for separate files at the same time,
and so start several environments. A policy names the hash of every style and script. Nothing else runs, and nothing is
loaded.
"""

import base64
import functools
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

_OURS = Path(__file__).with_name("web")
_INCLUDE = re.compile(r"<!-- (style|script): ([\w.-]+) -->")


@dataclass(frozen=True)
class Page:
    """One HTML document, with the headers of its answer."""

    body: str
    headers: Mapping[str, str]

    def is_known(self, etag: str | None) -> bool:
        """Whether the browser has this page already, by its If-None-Match (RFC 9110 section 13.1.2)."""
        # Compression on the way turns a strong tag into a weak one.
        return etag is not None and etag.removeprefix("W/") == self.headers["ETag"]


@functools.cache
def front() -> Page:
    """The page to try the model."""
    return _page("page.html")


@functools.cache
def docs() -> Page:
    """Swagger UI, for `/openapi.json`."""
    return _page("docs.html")


def _swagger_ui() -> Path:
    """The folder of Swagger UI's two files, in aws-lambda-powertools.

    The package is found but not imported: its `__init__` would load some 70 modules for two files.
    """
    spec = find_spec("aws_lambda_powertools")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("The package aws-lambda-powertools, which has Swagger UI for /docs, is not installed")
    return Path(spec.submodule_search_locations[0]) / "event_handler" / "openapi" / "swagger_ui"


def _page(name: str) -> Page:
    hashes: dict[str, list[str]] = {"style": [], "script": []}

    def include(found: re.Match[str]) -> str:
        kind, file = found.groups()
        folder = _OURS if (_OURS / file).exists() else _swagger_ui()
        content = (folder / file).read_text(encoding="utf-8")
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        hashes[kind].append(f"'sha256-{digest}'")
        return f"<{kind}>{content}</{kind}>"

    body = _INCLUDE.sub(include, (_OURS / name).read_text(encoding="utf-8"))
    policy = (
        "default-src 'none'; connect-src 'self'; img-src data:; media-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
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
