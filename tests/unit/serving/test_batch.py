"""Lists of requests: split as they stand, answered item by item."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, RootModel
from pydantic_core import PydanticCustomError

from serving.errors import HttpError
from serving.http import batch, validation


class Request(BaseModel):
    """A number to double; strict, so that what JSON says must be what is meant."""

    model_config = ConfigDict(extra="forbid", strict=True)

    number: int


class Response(RootModel[int]):
    """The number, doubled."""


class Doubler:
    """Refuses 13, fails on 99, and keeps the size of each batch that it was given."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def check(self, request: Request) -> None:
        """Refuse what only the model knows."""
        if request.number == 13:
            raise PydanticCustomError("unlucky", "13 is not doubled")

    def predict(self, requests: list[Request]) -> Sequence[Response]:
        """Double each."""
        self.batches.append(len(requests))
        if any(request.number == 99 for request in requests):
            raise RuntimeError("out of fingers")
        return [Response(2 * request.number) for request in requests]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=8,
)
SPACES = st.text(" \t\r\n", max_size=3)
ITEMS = (
    st.integers(-3, 3).map(lambda number: {"number": number}) | st.sampled_from([{"number": 13}, {"number": 99}]) | JSON
)


@given(st.lists(st.tuples(SPACES, JSON, SPACES), min_size=1, max_size=8), SPACES)
def test_items_are_cut_out_as_they_stand(parts: list[tuple[str, Any, str]], around: str) -> None:
    """Whatever the items and the white space between them, each comes out as the text that it was."""
    texts = [json.dumps(value) for _, value, _ in parts]
    body = ",".join(before + text + after for text, (before, _, after) in zip(texts, parts, strict=True))
    assert batch.split(f"{around}[{body}]{around}", 8) == texts


@given(st.text(" \t\r\n\v\f\u00a0\u2003\u3000\ufeff", max_size=4))
def test_only_the_white_space_of_json_may_stand_before_a_list(before: str) -> None:
    """A no-break space, for example, is none: such a text is no list, as it is no JSON."""
    text = before + '[{"number": 1}]'
    try:
        json.loads(text)
        is_json = True
    except ValueError:
        is_json = False
    assert validation.is_list(text) == is_json


@given(st.text('[]{},:"\\ 10eEx.-ntru\ud800', max_size=20).map(lambda rest: "[" + rest))
def test_what_is_not_a_list_is_refused_as_the_standard_library_would(text: str) -> None:
    """`split` takes exactly the texts that `json.loads` takes, but for empty lists."""
    try:
        expected = json.loads(text)
    except ValueError:
        expected = None
    try:
        items = batch.split(text, 20)
    except HttpError as error:
        assert (error.status, error.code) == (400, "empty_batch" if expected == [] else "invalid_json")
    else:
        assert [json.loads(item) for item in items] == expected


def test_too_many_items_are_refused_with_the_limit() -> None:
    """The cap holds for the number of items, and the error says both."""
    with pytest.raises(HttpError) as caught:
        batch.split("[1,2,3]", 2)
    assert (caught.value.code, caught.value.details) == ("too_many_items", {"count": 3, "limit": 2})


def test_nesting_and_long_numbers_do_not_escape() -> None:
    """A list nested beyond Python's recursion is refused, and digits beyond its limit are only cut out."""
    with pytest.raises(HttpError) as caught:
        batch.split("[" * 100_000, 2)
    assert caught.value.code == "invalid_json"
    assert batch.split(f"[{'1' * 10_000}]", 1) == ["1" * 10_000]


@given(st.lists(ITEMS, max_size=12))
def test_each_item_gets_what_it_would_have_got_alone(items: list[Any]) -> None:
    """Order is kept, every item has its own outcome, and it does not depend on the others."""
    texts = [json.dumps(item) for item in items]
    together = batch.answer(texts, Request, Doubler())
    alone = [batch.answer([text], Request, Doubler())[0] for text in texts]
    assert [(outcome.text, outcome.error and outcome.error.code) for outcome in together] == [
        (outcome.text, outcome.error and outcome.error.code) for outcome in alone
    ]


@given(st.lists(ITEMS.filter(lambda item: item != {"number": 99}), max_size=12))
def test_valid_items_are_one_call(items: list[Any]) -> None:
    """All that can be answered go through the model in one call, and none where there is nothing to answer."""
    model = Doubler()
    outcomes = batch.answer([json.dumps(item) for item in items], Request, model)
    answered = sum(outcome.error is None for outcome in outcomes)
    assert model.batches == ([answered] if answered else [])


def test_an_item_that_the_model_fails_on_costs_only_itself() -> None:
    """The others are answered, the failed one is a 500 with the model's exception for the log."""
    good, bad, refused = batch.answer(['{"number":4}', '{"number":99}', '{"number":13}'], Request, Doubler())
    assert (good.text, good.error) == ("8", None)
    assert bad.error is not None
    assert (bad.error.status, bad.error.code, str(bad.defect)) == (500, "internal_error", "out of fingers")
    assert "fingers" not in bad.text
    assert refused.error is not None
    assert (refused.error.status, json.loads(refused.text)["error"]["code"]) == (400, "unlucky")


def test_types_are_those_of_json() -> None:
    """A strict model refuses in a list what it refuses alone: 1.5 and "1" are not integers."""
    outcomes = batch.answer(['{"number":1.5}', '{"number":"1"}', '{"number":1}'], Request, Doubler())
    assert [outcome.error and outcome.error.code for outcome in outcomes] == [
        "invalid_request",
        "invalid_request",
        None,
    ]
    with pytest.raises(HttpError):
        validation.parse(Request, '{"number":1.5}')


def test_a_model_that_loses_an_answer_fails() -> None:
    """One response too few is a defect of the model, and not a shorter list."""

    class Forgetful(Doubler):
        def predict(self, requests: list[Request]) -> Sequence[Response]:
            return [] if len(requests) == 1 else [Response(1)]

    outcomes = batch.answer(['{"number":1}', '{"number":2}'], Request, Forgetful())
    assert [outcome.error and outcome.error.code for outcome in outcomes] == ["internal_error"] * 2


def test_a_refusal_can_always_be_written_down() -> None:
    """Whatever a model puts into the context of its error becomes JSON, with no lone NaN and no object that JSON lacks."""

    class Odd(Doubler):
        def check(self, request: Request) -> None:
            raise PydanticCustomError("odd", "no {what}", {"what": float("nan"), "why": object(), "which": {1, 2}})

    (outcome,) = batch.answer(['{"number":1}'], Request, Odd())
    error = json.loads(outcome.text, parse_constant=None)["error"]
    assert (error["code"], error["details"]["what"]) == ("odd", "NaN")


def test_a_refusal_does_not_repeat_a_long_request() -> None:
    """Names of fields come from the client: of a long one the answer has the beginning, so that it stays small."""
    text = json.dumps({"x" * 100_000: 1, "number": 1})
    (outcome,) = batch.answer([text], Request, Doubler())
    assert outcome.error is not None
    assert outcome.error.code == "invalid_request"
    assert len(outcome.text) < 2_000


def test_an_item_that_was_refused_before_keeps_its_place() -> None:
    """An item without a text comes with the reason, which becomes its outcome."""
    refused = HttpError(400, "invalid_json", "It is nested too deeply.")
    first, second = batch.answer([refused, '{"number":4}'], Request, Doubler())
    assert (first.error, second.text) == (refused, "8")


def test_a_request_that_is_a_list_itself_is_never_a_batch() -> None:
    """Where one request is not an object, a list cannot be told from several requests, and is one."""

    class Texts(RootModel[list[str]]):
        pass

    assert validation.takes_lists(Request)
    assert not validation.takes_lists(Texts)
