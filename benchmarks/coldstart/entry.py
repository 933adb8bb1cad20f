"""The handler of every candidate.

It prepares torch as the candidate's users do, starts the function, and measures its process. It is copied beside the
function's `app.py`, and runs in the same way as on Lambda. The answer is the function's own answer with one more
header.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

PRELUDE = Path(__file__).with_name("entry_prelude.txt")

began = time.perf_counter()
if PRELUDE.exists():
    # Preludes look for their tree in the first entry of `sys.path`.
    sys.path.insert(0, os.environ.get("COLDSTART_TREE", "/opt/python"))
    os.environ.setdefault("TMPDIR", "/tmp")
    exec(PRELUDE.read_text())
unpacking = time.perf_counter() - began

import app  # noqa: E402


def handler(event: Any, context: Any) -> dict[str, Any]:
    """Return the function's answer, with the resources that its process has used."""
    answer: dict[str, Any] = app.lambda_handler(event, context)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    with open("/proc/self/io") as io, open("/proc/self/status") as status:  # noqa: PTH123
        values = dict(line.split(":", 1) for line in (io.read() + status.read()).splitlines())
    measured = {
        "cpu_s": sum(each.ru_utime + each.ru_stime for each in used),
        "read_bytes": int(values["read_bytes"]),
        "peak_rss_bytes": int(values["VmHWM"].split()[0]) * 1024,
        "unpacking_ms": unpacking * 1e3,
        "start": app.start.facts(),
        "timing": answer["headers"]["Server-Timing"],
    }
    answer["headers"]["X-Measured"] = json.dumps(measured)
    return answer
