"""The pages: one document each, with a policy that lets in what is in them and nothing else."""

import base64
import hashlib
import re
from collections.abc import Callable
from html.parser import HTMLParser

import pytest

from lambda_torch.project import ROOT
from serving.http import pages
from serving.http.pages import Page
from serving.telemetry import receipts

PAGES = [pages.front, pages.docs]


class Reader(HTMLParser):
    """Collects inline styles and scripts, and whatever would be loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.inline: dict[str, list[str]] = {"style": [], "script": []}
        self.loaded: list[str] = []
        self.handlers: list[str] = []
        self._in: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note its attributes."""
        self._in = tag if tag in self.inline else None
        self.handlers += [name for name, _ in attrs if name.startswith("on") or name == "style"]
        self.loaded += [
            value for name, value in attrs if value and (name == "src" or (tag == "link" and name == "href"))
        ]
        if self._in:
            self.inline[self._in].append("")

    def handle_data(self, data: str) -> None:
        """Note what is inline."""
        if self._in:
            self.inline[self._in][-1] += data

    def handle_endtag(self, tag: str) -> None:
        """What follows is text."""
        self._in = None


@pytest.mark.parametrize("make", PAGES)
def test_the_policy_names_exactly_what_is_in_the_page(make: Callable[[], Page]) -> None:
    """Every inline style and script has its hash in the policy; there is no unsafe-inline and nothing is loaded."""
    page = make()
    reader = Reader()
    reader.feed(page.body)
    policy = dict(part.strip().split(" ", 1) for part in page.headers["Content-Security-Policy"].split(";"))
    for kind, contents in reader.inline.items():
        digests = [base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() for content in contents]
        assert policy[f"{kind}-src"].split() == [f"'sha256-{digest}'" for digest in digests]
    assert policy["default-src"] == "'none'"
    assert "unsafe" not in str(policy)
    assert reader.handlers == []
    assert [address for address in reader.loaded if not address.startswith("data:")] == []


def test_a_browser_that_has_a_page_is_told_so() -> None:
    """The tag of a page is its own, also where compression on the way made it weak."""
    front, docs = pages.front(), pages.docs()
    assert front.is_known(front.headers["ETag"])
    assert front.is_known(f"W/{front.headers['ETag']}")
    assert not front.is_known(docs.headers["ETag"])
    assert not front.is_known(None)


def test_the_page_knows_the_phases_of_a_request() -> None:
    """receipt.js tells a request's phases from a start's by the names that serving/telemetry/receipts.py gives them."""
    script = (ROOT / "src" / "serving" / "http" / "web" / "receipt.js").read_text()
    (names,) = re.findall(r"REQUEST_PHASES = \{(.*)\};", script)
    assert set(re.findall(r"(\w+):", names)) == set(receipts.REQUEST_PHASES)


def test_what_the_function_ships_is_small() -> None:
    """All of src/ together: what is not needed to serve stays out of the package."""
    src = ROOT / "src"
    sizes = {path: path.stat().st_size for path in src.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    # 110 kB of it read programs, and 27 kB answer OpenAI's clients: both are imported by those who use them alone.
    assert sum(sizes.values()) < 620_000
    assert sum(size for path, size in sizes.items() if path.parent == src / "serving" / "http" / "web") < 60_000
