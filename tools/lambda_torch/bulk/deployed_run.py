"""A run of the stack's state machine: started once however often it is asked for, waited for, and its parts joined.

Everything has a name that follows from the input's content: the object, its version, the execution. The same command again
finds the run that there is: it waits for one that runs, redrives one that failed, and collects what one that is over has written.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lambda_torch.bulk.lines import Input
from lambda_torch.bulk.output import NOT_ANSWERED, Output
from lambda_torch.errors import BulkError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_stepfunctions import SFNClient

PART = re.compile(r"\d{12}-\d{12}\.jsonl")
# What the state machine's role may read.
READABLE = ("bulk/", "inbox/")
POLL_SECONDS = 2.0


@dataclass(frozen=True)
class Placed:
    """An input in the bucket."""

    bucket: str
    key: str
    version: str

    @property
    def results(self) -> str:
        """Where its results are, as in the state machine."""
        return f"results/{self.key}/{self.version}/"

    @property
    def name(self) -> str:
        """The execution's."""
        return f"bulk-{hashlib.sha256(f'{self.key}@{self.version}'.encode()).hexdigest()[:40]}"

    def event(self) -> str:
        """The execution's input: what EventBridge sends for a dropped file."""
        detail = {"bucket": {"name": self.bucket}, "object": {"key": self.key, "version-id": self.version}}
        return json.dumps({"detail": detail})


def place(client: "S3Client", bucket: str, source: Input, on_bytes: Callable[[int], None]) -> Placed:
    """Upload a file, unless its content is there already.

    Raises:
        BulkError: the bucket keeps no versions, so it is not one of a stack.
    """
    key = f"bulk/{source.sha256[:16]}/{re.sub(r'[^A-Za-z0-9._-]', '_', source.path.name)}"
    version = _version(client, bucket, key)
    if version is None:
        client.upload_file(str(source.path), bucket, key, Callback=on_bytes)
        version = _version(client, bucket, key)
    return _placed(bucket, key, version)


def find(client: "S3Client", bucket: str, from_bucket: str, key: str) -> Placed:
    """An object as input; one that the state machine may not read is copied.

    Raises:
        BulkError: there is no such object, or the bucket keeps no versions.
    """
    version = _version(client, from_bucket, key)
    if version is None:
        raise BulkError(f"There is no s3://{from_bucket}/{key}.")
    if from_bucket == bucket and key.startswith(READABLE):
        return _placed(bucket, key, version)
    etag = client.head_object(Bucket=from_bucket, Key=key)["ETag"].strip('"')
    target = f"bulk/{etag}/{key.rpartition('/')[2]}"
    if _version(client, bucket, target) is None:
        client.copy({"Bucket": from_bucket, "Key": key}, bucket, target)
    return _placed(bucket, target, _version(client, bucket, target))


def _version(client: "S3Client", bucket: str, key: str) -> str | None:
    from botocore.exceptions import ClientError

    try:
        return client.head_object(Bucket=bucket, Key=key).get("VersionId", "null")
    except ClientError as error:
        if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 404:
            return None
        raise


def _placed(bucket: str, key: str, version: str | None) -> Placed:
    if version is None or version == "null":
        raise BulkError(
            f"{bucket} keeps no versions, so it is not a stack's. Next: name the stack's output ModelBucketName."
        )
    return Placed(bucket, key, version)


class Execution:
    """The execution of the state machine for one input.

    Args:
        client: Step Functions.
        machine: the state machine's ARN.
    """

    def __init__(self, client: "SFNClient", machine: str, placed: Placed) -> None:
        self._client = client
        self._machine = machine
        self._placed = placed
        self.arn = f"{machine.replace(':stateMachine:', ':execution:')}:{placed.name}"

    def start(self) -> str:
        """Start it, or find the one that there is and redrive it if it failed; which of these it was, in a word or two."""
        try:
            self._client.start_execution(
                stateMachineArn=self._machine, name=self._placed.name, input=self._placed.event()
            )
            return "started"
        except self._client.exceptions.ExecutionAlreadyExists:
            pass
        status = self.status()
        if status in ("FAILED", "ABORTED", "TIMED_OUT"):
            self._client.redrive_execution(executionArn=self.arn)
            return "redriven"
        return "found running" if status == "RUNNING" else "found finished"

    def status(self) -> str:
        """RUNNING, SUCCEEDED, FAILED, ..."""
        return self._client.describe_execution(executionArn=self.arn)["status"]

    def wait(self, on_lines: Callable[[int], None], sleep: Callable[[float], None] = time.sleep) -> str:
        """Wait for its end, telling how many lines are through; its last status."""
        while (status := self.status()) == "RUNNING":
            on_lines(self._lines())
            sleep(POLL_SECONDS)
        on_lines(self._lines())
        return status

    def why(self) -> str:
        """Why it failed, as Step Functions says."""
        found = self._client.describe_execution(executionArn=self.arn)
        return f"{found.get('error', found['status'])}: {found.get('cause', 'no cause is told')}"

    def total(self) -> int:
        """How many lines the run has found in its file."""
        return int(self._counts().get("total", 0))

    def _lines(self) -> int:
        counts = self._counts()
        return int(counts.get("succeeded", 0) + counts.get("failed", 0))

    def _counts(self) -> Any:
        runs = self._client.list_map_runs(executionArn=self.arn)["mapRuns"]
        return self._client.describe_map_run(mapRunArn=runs[0]["mapRunArn"])["itemCounts"] if runs else {}


def collect(client: "S3Client", placed: Placed, total: int, output: Output, on_lines: Callable[[int], None]) -> None:
    """Join the parts of a run that is over, in the order of their indexes: each of the `total` lines once.

    Lines of batches that were given up, which the run tolerated, say so.
    """
    for key in _parts(client, placed):
        content = client.get_object(Bucket=placed.bucket, Key=key)["Body"].read()
        for line in content.splitlines(keepends=True):
            index = json.loads(line)["index"]
            # Two runs of one version may cut the file differently: whichever part comes first has the line.
            if index < output.done:
                continue
            _give_up(output, index)
            output.counts.add(line)
            output.write(line, 1)
        on_lines(output.done)
    _give_up(output, total)


def _give_up(output: Output, until: int) -> None:
    """Write the lines that no part has, up to this index."""
    message = "Its batch was given up after its retries; the run's own report, under run/, says why."
    error = {"code": NOT_ANSWERED, "message": message, "details": {}}
    while output.done < until:
        line = f"{json.dumps({'index': output.done, 'release': None, 'error': error})}\n".encode()
        output.counts.add(line)
        output.write(line, 1)


def _parts(client: "S3Client", placed: Placed) -> Iterator[str]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=placed.bucket, Prefix=placed.results, Delimiter="/")
    for page in pages:
        for each in page.get("Contents", []):
            if PART.fullmatch(each["Key"].removeprefix(placed.results)):
                yield each["Key"]
