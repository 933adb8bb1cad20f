"""Deploying as a person does: a cloud to deploy to, the stack's outputs, and answers typed at `sam deploy --guided`."""

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pexpect

from container.conftest import Project, SamResult
from lambda_torch.emulator.processes import Processes, free_port
from lambda_torch.emulator.storage import CREDENTIALS, REGION
from lambda_torch.project import ROOT
from lambda_torch.sam import command, docker

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

STACK = "lambda-torch"
START_SECONDS = 60.0
LOG = ROOT / "build" / "tests" / "container" / "cloud.log"


@dataclass(frozen=True)
class Cloud:
    """A running `container.cloud`.

    Attributes:
        url: its address, for AWS_ENDPOINT_URL.
    """

    url: str

    @property
    def variables(self) -> dict[str, str]:
        """What a command needs to deploy there, and not to wait 5 s between two looks."""
        return {"AWS_ENDPOINT_URL": self.url, "SAM_CLI_POLL_DELAY": "0.5", "COLUMNS": "200"}

    def client(self, service: str) -> Any:
        """A client for one of its services."""
        client: Any = boto3.client  # its type depends on the service's name, which is not known here
        return client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )

    @property
    def s3(self) -> "S3Client":
        """Its S3."""
        client: S3Client = self.client("s3")
        return client

    def outputs(self, stack: str = STACK) -> dict[str, str]:
        """A stack's outputs."""
        (described,) = self.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in described["Outputs"]}

    def stacks(self) -> set[str]:
        """The names of the stacks that exist."""
        return {stack["StackName"] for stack in self.client("cloudformation").describe_stacks()["Stacks"]}

    def keys(self, bucket: str) -> list[str]:
        """What a bucket holds."""
        return [each["Key"] for each in self.s3.list_objects_v2(Bucket=bucket).get("Contents", [])]


@contextmanager
def cloud() -> Iterator[Cloud]:
    """A cloud that lasts as long as the block; its log, where the cause of a deploy's failure is, stays in build/tests."""
    port = free_port()
    folders = [ROOT / "tests", ROOT / "tools", ROOT / "src"]
    variables = {
        **command.environment(),
        "PYTHONPATH": os.pathsep.join(map(str, folders)),
        "AWS_CA_BUNDLE": "",
    }
    arguments = [sys.executable, "-m", "container.cloud", str(port), docker.host().bind]
    LOG.parent.mkdir(parents=True, exist_ok=True)
    with LOG.open("w") as log, Processes() as processes:
        server = processes.start(
            "the cloud", arguments, variables, ROOT, lambda line: print(line, file=log, flush=True)
        )
        server.wait_listening(port, START_SECONDS)
        # A name, not a number: the AWS clients take a numbered host apart otherwise.
        yield Cloud(f"http://localhost:{port}")


def invoke(
    project: Project, to: Cloud, event: Path, stack: str = STACK, function: str = "PredictFunction", alias: str = "live"
) -> Any:
    """A deployed function's answer to an event file, by `sam remote invoke`; requests of clients go to the alias `live`."""
    arguments = [function, "--stack-name", stack, "--event-file", str(event), "--parameter", f"Qualifier={alias}"]
    done = project.sam("remote", "invoke", *arguments, variables=to.variables)
    assert done.status == 0, done.said
    answer = json.loads(done.stdout)
    assert "errorMessage" not in answer, answer
    return answer


def typed(
    project: Project, arguments: list[str], answers: list[tuple[str, str]], variables: dict[str, str]
) -> SamResult:
    """Run a sam command at a terminal, typing an answer at each question (a regular expression) whenever it is asked."""
    child = pexpect.spawn(
        command.executable(),
        arguments,
        cwd=str(project.folder),
        env=command.environment(variables),
        encoding="utf-8",
        timeout=600,
        dimensions=(50, 200),
    )
    colour = r"(?:\x1b\[[0-9;]*m)*"  # click colours its questions at a terminal
    patterns: list[Any] = [
        question.replace(" ", f"{colour} {colour}") + f"{colour}: ?{colour}" for question, _ in answers
    ]
    said = []
    try:
        while True:
            found = child.expect([*patterns, pexpect.EOF])
            said.append(f"{child.before}{child.after if found < len(answers) else ''}")
            if found == len(answers):
                break
            child.sendline(answers[found][1])
    finally:
        child.close(force=True)
    text = re.sub(r"\x1b\[[0-9;]*m", "", "".join(said))
    return SamResult(child.exitstatus if child.exitstatus is not None else -1, text, "")
