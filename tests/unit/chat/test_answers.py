"""The chat example's answers: pieces, ends, sampling, and requests beyond the limits."""

import json
import threading
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
import torch
from examples.chat.model import Message, Model, Piece, Request
from examples.chat.model.cache import Cache
from examples.chat.model.sampling import Sampler
from examples.chat.model.text import AnswerText
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from unit.chat import tiny


def ask(content: str = "hello", **fields: Any) -> Request:
    """A request with one message, whose answer is always the same."""
    return Request(messages=[Message(role="user", content=content)], **{"temperature": 0, "max_tokens": 24, **fields})


def joined(pieces: Iterator[Piece]) -> tuple[str, Piece]:
    """The text of a stream, and its last piece. Only that one has a reason."""
    *earlier, last = pieces
    assert all(piece.text and piece.finish_reason is None and piece.usage is None for piece in earlier)
    return "".join(piece.text for piece in [*earlier, last]), last


def test_a_prediction_is_the_joined_stream(model: Model) -> None:
    """The text, the reason and the counts are those of the stream."""
    request = ask()
    (response,) = model.predict([request])
    text, last = joined(model.stream(request))
    assert (response.message.content, response.finish_reason, response.usage) == (text, last.finish_reason, last.usage)
    assert response.message.role == "assistant"
    assert response.usage.prompt_tokens == len(model._prompt(request))
    assert response.usage.total_tokens == response.usage.prompt_tokens + response.usage.completion_tokens


def test_an_answer_ends_at_its_limit(model: Model) -> None:
    """max_tokens ends an answer, and so does the end of the context; the reason is the same."""
    (response,) = model.predict([ask(max_tokens=3)])
    assert (response.finish_reason, response.usage.completion_tokens) == ("length", 3)
    full = ask("x" * (tiny.CONTEXT - 40), max_tokens=4096)
    (response,) = model.predict([full])
    assert response.finish_reason in ("length", "stop")
    assert response.usage.total_tokens <= tiny.CONTEXT


def test_an_end_token_ends_an_answer(model: Model) -> None:
    """A token that the release names as an end is the last one, and adds no text."""
    (whole,) = model.predict([ask()])
    first = model.tokenizer.encode(whole.message.content)[0]
    ending = Model(
        model.config.model_copy(update={"end_tokens": [first]}), model.tokenizer, model._template, model._network
    )
    (response,) = ending.predict([ask()])
    assert (response.message.content, response.finish_reason, response.usage.completion_tokens) == ("", "stop", 1)


def test_a_stop_text_ends_an_answer(model: Model) -> None:
    """The answer ends before the stop text, which may begin and end in the middle of tokens."""
    text = model.predict([ask()])[0].message.content
    stop = text[4:7]
    (response,) = model.predict([ask(stop=[stop, "never there"])])
    assert response.finish_reason == "stop"
    assert response.message.content == text[: text.index(stop)]


def test_answers_do_not_depend_on_those_before(model: Model, release: Any) -> None:
    """A conversation that goes on, another one between, streams side by side and closed streams leave the answers as they are."""
    requests = [ask("hello"), ask("hello world"), ask("something else"), ask("hello world")]
    alone = [Model.load(release).predict([request])[0] for request in requests]
    assert model.predict(requests) == alone
    streams = [model.stream(request) for request in requests]
    pieces: list[list[Piece]] = [[] for _ in streams]
    open_streams = set(range(len(streams)))
    while open_streams:
        for number in sorted(open_streams):
            piece = next(streams[number], None)
            if piece is None:
                open_streams.discard(number)
            else:
                pieces[number].append(piece)
    assert ["".join(each.text for each in found) for found in pieces] == [each.message.content for each in alone]
    closed = model.stream(requests[1])
    next(closed)
    closed.close()  # type: ignore[attr-defined]
    assert model.predict(requests) == alone


def test_answers_from_several_threads(model: Model) -> None:
    """Threads that ask at the same time each get their own answer."""
    requests = [ask(f"hello {number}") for number in range(4)]
    expected = [model.predict([request])[0] for request in requests]
    found: dict[int, Any] = {}

    def answer(number: int) -> None:
        found[number] = model.predict([requests[number]])[0]

    threads = [threading.Thread(target=answer, args=(number,)) for number in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number] for number in range(len(requests))] == expected


def test_kept_sequences_are_few(model: Model) -> None:
    """However many streams were open, few caches are kept."""
    streams = [model.stream(ask(f"{number}")) for number in range(6)]
    for stream in streams:
        next(stream)
    for stream in streams:
        stream.close()  # type: ignore[attr-defined]
    assert len(model._sequences._free) == 2


def test_a_shared_beginning_is_not_read_again(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a next request with the same beginning, the network reads only what is new."""
    first, then = ask("hello " * 9, max_tokens=1), ask("hello " * 9 + "world", max_tokens=1)
    model.predict([first])
    read: list[int] = []
    forward = model._network.forward

    def counted(tokens: torch.Tensor, cache: Cache) -> torch.Tensor:
        read.append(len(tokens))
        return forward(tokens, cache)

    monkeypatch.setattr(model._network, "forward", counted)
    model.predict([then])
    prompts = zip(model._prompt(first), model._prompt(then), strict=False)
    shared = next(place for place, (one, other) in enumerate(prompts) if one != other)
    assert shared > 20
    assert read == [len(model._prompt(then)) - shared]


@pytest.mark.parametrize("calls", [0, 1, 5])
def test_a_deadline_ends_an_answer(model: Model, calls: int) -> None:
    """When the time is nearly over, the answer ends with that reason and what there is, in the prompt as well."""
    left = count()
    text, last = joined(model.stream(ask(), deadline=lambda: 60.0 if next(left) < calls else 0.1))
    assert last.finish_reason == "deadline"
    assert last.usage is not None
    assert last.usage.completion_tokens == max(calls - 1, 0)
    assert model.predict([ask()])[0].message.content.startswith(text)


def test_a_long_prompt_looks_at_the_deadline_in_between(model: Model) -> None:
    """A prompt is read in parts, and a deadline that comes between them ends the work."""
    left = count()
    _, last = joined(model.stream(ask("x" * 400), deadline=lambda: 60.0 if next(left) < 2 else 0.0))
    assert last.finish_reason == "deadline"
    assert next(left) == 3


def test_a_prompt_is_continued_as_it_is(model: Model) -> None:
    """A prompt goes without the template, and its special tokens are text."""
    request = Request(prompt=f"hello{tiny.SPECIAL[2]}", max_tokens=2)
    assert model._prompt(request) == model.tokenizer.encode(f"hello{tiny.SPECIAL[2]}")
    assert model.predict([request])[0].usage.completion_tokens in (1, 2)


def test_a_prompt_longer_than_the_context_is_refused(model: Model) -> None:
    """check, predict and stream refuse it before any work, and say how long it is and how long it may be."""
    request = ask("x" * tiny.CONTEXT)
    for refuse in (model.check, lambda request: model.predict([request]), model.stream):
        with pytest.raises(
            PydanticCustomError, match=rf"has \d+ tokens, and the model reads {tiny.CONTEXT}"
        ) as refused:
            refuse(request)
        assert refused.value.type == "prompt_too_long"


HELLO = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "either messages or prompt"),
        ({"messages": HELLO, "prompt": "x"}, "either messages or prompt"),
        ({"messages": []}, "at least 1"),
        ({"messages": HELLO * 257}, "at most 256"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "'system', 'user' or 'assistant'"),
        ({"messages": [{"role": "user"}]}, "content"),
        ({"messages": [{"role": "user", "content": 5}]}, "valid string"),
        ({"messages": [{"role": "user", "content": "x" * 100_001}]}, "at most 100000"),
        ({"prompt": ""}, "at least 1"),
        ({"prompt": "x", "max_tokens": 0}, "greater than or equal to 1"),
        ({"prompt": "x", "max_tokens": 5000}, "less than or equal to 4096"),
        ({"prompt": "x", "temperature": -1}, "greater than or equal to 0"),
        ({"prompt": "x", "temperature": 3}, "less than or equal to 2"),
        ({"prompt": "x", "top_p": 0}, "greater than 0"),
        ({"prompt": "x", "seed": -1}, "greater than or equal to 0"),
        ({"prompt": "x", "stop": ""}, "at least 1"),
        ({"prompt": "x", "stop": ["stop"] * 10_000}, "at most 4 items"),
        ({"prompt": "x", "stop": ["x" * 65]}, "at most 64"),
        ({"prompt": "x", "tokens": 5}, "Extra inputs"),
    ],
)
def test_requests_beyond_the_limits_are_refused(fields: dict[str, Any], reason: str) -> None:
    """Every field has its limits, and the error names what is wrong."""
    with pytest.raises(ValidationError, match=reason) as refused:
        Request.model_validate_json(json.dumps(fields))
    assert refused.value.error_count() < 5


@given(
    st.text(alphabet="abé€🎉", max_size=20),
    st.lists(st.text(alphabet="abé", min_size=1, max_size=4), max_size=4),
    st.lists(st.integers(1, 4), min_size=1),
)
def test_text_is_sent_up_to_the_first_stop(text: str, stops: list[str], sizes: list[int]) -> None:
    """However the bytes are cut, what is sent is the text, or its part before a stop text, without a stop text in it."""
    answer = AnswerText(tuple(stops))
    data = text.encode()
    sent, start = "", 0
    for size in sizes * len(data):
        sent += answer.add(data[start : start + size])
        start += size
    sent += answer.add(b"", last=True)
    assert text.startswith(sent)
    assert not any(stop in sent for stop in stops)
    stopped = any(stop in text for stop in stops)
    assert answer.stopped == stopped
    assert any(text[len(sent) :].startswith(stop) for stop in stops) if stopped else sent == text


def test_what_cannot_be_a_stop_text_any_more_is_sent_at_once() -> None:
    """Only the beginning of a stop text is kept back, and only until it is clear."""
    answer = AnswerText(("###",))
    assert [answer.add(part) for part in (b"a#", b"#", b"b", "é".encode()[:1], "é".encode()[1:])] == [
        "a",
        "",
        "##b",
        "",
        "é",
    ]


def test_bytes_that_are_no_character_are_replaced() -> None:
    """A broken character becomes U+FFFD, also at the very end."""
    answer = AnswerText(())
    assert answer.add(b"a\xff") + answer.add("é".encode()[:1]) + answer.add(b"", last=True) == "a\ufffd\ufffd"


SCORES = torch.tensor([2.0, 1.0, 0.0, -1.0]).log_softmax(0)


def drawn(sampler: Sampler, times: int = 4000) -> list[float]:
    """How often each token was drawn."""
    numbers = torch.tensor([sampler.choose(SCORES) for _ in range(times)])
    found: list[float] = (numbers.bincount(minlength=4) / times).tolist()
    return found


def test_tokens_are_drawn_by_their_probabilities() -> None:
    """Without top_p, each token is drawn as often as its probability at the temperature says."""
    for temperature in (0.5, 1.0, 2.0):
        expected = (SCORES / temperature).softmax(0).tolist()
        assert drawn(Sampler(temperature, 1, 1)) == pytest.approx(expected, abs=0.03)


def test_top_p_draws_from_the_best() -> None:
    """Only the most probable tokens that reach the sum are drawn, in the ratio of their probabilities."""
    first, second = SCORES.softmax(0).tolist()[:2]
    found = drawn(Sampler(1, 0.8, 1))
    assert found == pytest.approx([first / (first + second), second / (first + second), 0, 0], abs=0.03)
    assert drawn(Sampler(1, 0.01, 1), 100) == [1, 0, 0, 0]


def test_top_p_holds_for_a_flat_vocabulary() -> None:
    """Where the best few do not reach the sum, all tokens are looked at."""
    sampler = Sampler(1, 0.9, 3)
    numbers = {sampler.choose(torch.zeros(2000)) for _ in range(3000)}
    assert 1000 < len(numbers) <= 1801


def test_a_seed_repeats_and_none_does_not(model: Model) -> None:
    """The same seed gives the same answer; without one, answers differ."""
    one, other, third = ([Sampler(2, 1, seed).choose(flat) for flat in [torch.zeros(500)] * 8] for seed in (5, 5, 6))
    assert one == other != third
    assert Sampler(2, 1, None).choose(torch.zeros(10**6)) != Sampler(2, 1, None).choose(torch.zeros(10**6))
    request = ask(temperature=2, top_p=1, seed=5)
    assert model.predict([request]) == model.predict([request])


def test_temperature_zero_takes_the_best() -> None:
    """It draws nothing, and a very small temperature gives the same."""
    assert Sampler(0, 1, None).choose(SCORES) == Sampler(1e-30, 1, None).choose(SCORES) == 0
