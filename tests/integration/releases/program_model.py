"""A model whose release is a program: what a user who serves `torch.export` or TorchScript writes."""

from pathlib import Path

import torch
from pydantic import BaseModel


class Request(BaseModel):
    """A row of four numbers."""

    row: list[float]


class Response(BaseModel):
    """What the program makes of it."""

    row: list[float]


class Model:
    """Runs the program in the release's folder."""

    def __init__(self, program: torch.nn.Module) -> None:
        self._program = program

    @classmethod
    def load(cls, release: Path) -> "Model":
        """The program, by the name of its file."""
        exported = release / "model.pt2"
        if exported.exists():
            return cls(torch.export.load(exported).module())
        return cls(torch.jit.load(str(release / "model.torchscript")))

    def predict(self, requests: list[Request]) -> list[Response]:
        """Answer a batch."""
        with torch.inference_mode():
            rows = self._program(torch.tensor([request.row for request in requests]))
        return [Response(row=row) for row in rows.tolist()]
