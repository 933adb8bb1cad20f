"""Whether a started function serves its release, by its own route /health."""

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from lambda_torch.emulator.function import exception_of

if TYPE_CHECKING:
    from lambda_torch.emulator.pool import Pool
    from lambda_torch.emulator.run import RunOptions

# While this is the reason, the function still reads its release, and may serve it soon.
STILL_READING = "storage_unavailable"
PATIENCE_SECONDS = 120.0
PAUSE_SECONDS = 0.5
CHANGED_ANSWER = "does not answer as recorded"


def refusal(pool: "Pool", health: bytes, say: Callable[[str], None]) -> str | None:
    """Why the function refuses every request. None if it serves its release.

    Args:
        pool: the environments.
        health: the event of `GET /health`.
        say: gets a line once if the function still reads the release.
    """
    end = time.monotonic() + PATIENCE_SECONDS
    told = False
    while True:
        outcome = pool.submit(health).result()
        if outcome.failed:
            return exception_of(outcome.payload) or outcome.payload.decode(errors="replace")
        answer = json.loads(outcome.payload)
        if not isinstance(answer, dict) or answer.get("statusCode") == 200:
            return None
        error = json.loads(answer["body"])["error"]
        reason = str(error["message"])
        if error["code"] != STILL_READING or time.monotonic() > end:
            return reason
        if not told:
            say(f"Not ready yet: {reason}")
            told = True
        time.sleep(PAUSE_SECONDS)


def not_ready(reason: str, options: "RunOptions") -> str:
    """The message for a function that refuses its release, with the next step."""
    text = f"Not ready: the function refuses every request. {reason}"
    if CHANGED_ANSWER in reason:
        recorded = "the new answer is recorded" if options.golden is None else f"correct {options.golden}"
        again = f"end this command and start it again: {recorded}"
        return f"{text}\nNext: undo the change of the answer; or, if it is right, {again}."
    return f"{text}\nNext: correct the model or the release in {options.release}, and start the command again."
