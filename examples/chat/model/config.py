"""`model.json`: the sizes of the network that a release's weights belong to, and how its folder is laid out."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

CONFIG_FILE = "model.json"
TEMPLATE_FILE = "chat_template.jinja"
VOCABULARY_FILE = "vocabulary.json"
WEIGHTS_FILE = "weights.safetensors"

# Weights that share one scale. It is the size of llama.cpp's Q4_0, Q4_1 and Q8_0 blocks.
GROUP = 32
# Rows that torch packs together for its 4-bit kernel.
BLOCK = 64
# Bytes: a line of the processor's cache. Weights lie at multiples of it.
ALIGNMENT = 64

# A release is data from outside: bounds keep a wrong number from becoming a huge network.
Size = Annotated[int, Field(ge=1, le=1_000_000)]
WeightFormat = Literal["float32", "bf16", "int8", "int4"]


class Config(BaseModel):
    """The release's `model.json`.

    Attributes:
        weights: how the linear layers are stored: float32, bf16, int8 (one scale a row) or int4 (a scale and a zero a group).
        vocabulary: tokens.
        hidden: numbers a token between the layers.
        heads: query heads; each group of heads / key_value_heads shares one key and value head.
        head_size: numbers a head; even, since the rotary embedding turns pairs.
        intermediate: width of the feed-forward layers.
        rope_base: base of the rotary embedding's wave lengths.
        context: tokens of a prompt and its answer together, at most.
        tied: the embedding is the output layer too.
        end_tokens: tokens that end an answer.
        source: where the weights come from, for people.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    type: Literal["llama"] = "llama"
    weights: WeightFormat
    vocabulary: Size
    hidden: Size
    layers: Annotated[int, Field(ge=1, le=200)]
    heads: Annotated[int, Field(ge=1, le=256)]
    key_value_heads: Annotated[int, Field(ge=1, le=256)]
    head_size: Annotated[int, Field(ge=2, le=1024, multiple_of=2)]
    intermediate: Size
    rope_base: Annotated[float, Field(gt=1, le=1e12)]
    rms_norm_epsilon: Annotated[float, Field(gt=0, lt=1)]
    context: Annotated[int, Field(ge=16, le=131_072)]
    tied: bool
    end_tokens: Annotated[list[int], Field(min_length=1, max_length=16)]
    source: str = ""

    @model_validator(mode="after")
    def _sizes_agree(self) -> Self:
        if self.heads % self.key_value_heads:
            raise ValueError(f"heads ({self.heads}) is not a multiple of key_value_heads ({self.key_value_heads})")
        if beyond := [token for token in self.end_tokens if not 0 <= token < self.vocabulary]:
            raise ValueError(f"end_tokens {beyond} are not among the {self.vocabulary} tokens")
        widths = {"hidden": self.hidden, "intermediate": self.intermediate, "heads * head_size": self.query_size}
        if self.weights in ("int4", "int8") and (odd := [name for name in widths if widths[name] % GROUP]):
            raise ValueError(f"{self.weights} needs multiples of {GROUP}, and {', '.join(odd)} are not")
        rows = {"hidden": self.hidden, "intermediate": self.intermediate, "query, key and value": self.fused_size}
        if self.weights == "int4" and (odd := [name for name in rows if rows[name] % BLOCK]):
            raise ValueError(f"int4 needs multiples of {BLOCK} rows, and {', '.join(odd)} are not")
        return self

    @property
    def query_size(self) -> int:
        """Numbers a token of all query heads."""
        return self.heads * self.head_size

    @property
    def key_size(self) -> int:
        """Numbers a token of all key heads, or of all value heads."""
        return self.key_value_heads * self.head_size

    @property
    def fused_size(self) -> int:
        """Numbers a token of query, key and value together."""
        return self.query_size + 2 * self.key_size


def read_config(release: Path) -> Config:
    """Read and validate `model.json` of the release folder.

    Raises:
        ValueError: the file is missing, is not JSON, or says something impossible; the message lists every place.
    """
    path = release / CONFIG_FILE
    try:
        return Config.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        places = "; ".join(
            f"{'.'.join(map(str, each['loc'])) or 'the file'}: {each['msg']}"
            for each in error.errors(include_url=False, include_input=False, include_context=False)
        )
        raise ValueError(f"{path}: {places}") from None
