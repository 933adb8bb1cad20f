"""The length of a request's log line, by which `lambda-torch cost` computes the price of logs."""

import json
from types import ModuleType, SimpleNamespace

import pytest

from lambda_torch.project import EVENTS
from lambda_torch.tuning import bill

CONTEXT = SimpleNamespace(aws_request_id="7b61c6af-0000-4000-8000-000000000000")


def test_a_warm_request_writes_as_many_bytes_as_the_bill_counts(
    app: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line of a warm request has at most the bytes of the bill, and not a fifth less, so that the bill stays true."""
    event = json.loads((EVENTS / "api-v1.json").read_text())
    app.lambda_handler(event, CONTEXT)
    capsys.readouterr()
    app.lambda_handler(event, CONTEXT)
    (line,) = capsys.readouterr().out.splitlines()
    # On Lambda the name of the function has some characters more than here.
    assert 0.8 * bill.REQUEST_LINE_BYTES <= len(line.encode()) + 40 <= bill.REQUEST_LINE_BYTES
