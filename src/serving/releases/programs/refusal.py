"""The error of a program that may not be loaded, and the kinds of programs."""

from typing import Literal

from serving.errors import ServingError

Kind = Literal["torchscript", "torch.export"]


class ProgramError(ServingError):
    """A program may not be loaded. The message says why, in words that follow the file's name, without the path."""
