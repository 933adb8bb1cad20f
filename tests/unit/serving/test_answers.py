import json
import re
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import BaseModel, ConfigDict

from serving.http.delivery import as_stream
from serving.http.events import CANARY_KEY
from serving.http.responses import Cors, HttpResponse, json_text, proxy_form
from serving.http.service import Reader
from serving.response_json import AnswerError, to_json


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


def test_openais_javascript_client_may_call_from_a_page() -> None:
    """Each header is named that the client openai-node 6 puts on a chat completion: a wildcard is none with credentials."""
    allowed = {name.lower() for name in Cors(("*",)).preflight(("POST",))["Access-Control-Allow-Headers"].split(", ")}
    sent = "authorization content-type openai-organization openai-project user-agent"
    stainless = "arch helper-method lang os package-version retry-count runtime runtime-version timeout"
    assert {*sent.split(), *(f"x-stainless-{name}" for name in stainless.split())} <= allowed
    assert "*" not in allowed


def test_an_empty_answer_has_no_content_type() -> None:
    """A preflight's answer carries no body and does not claim to be JSON."""
    assert "Content-Type" not in proxy_form(HttpResponse(204))["headers"]
    assert proxy_form(HttpResponse(200, "[]"))["headers"]["Content-Type"] == "application/json"


def test_json_has_no_nan() -> None:
    """A NaN fails here, where it can be logged, and not in the client's parser."""
    with pytest.raises(ValueError, match="JSON compliant"):
        json_text({"x": float("nan")})
    assert json.loads(json_text({"x": "é"})) == {"x": "é"}


@pytest.mark.parametrize(("body", "is_base64"), [("text", False), ("dGV4dA==", True)])
def test_a_file_goes_out_as_its_bytes_in_a_stream_too(body: str, is_base64: bool) -> None:
    """A stream has no mark for base64: where the API takes streams, the bytes themselves are sent."""
    answer = proxy_form(HttpResponse(200, body, content_type="image/png", is_base64=is_base64))
    assert answer["isBase64Encoded"] is is_base64
    sent = as_stream(answer, Reader(lambda: 1.0, streams=True))
    assert b"".join(sent.pieces) == b"text"
    assert json.loads(sent.prelude)["headers"]["Content-Type"] == "image/png"


class Numbers(BaseModel):
    """Any numbers."""

    known: float = 0
    listed: list[float | None] = []
    unknown: Any = None


@pytest.mark.parametrize(
    ("response", "where"),
    [
        (Numbers(known=float("nan")), "response.known is nan"),
        (Numbers(listed=[1, None, float("inf")]), "response.listed[2] is inf"),
        (Numbers(unknown={"a": np.array([[1, np.nan]])}), "response.unknown.a[0][1] is nan"),
        (Numbers(unknown=torch.tensor(float("-inf"))), "response.unknown is -inf"),
    ],
)
def test_a_number_that_is_not_finite_is_named(response: Numbers, where: str) -> None:
    """The error says where the number is, however deep; the same text in a string is no number."""
    with pytest.raises(AnswerError, match=re.escape(where)):
        to_json(response)
    assert json.loads(to_json(Numbers(unknown="NaN, null and Infinity")))["unknown"] == "NaN, null and Infinity"


def test_configured_names_are_kept_and_bare_ones_refused() -> None:
    """A response may choose strings for such numbers; names without quotes are no JSON."""

    class Named(Numbers):
        model_config = ConfigDict(ser_json_inf_nan="strings")

    class Bare(Numbers):
        model_config = ConfigDict(ser_json_inf_nan="constants")

    assert json.loads(to_json(Named(known=float("inf"))))["known"] == "Infinity"
    with pytest.raises(AnswerError, match="no such number"):
        to_json(Bare(known=float("nan")))


def test_arrays_and_tensors_become_lists_and_numbers() -> None:
    """Also where the field says nothing about its type; what is neither is named."""
    for value, wanted in (
        (np.float32(1.5), 1.5),
        (np.int64(3), 3),
        (np.ones((1, 2)), [[1.0, 1.0]]),
        (torch.ones(2, requires_grad=True).detach(), [1.0, 1.0]),
        ({"a": [torch.tensor(True)]}, {"a": [True]}),
    ):
        assert json.loads(to_json(Numbers(unknown=value)))["unknown"] == wanted
    assert to_json(Numbers(known=torch.tensor(0.5), listed=np.ones(1))).startswith('{"known":0.5,"listed":[1.0]')
    with pytest.raises(AnswerError, match="type object"):
        to_json(Numbers(unknown=object()))
    with pytest.raises(AnswerError, match="gave a dict in place of a Response"):
        to_json({"known": 1})
