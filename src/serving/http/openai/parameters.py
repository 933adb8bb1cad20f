"""What OpenAI's clients send, and which of its parameters the function takes.

A parameter that the function cannot follow is refused, so that nobody takes an answer for something that it is not.
Null is as good as no parameter everywhere.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

from serving.http.openai import refusals

# Parameters that the model's own request has under the same name.
SAMPLING = ("temperature", "top_p", "seed", "stop")
# Parameters that say nothing about the answer: who asks, what else to do with it, and how quickly.
WITHOUT_EFFECT = frozenset(
    {
        *("user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"),
        *("service_tier", "store", "parallel_tool_calls"),
    }
)
# Parameters that the function takes with the value that means what it does anyway: the value, and what it does.
FIXED: dict[str, tuple[Any, str]] = {
    "n": (1, "one request gets one answer"),
    "presence_penalty": (0, "tokens are not weighed by what is in the text"),
    "frequency_penalty": (0, "tokens are not weighed by what is in the text"),
    "logit_bias": ({}, "tokens are not weighed"),
    "logprobs": (False, "an answer has no probabilities"),
    "tools": ([], "the model calls no tools"),
    "functions": ([], "the model calls no functions"),
    "tool_choice": ("none", "the model calls no tools"),
    "function_call": ("none", "the model calls no functions"),
    "response_format": ({"type": "text"}, "an answer is text"),
    "modalities": (["text"], "an answer is text"),
}


class TextPart(BaseModel):
    """A part of a message: text is the only kind that there is."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["text"]
    text: StrictStr


class SpokenMessage(BaseModel):
    """A message of a conversation. An answer of this function may come back as it is, with all its empty fields."""

    model_config = ConfigDict(extra="allow")

    role: StrictStr
    content: StrictStr | list[TextPart]

    def plain(self, place: str) -> dict[str, str]:
        """The message with a role and a text, and nothing else.

        Raises:
            HttpError: 400 `unsupported_parameter`: it has more than that, such as calls of tools.
        """
        for name, value in (self.model_extra or {}).items():
            if value not in (None, [], {}):
                raise refusals.unsupported(f"{place}.{name}", "a message has a role and a content, and nothing else")
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class StreamOptions(BaseModel):
    """What a stream brings beside text."""

    model_config = ConfigDict(extra="ignore")

    include_usage: StrictBool | None = None


class ChatCompletionRequest(BaseModel):
    """A conversation to go on with: the body of `POST /v1/chat/completions`."""

    model_config = ConfigDict(extra="allow")

    model: Annotated[StrictStr, Field(description="The model's name, which GET /v1/models lists.")]
    messages: Annotated[list[SpokenMessage], Field(min_length=1, description="The conversation, oldest message first.")]
    max_completion_tokens: StrictInt | None = None
    max_tokens: Annotated[StrictInt | None, Field(description="The older name of max_completion_tokens.")] = None
    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None

    @property
    def wants_usage(self) -> bool:
        """Whether a stream's last chunk shall have the counts of tokens."""
        return self.stream_options is not None and self.stream_options.include_usage is True

    def fields(self, known: set[str]) -> tuple[dict[str, Any], dict[str, str]]:
        """The fields of the model's request, and the parameter that each comes from.

        Args:
            known: the fields that the model's request has.

        Raises:
            HttpError: 400 `unsupported_parameter`: a parameter asks for what the function or the model cannot do.
        """
        messages = [message.plain(f"messages[{place}]") for place, message in enumerate(self.messages)]
        found: dict[str, Any] = {"messages": messages}
        names = {"messages": "messages"}
        for name in ("max_completion_tokens", "max_tokens"):
            if (limit := getattr(self, name)) is not None and "max_tokens" not in found:
                found["max_tokens"], names["max_tokens"] = limit, name
        for name, value in (self.model_extra or {}).items():
            if name in SAMPLING and value is not None:
                found[name], names[name] = value, name
            else:
                _check_without_effect(name, value)
        for field, name in names.items():
            if field not in known:
                raise refusals.unsupported(name, "this model has no such setting")
        return found, names


class EmbeddingsRequest(BaseModel):
    """Texts to embed: the body of `POST /v1/embeddings`."""

    model_config = ConfigDict(extra="allow")

    model: Annotated[StrictStr, Field(description="The model's name, which GET /v1/models lists.")]
    input: Annotated[StrictStr | list[StrictStr], Field(description="A text, or a list of texts. No token numbers.")]
    encoding_format: Annotated[
        Literal["float", "base64"], Field(description="base64: the numbers as float32, least significant byte first.")
    ] = "float"

    def check(self) -> None:
        """Refuse parameters that ask for what the function cannot do.

        Raises:
            HttpError: 400 `unsupported_parameter`.
        """
        for name, value in (self.model_extra or {}).items():
            _check_without_effect(name, value)


def _check_without_effect(name: str, value: Any) -> None:
    if value is None or name in WITHOUT_EFFECT:
        return
    if name not in FIXED:
        raise refusals.unsupported(name[:100], "there is no such parameter here")
    taken, reason = FIXED[name]
    if value != taken:
        raise refusals.unsupported(name, f"{reason}, so only {taken!r} is taken")
