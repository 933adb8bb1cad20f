"""`--from hf:FOLDER`: a folder as transformers' `save_pretrained` writes it, and as the Hugging Face Hub has them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lambda_torch.errors import ProjectError
from lambda_torch.scaffold.blueprints import Blueprint, png_of, requirement

# The version with which this was tried, for a machine that has none.
TRANSFORMERS = "==5.24.0"
MOST_TOKENS = 512


class _Task(NamedTuple):
    """What a class of transformers does.

    Attributes:
        ending: the end of the class's name, in `architectures` of config.json.
        kind: the folder of texts.
        files: what the folder must hold beside config.json and weights.
        reason: what it is.
    """

    ending: str
    kind: str
    files: tuple[str, ...]
    reason: str


# The first that fits counts.
_TASKS = (
    _Task("ForSequenceClassification", "hf_text", ("tokenizer.json",), "classifies texts"),
    _Task("ForImageClassification", "hf_image", ("preprocessor_config.json",), "classifies images"),
    _Task("ForMaskedLM", "hf_embeddings", ("tokenizer.json",), "an encoder, whose states give embeddings"),
    _Task("Model", "hf_embeddings", ("tokenizer.json",), "a network without a head: embeddings"),
)
# What `from_pretrained` reads. Anything else (pickles, programs for other frameworks, logs) stays behind.
_TAKEN = (
    *("*.safetensors", "*.safetensors.index.json", "config.json", "preprocessor_config.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "vocab.json", "merges.txt"),
)


def blueprint(folder: Path) -> Blueprint:
    """The project for a folder.

    Raises:
        ProjectError: it is no such folder, or holds a model of another kind.
    """
    config = _read(
        folder / "config.json", f"{folder} is no folder from Hugging Face: it has no config.json that can be read."
    )
    task = _task(folder, config)
    if config.get("auto_map"):
        raise ProjectError(
            f"{folder} needs code that comes with the model (auto_map in config.json), and lambda-torch runs none. "
            "Next: write the model yourself, with lambda-torch init --kind text, and copy that code after reading it."
        )
    release = {path.name: path for pattern in _TAKEN for path in sorted(folder.glob(pattern))}
    if not any(name.endswith(".safetensors") for name in release):
        raise ProjectError(
            f"{folder} has no safetensors. Next: model.save_pretrained(FOLDER) of transformers writes them; "
            "or lambda-torch convert pytorch_model.bin model.safetensors."
        )
    absent = [name for name in task.files if name not in release]
    if absent:
        raise ProjectError(
            f"{folder} has no {' and no '.join(absent)}. Next: tokenizer.save_pretrained(FOLDER), or "
            "image_processor.save_pretrained(FOLDER), writes it."
        )
    requirements = [requirement("transformers", TRANSFORMERS)]
    example: dict[str, object]
    if task.kind == "hf_image":
        requirements.append(requirement("pillow"))
        example = {"image": png_of("red")}
    else:
        sentence = "The food was great, and the people were friendly."
        example = {"text": sentence if task.kind == "hf_text" else "A sentence to compare."}
    tokens = min(config.get("max_position_embeddings") or MOST_TOKENS, MOST_TOKENS)
    # RoBERTa's positions begin after the number of the padding.
    tokens -= config["pad_token_id"] + 1 if config.get("model_type") in ("roberta", "xlm-roberta", "camembert") else 0
    return Blueprint(task.kind, example, {"MAX_TOKENS": str(tokens)}, requirements=tuple(requirements), release=release)


def _task(folder: Path, config: Mapping[str, Any]) -> _Task:
    names = config.get("architectures") or [""]
    for task in _TASKS:
        if str(names[0]).endswith(task.ending):
            return task
    known = ", ".join(f"*{task.ending} ({task.reason})" for task in _TASKS)
    raise ProjectError(
        f"{folder} holds {names[0] or 'no named architecture'}, and --from knows {known}. Next: for a language model, see "
        "examples/chat of lambda-torch; for others, lambda-torch init --kind text and your own code in model/."
    )


def _read(path: Path, problem: str) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ProjectError(f"{problem} Next: give the folder that save_pretrained wrote.") from error
    if not isinstance(document, dict):
        raise ProjectError(problem)
    return document
