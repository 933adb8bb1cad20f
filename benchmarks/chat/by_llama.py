"""llama.cpp by its Python package: FILE THREADS NEW_TOKENS PROMPT, where PROMPT is token numbers with commas between."""

import gc

gc.disable()  # for the start, as the other contender does

import sys
from pathlib import Path

# This program runs in an environment of its own, without the project's packages.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from contender import serve  # type: ignore[import-not-found]
from llama_cpp import Llama


class LlamaCpp:
    """A GGUF file, with the default settings but the threads and the context."""

    def __init__(self, path: str, threads: int) -> None:
        self._llama = Llama(path, n_ctx=2048, n_threads=threads, n_threads_batch=threads, verbose=False)

    def start(self, tokens: list[int]) -> int:
        """Forget everything, read these tokens, and give the most probable next one."""
        self._llama.reset()
        self._llama.eval(tokens)
        return self._best()

    def go_on(self, token: int) -> int:
        """Read one more token, and give the most probable next one."""
        self._llama.eval([token])
        return self._best()

    def _best(self) -> int:
        return int(self._llama.sample(temp=0.0))


if __name__ == "__main__":
    path, threads, new_tokens, prompt = sys.argv[1:]
    serve(lambda: LlamaCpp(path, int(threads)), [int(token) for token in prompt.split(",")], int(new_tokens))
