"""A model whose request has a file of each kind and a table: for the page's widgets."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from PIL import Image as Pillow
from pydantic import BaseModel, ConfigDict, Field

from serving.types import ArrayRules, Audio, File, Image


class Request(BaseModel):
    """Turn a picture. The rest comes back in words."""

    model_config = ConfigDict(extra="forbid")

    image: Image
    rows: Annotated[np.ndarray, ArrayRules("float32", (None, 3))] = Field(description="Three numbers in each row.")
    prompt: str = "none"
    threshold: float = 0.5
    sound: Audio | None = None
    paper: File | None = None


class Response(BaseModel):
    """The picture, and what else was seen."""

    picture: Image
    doubled: list[list[float]]
    story: str
    seconds: float | None


class Model:
    """Turns pictures."""

    @classmethod
    def load(cls, release: Path) -> "Model":
        """Nothing to load."""
        return cls()

    def predict(self, requests: list[Any]) -> list[Response]:
        """Each picture upside down."""
        return [
            Response(
                picture=each.image.rotate(180),
                doubled=each.rows * 2,
                story=f"{each.prompt}\n  {each.threshold}\n  {each.paper.name if each.paper else 'no paper'}",
                seconds=None if each.sound is None else len(each.sound.samples) / each.sound.rate,
            )
            for each in requests
        ]

    def example(self) -> Request:
        """A red square and one row."""
        return Request(image=Pillow.new("RGB", (8, 8), "red"), rows=np.array([[1, 2, 3.5]]), prompt="one\nline")
