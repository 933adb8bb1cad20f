"""The chat example: RELEASE THREADS NEW_TOKENS PROMPT, where PROMPT is token numbers with commas between."""

import gc

gc.disable()  # for the start, as the function does: what imports make is no garbage

import sys
from pathlib import Path

import torch
from examples.chat.model import Model
from examples.chat.model.sequences import Sequence
from torch import Tensor

from benchmarks.chat.contender import serve


class Torch:
    """A release, with the same steps as `Model.stream` takes at temperature 0, and no text."""

    def __init__(self, release: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        self._network = Model.load(release)._network
        self._sequence = Sequence(self._network)

    def start(self, tokens: list[int]) -> int:
        """Forget everything, read these tokens, and give the most probable next one."""
        self._sequence.keep(0)
        return self._best(self._sequence.read(tokens))

    def go_on(self, token: int) -> int:
        """Read one more token, and give the most probable next one."""
        return self._best(self._sequence.read([token]))

    @torch.inference_mode()
    def _best(self, state: Tensor) -> int:
        return int(self._network.scores(state).argmax())


if __name__ == "__main__":
    release, threads, new_tokens, prompt = sys.argv[1:]
    serve(lambda: Torch(Path(release), int(threads)), [int(token) for token in prompt.split(",")], int(new_tokens))
