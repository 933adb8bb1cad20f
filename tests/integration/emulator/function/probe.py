"""A function for tests of the emulator: it does what the event says, and needs no torch."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

if os.environ.get("FAIL_AT_START"):
    raise ValueError("the start-up of the probe fails")
if os.environ.get("EXIT_AT_START"):
    os._exit(3)
if os.environ.get("SLEEP_AT_START"):
    time.sleep(float(os.environ["SLEEP_AT_START"]))


def handler(event: Any, context: Any) -> Any:
    """Do what `event["do"]` says; for an HTTP event, what the JSON in its body says, or give the event back."""
    if isinstance(event, dict) and "requestContext" in event:
        order = json.loads(event["body"]) if event.get("path", event.get("rawPath")) == "/do" else {"do": "answer"}
        if order["do"] == "answer":
            return order.get("answer", {"statusCode": 200, "body": json.dumps(event)})
        event = order
    match event.get("do") if isinstance(event, dict) else None:
        case "raise":
            raise RuntimeError("as ordered")
        case "exit":
            os._exit(7)
        case "sleep":
            time.sleep(event["seconds"])
        case "wait":
            while not Path(event["file"]).exists():
                time.sleep(0.01)
        case "spawn":
            return subprocess.Popen(["sleep", "1000"]).pid
        case "execute":
            exec(event["code"], {})
        case "import":
            return bool(__import__(event["module"]))
        case "write":
            print(event["text"])
        case "describe":
            return {
                "pid": os.getpid(),
                "cwd": str(Path.cwd()),
                "path": sys.path,
                "variables": dict(os.environ),
                "memory": context.memory_limit_in_mb,
                "name": context.function_name,
                "client": context.client_context and context.client_context.custom,
            }
    return {"pid": os.getpid(), "event": event}
