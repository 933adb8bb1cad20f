"""Reads a Hugging Face folder: config.json, safetensors, tokenizer.json and the chat template."""

import json
from pathlib import Path
from typing import Any

from examples.chat.conversion.checkpoint import Checkpoint, ConversionError
from examples.chat.model.tokenizer import Vocabulary
from safetensors import SafetensorError, safe_open
from torch import Tensor

# A weight's name in GGUF, and in such a folder.
NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}

# What the network and the tokenizer are not made for, with the values that mean "not used".
CONFIG_ALLOWED: dict[str, tuple[object, ...]] = {
    "model_type": ("llama",),
    "hidden_act": ("silu",),
    "attention_bias": (None, False),
    "mlp_bias": (None, False),
    "rope_scaling": (None,),
}
BPE_ALLOWED: dict[str, tuple[object, ...]] = {
    "type": ("BPE",),
    "dropout": (None, 0.0),
    "unk_token": (None, "<|endoftext|>"),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "byte_fallback": (None, False),
    "ignore_merges": (None, False),
}


def read_folder(folder: Path, source: str) -> Checkpoint:
    """Read a Hugging Face folder of the llama family.

    Raises:
        ConversionError: a file is missing or broken, or the model is not of a kind that the network or tokenizer is made for.
    """
    config = _json(folder / "config.json")
    _only("config.json", config, CONFIG_ALLOWED)
    rope = config.get("rope_parameters") or {}
    if rope.get("rope_type", "default") != "default":
        raise ConversionError(f"config.json: the rotary embedding {rope['rope_type']!r} is not built in this example")
    heads = config["num_attention_heads"]
    head_size = config.get("head_dim") or config["hidden_size"] // heads
    vocabulary, template, end = _texts(folder, config)
    stored = _stored(folder)
    tied = config.get("tie_word_embeddings", False)

    def weight(name: str) -> Tensor:
        path = stored[_name(name)]
        with safe_open(path, framework="pt") as file:
            tensor: Tensor = file.get_tensor(_name(name)).float()
        if not name.endswith(("attn_q", "attn_k")):
            return tensor
        # From halves that turn together to neighbours that do.
        neighbours: Tensor = tensor.unflatten(0, (-1, 2, head_size // 2)).transpose(1, 2).flatten(0, 2)
        return neighbours

    parts = ["token_embd", "output_norm", *([] if tied else ["output"])]
    parts += [f"blk.{layer}.{part}" for layer in range(config["num_hidden_layers"]) for part in NAMES]
    if missing := [_name(part) for part in parts if _name(part) not in stored]:
        raise ConversionError(f"{folder}: the safetensors lack {', '.join(missing[:3])}")
    return Checkpoint(
        sizes={
            "vocabulary": config["vocab_size"],
            "hidden": config["hidden_size"],
            "layers": config["num_hidden_layers"],
            "heads": heads,
            "key_value_heads": config.get("num_key_value_heads") or heads,
            "head_size": head_size,
            "intermediate": config["intermediate_size"],
            "rope_base": float(rope.get("rope_theta") or config.get("rope_theta") or 10_000),
            "rms_norm_epsilon": config["rms_norm_eps"],
            "tied": tied,
            "end_tokens": end,
        },
        context=config["max_position_embeddings"],
        vocabulary=vocabulary,
        template=template,
        weight=weight,
        groups=lambda _name: None,
        source=source,
    )


def _name(name: str) -> str:
    if name.startswith("blk."):
        _, layer, part = name.split(".")
        return f"model.layers.{layer}.{NAMES[part]}.weight"
    return {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}[name] + ".weight"


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise ConversionError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ConversionError(f"{path}: is not JSON ({error})") from error
    if not isinstance(found, dict):
        raise ConversionError(f"{path}: is not a JSON object")
    return found


def _only(where: str, found: dict[str, Any], allowed: dict[str, tuple[object, ...]]) -> None:
    for name, values in allowed.items():
        if found.get(name) not in values:
            raise ConversionError(f"{where}: {name} is {found.get(name)!r}, which this example is not made for")


def _stored(folder: Path) -> dict[str, Path]:
    """Which safetensors file has which tensor."""
    stored: dict[str, Path] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                stored.update(dict.fromkeys(file.keys(), path))
        except (OSError, SafetensorError) as error:
            raise ConversionError(f"{path}: not a whole safetensors file ({error})") from error
    if not stored:
        raise ConversionError(f"{folder} has no safetensors file. Next: save the model with safe_serialization=True")
    return stored


def _texts(folder: Path, config: dict[str, Any]) -> tuple[Vocabulary, str, list[int]]:
    """The vocabulary, the chat template, and the tokens that end an answer."""
    tokenizer = _json(folder / "tokenizer.json")
    bpe = tokenizer["model"]
    _only("tokenizer.json: model", bpe, BPE_ALLOWED)
    _only("tokenizer.json", tokenizer, {"normalizer": (None,)})
    splitters = tokenizer.get("pre_tokenizer") or {}
    splitters = splitters.get("pretokenizers", [splitters])
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    digits = {"type": "Digits", "individual_digits": True}
    # trim_offsets is about places in the text, which are not used here.
    kinds = [{key: value for key, value in each.items() if key != "trim_offsets"} for each in splitters]
    if kinds not in ([digits, byte_level], [byte_level]):
        raise ConversionError("tokenizer.json: the pre-tokenizer is neither ByteLevel nor Digits and ByteLevel")
    numbers = dict(bpe["vocab"]) | {each["content"]: each["id"] for each in tokenizer.get("added_tokens", [])}
    tokens: list[str | None] = [None] * config["vocab_size"]
    for token, number in numbers.items():
        tokens[number] = token
    settings = _json(folder / "tokenizer_config.json")
    template = folder / "chat_template.jinja"
    text = template.read_text(encoding="utf-8") if template.is_file() else settings.get("chat_template")
    if not isinstance(text, str):
        raise ConversionError(f"{folder} has no chat template. Next: take a model for chat, or add chat_template.jinja")
    generation = _json(folder / "generation_config.json") if (folder / "generation_config.json").is_file() else {}
    end = generation.get("eos_token_id", config.get("eos_token_id"))
    if end is None:
        raise ConversionError(f"{folder}: config.json has no eos_token_id, so no answer would end")
    named = {
        name: value if isinstance(value, str) else value["content"]
        for name in ("bos_token", "eos_token")
        if (value := settings.get(name))
    }
    return (
        Vocabulary(
            # Numbers without a token are never chosen; each still needs a name of its own.
            tokens=[token if token is not None else f"<|unused {number}|>" for number, token in enumerate(tokens)],
            special=sorted(each["id"] for each in tokenizer.get("added_tokens", []) if each.get("special")),
            merges=[merge if isinstance(merge, str) else " ".join(merge) for merge in bpe["merges"]],
            digits=len(kinds) == 2,
            named=named,
        ),
        text,
        sorted(end) if isinstance(end, list) else [end],
    )
