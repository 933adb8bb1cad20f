"""Linear layers and tables of rows in the formats that a release may have, by torch's own operators.

The quantised operators are called directly. They are fast with bfloat16 inputs only, so every layer names the type of its
inputs. Sources: aten/src/ATen/native/cpu/int4mm_kernel.cpp and int8mm_kernel.cpp of PyTorch.
"""

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from .config import BLOCK, GROUP, WeightFormat
from .weights import Weights


class FloatLinear(nn.Module):
    """A linear layer as it is: weight (outputs, inputs), float32 or bfloat16."""

    weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.dtype = weight.dtype
        self.register_buffer("weight", weight)

    def forward(self, states: Tensor) -> Tensor:
        """(rows, inputs) to (rows, outputs), both of the layer's type."""
        return functional.linear(states, self.weight)


class Int8Linear(nn.Module):
    """8 bits a weight: weight (outputs, inputs) int8, scale (outputs,) bfloat16; a row is weight * scale."""

    dtype = torch.bfloat16
    weight: Tensor
    scale: Tensor

    def __init__(self, weight: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)

    def forward(self, states: Tensor) -> Tensor:
        """(rows, inputs) to (rows, outputs), both bfloat16."""
        return torch._weight_int8pack_mm(states, self.weight, self.scale)


class Int4Linear(nn.Module):
    """4 bits a weight in groups of 32 inputs; a weight is (number - 8) * scale + zero.

    Args:
        weight: (outputs, inputs / 2) uint8, in the order of `packed_in_blocks`.
        scale_zero: (inputs / 32, outputs, 2) bfloat16.
    """

    dtype = torch.bfloat16
    weight: Tensor
    scale_zero: Tensor

    def __init__(self, weight: Tensor, scale_zero: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", ordered_for_this_processor(weight))
        self.register_buffer("scale_zero", scale_zero)

    def forward(self, states: Tensor) -> Tensor:
        """(rows, inputs) to (rows, outputs), both bfloat16."""
        return torch._weight_int4pack_mm_for_cpu(states, self.weight, GROUP, self.scale_zero)


AnyLinear = FloatLinear | Int8Linear | Int4Linear


def read_linear(weights: Weights, name: str, inputs: int, outputs: int, form: WeightFormat) -> AnyLinear:
    """The layer of this name and format.

    Raises:
        ValueError: as `Weights.take` does.
    """
    if form == "int4":
        return Int4Linear(
            weights.take(f"{name}.weight", outputs, inputs // 2, dtype=torch.uint8),
            weights.take(f"{name}.scale_zero", inputs // GROUP, outputs, 2, dtype=torch.bfloat16),
        )
    if form == "int8":
        return Int8Linear(
            weights.take(f"{name}.weight", outputs, inputs, dtype=torch.int8),
            weights.take(f"{name}.scale", outputs, dtype=torch.bfloat16),
        )
    return FloatLinear(weights.take(f"{name}.weight", outputs, inputs, dtype=_float(form)))


class FloatRows(nn.Module):
    """A table of rows: weight (rows, width), float32 or bfloat16."""

    weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)

    def forward(self, numbers: Tensor) -> Tensor:
        """The rows of these numbers, float32."""
        return self.weight[numbers].float()


class GroupedRows(nn.Module):
    """A table of rows in 8 bits with a scale a group of 32: weight (rows, width) int8, scale (rows, width / 32) float16."""

    weight: Tensor
    scale: Tensor

    def __init__(self, weight: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)

    def forward(self, numbers: Tensor) -> Tensor:
        """The rows of these numbers, float32."""
        rows = self.weight[numbers].float().unflatten(-1, (-1, GROUP))
        scaled: Tensor = rows.mul_(self.scale[numbers].float().unsqueeze(-1)).flatten(-2)
        return scaled


AnyRows = FloatRows | GroupedRows


def read_rows(weights: Weights, name: str, rows: int, width: int, form: WeightFormat) -> AnyRows:
    """The table of this name, in the form that goes with the linear layers' format.

    Raises:
        ValueError: as `Weights.take` does.
    """
    if form in ("int4", "int8"):
        return GroupedRows(
            weights.take(f"{name}.weight", rows, width, dtype=torch.int8),
            weights.take(f"{name}.scale", rows, width // GROUP, dtype=torch.float16),
        )
    return FloatRows(weights.take(f"{name}.weight", rows, width, dtype=_float(form)))


def _float(form: WeightFormat) -> torch.dtype:
    return torch.float32 if form == "float32" else torch.bfloat16


def packed_in_blocks(numbers: Tensor, block: int = BLOCK) -> Tensor:
    """Pack 4-bit numbers (outputs, inputs) as torch's kernel wants them; (outputs, inputs / 2) uint8.

    The rows go in blocks. Of each block and input there are block / 2 bytes: byte j has row j in its low half and row
    j + block / 2 in its high half.
    """
    outputs, inputs = numbers.shape
    halves = numbers.to(torch.uint8).view(outputs // block, 2, block // 2, inputs).transpose(2, 3)
    return (halves[:, 0] | halves[:, 1] << 4).reshape(outputs, inputs // 2)


def unpacked_blocks(packed: Tensor, block: int = BLOCK) -> Tensor:
    """The opposite of `packed_in_blocks`: (outputs, inputs) uint8."""
    outputs, half = packed.shape
    each = packed.view(outputs // block, half * 2, block // 2).transpose(1, 2)
    return torch.stack((each & 15, each >> 4), 1).reshape(outputs, half * 2)


@cache
def _block_of_this_processor() -> int | None:
    """How many rows this processor's kernel has in a block (AVX-512: 64, AVX2: 32), or None for any other order.

    It is found by a small weight that torch packs itself. So another order of a later torch, or of another kind of processor, is
    not read wrongly.
    """
    probe = torch.randint(16, (BLOCK, GROUP), generator=torch.Generator().manual_seed(0))
    wanted = torch._convert_weight_to_int4pack_for_cpu(probe.int(), 1)
    blocks = (block for block in (BLOCK, BLOCK // 2) if torch.equal(packed_in_blocks(probe, block), wanted))
    return next(blocks, None)


def ordered_for_this_processor(packed: Tensor) -> Tensor:
    """The same packed weight in the order that this processor's kernel reads; the tensor itself where it has it already.

    For an order that this module does not know, torch packs the weight. That takes longer.
    """
    block = _block_of_this_processor()
    if block == BLOCK:
        return packed
    numbers = unpacked_blocks(packed)
    if block is not None:
        return packed_in_blocks(numbers, block)
    packed_by_torch: Tensor = torch._convert_weight_to_int4pack_for_cpu(numbers.int(), 1)
    return packed_by_torch
