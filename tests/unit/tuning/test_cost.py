import base64
import datetime
import io
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lambda_torch.cli import main
from lambda_torch.errors import TuningError
from lambda_torch.tuning import measure
from lambda_torch.tuning.cost import Prices, Row, recommend, row
from lambda_torch.tuning.plot import svg

TABLE = Prices.read()


def size(memory_mb: int, p50: float, p99: float, million: float) -> Row:
    """A memory size with these figures."""
    return Row(memory_mb, 1000.0, p50, p99, p50, None, million, 20.0)


def test_the_price_table_says_where_and_when() -> None:
    """Prices change: the table has its source and its date."""
    assert TABLE.source.startswith("https://aws.amazon.com/lambda/pricing")
    assert datetime.date.fromisoformat(TABLE.date) <= datetime.date.today()


def test_a_million_requests_cost_what_the_price_page_says() -> None:
    """A million requests of 100 ms at 1,024 MB are 100,000 GB-seconds and a million requests."""
    assert TABLE.million(1024, 100, "x86_64") == pytest.approx(0.20 + 100_000 * 0.0000166667)
    assert TABLE.million(2048, 100, "arm64") == pytest.approx(0.20 + 200_000 * 0.0000133334)


def test_time_is_billed_by_the_whole_millisecond() -> None:
    """A request of 1.1 ms is billed as two, on average over the requests too."""
    assert TABLE.million(1024, 1.1, "x86_64") == TABLE.million(1024, 2, "x86_64")
    found = row(1024, 500.0, [1.1] * 99 + [9.5], 200, TABLE, "x86_64")
    assert found.mean_ms == pytest.approx((99 * 2 + 10) / 100)
    assert found.p50_ms == 1.1
    assert found.million_usd == pytest.approx(0.20 + found.mean_ms * 1000 * 0.0000166667, abs=0.01)


def test_p99_is_of_a_hundred_the_ninety_ninth() -> None:
    """One slow request in a hundred is not the p99, two are."""
    assert row(1024, 1, [1.0] * 99 + [50.0], None, TABLE, "x86_64").p99_ms == 1.0
    assert row(1024, 1, [1.0] * 98 + [50.0] * 2, None, TABLE, "x86_64").p99_ms == 50.0


def test_with_a_target_the_cheapest_that_keeps_it() -> None:
    """What the slowest may take decides first, then the price."""
    rows = [size(512, 90, 200, 1.0), size(1024, 40, 90, 1.1), size(2048, 20, 45, 2.0), size(3008, 18, 40, 3.0)]
    assert recommend(rows, 100)[0].memory_mb == 1024
    assert recommend(rows, 50)[0].memory_mb == 2048
    best, why = recommend(rows, 10)
    assert (best.memory_mb, "no size keeps p99" in why) == (3008, True)


def test_without_a_target_speed_that_costs_little_is_taken() -> None:
    """The fastest of those within a tenth of the cheapest; being much dearer is not worth being faster."""
    rows = [size(512, 90, 200, 1.0), size(1024, 40, 90, 1.09), size(2048, 20, 45, 1.2)]
    assert recommend(rows, None)[0].memory_mb == 1024


def test_the_picture_shows_every_size_and_the_chosen_one() -> None:
    """The SVG is well-formed, names each size, and marks one as recommended."""
    rows = [size(512, 90, 200, 1.0), size(1024, 40, 90, 1.1), size(2048, 20, 45, 2.0)]
    picture = ET.fromstring(svg(rows, rows[1], TABLE))
    texts = [each.text for each in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert [text for text in texts if text and text.endswith("MB")] == ["512 MB", "1024 MB", "2048 MB"]
    assert texts.count("recommended") == 1


class Lambda:
    """The calls of the Lambda API that a measurement makes, as AWS answers them."""

    def __init__(self, failing: bool = False) -> None:
        self.memory = 3008
        self.failing = failing
        self.cold = True

    def get_function_configuration(self, FunctionName: str) -> dict[str, Any]:  # noqa: N803
        """Its configuration."""
        return {"MemorySize": self.memory}

    def update_function_configuration(self, FunctionName: str, MemorySize: int) -> None:  # noqa: N803
        """Resize it; environments of the old size go."""
        self.memory, self.cold = MemorySize, True

    def get_waiter(self, name: str) -> "Lambda":
        """Waits for nothing."""
        assert name == "function_updated_v2"
        return self

    def wait(self, FunctionName: str) -> None:  # noqa: N803
        """Updated."""

    def invoke(self, FunctionName: str, Payload: bytes, LogType: str) -> dict[str, Any]:  # noqa: N803
        """An invocation with the end of its log."""
        if self.failing:
            return {"FunctionError": "Unhandled", "Payload": io.BytesIO(b'{"errorType": "KeyError"}')}
        start = "\tInit Duration: 800.00 ms" if self.cold else ""
        self.cold = False
        line = (
            f"START\nREPORT RequestId: 1\tDuration: {20480 / self.memory:.2f} ms\tBilled Duration: 21 ms"
            f"\tMemory Size: {self.memory} MB\tMax Memory Used: 231 MB{start}\n"
        )
        answer = {"statusCode": 400 if b"wrong" in Payload else 200}
        return {
            "LogResult": base64.b64encode(line.encode()).decode(),
            "Payload": io.BytesIO(json.dumps(answer).encode()),
        }


def test_a_deployed_function_is_measured_by_its_reports() -> None:
    """Times are AWS's own, the start is part of the first, and the function has its size again afterwards."""
    client: Any = Lambda()
    with measure.deployed(client, "predict", b"{}") as times_at:
        small, large = times_at(1024, 10), times_at(2048, 10)
    assert small.cold_ms == pytest.approx(820)
    assert small.warm_ms == [20.0] * 10
    assert large.warm_ms == [10.0] * 10
    assert small.peak_mb == 231
    assert client.memory == 3008


@pytest.mark.parametrize(
    ("failing", "event", "said"),
    [
        (True, b"{}", "predict fails on the event: .*KeyError"),
        (False, b"wrong", 'predict answered .*"statusCode": 400'),
    ],
)
def test_a_function_that_does_not_answer_keeps_its_size(failing: bool, event: bytes, said: str) -> None:
    """A crash is told, and so is a refusal, whose times would say nothing; the function's own size comes back."""
    client: Any = Lambda(failing)
    with pytest.raises(TuningError, match=said), measure.deployed(client, "predict", event) as times_at:
        times_at(1024, 10)
    assert client.memory == 3008


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--event", __file__], "is not JSON"),
        (["--sizes", "1024,x"], "give sizes in MB"),
        (["--memory", "1024"], "No such option"),
        (["--function", "nowhere"], "The function nowhere cannot be used"),
    ],
)
def test_a_call_that_cannot_be_measured_says_why(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Wrong options, and an AWS that cannot be reached, are one sentence and no trace."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    done = CliRunner().invoke(main, ["tune", *words])
    assert done.exit_code != 0
    assert said in done.output
