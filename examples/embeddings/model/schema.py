"""What a client sends and gets: the request's and the answer's JSON, its validation and its documentation."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, RootModel

# 64 texts of full length are some 16,000 tokens: seconds of one vCPU, well within API Gateway's 29.
MAX_TEXTS = 64
# Several times what the encoder reads of a text (256 word pieces); a longer one is rather a mistake than a sentence.
MAX_CHARACTERS = 10_000


class Request(BaseModel):
    """Texts to embed. Types are strict, and unknown keys are errors, so that a misspelt key is never silently ignored."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        json_schema_extra={"examples": [{"texts": ["A man is eating food.", "A man eats a piece of bread."]}]},
    )

    texts: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)]],
        Field(
            min_length=1,
            max_length=MAX_TEXTS,
            description="The texts: English sentences or short paragraphs. Of a longer one, the first 256 word pieces count.",
        ),
    ]


class Response(RootModel[list[list[float]]]):
    """One vector a text, in the texts' order: 384 numbers of length 1, so the dot product of two is their cosine similarity."""
