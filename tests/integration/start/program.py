"""A fresh process of the function: it answers the event on standard input, and says what it had imported and used by then."""

import contextlib
import io
import json
import sys
from types import SimpleNamespace

event = json.loads(sys.stdin.read())
log = io.StringIO()
with contextlib.redirect_stdout(log):
    import app

    ready = sorted(sys.modules)
    answer = app.lambda_handler(event, SimpleNamespace(aws_request_id="1"))
print(json.dumps({"answer": answer, "ready": ready, "log": log.getvalue().splitlines()}))
