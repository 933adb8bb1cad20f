import json
import time
from types import ModuleType
from typing import Any
from uuid import uuid4

import pytest

from integration.work.conftest import CONTEXT, GOOD, UNKNOWN, Client, deploy, keys, read
from lambda_torch.releases.bucket import Bucket
from stack.kit import Stack

LINES = [GOOD, UNKNOWN, {"category": "Greek", "start_letters": "ABC"}, {"category": "Irish"}, GOOD]
BATCH = 2
PATIENCE_SECONDS = 120.0


def batch(prefix: str | None, *items: Any, first: int = 0) -> dict[str, Any]:
    """An event of the state machine."""
    listed = [{"index": index, "value": value} for index, value in enumerate(items, first)]
    return {"lambda-torch": "bulk", "items": listed} | ({} if prefix is None else {"prefix": prefix})


def test_a_batch_is_answered_line_by_line(served: ModuleType, bucket: Bucket) -> None:
    """Every item has one line, in order, with its index: the response, or why there is none."""
    counts = served.lambda_handler(batch("results/inbox/a.jsonl/1", *LINES, first=10), CONTEXT)
    assert counts == {"answered": 3, "refused": 2, "failed": 0}
    (key,) = keys(bucket, "results/")
    assert key == "results/inbox/a.jsonl/1/000000000010-000000000014.jsonl"
    lines = [json.loads(line) for line in read(bucket, key).splitlines()]
    assert [line["index"] for line in lines] == [10, 11, 12, 13, 14]
    direct = [served.lambda_handler(value, CONTEXT) for value in LINES]
    for line, answer in zip(lines, direct, strict=True):
        body = json.loads(answer["body"])
        assert line == {"index": line["index"], "release": line["release"]} | (
            {"response": body} if answer["statusCode"] == 200 else body
        )


def test_without_a_prefix_the_lines_are_the_answer(served: ModuleType, bucket: Bucket) -> None:
    """A local run gets the lines back, and nothing is written."""
    answer = served.lambda_handler(batch(None, GOOD, UNKNOWN), CONTEXT)
    assert [json.loads(line)["index"] for line in answer["lines"].splitlines()] == [0, 1]
    assert keys(bucket, "results/") == []


def test_a_batch_that_is_tried_again_changes_nothing(served: ModuleType, bucket: Bucket) -> None:
    """The second try of a batch leaves the first one's lines as they are."""
    served.lambda_handler(batch("results/run", GOOD), CONTEXT)
    (key,) = keys(bucket, "results/")
    before = bucket.client.head_object(Bucket=bucket.name, Key=key)["LastModified"], read(bucket, key)
    served.lambda_handler(batch("results/run", UNKNOWN), CONTEXT)
    assert (bucket.client.head_object(Bucket=bucket.name, Key=key)["LastModified"], read(bucket, key)) == before


def test_an_item_that_the_model_fails_on_is_told_in_its_line(
    served: ModuleType, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect of the model costs one line, not the batch."""
    predict = served.model.Model.predict

    def failing(self: Any, requests: list[Any]) -> Any:
        if any(each.category == "Greek" for each in requests):
            raise RuntimeError("out of letters")
        return predict(self, requests)

    monkeypatch.setattr(served.model.Model, "predict", failing)
    counts = served.lambda_handler(batch("results/run", *LINES), CONTEXT)
    assert counts == {"answered": 2, "refused": 2, "failed": 1}
    lines = [json.loads(line) for line in read(bucket, keys(bucket, "results/")[0]).splitlines()]
    assert lines[2]["error"]["code"] == "internal_error"


@pytest.mark.parametrize(
    "event",
    [
        {"lambda-torch": "bulk"},
        batch("results/run"),
        batch("channels/live", GOOD),
        batch("results/", GOOD),
        {"lambda-torch": "bulk", "items": [{"index": -1, "value": GOOD}]},
        {"lambda-torch": "bulk", "items": [{"value": GOOD}]},
        {"lambda-torch": "bulk", "items": [{"index": 0, "value": GOOD}], "more": 1},
    ],
)
def test_what_is_not_a_batch_is_refused(served: ModuleType, bucket: Bucket, event: dict[str, Any]) -> None:
    """An event of another form raises, so that the state machine sees a failure; nothing is written outside results/."""
    with pytest.raises(Exception, match="Not a batch of items"):
        served.lambda_handler(event, CONTEXT)
    assert keys(bucket, "results/") == []


def test_without_a_release_a_batch_fails(start_function: Any, bucket: Bucket) -> None:
    """Where nothing is published the batch raises, with the reason, and is tried again."""
    app = start_function(MODEL_BUCKET=bucket.name)
    with pytest.raises(Exception, match=r"no_release: .* Publish one"):
        app.lambda_handler(batch("results/run", GOOD), CONTEXT)


class Machine:
    """The stack's state machine in moto, which knows neither JSON Lines nor batches.

    What it is told differs from the stack in three places: the item reader is given the file's lines as a JSON array of batches;
    the batches are items; and the waits between two tries are short.
    """

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        text = Stack(BulkBatchSize=str(BATCH)).properties("BulkMachine")["DefinitionString"]
        definition = json.loads(text)
        state = definition["States"]["EveryLine"]
        assert state["ItemReader"]["ReaderConfig"] == {"InputType": "JSONL"}
        state["ItemReader"]["ReaderConfig"] = {"InputType": "JSON"}
        state["ToleratedFailurePercentage"] = float(state["ToleratedFailurePercentage"])  # moto's grammar has no 5
        batcher = state.pop("ItemBatcher")
        assert batcher["MaxItemsPerBatch"] == BATCH
        assert state["ItemSelector"] == {"index.$": "$$.Map.Item.Index", "value.$": "$$.Map.Item.Value"}
        state["ItemSelector"] = {"BatchInput": batcher["BatchInput"], "Items.$": "$$.Map.Item.Value"}
        task = state["ItemProcessor"]["States"]["Answer"]
        task["Retry"] = [{"ErrorEquals": ["States.ALL"], "IntervalSeconds": 1, "MaxAttempts": 2}]
        state["ResultWriter"]["Parameters"]["Bucket"] = name
        self.arn = client.create_state_machine(
            name=name, definition=json.dumps(definition), roleArn="arn:aws:iam::123456789012:role/bulk"
        )["stateMachineArn"]

    def run(self, bucket: str, key: str, version: str) -> Any:
        """Run it with EventBridge's event of a new object, to its end."""
        detail = {"bucket": {"name": bucket}, "object": {"key": key, "version-id": version}}
        started = self._client.start_execution(
            stateMachineArn=self.arn, name=uuid4().hex, input=json.dumps({"detail": detail})
        )
        end = time.monotonic() + PATIENCE_SECONDS
        while (found := self._client.describe_execution(executionArn=started["executionArn"]))["status"] == "RUNNING":
            assert time.monotonic() < end, "the run does not end"
            time.sleep(0.1)
        return found


@pytest.fixture
def machine(
    aws_client: Client, served: ModuleType, bucket: Bucket, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> Machine:
    """The state machine, which invokes the function in this process."""
    from moto.core.config import default_user_config
    from moto.stepfunctions.parser.asl.component.state.exec.state_map.item_reader.eval.resource_eval_s3 import (
        ResourceEvalS3,
    )
    from moto.stepfunctions.parser.models import StepFunctionsParserBackend

    monkeypatch.setenv("MOTO_PORT", s3_url.rpartition(":")[2])
    monkeypatch.setitem(default_user_config["stepfunctions"], "execute_state_machine", True)
    reading: Any = ResourceEvalS3
    get_object = reading._handle_get_object

    def batches_of_lines(env: Any, part: Any, credentials: Any) -> None:
        get_object(env, part, credentials)
        lines = [json.loads(line) for line in env.stack.pop().splitlines()]
        items = [{"index": index, "value": value} for index, value in enumerate(lines)]
        env.stack.append(json.dumps([items[at : at + BATCH] for at in range(0, len(items), BATCH)]))

    monkeypatch.setattr(reading, "_handle_get_object", staticmethod(batches_of_lines))
    list_map_runs = StepFunctionsParserBackend.list_map_runs

    def begun_map_runs(backend: Any, execution_arn: str) -> dict[str, Any]:
        worker = backend.describe_execution(execution_arn=execution_arn).exec_worker
        # An execution that has not begun has no map runs. moto fails on it.
        return list_map_runs(backend, execution_arn) if worker and worker.env else {"mapRuns": []}

    monkeypatch.setattr(StepFunctionsParserBackend, "list_map_runs", begun_map_runs)
    deploy(aws_client, served, monkeypatch)
    return Machine(aws_client("stepfunctions"), bucket.name)


def drop(bucket: Bucket, key: str, lines: list[Any]) -> str:
    """Put a file into the bucket; its version."""
    bucket.client.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    body = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    return bucket.client.put_object(Bucket=bucket.name, Key=key, Body=body)["VersionId"]


def lines_of(bucket: Bucket, prefix: str) -> list[Any]:
    """All lines of a run's parts, in the order of their names."""
    parts = [key for key in keys(bucket, prefix) if key.endswith(".jsonl")]
    return [json.loads(line) for part in parts for line in read(bucket, part).splitlines()]


def test_the_state_machine_answers_a_dropped_file(machine: Machine, bucket: Bucket) -> None:
    """Each line of the file has one line in the results, in the file's order, in parts named by their indexes."""
    version = drop(bucket, "inbox/names.jsonl", LINES)
    done = machine.run(bucket.name, "inbox/names.jsonl", version)
    assert done["status"] == "SUCCEEDED", done
    found = lines_of(bucket, f"results/inbox/names.jsonl/{version}/0")
    assert [line["index"] for line in found] == list(range(len(LINES)))
    assert ["response" in line for line in found] == [True, False, True, False, True]
    assert json.loads(done["output"])["ResultWriterDetails"]["Key"].startswith(
        f"results/inbox/names.jsonl/{version}/run/"
    )


def test_a_file_whose_event_comes_twice_is_answered_once(machine: Machine, bucket: Bucket) -> None:
    """EventBridge delivers at least once: the second run of a file's version leaves the first one's results."""
    version = drop(bucket, "inbox/names.jsonl", LINES)
    for _ in range(2):
        assert machine.run(bucket.name, "inbox/names.jsonl", version)["status"] == "SUCCEEDED"
    found = lines_of(bucket, f"results/inbox/names.jsonl/{version}/0")
    assert [line["index"] for line in found] == list(range(len(LINES)))


def test_a_run_reads_the_version_it_was_started_for(machine: Machine, bucket: Bucket) -> None:
    """A file that is replaced after its event was sent does not change that event's run."""
    version = drop(bucket, "inbox/names.jsonl", [GOOD])
    drop(bucket, "inbox/names.jsonl", [UNKNOWN, UNKNOWN])
    machine.run(bucket.name, "inbox/names.jsonl", version)
    (line,) = lines_of(bucket, f"results/inbox/names.jsonl/{version}/0")
    assert "response" in line


def test_a_batch_that_fails_is_tried_again(
    machine: Machine, bucket: Bucket, served: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the release goes missing for a moment, the state machine tries again, and no line is lost."""
    from serving.errors import ReleaseUnavailableError

    follower = served.service.follower
    use, tries = follower.use, []

    def away_at_first(key: Any) -> Any:
        tries.append(1)
        if len(tries) == 1:
            raise ReleaseUnavailableError("storage_unavailable", "S3 did not answer")
        return use(key)

    monkeypatch.setattr(follower, "use", away_at_first)
    version = drop(bucket, "inbox/names.jsonl", [GOOD])
    assert machine.run(bucket.name, "inbox/names.jsonl", version)["status"] == "SUCCEEDED"
    assert len(tries) == 2
    (line,) = lines_of(bucket, f"results/inbox/names.jsonl/{version}/0")
    assert "response" in line
