"""A fresh process of the function: it answers the event on standard input, and says what it had imported and used by then."""

import contextlib
import io
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

event = json.loads(sys.stdin.read())
log = io.StringIO()
with contextlib.redirect_stdout(log):
    import app

    ready = sorted(sys.modules)
    answer = app.lambda_handler(event, SimpleNamespace(aws_request_id="1"))
told = {
    "answer": answer,
    "ready": ready,
    "answered": sorted(sys.modules),
    "log": log.getvalue().splitlines(),
    "peak": int(re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]) * 1024,
    "threads": sys.modules["torch"].get_num_threads(),
}
print(json.dumps(told))
