"""Models as users bring them, of libraries that the layer lacks: a folder of Hugging Face, and a wheel of torchvision."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from lambda_torch import project
from lambda_torch.scaffold.hugging_face import TRANSFORMERS
from lambda_torch.scaffold.torchvision_models import VERSIONS
from runtimes import cpu_torchvision

FOLDER = project.BUILD / "tests"
LABELS = ("bad", "good")
# Runs where transformers is, and leaves the folder of a small text classifier with random weights.
_CLASSIFIER = """\
import sys
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast, set_seed

folder, *labels = sys.argv[1:]
words = {word: number for number, word in enumerate("[PAD] [UNK] [CLS] [SEP] the food was great , .".split())}
tokenizer = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
tokenizer.post_processor = processors.TemplateProcessing(
    single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
)
named = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named).save_pretrained(folder)
config = BertConfig(
    vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
    max_position_embeddings=32, initializer_range=1.0, id2label=dict(enumerate(labels)),
)
set_seed(0)
BertForSequenceClassification(config).save_pretrained(folder)
"""
# What the documentation of transformers shows for such a model.
_JUDGED = """\
import json, sys, torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

folder, *texts = sys.argv[1:]
tokenizer, model = (each.from_pretrained(folder) for each in (AutoTokenizer, AutoModelForSequenceClassification))
with torch.no_grad():
    answers = [model(**tokenizer(text, return_tensors="pt")).logits.softmax(1)[0] for text in texts]
print(json.dumps([[model.config.id2label[int(each.argmax())], float(each.max())] for each in answers]))
"""
# What the documentation of torchvision shows, for weights and labels of a release.
_NAMED = """\
import json, sys, torch
from PIL import Image
from safetensors.torch import load_file
from torchvision import models

architecture, release, *pictures = sys.argv[1:]
labels = json.load(open(release + "/config.json"))["labels"]
network = models.get_model(architecture, num_classes=len(labels)).eval()
network.load_state_dict(load_file(release + "/weights.safetensors"))
prepare = models.get_model_weights(architecture).DEFAULT.transforms()
with torch.no_grad():
    answers = [network(prepare(Image.open(each).convert("RGB"))[None]).softmax(1)[0] for each in pictures]
print(json.dumps([[labels[int(each.argmax())], float(each.max())] for each in answers]))
"""


def text_classifier(folder: Path) -> None:
    """Write a folder of Hugging Face: a tiny BERT with random weights, that names a text "bad" or "good"."""
    _run(transformers(), _CLASSIFIER, str(folder), *LABELS)


def judged(folder: Path, texts: Sequence[str]) -> list[tuple[str, float]]:
    """Label and score of each text: what transformers says beside stock PyTorch."""
    return _pairs(_run(transformers(), _JUDGED, str(folder), *texts))


def named(packages: Path, architecture: str, release: Path, pictures: Sequence[Path]) -> list[tuple[str, float]]:
    """Label and score of each picture: what torchvision says beside stock PyTorch.

    Args:
        packages: a folder with torchvision.
        architecture: torchvision's name for the network.
        release: a folder with its weights.safetensors, and its labels in config.json.
        pictures: files.
    """
    return _pairs(_run(packages, _NAMED, architecture, str(release), *map(str, pictures)))


def transformers() -> Path:
    """A folder with transformers and what it requires, in versions that fit the layer. It is kept below build/."""
    pins = [project.ROOT / each / "requirements.txt" for each in ("layers/torch", "src")]
    key = hashlib.sha256(f"{sys.version}{TRANSFORMERS}".encode() + b"".join(each.read_bytes() for each in pins))
    folder = FOLDER / f"transformers-{key.hexdigest()[:16]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=FOLDER) as scratch:
                command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
                command += ["--no-compile", "--target", f"{scratch}/packages", f"transformers{TRANSFORMERS}"]
                command += [f"--constraint={each}" for each in pins]
                subprocess.run(command, check=True, capture_output=True)
                Path(scratch, "packages").rename(folder)
    return folder


def pip_with_torchvision() -> dict[str, str]:
    """Variables with which pip finds a CPU wheel of torchvision. It is made from PyPI's wheel, and kept below build/."""
    wheels = FOLDER / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    with FileLock(wheels / "lock"):
        cpu_torchvision.make(VERSIONS["2.13"], wheels, wheels / "downloads")
    # The variable takes the place of what pip is configured with, which may be where torch's wheel is.
    listed = [sys.executable, "-m", "pip", "config", "list"]
    configured = subprocess.run(listed, capture_output=True, text=True, check=True).stdout
    folders = re.findall(r"^[^=]*\.find-links='(.*)'$", configured, re.MULTILINE)
    return {"PIP_FIND_LINKS": " ".join(dict.fromkeys([str(wheels), *folders]))}


def why_no_torchvision() -> str:
    """Why a CPU wheel of torchvision cannot be made here; empty if it can."""
    absent = [tool for tool in ("patchelf", "gcc") if shutil.which(tool) is None]
    return f"a CPU wheel of torchvision needs {' and '.join(absent)}" if absent else ""


def _run(packages: Path, program: str, *words: str) -> str:
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    variables = {**own, "PYTHONPATH": str(packages), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", program, *words]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _pairs(printed: str) -> list[tuple[str, float]]:
    answers: list[list[Any]] = json.loads(printed.splitlines()[-1])
    return [(str(label), float(score)) for label, score in answers]
