"""Embeddings: from OpenAI's request to the model's, and from the model's vectors to OpenAI's answer."""

import base64
import json
import sys
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel

from serving.errors import HttpError
from serving.http import validation
from serving.http.openai import refusals
from serving.http.openai.parameters import EmbeddingsRequest

if TYPE_CHECKING:
    from serving.http.openai.answers import EmbeddingList

R = TypeVar("R", bound=BaseModel)


def model_request(asked: EmbeddingsRequest, kind: type[R]) -> R:
    """The model's own request for embeddings.

    Raises:
        HttpError: 400, by the names of the client's parameters.
    """
    asked.check()
    texts = [asked.input] if isinstance(asked.input, str) else asked.input
    try:
        return validation.parse(kind, json.dumps({"texts": texts}))
    except HttpError as error:
        raise refusals.renamed(error, {"texts": "input"}) from None


def answer(asked: EmbeddingsRequest, vectors: Sequence[Sequence[float]], tokens: int, name: str) -> "EmbeddingList":
    """OpenAI's answer.

    Args:
        asked: what the client sent.
        vectors: one for each text, in their order.
        tokens: how many tokens the model read.
        name: the model's name.
    """
    encode = _base64 if asked.encoding_format == "base64" else list
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": encode(vector)} for index, vector in enumerate(vectors)
        ],
        "model": name,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _base64(vector: Sequence[float]) -> str:
    numbers = array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode()
