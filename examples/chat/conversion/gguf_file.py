"""Reads a GGUF file, the format of llama.cpp, with the package `gguf`.

Query and key rows are in the order of neighbouring pairs there, as our network wants them.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from examples.chat.conversion.checkpoint import Checkpoint, ConversionError, Int4Groups, Int8Groups
from examples.chat.model.config import GROUP
from examples.chat.model.tokenizer import Vocabulary
from gguf import GGMLQuantizationType, GGUFReader, TokenType, dequantize
from torch import Tensor

# Pre-tokenisers by their names in GGUF: whether each digit is a word of its own.
DIGITS = {"smollm": True, "gpt-2": False}


def read_gguf(path: Path, source: str) -> Checkpoint:
    """Read a GGUF file of the llama family.

    Raises:
        ConversionError: it is not a GGUF file, or not of a kind that the network or the tokenizer is made for.
    """
    try:
        reader = GGUFReader(path)
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise ConversionError(f"{path} is not a GGUF file, or it is cut off ({error})") from error
    fields = {name: field.contents() for name, field in reader.fields.items()}
    tensors = {tensor.name: tensor for tensor in reader.tensors}

    def field(name: str) -> Any:
        if name not in fields:
            raise ConversionError(f"{path} has no {name}. Next: take a GGUF file of a llama model for chat")
        return fields[name]

    for name, allowed in (
        ("general.architecture", {"llama"}),
        ("tokenizer.ggml.model", {"gpt2"}),
        ("tokenizer.ggml.pre", set(DIGITS)),
    ):
        if field(name) not in allowed:
            raise ConversionError(f"{path}: {name} is {field(name)!r}; this example reads {', '.join(sorted(allowed))}")
    known = ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down")
    parts = {f"blk.{layer}.{part}.weight" for layer in range(field("llama.block_count")) for part in known}
    parts |= {"token_embd.weight", "output_norm.weight"}
    if missing := parts - tensors.keys():
        raise ConversionError(f"{path} lacks the tensors {', '.join(sorted(missing)[:3])}")
    if others := tensors.keys() - parts - {"output.weight"}:
        raise ConversionError(f"{path} has tensors that this network does not use: {', '.join(sorted(others)[:3])}")

    def weight(name: str) -> Tensor:
        tensor = tensors[f"{name}.weight"]
        return torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32))

    def groups(name: str) -> Int4Groups | Int8Groups | None:
        tensor = tensors[f"{name}.weight"]
        return _groups(torch.from_numpy(np.array(tensor.data)), tensor.tensor_type)

    hidden, heads = field("llama.embedding_length"), field("llama.attention.head_count")
    end = {field("tokenizer.ggml.eos_token_id"), fields.get("tokenizer.ggml.eot_token_id")} - {None}
    return Checkpoint(
        sizes={
            "vocabulary": len(field("tokenizer.ggml.tokens")),
            "hidden": hidden,
            "layers": field("llama.block_count"),
            "heads": heads,
            "key_value_heads": fields.get("llama.attention.head_count_kv", heads),
            "head_size": fields.get("llama.attention.key_length", hidden // heads),
            "intermediate": field("llama.feed_forward_length"),
            "rope_base": fields.get("llama.rope.freq_base", 10_000.0),
            "rms_norm_epsilon": field("llama.attention.layer_norm_rms_epsilon"),
            "tied": "output.weight" not in tensors,
            "end_tokens": sorted(end),
        },
        context=field("llama.context_length"),
        vocabulary=_vocabulary(fields),
        template=field("tokenizer.chat_template"),
        weight=weight,
        groups=groups,
        source=source,
    )


def _vocabulary(fields: dict[str, Any]) -> Vocabulary:
    tokens = fields["tokenizer.ggml.tokens"]
    special = {TokenType.CONTROL, TokenType.USER_DEFINED}
    named = {
        f"{name}_token": tokens[number]
        for name in ("bos", "eos")
        if (number := fields.get(f"tokenizer.ggml.{name}_token_id")) is not None
    }
    return Vocabulary(
        tokens=tokens,
        special=[number for number, kind in enumerate(fields["tokenizer.ggml.token_type"]) if kind in special],
        merges=fields["tokenizer.ggml.merges"],
        digits=DIGITS[fields["tokenizer.ggml.pre"]],
        named=named,
    )


def _groups(data: Tensor, kind: GGMLQuantizationType) -> Int4Groups | Int8Groups | None:
    """The numbers and scales of a tensor's blocks (ggml-common.h: block_q4_0, block_q4_1, block_q8_0), if it is one of these."""
    rows = len(data)
    if kind == GGMLQuantizationType.Q8_0:
        blocks = data.view(rows, -1, 2 + GROUP)
        scale = blocks[..., :2].contiguous().view(torch.float16)[..., 0]
        return Int8Groups(blocks[..., 2:].contiguous().view(torch.int8).flatten(1), scale)
    if kind not in (GGMLQuantizationType.Q4_0, GGMLQuantizationType.Q4_1):
        return None
    head = 4 if kind == GGMLQuantizationType.Q4_1 else 2
    blocks = data.view(rows, -1, head + GROUP // 2)
    numbers = blocks[..., head:]
    numbers = torch.cat((numbers & 15, numbers >> 4), -1).flatten(1)
    floats = blocks[..., :head].contiguous().view(torch.float16).float()
    scale = floats[..., 0]
    return Int4Groups(numbers, scale, floats[..., 1] if head == 4 else -8 * scale)
