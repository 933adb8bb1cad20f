"""The length of a request's log line, by which `lambda-torch cost` computes the price of logs."""

import json
from types import ModuleType, SimpleNamespace

import pytest

from lambda_torch.project import EVENTS
from lambda_torch.tuning import bill
from serving.telemetry.gathering import MOST_VALUES, GatheredMetrics

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


def test_gathered_requests_add_as_many_bytes_as_the_bill_counts(
    app: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line of a hundred warm requests has at most what the bill counts for one and 99 further ones."""
    event = json.loads((EVENTS / "api-v1.json").read_text())
    monkeypatch.setattr(app.request_log, "_gathered", GatheredMetrics(1000.0))
    for _ in range(101):
        app.lambda_handler(event, CONTEXT)
    single, gathered = capsys.readouterr().out.splitlines()
    assert json.loads(gathered)["requests"] == bill.MOST_GATHERED == MOST_VALUES
    further = (len(gathered) - len(single)) / (MOST_VALUES - 1)
    assert 0.5 * bill.GATHERED_BYTES <= further <= bill.GATHERED_BYTES
