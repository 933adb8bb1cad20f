import json
from types import ModuleType
from typing import Any

import pytest

from integration.work.conftest import CONTEXT, GOOD, UNKNOWN, Client, document, keys, read
from lambda_torch.releases.bucket import Bucket

TRIES = 3


class Queue:
    """A queue of moto's with a dead-letter queue, and what Lambda's poller does with it."""

    def __init__(self, sqs: Any, app: ModuleType, name: str) -> None:
        self.sqs = sqs
        self.app = app
        self.dead = sqs.create_queue(QueueName=f"{name}-failed")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=self.dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": TRIES})
        # Visible again at once, so that no test waits.
        attributes = {"VisibilityTimeout": "0", "RedrivePolicy": redrive}
        self.url = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]

    def send(self, body: Any, name: str | None = None) -> str:
        """Send a message (text as it is, anything else as JSON); its id."""
        attributes = {} if name is None else {"id": {"DataType": "String", "StringValue": name}}
        text = body if isinstance(body, str) else json.dumps(body)
        sent = self.sqs.send_message(QueueUrl=self.url, MessageBody=text, MessageAttributes=attributes)
        return str(sent["MessageId"])

    def poll(self) -> set[str]:
        """Hand the waiting messages to the function; remove those that it does not name, as Lambda does; those that it named."""
        got = self.sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10, MessageAttributeNames=["All"])
        messages = {each["MessageId"]: each for each in got.get("Messages", [])}
        if not messages:
            return set()
        answer = self.app.lambda_handler({"Records": [_record(each) for each in messages.values()]}, CONTEXT)
        assert answer.keys() == {"batchItemFailures"}
        failed = {each["itemIdentifier"] for each in answer["batchItemFailures"]}
        assert failed <= messages.keys()
        for name in messages.keys() - failed:
            self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=messages[name]["ReceiptHandle"])
        return failed

    def given_up(self) -> list[str]:
        """Bodies of the dead-letter queue."""
        got = self.sqs.receive_message(QueueUrl=self.dead, MaxNumberOfMessages=10)
        return [each["Body"] for each in got.get("Messages", [])]


def _record(message: dict[str, Any]) -> dict[str, Any]:
    """A message in the form of Lambda's event ("Using Lambda with Amazon SQS")."""
    attributes = {
        name: {"stringValue": each["StringValue"], "dataType": each["DataType"]}
        for name, each in message.get("MessageAttributes", {}).items()
    }
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": {},
        "messageAttributes": attributes,
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:requests",
        "awsRegion": "us-east-1",
    }


@pytest.fixture
def queue(aws_client: Client, served: ModuleType, bucket: Bucket) -> Queue:
    """A queue before the function."""
    return Queue(aws_client("sqs"), served, bucket.name)


def test_a_message_is_answered_in_the_bucket(queue: Queue, bucket: Bucket) -> None:
    """A message's answer is what POST /predict gives, under its own id or the client's, with the release that gave it."""
    ours = queue.send(GOOD, "order-17")
    theirs = queue.send(GOOD)
    assert queue.poll() == set()
    assert keys(bucket, "results/") == sorted(["results/order-17.json", f"results/{theirs}.json"])
    direct = queue.app.lambda_handler(GOOD, CONTEXT)
    found = document(bucket, "results/order-17.json")
    assert found == {
        "id": "order-17",
        "status": 200,
        "release": direct["headers"]["X-Model-Version"],
        "body": json.loads(direct["body"]),
    }
    assert ours != "order-17"


def test_a_list_in_a_message_is_a_list_in_the_answer(queue: Queue, bucket: Bucket) -> None:
    """A message may be a list of requests, each answered or refused on its own."""
    queue.send([GOOD, UNKNOWN], "both")
    assert queue.poll() == set()
    found = document(bucket, "results/both.json")
    assert found["status"] == 200
    assert [name[0] for name in found["body"][0]] == ["R", "U", "S"]
    assert found["body"][1]["error"]["code"] == "unknown_category"


@pytest.mark.parametrize(
    ("body", "name", "status", "code"),
    [
        (UNKNOWN, "bad", 400, "unknown_category"),
        ("{", "bad", 400, "invalid_json"),
        ([], "bad", 400, "empty_batch"),
        (GOOD, "../channels/live", 400, "invalid_id"),
        (GOOD, "a" * 129, 400, "invalid_id"),
    ],
)
def test_what_can_never_be_answered_is_told_and_not_tried_again(
    queue: Queue, bucket: Bucket, body: Any, name: str, status: int, code: str
) -> None:
    """A refused message has a result with the reason; under an id that cannot be used, at the message's own."""
    message = queue.send(body, name)
    queue.send(GOOD, "good")
    assert queue.poll() == set()
    where = message if code == "invalid_id" else name
    found = document(bucket, f"results/{where}.json")
    assert (found["status"], found["body"]["error"]["code"]) == (status, code)
    assert document(bucket, "results/good.json")["status"] == 200
    assert not queue.poll()
    assert queue.given_up() == []


def test_a_second_delivery_changes_nothing(queue: Queue, bucket: Bucket) -> None:
    """SQS may deliver twice, and clients may send twice: the first answer under an id stays, byte for byte."""
    queue.send(GOOD, "twice")
    assert queue.poll() == set()
    first = read(bucket, "results/twice.json")
    queue.send(UNKNOWN, "twice")
    assert queue.poll() == set()
    assert read(bucket, "results/twice.json") == first


def test_only_the_failed_message_comes_again(queue: Queue, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the model fails on one message, the others are answered and that one is tried again, then given up."""
    model = queue.app.model.Model
    predict = model.predict

    def failing(self: Any, requests: list[Any]) -> Any:
        if any(each.category == "Greek" for each in requests):
            raise RuntimeError("out of letters")
        return predict(self, requests)

    monkeypatch.setattr(model, "predict", failing)
    bad = {"category": "Greek", "start_letters": "A"}
    message = queue.send(bad, "bad")
    queue.send(GOOD, "good")
    assert queue.poll() == {message}
    assert keys(bucket, "results/") == ["results/good.json"]
    for _ in range(TRIES - 1):
        assert queue.poll() == {message}
    assert not queue.poll()
    assert queue.given_up() == [json.dumps(bad)]
    assert keys(bucket, "results/") == ["results/good.json"]


def test_without_a_release_messages_wait(
    aws_client: Client, start_function: Any, bucket: Bucket, release: Any, monkeypatch: Any, aws: dict[str, str]
) -> None:
    """While nothing is published messages are handed back, and answered once there is a release."""
    from lambda_torch.releases.publishing import publish

    for name, value in aws.items():
        monkeypatch.setenv(name, value)
    waiting = Queue(aws_client("sqs"), start_function(MODEL_BUCKET=bucket.name, RELEASE_RETRY_SECONDS="0"), bucket.name)
    message = waiting.send(GOOD, "early")
    assert waiting.poll() == {message}
    assert keys(bucket, "results/") == []
    publish(release, bucket)
    assert waiting.poll() == set()
    assert document(bucket, "results/early.json")["status"] == 200


def test_where_results_cannot_be_written_messages_come_again(
    queue: Queue, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bucket that does not take results loses no message."""
    from serving.jobs.results import Results

    message = queue.send(GOOD, "later")
    with monkeypatch.context() as patch:
        patch.setattr(Results, "write", _unwritable)
        assert queue.poll() == {message}
    assert queue.poll() == set()
    assert document(bucket, "results/later.json")["status"] == 200


def _unwritable(*_: Any) -> bool:
    from serving.jobs.results import ResultWriteError

    raise ResultWriteError("S3 did not take it")
