"""Chat completions: from OpenAI's request to the model's, and from the model's pieces to OpenAI's answer or its events."""

import json
import time
import uuid
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from serving.errors import HttpError
from serving.http import validation
from serving.http.openai import refusals
from serving.http.openai.parameters import ChatCompletionRequest
from serving.http.responses import json_text

if TYPE_CHECKING:
    from serving.contract import ChatPiece, CountsOfTokens
    from serving.http.openai.answers import (
        ChatCompletion,
        ChatCompletionChunk,
        ChunkChoice,
        Delta,
        FinishReason,
        TokenCounts,
    )

R = TypeVar("R", bound=BaseModel)

# OpenAI's clients know no end for want of time. They take it as an answer that has no room left, which it is like.
REASONS: dict[str, "FinishReason"] = {"stop": "stop", "length": "length", "deadline": "length"}
# What ends a stream of OpenAI's.
DONE = b"data: [DONE]\n\n"


def model_request(asked: ChatCompletionRequest, kind: type[R]) -> R:
    """The model's own request for a chat completion; what the client leaves out has the model's own default.

    Raises:
        HttpError: 400, by the names of the client's parameters.
    """
    fields, names = asked.fields(set(kind.model_fields))
    try:
        return validation.parse(kind, json.dumps(fields))
    except HttpError as error:
        raise refusals.renamed(error, names) from None


class ChatAnswer:
    """One answer while it is made: all at once with `whole`, or the framing of an answer in pieces.

    In pieces, each is a server-sent event. The first one has the role, the one before the last has the reason why the
    answer ends, and the last one is `[DONE]`. The counts are an event of their own, where the client asked for them.

    Args:
        name: the model's name.
        with_usage: whether a stream's client asked for the counts of tokens.

    Attributes:
        release: the version of the release that answers; set it before the first piece.
    """

    content_type = "text/event-stream"

    def __init__(self, name: str, with_usage: bool = False) -> None:
        self.release = ""
        self._identity = f"chatcmpl-{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._name = name
        self._with_usage = with_usage
        self._opened = False
        self._usage: CountsOfTokens | None = None

    def whole(self, pieces: Iterable["ChatPiece"]) -> "ChatCompletion":
        """The answer at once, from all its pieces."""
        text, reason, usage = [], None, None
        for piece in pieces:
            text.append(piece.text)
            reason, usage = piece.finish_reason or reason, piece.usage or usage
        if usage is None:
            raise ValueError("the last piece of the model's answer has no usage")
        return {
            "id": self._identity,
            "object": "chat.completion",
            "created": self._created,
            "model": self._name,
            "system_fingerprint": self._fingerprint,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "".join(text), "refusal": None},
                    "logprobs": None,
                    "finish_reason": _reason(reason),
                }
            ],
            "usage": _counts(usage),
        }

    def piece(self, piece: Any, /) -> bytes:
        """The event of a piece of text (a `ChatPiece`); before the first one, the event with the role."""
        self._usage = piece.usage or self._usage
        opening = b"" if self._opened else self._event({"role": "assistant", "content": ""})
        self._opened = True
        return opening + (self._event({"content": piece.text}) if piece.text else b"")

    def end(self, summary: Mapping[str, Any], /) -> bytes:
        """The events that end an answer. One that was cut short by the function has no counts."""
        ending = self._event({}, _reason(summary["finish_reason"]))
        if self._with_usage and self._usage is not None:
            ending += _data({**self._chunk([]), "usage": _counts(self._usage)})
        return ending + DONE

    def error(self, error: HttpError, /) -> bytes:
        """The last event of an answer that fails in the middle. The client raises it as an exception."""
        return _data(refusals.body_of(error))

    def _event(self, delta: "Delta", reason: "FinishReason | None" = None) -> bytes:
        choice: ChunkChoice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        chunk = self._chunk([choice])
        if self._with_usage:
            chunk["usage"] = None
        return _data(chunk)

    def _chunk(self, choices: list["ChunkChoice"]) -> "ChatCompletionChunk":
        return {
            "id": self._identity,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._name,
            "system_fingerprint": self._fingerprint,
            "choices": choices,
        }

    @property
    def _fingerprint(self) -> str:
        return f"fp_{self.release[:12]}"


def _reason(reason: str | None) -> "FinishReason":
    return REASONS.get(reason or "stop", "stop")


def _data(content: object) -> bytes:
    return f"data: {json_text(content)}\n\n".encode(errors="replace")


def _counts(usage: "CountsOfTokens") -> "TokenCounts":
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
