"""What a client sends and gets: the JSON of requests and responses, its validation and its documentation."""

from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, RootModel, model_validator
from pydantic_core import PydanticCustomError


def _whole(value: object) -> object:
    """JSON has one kind of number: 7.0 is the integer 7 (JSON Schema 2020-12, section 4.2.3)."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Request(BaseModel):
    """Names to write: one for each start letter, in the style of one category.

    Types are strict (`"3"` is not a number, `true` is not a string) and unknown keys are errors, so that a misspelt
    option is never ignored in silence. `Model.check` checks what only a release knows: its categories and its letters.
    """

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        json_schema_extra={
            "examples": [
                {"category": "Russian", "start_letters": "RUS"},
                {"category": "Russian", "start_letters": "RUS", "temperature": 0.8, "seed": 1},
            ],
            # What `_seed_has_something_to_do` refuses, in JSON Schema.
            "if": {"required": ["seed"], "properties": {"seed": {"type": "integer"}}},
            "then": {"required": ["temperature"], "properties": {"temperature": {"type": "number"}}},
        },
    )

    category: Annotated[
        str, Field(description="The language whose names are imitated, spelt as in the release.", examples=["Russian"])
    ]
    start_letters: Annotated[
        str,
        Field(description="The letters that the names begin with: one name for each letter.", examples=["RUS"]),
    ]
    temperature: Annotated[
        float | None,
        Field(
            gt=0,
            le=2,
            allow_inf_nan=False,
            description="How freely letters are drawn: near 0 the likeliest letter nearly always wins, 1 follows the "
            "model's own probabilities, 2 is wild. Without it the likeliest letter always wins, and the same request "
            "always gives the same names.",
            examples=[0.8],
        ),
    ] = None
    seed: Annotated[
        int | None,
        Field(
            ge=0,
            lt=2**63,
            description="Makes a draw repeatable: the same request with the same seed gives the same names. It needs a "
            "temperature; without a seed, every draw is a new one.",
            examples=[1],
        ),
        BeforeValidator(_whole),
    ] = None

    @model_validator(mode="after")
    def _seed_has_something_to_do(self) -> Self:
        # If it were ignored, a client that tries several seeds would get the same names and no reason.
        if self.seed is not None and self.temperature is None:
            raise PydanticCustomError(
                "seed_without_temperature",
                "A seed only matters when letters are drawn: give a temperature (such as 0.8) with it, or leave it out",
            )
        return self


class Response(RootModel[list[str]]):
    """The names, in the order of the request's start letters."""

    model_config = ConfigDict(json_schema_extra={"examples": [["Rakov", "Ushanov", "Shalin"]]})
