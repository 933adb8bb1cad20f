"""A model whose request has a field of every kind, and which answers with what it was sent: for the page's form."""

from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class Colour(StrEnum):
    """A choice that the code knows."""

    RED = "red"
    GREEN = "green"


class Place(BaseModel):
    """Nested."""

    x: float
    y: float


class Request(BaseModel):
    """Everything that a form may have. It comes back as it was sent."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: str = Field(min_length=1, description="Any text.")
    colour: Colour
    shade: str = Field(description="Known by the release alone.")
    count: int
    ratio: float
    sure: bool
    lines: list[str]
    measures: list[float] = Field(min_length=2)
    place: Place
    note: str | None = None
    weight: float | None = Field(None, gt=0)
    perhaps: bool | None = None


class Response(BaseModel):
    """The request, field by field."""

    request: Request


class Model:
    """Knows shades."""

    @classmethod
    def load(cls, release: Path) -> "Model":
        """Nothing to load."""
        return cls()

    def predict(self, requests: list[Request]) -> list[Response]:
        """What was sent."""
        return [Response(request=request) for request in requests]

    def hints(self) -> dict[str, dict[str, list[str]]]:
        """A choice that only a release knows."""
        return {"shade": {"enum": ["dark", "light"]}}

    def example(self) -> Request:
        """A request."""
        return Request(
            text="hello",
            colour=Colour.GREEN,
            shade="light",
            count=3,
            ratio=0.5,
            sure=True,
            lines=["one", "two"],
            measures=[1, 2.5],
            place=Place(x=1, y=2),
        )
