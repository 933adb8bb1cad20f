import json
import re
import threading

import pytest

from serving.telemetry.log import LEVELS, Log


@pytest.mark.parametrize("level", LEVELS)
def test_lines_below_the_level_are_left_out(level: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A log writes lines of its level and above; of one below that carries metrics, these alone."""
    log = Log(level)
    for each in LEVELS:
        log.write(each, "said", {})
    written = [json.loads(line)["level"] for line in capsys.readouterr().out.splitlines()]
    assert written == list(LEVELS[LEVELS.index(level) :])
    log.write("INFO", "counted", {"path": "/"}, {"Requests": 1})
    counted = json.loads(capsys.readouterr().out)
    assert counted["Requests"] == 1
    assert ("message" in counted, "path" in counted) == ((True, True) if level in ("DEBUG", "INFO") else (False, False))


def test_a_line_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    """Level and timestamp are there for Lambda's own filter; line breaks and objects in facts make no second line."""
    Log("INFO").write("INFO", "said\nthis", {"text": "a\nb\u2028ü", "object": object, "half": "\ud800"})
    (line,) = capsys.readouterr().out.splitlines()
    assert line.isascii()
    said = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", said.pop("timestamp"))
    assert said == {
        "level": "INFO",
        "message": "said\nthis",
        "service": "lambda-torch",
        "text": "a\nb\u2028ü",
        "object": "<class 'object'>",
        "half": "\ud800",
    }


def test_a_failure_has_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    """The exception that is being handled is in the line, with where it came from."""
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        Log("INFO").failure("failed", {"request_id": "7"})
    said = json.loads(capsys.readouterr().out)
    assert (said["level"], said["request_id"]) == ("ERROR", "7")
    assert "test_log.py" in said["exception"]
    assert said["exception"].rstrip().endswith("ZeroDivisionError: division by zero")


def test_threads_do_not_break_each_others_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Every line is whole, however many threads write."""
    log = Log("INFO")

    def write() -> None:
        for _ in range(200):
            log.write("INFO", "x" * 500, {})

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["message"] for line in lines] == ["x" * 500] * 800
