import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner, Result

from integration.work.conftest import CONTEXT, GOOD, UNKNOWN, keys
from integration.work.test_bulk import Machine, machine
from lambda_torch.bulk import deployed_run
from lambda_torch.cli import main
from lambda_torch.emulator.processes import free_port
from lambda_torch.releases.bucket import Bucket

__all__ = ["machine"]

COMMAND = Path(sys.executable).with_name("lambda-torch")
COUNT = 6000

Bulk = Callable[..., Result]


def write(path: Path, lines: list[Any]) -> Path:
    """A JSON Lines file."""
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def read(path: Path) -> list[Any]:
    """Its lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def start(source: Path, target: Path, release: Path, *options: str) -> subprocess.Popen[str]:
    """Start a local run in a process of its own, in a group that can be killed as a whole."""
    arguments = ["bulk", str(source), "--local", "--layer", "stock", "--release", str(release), "--output", str(target)]
    return subprocess.Popen(
        [COMMAND, *arguments, *options], stderr=subprocess.PIPE, text=True, cwd=target.parent, start_new_session=True
    )


def test_a_killed_run_goes_on_and_loses_and_doubles_nothing(tmp_path: Path, release: Path) -> None:
    """After SIGKILL in the middle, the same command finishes the file: every line once, in order, as if it had run through."""
    letters = "ABCDEFGHIKLM"
    requests = [{"category": "Greek", "start_letters": letters[i % 12] + letters[i // 12 % 12]} for i in range(COUNT)]
    requests[17] = UNKNOWN
    source = write(tmp_path / "in.jsonl", requests)
    target = tmp_path / "out.jsonl"
    run = start(source, target, release, "--batch", "20")
    end = time.monotonic() + 120
    while not target.exists() or target.stat().st_size < 20_000:
        assert run.poll() is None, run.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.01)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    begun = target.read_bytes().count(b"\n")
    assert 0 < begun < COUNT
    assert target.with_name("out.jsonl.unfinished").exists()

    again = start(source, target, release, "--batch", "500")
    _, said = again.communicate(timeout=240)
    assert again.returncode == 0, said
    assert f"Continuing after line {begun:,} of {COUNT:,}" in said
    assert f"{COUNT:,} lines in" in said
    assert f"{COUNT - 1:,} answered, 1 refused, 0 failed" in said
    lines = read(target)
    assert [line["index"] for line in lines] == list(range(COUNT))
    assert lines[17]["error"]["code"] == "unknown_category"
    for request, line in zip(requests, lines, strict=True):
        if request is not UNKNOWN:
            assert [name[0] for name in line["response"]] == list(request["start_letters"])
    assert not target.with_name("out.jsonl.unfinished").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["in.jsonl"], "Give --bucket and --state-machine"),
        (["s3://bucket/in.jsonl", "--local"], "--local takes a file on this machine"),
        (["in.jsonl", "--bucket", "b"], "Give --bucket and --state-machine"),
    ],
)
def test_a_call_that_lacks_something_says_what(arguments: list[str], said: str, release: Path) -> None:
    """What has to be given is told, before anything is begun."""
    result = CliRunner().invoke(main, ["bulk", *arguments, "--layer", "stock", "--release", str(release)])
    assert result.exit_code == 2
    assert said in result.output


def test_a_bad_line_is_told_before_anything_starts(tmp_path: Path, release: Path) -> None:
    """The number of the line is in the message, and no output is begun."""
    source = tmp_path / "in.jsonl"
    source.write_text('{"category": "Greek"}\n{\n')
    arguments = ["--local", "--layer", "stock", "--release", str(release), "--output", str(tmp_path / "out.jsonl")]
    result = CliRunner().invoke(main, ["bulk", str(source), *arguments])
    assert result.exit_code == 1
    assert "Line 2 of" in result.output
    assert not (tmp_path / "out.jsonl").exists()


@pytest.fixture
def bulk(machine: Machine, bucket: Bucket, s3_url: str, monkeypatch: pytest.MonkeyPatch) -> Bulk:
    """Runs the command against the state machine in moto."""

    monkeypatch.setattr(deployed_run, "POLL_SECONDS", 0.1)
    bucket.client.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})

    def run(source: str, target: Path) -> Result:
        options = ["--bucket", bucket.name, "--state-machine", machine.arn, "--endpoint-url", s3_url]
        return CliRunner().invoke(main, ["bulk", source, "--output", str(target), *options])

    return run


def test_a_file_of_this_machine_is_answered_by_the_stack(
    bulk: Bulk, bucket: Bucket, tmp_path: Path, served: ModuleType
) -> None:
    """The file is uploaded, the state machine answers it, and its parts become one file, in order."""
    source = write(tmp_path / "in.jsonl", [GOOD, UNKNOWN, GOOD, {"category": "Irish"}, GOOD])
    result = bulk(str(source), tmp_path / "out.jsonl")
    assert result.exit_code == 0, result.output
    assert "3 answered, 2 refused, 0 failed" in result.output
    lines = read(tmp_path / "out.jsonl")
    assert [line["index"] for line in lines] == [0, 1, 2, 3, 4]
    assert lines[0]["response"] == json.loads(served.lambda_handler(GOOD, CONTEXT)["body"])


def test_the_same_file_again_is_not_run_again(bulk: Bulk, bucket: Bucket, tmp_path: Path) -> None:
    """A command that was ended after its run was started finds the run by the file's content, and collects it."""
    source = write(tmp_path / "in.jsonl", [GOOD] * 5)
    assert bulk(str(source), tmp_path / "one.jsonl").exit_code == 0
    before = keys(bucket, "")
    result = bulk(str(source), tmp_path / "two.jsonl")
    assert result.exit_code == 0, result.output
    assert "found finished" in result.output
    assert keys(bucket, "") == before
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()


def test_a_dropped_file_can_be_collected(bulk: Bulk, bucket: Bucket, tmp_path: Path, monkeypatch: Any) -> None:
    """A file that is in the bucket already is answered from there."""

    monkeypatch.setattr(deployed_run.Execution, "total", lambda _run: 3)  # moto counts no items of a run
    write(tmp_path / "in.jsonl", [GOOD] * 3)
    bucket.client.upload_file(str(tmp_path / "in.jsonl"), bucket.name, "inbox/in.jsonl")
    result = bulk(f"s3://{bucket.name}/inbox/in.jsonl", tmp_path / "out.jsonl")
    assert result.exit_code == 0, result.output
    assert len(read(tmp_path / "out.jsonl")) == 3
    assert not keys(bucket, "bulk/")


def test_lines_of_a_batch_that_was_given_up_say_so(bulk: Bulk, bucket: Bucket, tmp_path: Path) -> None:
    """Where a run tolerated that a batch failed, its lines are in the output with an error: each line is there once."""
    source = write(tmp_path / "in.jsonl", [GOOD] * 7)
    assert bulk(str(source), tmp_path / "whole.jsonl").exit_code == 0
    gone = [key for key in keys(bucket, "results/") if "/000000000002-" in key or "/000000000006-" in key]
    for key in gone:
        bucket.client.delete_object(Bucket=bucket.name, Key=key)
    result = bulk(str(source), tmp_path / "out.jsonl")
    assert result.exit_code == 1
    assert "4 answered, 0 refused, 3 failed" in result.output
    lines = read(tmp_path / "out.jsonl")
    assert [line["index"] for line in lines] == list(range(7))
    assert [line["index"] for line in lines if "error" in line] == [2, 3, 6]
    assert lines[2]["error"]["code"] == "not_answered"


def test_a_bucket_without_versions_is_refused(
    bucket: Bucket, s3_url: str, aws: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bucket that is no stack's is told as such."""
    for name, value in aws.items():
        monkeypatch.setenv(name, value)
    source = write(tmp_path / "in.jsonl", [GOOD])
    arn = f"arn:aws:states:us-east-1:123456789012:stateMachine:{free_port()}"
    options = ["--bucket", bucket.name, "--state-machine", arn, "--endpoint-url", s3_url]
    result = CliRunner().invoke(main, ["bulk", str(source), "--output", str(tmp_path / "out.jsonl"), *options])
    assert result.exit_code == 1
    assert "keeps no versions" in result.output
