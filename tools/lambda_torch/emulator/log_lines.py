"""The function's log for people: one readable line for each of its JSON lines, and none for what is shown elsewhere."""

import json
import re
from collections.abc import Callable
from typing import Any

# Each answered request has its own line already, with the time that its client waited.
_SHOWN_ELSEWHERE = {"request"}
# Fields that every line has, or that are for metrics.
_NOT_FACTS = {"level", "message", "timestamp", "service", "request_id", "exception", "_aws", "function_name"}
_FRAME = re.compile(r'^  File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<name>.*)$')
# The package of the user's model in a task root, and in this project's own src/.
_OF_MODEL = re.compile(r".*/(?P<short>model/.*\.py)$")
_MOST_VALUE = 60


def readable(line: str) -> list[str]:
    """A line of the log as lines for people. What is no JSON of ours stays as it is: the model may print anything."""
    try:
        entry = json.loads(line)
    except ValueError:
        return [line]
    if not (isinstance(entry, dict) and isinstance(entry.get("message"), str) and "level" in entry):
        return [line]
    if entry["message"] in _SHOWN_ELSEWHERE:
        return []
    if entry["message"] == "release swapped":
        return [f"Release {str(entry.get('release'))[:16]} serves now"]
    told = [f"{key} {_short(value)}" for key, value in entry.items() if key not in _NOT_FACTS and value is not None]
    prefix = "" if entry["level"] == "INFO" else f"{entry['level']}: "
    lines = [f"{prefix}{entry['message']}{': ' if told else ''}{', '.join(told)}"]
    if isinstance(entry.get("exception"), str):
        lines += of_model(entry["exception"])
    return lines


def of_model(trace: str) -> list[str]:
    """A traceback without the frames of our code and of libraries. All of it if none is of the model."""
    lines = trace.rstrip("\n").splitlines()
    kept: list[str] = []
    for number, line in enumerate(lines):
        frame = _FRAME.match(line)
        mine = frame and _OF_MODEL.match(frame["file"])
        if frame and mine:
            kept.append(f"  {mine['short']}, line {frame['line']}, in {frame['name']}")
            code = lines[number + 1] if number + 1 < len(lines) else ""
            kept += [code] if code.startswith("    ") else []
    last = next((line for line in reversed(lines) if line and not line.startswith(" ")), "")
    return [last, *kept] if kept else lines


def writer(write: Callable[[str], None], *, verbose: bool) -> Callable[[str], None]:
    """Takes the log's lines, and writes them for people; with `verbose`, as they are."""
    if verbose:
        return write

    def each(line: str) -> None:
        for text in readable(line):
            write(text)

    return each


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MOST_VALUE else f"{text[: _MOST_VALUE - 3]}..."
