"""What OpenAI's clients get. The names and their meaning are OpenAI's.

Each type is a dictionary with these keys: to write one costs a start of the function less than a pydantic model does.
"""

from typing import Literal, NotRequired

# pydantic makes schemas of these, and takes the standard library's TypedDict from Python 3.12 on only.
from typing_extensions import TypedDict

FinishReason = Literal["stop", "length"]


class TokenCounts(TypedDict):
    """How many tokens a request took."""

    prompt_tokens: int
    completion_tokens: NotRequired[int]
    total_tokens: int


class AssistantMessage(TypedDict):
    """The model's message. It never refuses by a field of its own, so `refusal` is null."""

    role: Literal["assistant"]
    content: str
    refusal: None


class Choice(TypedDict):
    """The answer; there is one."""

    index: int
    message: AssistantMessage
    logprobs: None
    finish_reason: FinishReason


class ChatCompletion(TypedDict):
    """The answer of `POST /v1/chat/completions`. `system_fingerprint` names the release that answered."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[Choice]
    usage: TokenCounts


class Delta(TypedDict, total=False):
    """What a chunk adds to the message."""

    role: Literal["assistant"]
    content: str


class ChunkChoice(TypedDict):
    """The answer's next part; only the last one has a reason why the answer ends."""

    index: int
    delta: Delta
    logprobs: None
    finish_reason: FinishReason | None


class ChatCompletionChunk(TypedDict):
    """One event of a stream. The last one has no choice, but the counts, where the client asked for them."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChunkChoice]
    usage: NotRequired[TokenCounts | None]


class Embedding(TypedDict):
    """A text's vector: a list of numbers, or base64 of them as float32."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingList(TypedDict):
    """The answer of `POST /v1/embeddings`: a vector for each text, in their order."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: TokenCounts


class ModelEntry(TypedDict):
    """A model that a client can name."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(TypedDict):
    """The answer of `GET /v1/models`."""

    object: Literal["list"]
    data: list[ModelEntry]
