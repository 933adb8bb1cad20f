"""Runs one start of the chat example and writes the processor's seconds of each part: RELEASE. `start.py` starts it."""

import gc

gc.disable()  # for the start, as the function does

import json
import sys
import time
from importlib import import_module
from pathlib import Path

PROMPT = list(range(1000, 1032))


class Parts:
    """Names and processor's seconds of the parts so far; the first is the interpreter's own start."""

    def __init__(self) -> None:
        self.seconds = {"interpreter": time.process_time()}
        self._last = time.process_time()

    def end(self, name: str) -> None:
        """The part of this name ends here."""
        now = time.process_time()
        self.seconds[name] = now - self._last
        self._last = now


def measure(release: Path) -> dict[str, float]:
    """Seconds by part. It does what `Model.load` does, one after the other, and then reads a prompt."""
    parts = Parts()
    torch = import_module("torch")
    torch.set_num_threads(1)
    parts.end("import of torch")
    for name, modules in {
        "import of pydantic": ("pydantic.main", "pydantic.types", "pydantic.fields"),
        "import of Jinja": ("jinja2", "jinja2.sandbox"),
        "the example's modules and safetensors": ("safetensors", "examples.chat.model"),
    }.items():
        for module in modules:
            import_module(module)
        parts.end(name)
    from examples.chat.model.config import TEMPLATE_FILE, VOCABULARY_FILE, read_config
    from examples.chat.model.network import Network
    from examples.chat.model.sequences import Sequence
    from examples.chat.model.template import ChatTemplate
    from examples.chat.model.tokenizer import Tokenizer
    from examples.chat.model.weights import Weights

    config = read_config(release)
    tokenizer = Tokenizer.read(release / VOCABULARY_FILE)
    parts.end("vocabulary")
    ChatTemplate.read(release / TEMPLATE_FILE, tokenizer)
    parts.end("chat template")
    with Weights(release) as weights:
        network = Network(config, weights)
    sequence = Sequence(network)
    parts.end("network, with its weights mapped")
    with torch.inference_mode():
        int(network.scores(sequence.read(PROMPT)).argmax())
    parts.end(f"a prompt of {len(PROMPT)} tokens, and the first one chosen")
    return parts.seconds


if __name__ == "__main__":
    json.dump(measure(Path(sys.argv[1])), sys.stdout)
