"""Calls the function's handler with event files, in this process: `python replay.py event.json ...`.

`lambda-torch layer record` runs this script to see what the handler uses. The task root is on the path. An answer with
an error status does not end the script. An exception of the handler does.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace


def main(files: list[str]) -> None:
    """Import the handler, as Lambda's init phase does, and answer each event."""
    from app import lambda_handler

    context = SimpleNamespace(
        function_name="PredictFunction",
        function_version="$LATEST",
        memory_limit_in_mb=3008,
        invoked_function_arn="arn:aws:lambda:us-east-1:123456789012:function:PredictFunction",
        aws_request_id="00000000-0000-0000-0000-000000000000",
        get_remaining_time_in_millis=lambda: 30_000,
    )
    for file in files:
        answer = lambda_handler(json.loads(Path(file).read_text(encoding="utf-8")), context)
        status = answer.get("statusCode") if isinstance(answer, dict) else "answered"
        sys.stdout.write(f"{Path(file).name}: {status}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
