"""What both contenders do, whatever answers: it reads a line, does what it says once, and writes one line of JSON.

It runs in two environments, so it knows neither torch nor llama.cpp, and nothing of this project.
"""

import gc
import json
import sys
import time
from collections.abc import Callable
from typing import Protocol


class Contender(Protocol):
    """A loaded model with one sequence of tokens."""

    def start(self, tokens: list[int]) -> int:
        """Forget everything, read these tokens, and give the most probable next one."""
        ...

    def go_on(self, token: int) -> int:
        """Read one more token, and give the most probable next one."""
        ...


def serve(load: Callable[[], Contender], prompt: list[int], new_tokens: int) -> None:
    """Write the first token as soon as it is there; then measure whenever a line comes, until the input ends."""
    contender = load()
    first = contender.start(prompt)
    # On a busy machine, the processor's time says more than the clock's.
    _write({"token": first, "cpu_s": time.process_time()})
    gc.enable()
    for _ in sys.stdin:
        begin, cpu_begin = time.perf_counter(), time.process_time()
        token = contender.start(prompt)
        read, cpu_read = time.perf_counter(), time.process_time()
        tokens = [token]
        for _ in range(new_tokens):
            token = contender.go_on(token)
            tokens.append(token)
        end, cpu_end = time.perf_counter(), time.process_time()
        cpu = {"prefill_cpu_s": cpu_read - cpu_begin, "decode_cpu_s": cpu_end - cpu_read}
        _write({"prefill_s": read - begin, "decode_s": end - read, **cpu, "tokens": tokens})


def _write(found: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()
