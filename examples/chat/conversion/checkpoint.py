"""What a release is made of, whatever kind of file it was in."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from examples.chat.model.tokenizer import Vocabulary
from torch import Tensor


class ConversionError(ValueError):
    """The checkpoint cannot be made into a release; the message says why, and what to do."""


@dataclass(frozen=True)
class Int4Groups:
    """A weight in 4 bits: value = scale * number + offset, in groups of 32 inputs.

    numbers: (outputs, inputs) uint8, 0 to 15; scale and offset: (outputs, inputs / 32) float32.
    """

    numbers: Tensor
    scale: Tensor
    offset: Tensor


@dataclass(frozen=True)
class Int8Groups:
    """A weight in 8 bits: value = scale * number, in groups of 32 inputs.

    numbers: (outputs, inputs) int8; scale: (outputs, inputs / 32) float16.
    """

    numbers: Tensor
    scale: Tensor


@dataclass(frozen=True)
class Checkpoint:
    """A model of the llama family, read.

    Attributes:
        sizes: the fields of `model.json` that the checkpoint determines.
        context: tokens that the model was trained for.
        vocabulary: its tokens and merges.
        template: its chat template, a Jinja program.
        weight: a weight by its name in GGUF (`blk.0.attn_q`), float32, with the rows of query and key in the order that the
            rotary embedding of neighbouring pairs needs.
        groups: the same weight as it is quantised in the file, or None where it is in another form.
        source: where it comes from, for people.
    """

    sizes: dict[str, Any]
    context: int
    vocabulary: Vocabulary
    template: str
    weight: Callable[[str], Tensor]
    groups: Callable[[str], Int4Groups | Int8Groups | None]
    source: str
