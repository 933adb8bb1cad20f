"""A function for tests of joined requests: it answers an object or a list of them, and needs no torch.

The answer to a request says how many came with it. `text` may order more: to refuse, to end the process if it is asked
in a list, or to wait until the file that `wait` names exists.
"""

import json
import os
import time
from pathlib import Path
from typing import Any


def handler(event: Any, _context: Any) -> dict[str, Any]:
    """Answer an event of API Gateway."""
    asked = json.loads(event["body"])
    several = asked if isinstance(asked, list) else [asked]
    for each in several:
        while "wait" in each and not Path(each["wait"]).exists():
            time.sleep(0.01)
        if isinstance(asked, list) and each["text"] == "exit":
            os._exit(7)
    if isinstance(asked, list) and any(each["text"] == "short" for each in several):
        return _answer(200, [_said(each, several) for each in several[1:]], event)
    answers = [_refused() if each["text"] == "refuse" else _said(each, several) for each in several]
    if isinstance(asked, list):
        return _answer(200, answers, event)
    return _answer(422 if asked["text"] == "refuse" else 200, answers[0], event)


def _said(asked: dict[str, Any], several: list[Any]) -> dict[str, Any]:
    return {"said": asked["text"], "together": len(several), "pid": os.getpid()}


def _refused() -> dict[str, Any]:
    return {"error": {"code": "refused", "message": "as ordered", "details": {}}}


def _answer(status: int, body: Any, event: Any) -> dict[str, Any]:
    headers = {"Content-Type": "application/json", "X-Streams": str(event.get("stageVariables"))}
    return {"statusCode": status, "headers": headers, "body": json.dumps(body)}
