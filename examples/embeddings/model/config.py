"""`model.json`: the sizes of the network that a release's weights belong to, and how its folder is laid out."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

CONFIG_FILE = "model.json"
VOCABULARY_FILE = "vocab.txt"
WEIGHTS_FILE = "weights.safetensors"

# A release is data from outside: bounds keep a wrong number from becoming a huge network.
Size = Annotated[int, Field(ge=1, le=1_000_000)]


class Config(BaseModel):
    """The release's `model.json`.

    Attributes:
        vocabulary: word pieces.
        hidden: numbers a token, and so of an embedding.
        intermediate: width of the feed-forward layers.
        positions: tokens that have a position's embedding.
        max_tokens: what is read of a text, the two special tokens included; not more than positions.
        source: where the weights come from, for people.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    type: Literal["bert-mean-pooling"] = "bert-mean-pooling"
    vocabulary: Size
    hidden: Size
    layers: Annotated[int, Field(ge=1, le=100)]
    heads: Annotated[int, Field(ge=1, le=256)]
    intermediate: Size
    positions: Size
    layer_norm_epsilon: Annotated[float, Field(gt=0, lt=1)]
    max_tokens: Annotated[int, Field(ge=3)]
    source: str = ""

    @model_validator(mode="after")
    def _sizes_agree(self) -> Self:
        if self.hidden % self.heads:
            raise ValueError(f"hidden ({self.hidden}) is not a multiple of heads ({self.heads})")
        if self.max_tokens > self.positions:
            raise ValueError(f"max_tokens ({self.max_tokens}) is more than positions ({self.positions})")
        return self


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
