"""Batches, draws, and what only a release can refuse."""

import string
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from model import Model, Request, Response

MakeRelease = Callable[..., Path]


@pytest.fixture(scope="session")
def model(release: Path) -> Model:
    """The trained release, loaded once."""
    return Model.load(release)


def one(model: Model, request: Request) -> list[str]:
    """The names of one request, in a batch of its own."""
    (response,) = model.predict([request])
    return response.root


def russian(**options: object) -> Request:
    """The 2018 post's request."""
    return Request.model_validate({"category": "Russian", "start_letters": "RUS", **options})


def test_there_is_one_name_for_each_start_letter(model: Model) -> None:
    """Names come in the order of their start letters, and begin with them."""
    names = one(model, Request(category="Greek", start_letters="ZAAb"))
    assert [name[0] for name in names] == ["Z", "A", "A", "b"]
    assert names[1] == names[2]


@given(st.lists(st.tuples(st.integers(0, 16), st.text("ABCdef -", min_size=1, max_size=5)), max_size=6))
def test_a_batch_answers_each_request_as_if_alone(model: Model, asked: list[tuple[int, str]]) -> None:
    """A request's names do not depend on the others in its batch, drawn or not."""
    requests = [
        Request(
            category=model.config.categories[category],
            start_letters=letters,
            temperature=None if place % 2 else 0.7,
            seed=None if place % 2 else place,
        )
        for place, (category, letters) in enumerate(asked)
    ]
    assert [response.root for response in model.predict(requests)] == [one(model, each) for each in requests]


def test_an_empty_batch_has_no_answers(model: Model) -> None:
    """No requests, no responses."""
    assert model.predict([]) == []


def test_a_seed_makes_a_draw_repeatable(model: Model) -> None:
    """The same seed draws the same names, another seed draws others."""
    drawn = {seed: one(model, russian(temperature=1.5, seed=seed)) for seed in (0, 1, 2**63 - 1)}
    assert drawn == {seed: one(model, russian(temperature=1.5, seed=seed)) for seed in drawn}
    assert len({tuple(names) for names in drawn.values()}) == 3


def test_without_a_seed_every_draw_is_new(model: Model) -> None:
    """Twenty names drawn at a high temperature without a seed do not come twice."""
    letters = "ABCDEFGHIJKLMNOPQRST"
    request = Request(category="Russian", start_letters=letters, temperature=2.0)
    assert one(model, request) != one(model, request)


def test_drawing_goes_on_from_where_fewer_letters_stopped(model: Model) -> None:
    """With one seed, more start letters add names and leave the first ones as they are."""
    more = one(model, russian(start_letters="RUSSIA", temperature=1.0, seed=5))
    assert more[:3] == one(model, russian(temperature=1.0, seed=5))


def test_the_smallest_temperature_is_the_likeliest_letter(model: Model) -> None:
    """A temperature that is nearly zero writes what no temperature writes."""
    assert one(model, russian(temperature=5e-324, seed=1)) == one(model, russian())


@pytest.mark.parametrize(
    ("category", "letters", "code", "message", "context"),
    [
        ("Klingon", "A", "unknown_category", "Unknown category 'Klingon'; this release knows Arabic, Chinese, ", None),
        ("{categories}", "A", "unknown_category", "Unknown category '{categories}'; ", None),
        ("K" * 1000, "A", "unknown_category", f"Unknown category '{'K' * 40}...'; ", None),
        ("Greek", "", "empty_start_letters", "start_letters is empty", None),
        (
            "Greek",
            "A" * 65,
            "too_many_start_letters",
            "start_letters has 65 letters; at most 64",
            {"count": 65, "limit": 64},
        ),
        (
            "Greek",
            "Aé1é{",
            "unknown_letters",
            "start_letters has letters that this release does not know: é1{. It knows abc",
            {"unknown": "é1{", "letters": string.ascii_letters + " .,;'-"},
        ),
    ],
)
def test_what_a_release_cannot_answer_is_refused(
    model: Model, category: str, letters: str, code: str, message: str, context: dict[str, object] | None
) -> None:
    """The error has a code for programs, a message for people, and what a client needs to do better."""
    with pytest.raises(PydanticCustomError) as caught:
        model.check(Request(category=category, start_letters=letters))
    assert caught.value.type == code
    assert caught.value.message().startswith(message)
    if context is not None:
        assert caught.value.context == context


def test_an_unknown_category_lists_the_known_ones(model: Model) -> None:
    """The error's context has every category of the release."""
    with pytest.raises(PydanticCustomError) as caught:
        model.check(Request(category="russian", start_letters="A"))
    assert caught.value.context == {"categories": model.config.categories, "category": "russian"}


def test_the_cap_on_start_letters_is_the_releases_own(make_release: MakeRelease) -> None:
    """`max_start_letters` letters are written, one more is refused."""
    model = Model.load(make_release(max_start_letters=2))
    model.check(Request(category="Greek", start_letters="AB"))
    with pytest.raises(PydanticCustomError, match="3 letters; at most 2"):
        model.check(Request(category="Greek", start_letters="ABC"))


@pytest.mark.parametrize(
    "replaced", [{}, {"letters": "z"}, {"max_start_letters": 1}, {"letters": "ab-", "max_length": 1}]
)
def test_the_example_can_be_predicted(make_release: MakeRelease, replaced: dict[str, object]) -> None:
    """Whatever the release, its example request passes its own check and gives names."""
    model = Model.load(make_release(**replaced))
    example = model.example()
    model.check(example)
    assert len(one(model, example)) == len(example.start_letters) >= 1


def test_a_response_is_a_json_array(model: Model) -> None:
    """A response serializes to the array of names itself."""
    assert Response(["Rakov", "O'Neil"]).model_dump_json() == '["Rakov","O\'Neil"]'
