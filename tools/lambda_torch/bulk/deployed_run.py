"""A run of the stack's state machine: start it once, wait for it, and join the parts that it wrote.

The names of the object, its version and the execution follow from the content of the input. So the same command finds
an earlier run: it waits for a run that is not over, redrives a run that failed, and collects the results of a run that
is over.
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
# The role of the state machine may read these prefixes.
READABLE = ("bulk/", "inbox/")
POLL_SECONDS = 2.0


@dataclass(frozen=True)
class Placed:
    """An input in the bucket.

    Attributes:
        bucket, key, version: which object it is.
        key_prefix: what all keys of its model begin with, in a stack with several.
    """

    bucket: str
    key: str
    version: str
    key_prefix: str = ""

    @property
    def results(self) -> str:
        """The prefix of its results, as in the state machine."""
        return f"{self.key_prefix}results/{self.key}/{self.version}/"

    @property
    def name(self) -> str:
        """The name of its execution."""
        return f"bulk-{hashlib.sha256(f'{self.key}@{self.version}'.encode()).hexdigest()[:40]}"

    def event(self) -> str:
        """The input of its execution: the same as EventBridge sends for a dropped file."""
        detail = {"bucket": {"name": self.bucket}, "object": {"key": self.key, "version-id": self.version}}
        return json.dumps({"detail": detail})


def place(
    client: "S3Client", bucket: str, source: Input, on_bytes: Callable[[int], None], key_prefix: str = ""
) -> Placed:
    """Upload a file, unless the bucket already has its content.

    Raises:
        BulkError: the bucket keeps no versions, so it does not belong to a stack.
    """
    key = f"{key_prefix}bulk/{source.sha256[:16]}/{re.sub(r'[^A-Za-z0-9._-]', '_', source.path.name)}"
    version = _version(client, bucket, key)
    if version is None:
        client.upload_file(str(source.path), bucket, key, Callback=on_bytes)
        version = _version(client, bucket, key)
    return _placed(bucket, key, version, key_prefix)


def find(client: "S3Client", bucket: str, from_bucket: str, key: str, key_prefix: str = "") -> Placed:
    """Use an object as input. If the state machine may not read it, it is copied.

    Raises:
        BulkError: there is no such object, or the bucket keeps no versions.
    """
    version = _version(client, from_bucket, key)
    if version is None:
        raise BulkError(f"There is no s3://{from_bucket}/{key}.")
    if from_bucket == bucket and key.startswith(tuple(key_prefix + each for each in READABLE)):
        return _placed(bucket, key, version, key_prefix)
    etag = client.head_object(Bucket=from_bucket, Key=key)["ETag"].strip('"')
    target = f"{key_prefix}bulk/{etag}/{key.rpartition('/')[2]}"
    if _version(client, bucket, target) is None:
        client.copy({"Bucket": from_bucket, "Key": key}, bucket, target)
    return _placed(bucket, target, _version(client, bucket, target), key_prefix)


def _version(client: "S3Client", bucket: str, key: str) -> str | None:
    from botocore.exceptions import ClientError

    try:
        return client.head_object(Bucket=bucket, Key=key).get("VersionId", "null")
    except ClientError as error:
        if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 404:
            return None
        raise


def _placed(bucket: str, key: str, version: str | None, key_prefix: str) -> Placed:
    if version is None or version == "null":
        raise BulkError(
            f"{bucket} keeps no versions, so it is not the bucket of a stack. "
            "Next: give ModelBucketName from the stack's outputs as --bucket."
        )
    return Placed(bucket, key, version, key_prefix)


class Execution:
    """The execution of the state machine for one input.

    Args:
        client: the client for Step Functions.
        machine: the ARN of the state machine.
    """

    def __init__(self, client: "SFNClient", machine: str, placed: Placed) -> None:
        self._client = client
        self._machine = machine
        self._placed = placed
        self.arn = f"{machine.replace(':stateMachine:', ':execution:')}:{placed.name}"

    def start(self) -> str:
        """Start it. If it exists already, redrive it if it failed. Returns in a word or two what was done."""
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
        """Wait for its end and return its last status. `on_lines` is called with the number of lines that are done."""
        while (status := self.status()) == "RUNNING":
            on_lines(self._lines())
            sleep(POLL_SECONDS)
        on_lines(self._lines())
        return status

    def why(self) -> str:
        """Why it failed, in the words of Step Functions."""
        found = self._client.describe_execution(executionArn=self.arn)
        return f"{found.get('error', found['status'])}: {found.get('cause', 'Step Functions names no cause')}"

    def total(self) -> int:
        """How many lines the run found in its file."""
        return int(self._counts().get("total", 0))

    def _lines(self) -> int:
        counts = self._counts()
        return int(counts.get("succeeded", 0) + counts.get("failed", 0))

    def _counts(self) -> Any:
        runs = self._client.list_map_runs(executionArn=self.arn)["mapRuns"]
        return self._client.describe_map_run(mapRunArn=runs[0]["mapRunArn"])["itemCounts"] if runs else {}


def collect(client: "S3Client", placed: Placed, total: int, output: Output, on_lines: Callable[[int], None]) -> None:
    """Join the parts of a run that is over, in the order of their indexes. Each of the `total` lines is there once.

    The run may tolerate that some batches fail. Their lines have the error `not_answered`.
    """
    for key in _parts(client, placed):
        content = client.get_object(Bucket=placed.bucket, Key=key)["Body"].read()
        for line in content.splitlines(keepends=True):
            index = json.loads(line)["index"]
            # Two runs of one version may divide the file differently. The first part that has a line gives it.
            if index < output.done:
                continue
            _give_up(output, index)
            output.counts.add(line)
            output.write(line, 1)
        on_lines(output.done)
    _give_up(output, total)


def _give_up(output: Output, until: int) -> None:
    """Write the lines that no part has, up to this index."""
    message = "Its batch failed after all retries. The run's own report, under run/, says why."
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
