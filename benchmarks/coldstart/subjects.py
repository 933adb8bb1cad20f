"""The models whose first answer is measured, each with its release, its request, and the ways that it is compared with."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.coldstart.goals import GOALS, Goal
from benchmarks.coldstart.onnx import Twin
from lambda_torch import project
from lambda_torch.names.default import a_release

HERE = Path(__file__).resolve().parent
EXAMPLES = project.ROOT / "examples"

_NAMES_NETWORK = """
from model.config import read_config
from model.network import RNN
config = read_config(source)
symbols, categories = len(config.letters) + 1, len(config.categories)
network = RNN(categories, symbols, config.architecture.hidden_size)
network.load_state_dict(load_file(source / "weights.safetensors"))
network.eval()
arguments = torch.zeros(3, categories), torch.zeros(3, symbols), network.initial_state(3)
inputs, outputs = ["category", "letter", "hidden"], ["scores", "next_hidden"]
axes = {name: {0: "rows"} for name in [*inputs, *outputs]}
"""
_MINILM_NETWORK = """
from model.config import read_config
from model.network import empty_encoder
from model.weights import read_weights
network = empty_encoder(read_config(source))
network.load_state_dict(read_weights(source, network), assign=True)
arguments = torch.ones(2, 7, dtype=torch.int64), torch.ones(2, 7, dtype=torch.bool)
inputs, outputs = ["numbers", "visible"], ["vectors"]
axes = {"numbers": {0: "texts", 1: "tokens"}, "visible": {0: "texts", 1: "tokens"}, "vectors": {0: "texts"}}
"""


@dataclass(frozen=True)
class Subject:
    """A model whose first answer is measured.

    Attributes:
        name: the name that programs use.
        title: what its goals are about, for people.
        folder: its package `model` replaces src/model. None: src/model.
        release: gives the release folder, and makes it if there is none.
        event: the request that is answered.
        ways: the names of the candidates that it is compared with. Empty: all of them.
        twin: the same model for ONNX Runtime. None if there is none.
        goals: what its ratios are to reach.
        tolerance: by how much numbers of two answers may differ. 0: the answers are the same.
        sizes: the memory sizes at which it is measured, in MB.
    """

    name: str
    title: str
    folder: Path | None
    release: Callable[[], Path]
    event: dict[str, Any]
    ways: tuple[str, ...]
    twin: Twin | None
    goals: tuple[Goal, ...]
    tolerance: float = 0.0
    sizes: tuple[int, ...] = (1769,)

    @property
    def golden(self) -> Path | None:
        """The file of its golden examples. None records the answer to the model's own example."""
        return None if self.folder is None else self.folder / "golden.json"


def _made(name: str) -> Callable[[], Path]:
    """The release of an example, in build/releases. It is made at its first use."""

    def make() -> Path:
        release = project.BUILD / "releases" / name
        if not release.exists():
            maker = EXAMPLES / name / "make_release.py"
            command = [sys.executable, str(maker), "--output", str(release)]
            if subprocess.run(command, stdout=sys.stderr, check=False).returncode:
                raise SystemExit(f"{maker} failed. The lines above say why.")
        return release

    return make


SUBJECTS = (
    Subject(
        "names",
        "the sample function",
        None,
        a_release,
        {"category": "Russian", "start_letters": "RUS"},
        (),
        Twin(HERE / "onnx_names" / "model", ("schema.py",), ("model.json",), _NAMES_NETWORK),
        GOALS,
        sizes=(1769, 3008),
    ),
    Subject(
        "minilm",
        "examples/embeddings (MiniLM)",
        EXAMPLES / "embeddings",
        _made("embeddings"),
        {"texts": ["A man is eating food.", "A man eats a piece of bread."]},
        ("stock", "onnxruntime"),
        Twin(
            HERE / "onnx_minilm" / "model",
            ("schema.py", "config.py", "wordpiece.py"),
            ("model.json", "vocab.txt"),
            _MINILM_NETWORK,
        ),
        (
            Goal("against stock with valid bytecode, CPU seconds", "stock", "cpu_s"),
            Goal("against ONNX Runtime, same network and tokenizer, CPU seconds", "onnxruntime", "cpu_s", 1.5),
            Goal("peak memory against stock", "stock", "peak_rss_bytes"),
            Goal("bytes read against stock, page cache dropped", "stock", "read_bytes"),
        ),
        # The answer is rounded to six digits, and the two libraries add up in another order.
        tolerance=1e-4,
    ),
    Subject(
        "chat",
        "examples/chat, a question and 8 tokens",
        EXAMPLES / "chat",
        _made("chat"),
        {
            "messages": [{"role": "user", "content": "What is the capital city of Japan?"}],
            "max_tokens": 8,
            "temperature": 0,
        },
        ("stock",),
        None,
        (
            Goal("against stock with valid bytecode, CPU seconds", "stock", "cpu_s"),
            Goal("peak memory against stock", "stock", "peak_rss_bytes"),
            Goal("bytes read against stock, page cache dropped", "stock", "read_bytes"),
        ),
    ),
)
