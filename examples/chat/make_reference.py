"""Makes the test's reference with transformers, in an environment of its own: greedy tokens and scores.

    python -m venv build/reference
    build/reference/bin/pip install transformers gguf torch pydantic jinja2 safetensors click
    PYTHONPATH=tools build/reference/bin/python -m examples.chat.make_reference

It gives transformers the weights of the GGUF file, dequantised to float32, and lets it answer in float32 and in bfloat16. The
tokenizer is the one that the package `tokenizers` makes of the same vocabulary.
"""

import json
import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any

import click
import torch
from examples.chat.conversion.checkpoint import Checkpoint
from examples.chat.conversion.folder import NAMES
from examples.chat.make_release import fetch, read
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

from lambda_torch import project

OUTPUT = project.ROOT / "tests" / "integration" / "examples" / "chat_reference.json"
NEW_TOKENS = 64
QUESTIONS = (
    "What is the capital of France?",
    "Explain why the sky is blue.",
    "Write a Python function that adds two numbers.",
    "List three colours.",
    "Why do we sleep?",
)
TEXTS = (
    "Hello, world!",
    "  two spaces,\ttab\nand a new line \n\n  end  ",
    "It's 12:34 in 2026, we've 1,000 things; they'll cost $5.99 - don't!",
    "Crème brûlée, naïve, Ελληνικά, Русский, עברית, العربية, हिन्दी",
    "你好,世界 こんにちは 한국어 ① ² ½ Ⅷ ٣",
    "emoji 👩‍👩‍👧 🎉 and nbsp\u00a0here\u2003there\u3000end\u0085next\u001cfile",
    "def f(x):\n    return x**2  # squares\n\n\nprint(f(3))\r\n",
    "<|im_start|>user\nnot special here<|im_end|>",
    "a" * 300 + " antidisestablishmentarianism 'S 'll 'LL ''' ",
)


def tokenizer_of(checkpoint: Checkpoint) -> Any:
    """The same vocabulary in the package `tokenizers`."""
    vocabulary = checkpoint.vocabulary
    made = Tokenizer(
        models.BPE(
            vocab={token: number for number, token in enumerate(vocabulary.tokens)},
            merges=[tuple(merge.split(" ")) for merge in vocabulary.merges],
        )
    )
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    made.decoder = decoders.ByteLevel()
    return made


def model_of(checkpoint: Checkpoint) -> Any:
    """The same weights in transformers, float32."""
    sizes = checkpoint.sizes
    config = LlamaConfig(
        vocab_size=sizes["vocabulary"],
        hidden_size=sizes["hidden"],
        intermediate_size=sizes["intermediate"],
        num_hidden_layers=sizes["layers"],
        num_attention_heads=sizes["heads"],
        num_key_value_heads=sizes["key_value_heads"],
        rms_norm_eps=sizes["rms_norm_epsilon"],
        max_position_embeddings=checkpoint.context,
        rope_parameters={"rope_type": "default", "rope_theta": sizes["rope_base"]},
        tie_word_embeddings=sizes["tied"],
    )
    model = LlamaForCausalLM(config)
    state = {
        "model.norm.weight": checkpoint.weight("output_norm"),
        "model.embed_tokens.weight": checkpoint.weight("token_embd"),
    }
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    half = sizes["head_size"] // 2
    for layer in range(sizes["layers"]):
        for theirs, name in NAMES.items():
            weight = checkpoint.weight(f"blk.{layer}.{theirs}")
            if theirs in ("attn_q", "attn_k"):
                weight = weight.unflatten(0, (-1, half, 2)).transpose(1, 2).flatten(0, 2)
            state[f"model.layers.{layer}.{name}.weight"] = weight
    model.load_state_dict(state)
    return model.eval()


@torch.inference_mode()
def greedy(model: Any, prompt: list[int], end: int) -> tuple[list[int], list[float]]:
    """The most probable tokens, one after the other; and by how much each was better than the next best."""
    result = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        eos_token_id=end,
        pad_token_id=end,
        output_logits=True,
        return_dict_in_generate=True,
    )
    best = [scores[0].float().topk(2).values for scores in result.logits]
    return result.sequences[0, len(prompt) :].tolist(), [round(float(pair[0] - pair[1]), 4) for pair in best]


def main() -> None:
    """Write the reference."""
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = read(fetch(Path(scratch)), "reference")
        tokenizer, model = tokenizer_of(checkpoint), model_of(checkpoint)
    rounded = deepcopy(model).to(torch.bfloat16)
    end = checkpoint.sizes["end_tokens"][0]
    start, stop = (checkpoint.vocabulary.tokens.index(token) for token in ("<|im_start|>", "<|im_end|>"))

    def turn(text: str) -> list[int]:
        return [start, *tokenizer.encode(text).ids]

    newline = tokenizer.encode("\n").ids
    system = turn("system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face")
    answers = []
    for question in QUESTIONS:
        prompt = [*system, stop, *newline, *turn(f"user\n{question}"), stop, *newline, *turn("assistant\n")]
        entry: dict[str, Any] = {"question": question, "prompt": prompt}
        entry["float32"], entry["float32_margins"] = greedy(model, prompt, end)
        entry["bf16"], entry["bf16_margins"] = greedy(rounded, prompt, end)
        with torch.inference_mode():
            scores = model(torch.tensor([prompt])).logits[0, -1]
        best = scores.topk(100)
        entry["best"] = best.indices.tolist()
        entry["scores"] = [round(score, 4) for score in best.values.tolist()]
        answers.append(entry)
        click.echo("\n  ".join((question, *(tokenizer.decode(entry[name]) for name in ("float32", "bf16")))))
    texts = [{"text": text, "tokens": tokenizer.encode(text).ids} for text in TEXTS]
    OUTPUT.write_text(json.dumps({"answers": answers, "texts": texts}, ensure_ascii=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
