"""Writes a release's four files from a checkpoint, in the format of weights that is asked for."""

from pathlib import Path

import torch
from examples.chat.conversion.checkpoint import Checkpoint, ConversionError, Int4Groups, Int8Groups
from examples.chat.model.config import (
    ALIGNMENT,
    CONFIG_FILE,
    GROUP,
    TEMPLATE_FILE,
    VOCABULARY_FILE,
    WEIGHTS_FILE,
    Config,
    WeightFormat,
)
from examples.chat.model.linear import packed_in_blocks
from examples.chat.model.tokenizer import write_vocabulary
from pydantic import ValidationError
from safetensors.torch import save
from torch import Tensor

# Our names of a layer's linear layers, and the weights in GGUF's names that are one below the other in it.
LINEAR = {
    "query_key_value": ("attn_q", "attn_k", "attn_v"),
    "attention_out": ("attn_output",),
    "gate_up": ("ffn_gate", "ffn_up"),
    "down": ("ffn_down",),
}
NORMS = {"attention_norm": "attn_norm", "feed_norm": "ffn_norm"}


def write_release(checkpoint: Checkpoint, folder: Path, weights: WeightFormat, context: int) -> None:
    """Write `model.json`, `vocabulary.json`, `chat_template.jinja` and `weights.safetensors` into an existing folder.

    Raises:
        ConversionError: the network cannot have these sizes in this format.
    """
    try:
        config = Config(
            weights=weights,
            context=min(context, checkpoint.context),
            source=checkpoint.source,
            **checkpoint.sizes,
        )
    except ValidationError as error:
        places = [
            f"{'.'.join(map(str, each['loc']))} {each['msg']}".strip() for each in error.errors(include_url=False)
        ]
        raise ConversionError(f"{'; '.join(places)}. Next: try --weights bf16") from None
    (folder / CONFIG_FILE).write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
    write_vocabulary(checkpoint.vocabulary, folder / VOCABULARY_FILE)
    (folder / TEMPLATE_FILE).write_text(checkpoint.template, encoding="utf-8")
    (folder / WEIGHTS_FILE).write_bytes(aligned(save(tensors(checkpoint, config))))


def aligned(file: bytes) -> bytes:
    """The same safetensors file, with spaces after its header so that the data begins at a multiple of 64 bytes.

    A mapped weight is then where the processor reads it best. torch's 8-bit kernel needs a multiple of 16.
    """
    length = int.from_bytes(file[:8], "little")
    spaces = -(8 + length) % ALIGNMENT
    return b"".join(((length + spaces).to_bytes(8, "little"), file[8 : 8 + length], b" " * spaces, file[8 + length :]))


def tensors(checkpoint: Checkpoint, config: Config) -> dict[str, Tensor]:
    """The state of `model.network.Network`."""
    state = {"norm.weight": checkpoint.weight("output_norm")}
    for layer in range(config.layers):
        for ours, theirs in NORMS.items():
            state[f"layers.{layer}.{ours}.weight"] = checkpoint.weight(f"blk.{layer}.{theirs}")
        for ours, parts in LINEAR.items():
            names = [f"blk.{layer}.{part}" for part in parts]
            for kind, tensor in _linear(checkpoint, names, config.weights).items():
                state[f"layers.{layer}.{ours}.{kind}"] = tensor
    for ours, theirs in (("embedding", "token_embd"), *(() if config.tied else (("output", "output"),))):
        for kind, tensor in _rows(checkpoint, theirs, config.weights).items():
            state[f"{ours}.{kind}"] = tensor
    if config.weights in ("int4", "int8"):
        rows = _int8_rows(checkpoint.weight("token_embd" if config.tied else "output"))
        state |= {f"quick_output.{kind}": tensor for kind, tensor in rows.items()}
    return {name: tensor.contiguous() for name, tensor in state.items()}


def _linear(checkpoint: Checkpoint, names: list[str], weights: WeightFormat) -> dict[str, Tensor]:
    if weights == "int4":
        parts = [checkpoint.groups(name) for name in names]
        groups = [
            part if isinstance(part, Int4Groups) else int4_groups(checkpoint.weight(name))
            for name, part in zip(names, parts, strict=True)
        ]
        numbers, scale, offset = (
            torch.cat([getattr(group, each) for group in groups]) for each in ("numbers", "scale", "offset")
        )
        # The kernel's form is (number - 8) * scale + zero.
        pairs = torch.stack((scale, offset + 8 * scale), -1).transpose(0, 1)
        return {"weight": packed_in_blocks(numbers), "scale_zero": pairs.bfloat16()}
    whole = torch.cat([checkpoint.weight(name) for name in names])
    if weights == "int8":
        return _int8_rows(whole)
    return {"weight": whole if weights == "float32" else whole.bfloat16()}


def _rows(checkpoint: Checkpoint, name: str, weights: WeightFormat) -> dict[str, Tensor]:
    if weights in ("int4", "int8"):
        found = checkpoint.groups(name)
        groups = found if isinstance(found, Int8Groups) else int8_groups(checkpoint.weight(name))
        return {"weight": groups.numbers, "scale": groups.scale}
    whole = checkpoint.weight(name)
    return {"weight": whole if weights == "float32" else whole.bfloat16()}


def _int8_rows(weight: Tensor) -> dict[str, Tensor]:
    """One scale a row, which is rounded first, so that the numbers fit it."""
    scale = (weight.abs().amax(1) / 127).clamp(min=1e-12).bfloat16()
    numbers = (weight / scale.float()[:, None]).round_().clamp_(-127, 127)
    return {"weight": numbers.to(torch.int8), "scale": scale}


def int8_groups(weight: Tensor) -> Int8Groups:
    """Quantise to 8 bits in groups, as Q8_0 does."""
    groups = weight.unflatten(1, (-1, GROUP))
    scale = (groups.abs().amax(-1) / 127).clamp(min=6e-8).half()
    numbers = (groups / scale.float()[..., None]).round_().clamp_(-127, 127)
    return Int8Groups(numbers.to(torch.int8).flatten(1), scale)


def int4_groups(weight: Tensor) -> Int4Groups:
    """Quantise to 4 bits in groups, as Q4_1 does: from the smallest to the largest value in 15 steps."""
    groups = weight.unflatten(1, (-1, GROUP))
    low = groups.amin(-1)
    scale = ((groups.amax(-1) - low) / 15).clamp(min=1e-12)
    numbers = ((groups - low[..., None]) / scale[..., None]).round_().clamp_(0, 15)
    return Int4Groups(numbers.to(torch.uint8).flatten(1), scale, low)
