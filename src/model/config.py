"""`model.json`: what a release says about its weights, and how the folder is laid out."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

CONFIG_FILE = "model.json"
WEIGHTS_FILE = "weights.safetensors"

# A release is data from outside: without bounds, a wrong number could become a huge table or an endless name.
HiddenSize = Annotated[int, Field(ge=1, le=65_536)]
NameLength = Annotated[int, Field(ge=1, le=1_000)]
StartLetters = Annotated[int, Field(ge=1, le=10_000)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Architecture(_Strict):
    """Which network the weights belong to, and its free size."""

    type: Literal["char-rnn"] = "char-rnn"
    hidden_size: HiddenSize = 128


class Config(_Strict):
    """The release's `model.json`. `training` holds figures for people; no code uses them."""

    architecture: Architecture
    categories: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
    letters: Annotated[str, Field(min_length=1)]
    max_length: NameLength = 20
    max_start_letters: StartLetters = 64
    training: dict[str, JsonValue] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _every_name_once(self) -> Self:
        for what, items in (("categories", self.categories), ("letters", list(self.letters))):
            twice = sorted({item for item in items if items.count(item) > 1}) if len(set(items)) < len(items) else []
            if twice:
                raise ValueError(f"{what}: {', '.join(map(repr, twice))} occurs more than once")
        return self

    @property
    def end(self) -> int:
        """The index of the end marker: the one after the letters' indices."""
        return len(self.letters)

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """The tensors of this release's network (`model.network.RNN`): name to shape."""
        hidden, symbols = self.architecture.hidden_size, len(self.letters) + 1
        combined = len(self.categories) + symbols + hidden
        layers = {"i2h": (hidden, combined), "i2o": (symbols, combined), "o2o": (symbols, hidden + symbols)}
        return {
            f"{layer}.{part}": shape
            for layer, (rows, columns) in layers.items()
            for part, shape in (("weight", (rows, columns)), ("bias", (rows,)))
        }


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
