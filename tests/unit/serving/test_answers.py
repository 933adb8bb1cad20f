import json

import pytest

from serving.http.events import CANARY_KEY
from serving.http.responses import Cors, HttpResponse, json_text, proxy_form


def test_everybody_may_call_by_default() -> None:
    """With `*` every answer says so, with or without an Origin."""
    cors = Cors(("*",))
    assert cors.headers(None)["Access-Control-Allow-Origin"] == "*"
    assert cors.headers("https://a.example")["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize(
    ("origin", "named"),
    [
        ("https://b.example", "https://b.example"),
        ("https://evil.example", "https://a.example"),
        (None, "https://a.example"),
    ],
)
def test_only_listed_origins_are_let_in(origin: str | None, named: str) -> None:
    """With a list, an allowed origin is named back to itself, a stranger is told another's, and caches keep them apart."""
    headers = Cors(("https://a.example", "https://b.example")).headers(origin)
    assert headers["Access-Control-Allow-Origin"] == named
    assert headers["Vary"] == "Origin"


def test_browsers_may_send_what_the_documents_offer() -> None:
    """A page of another origin may send every header that a client can use, the canary key included."""
    allowed = Cors(("*",)).preflight(("POST",))["Access-Control-Allow-Headers"].split(", ")
    assert {"Content-Type", "Authorization", "X-Api-Key", CANARY_KEY} <= set(allowed)


def test_an_empty_answer_has_no_content_type() -> None:
    """A preflight's answer carries no body and does not claim to be JSON."""
    assert "Content-Type" not in proxy_form(HttpResponse(204))["headers"]
    assert proxy_form(HttpResponse(200, "[]"))["headers"]["Content-Type"] == "application/json"


def test_json_has_no_nan() -> None:
    """A NaN fails here, where it can be logged, and not in the client's parser."""
    with pytest.raises(ValueError, match="JSON compliant"):
        json_text({"x": float("nan")})
    assert json.loads(json_text({"x": "é"})) == {"x": "é"}
