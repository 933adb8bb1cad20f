"""A tiny random model of the llama family, as a Hugging Face folder and as a GGUF file; and its arithmetic, written plainly."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from examples.chat.conversion.folder import NAMES
from examples.chat.conversion.release import write_release
from examples.chat.make_release import read
from examples.chat.model.config import WeightFormat
from examples.chat.model.tokenizer import CHARACTERS
from gguf import GGMLQuantizationType, GGUFWriter, TokenType, quantize
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

LAYERS, HIDDEN, HEADS, KEY_HEADS, HEAD, INTERMEDIATE, EPSILON, BASE = 2, 64, 4, 2, 32, 128, 1e-5, 10_000.0
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["h e", "l l", "he ll", "hell o", "Ġ w", "o r", "Ġw or", "l d"]
TOKENS = [*SPECIAL, *CHARACTERS, *(merge.replace(" ", "") for merge in MERGES)]
END = 2
CONTEXT = 512
TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

Weights = dict[str, Tensor]


def random_weights(tied: bool = True) -> Weights:
    """Weights by transformers' names, float32, the same at every call."""
    random = torch.Generator().manual_seed(7)
    shapes = {
        "self_attn.q_proj": (HEADS * HEAD, HIDDEN),
        "self_attn.k_proj": (KEY_HEADS * HEAD, HIDDEN),
        "self_attn.v_proj": (KEY_HEADS * HEAD, HIDDEN),
        "self_attn.o_proj": (HIDDEN, HEADS * HEAD),
        "mlp.gate_proj": (INTERMEDIATE, HIDDEN),
        "mlp.up_proj": (INTERMEDIATE, HIDDEN),
        "mlp.down_proj": (HIDDEN, INTERMEDIATE),
    }
    weights = {"model.embed_tokens.weight": torch.randn(len(TOKENS), HIDDEN, generator=random)}
    weights["model.norm.weight"] = 1 + torch.rand(HIDDEN, generator=random)
    for layer in range(LAYERS):
        for name, shape in shapes.items():
            weights[f"model.layers.{layer}.{name}.weight"] = torch.randn(shape, generator=random) / shape[1] ** 0.5
        for name in ("input_layernorm", "post_attention_layernorm"):
            weights[f"model.layers.{layer}.{name}.weight"] = 1 + torch.rand(HIDDEN, generator=random)
    if not tied:
        weights["lm_head.weight"] = torch.randn(len(TOKENS), HIDDEN, generator=random)
    return weights


def write_folder(folder: Path, weights: Weights, context: int = CONTEXT) -> Path:
    """The model as a Hugging Face folder."""
    folder.mkdir()
    config = {
        "model_type": "llama",
        "hidden_act": "silu",
        "vocab_size": len(TOKENS),
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_HEADS,
        "head_dim": HEAD,
        "intermediate_size": INTERMEDIATE,
        "rope_theta": BASE,
        "rms_norm_eps": EPSILON,
        "tie_word_embeddings": "lm_head.weight" not in weights,
        "max_position_embeddings": context,
        "eos_token_id": END,
    }
    tokenizer = {
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Digits", "individual_digits": True},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
            ],
        },
        "added_tokens": [{"id": number, "content": token, "special": True} for number, token in enumerate(SPECIAL)],
        "model": {"type": "BPE", "vocab": {token: number for number, token in enumerate(TOKENS)}, "merges": MERGES},
    }
    files = {
        "config.json": config,
        "tokenizer.json": tokenizer,
        "tokenizer_config.json": {"chat_template": TEMPLATE, "bos_token": "<|im_start|>", "eos_token": "<|im_end|>"},
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    save_file(weights, folder / "model.safetensors")
    return folder


def write_gguf(path: Path, weights: Weights, kind: str, **changes: Any) -> Path:
    """The model as a GGUF file, its linear layers in the kind of blocks that is named: Q4_0, Q4_1, Q8_0 or F32."""
    writer = GGUFWriter(path, changes.get("architecture", "llama"))
    writer.add_block_count(LAYERS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INTERMEDIATE)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_key_length(HEAD)
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_rope_freq_base(BASE)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(changes.get("pre", "smollm"))
    writer.add_token_list(TOKENS)
    writer.add_token_types([TokenType.CONTROL] * len(SPECIAL) + [TokenType.NORMAL] * (len(TOKENS) - len(SPECIAL)))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(END)
    writer.add_chat_template(TEMPLATE)
    whole = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    parts = {
        f"blk.{layer}.{part}": f"model.layers.{layer}.{name}" for layer in range(LAYERS) for part, name in NAMES.items()
    }
    for name, theirs in (whole | parts).items():
        weight = weights.get(f"{theirs}.weight")
        if weight is None or name in changes.get("without", ()):
            continue
        if name.endswith(("attn_q", "attn_k")):
            weight = weight.unflatten(0, (-1, 2, HEAD // 2)).transpose(1, 2).flatten(0, 2)
        blocks = GGMLQuantizationType[
            "F32" if weight.ndim == 1 else "Q8_0" if "blk" not in name and kind != "F32" else kind
        ]
        data = np.ascontiguousarray(weight.numpy())
        writer.add_tensor(
            f"{name}.weight", data if blocks == GGMLQuantizationType.F32 else quantize(data, blocks), raw_dtype=blocks
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_tiny_release(folder: Path, checkpoint: Path, weights: WeightFormat, context: int = CONTEXT) -> Path:
    """A release of one of these."""
    folder.mkdir()
    write_release(read(checkpoint, "tiny"), folder, weights, context)
    return folder


def plain_scores(weights: Weights, tokens: list[int]) -> Tensor:
    """The scores after each token, (tokens, vocabulary), as the papers and transformers have it: no cache, no fused layers."""

    def normed(states: Tensor, name: str) -> Tensor:
        return states / (states.pow(2).mean(-1, keepdim=True) + EPSILON).sqrt() * weights[f"{name}.weight"]

    def turned(heads: Tensor) -> Tensor:
        one, other = heads.chunk(2, -1)
        return heads * cos + torch.cat((-other, one), -1) * sin

    count = len(tokens)
    speeds = BASE ** (-torch.arange(0, HEAD, 2).float() / HEAD)
    angles = torch.outer(torch.arange(count).float(), speeds).repeat(1, 2)
    cos, sin = angles.cos(), angles.sin()
    states = weights["model.embed_tokens.weight"][tokens]
    for layer in range(LAYERS):
        name = f"model.layers.{layer}."
        inputs = normed(states, f"{name}input_layernorm")
        query, key, value = (
            (inputs @ weights[f"{name}self_attn.{part}_proj.weight"].T).view(count, -1, HEAD).transpose(0, 1)
            for part in "qkv"
        )
        key, value = (each.repeat_interleave(HEADS // KEY_HEADS, 0) for each in (turned(key), value))
        scores = turned(query) @ key.transpose(1, 2) / HEAD**0.5
        scores = scores.masked_fill(torch.ones(count, count, dtype=torch.bool).triu(1), float("-inf"))
        mixed = (scores.softmax(-1) @ value).transpose(0, 1).reshape(count, -1)
        states = states + mixed @ weights[f"{name}self_attn.o_proj.weight"].T
        inputs = normed(states, f"{name}post_attention_layernorm")
        gate, up = (inputs @ weights[f"{name}mlp.{part}_proj.weight"].T for part in ("gate", "up"))
        states = states + (functional.silu(gate) * up) @ weights[f"{name}mlp.down_proj.weight"].T
    output = weights.get("lm_head.weight", weights["model.embed_tokens.weight"])
    return normed(states, "model.norm") @ output.T
