"""The project's stack in a fake cloud over HTTP, without Docker: moto, with what it lacks for SAM (tests/container/cloud)."""

import io
import json
import os
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import requests
from samcli.yamlhelper import yaml_parse

from integration.aws_command import CREDENTIALS, Clients, Run, clients, runner
from lambda_torch.emulator.processes import Processes, free_port
from lambda_torch.project import ROOT, TEMPLATE

PACKAGES = "packages"
PREFIX = "lambda-torch"
START_SECONDS = 60.0


@pytest.fixture(scope="session")
def cloud_url() -> Iterator[str]:
    """The address of the cloud."""
    port = free_port()
    folders = [ROOT / "tests", ROOT / "tools", ROOT / "src"]
    variables = {**os.environ, **CREDENTIALS, "PYTHONPATH": os.pathsep.join(map(str, folders))}
    with Processes() as processes:
        command = [sys.executable, "-m", "container.cloud", str(port)]
        server = processes.start("the cloud", command, variables, ROOT, lambda _line: None)
        server.wait_listening(port, START_SECONDS)
        yield f"http://localhost:{port}"


@pytest.fixture
def client(cloud_url: str) -> Clients:
    """Makes clients, to a cloud that is empty when a test begins."""
    requests.post(f"{cloud_url}/moto-api/reset", timeout=30)
    return clients(cloud_url)


@pytest.fixture
def run(cloud_url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `lambda-torch`."""
    return runner(cloud_url, monkeypatch)


def code() -> bytes:
    """A zip file that a function could have."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("app.py", "x = 1\n")
    return file.getvalue()


@pytest.fixture
def deploy(client: Clients) -> Callable[..., str]:
    """Deploys a template as `sam deploy` does, from packages in a bucket: `deploy(name)` returns the models' bucket."""
    s3 = client("s3")
    s3.create_bucket(Bucket=PACKAGES)
    s3.put_object(Bucket=PACKAGES, Key="somebody/else", Body=b"")

    def deploy_stack(name: str, prefix: str = PREFIX, source: Path = TEMPLATE, **parameters: str) -> str:
        template = json.loads(json.dumps(yaml_parse(source.read_text())))
        for logical_id, resource in template["Resources"].items():
            for place in {"CodeUri", "ContentUri"} & resource.get("Properties", {}).keys():
                key = f"{prefix}/{logical_id}"
                s3.put_object(Bucket=PACKAGES, Key=key, Body=code())
                resource["Properties"][place] = f"s3://{PACKAGES}/{key}"
        cloudformation = client("cloudformation")
        exists = name in [each["StackName"] for each in cloudformation.describe_stacks()["Stacks"]]
        change_set = f"change-{uuid4().hex}"
        cloudformation.create_change_set(
            StackName=name,
            ChangeSetName=change_set,
            ChangeSetType="UPDATE" if exists else "CREATE",
            TemplateBody=json.dumps(template),
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        )
        cloudformation.execute_change_set(StackName=name, ChangeSetName=change_set)
        (stack,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
        assert stack["StackStatus"] == ("UPDATE_COMPLETE" if exists else "CREATE_COMPLETE")
        outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
        bucket: str = outputs["ModelBucketName"]
        # moto leaves this property of a bucket out.
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        return bucket

    return deploy_stack
