"""What a client sends and gets: the request's and the answer's JSON, its validation and its documentation.

The fields have the names and the meaning of OpenAI's chat completions, so that a client finds what it knows.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

# Far more than the longest context holds, so a longer text is a mistake. `Model.check` has the exact limit.
MAX_CHARACTERS = 100_000
MAX_MESSAGES = 256
MAX_NEW_TOKENS = 4096
MAX_STOPS = 4
MAX_STOP_CHARACTERS = 64

Text = Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)]
Stop = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARACTERS)]
FinishReason = Literal["stop", "length", "deadline"]
Role = Literal["system", "user", "assistant"]


class Message(BaseModel):
    """One message of a conversation."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    role: Role
    content: Annotated[str, Field(max_length=MAX_CHARACTERS)]


class Request(BaseModel):
    """Chat with a small language model. Give `messages`, or a `prompt` for the model to continue."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        json_schema_extra={
            "examples": [
                {"messages": [{"role": "user", "content": "What is the capital city of Japan?"}], "max_tokens": 64}
            ]
        },
    )

    messages: Annotated[
        list[Message] | None,
        Field(min_length=1, max_length=MAX_MESSAGES, description="The conversation so far, oldest message first."),
    ] = None
    prompt: Annotated[
        Text | None,
        Field(description="A text to continue as it is, without the chat template. Instead of messages."),
    ] = None
    max_tokens: Annotated[
        int, Field(ge=1, le=MAX_NEW_TOKENS, description="The answer ends after this many tokens.")
    ] = 256
    temperature: Annotated[
        float,
        Field(ge=0, le=2, allow_inf_nan=False, description="0 always takes the most probable token; more varies more."),
    ] = 0.2
    top_p: Annotated[
        float,
        Field(gt=0, le=1, description="Only the most probable tokens that together have this probability are drawn."),
    ] = 0.9
    seed: Annotated[
        int | None, Field(ge=0, lt=2**63, description="The same seed and request give the same answer.")
    ] = None
    stop: Annotated[
        Stop | Annotated[list[Stop], Field(max_length=MAX_STOPS)] | None,
        Field(description=f"Up to {MAX_STOPS} texts; the answer ends before the first."),
    ] = None
    stream: Annotated[bool, Field(description="Send the answer in pieces, as they come.")] = False

    @model_validator(mode="after")
    def _one_input(self) -> Self:
        if (self.messages is None) == (self.prompt is None):
            raise ValueError("give either messages or prompt")
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop texts, none or more."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class Usage(BaseModel):
    """How many tokens a request took."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Piece(BaseModel):
    """A part of an answer. Only the last one of a stream has a reason and the counts."""

    text: str
    finish_reason: FinishReason | None = None
    usage: Usage | None = None


class Response(BaseModel):
    """The whole answer."""

    message: Message
    finish_reason: Annotated[
        FinishReason,
        Field(description="stop: the model ended, or a stop text came; length: no room is left; deadline: time is up."),
    ]
    usage: Usage
