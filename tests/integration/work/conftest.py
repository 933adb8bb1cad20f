"""SQS, Step Functions and Lambda of moto's server, with the function's own handler behind them."""

import io
import json
import zipfile
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import boto3
import pytest

from lambda_torch.releases.bucket import Bucket
from lambda_torch.releases.publishing import publish

CONTEXT = SimpleNamespace(aws_request_id="7b61c6af-0000-4000-8000-000000000000")
GOOD = {"category": "Russian", "start_letters": "RUS"}
UNKNOWN = {"category": "Klingon", "start_letters": "Q"}

Client = Callable[[str], Any]


@pytest.fixture
def aws_client(s3_url: str, aws: dict[str, str]) -> Client:
    """Makes clients of that server's other services."""

    def make(service: str) -> Any:
        client: Any = boto3.client
        return client(
            service,
            endpoint_url=s3_url,
            region_name=aws["AWS_DEFAULT_REGION"],
            aws_access_key_id=aws["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=aws["AWS_SECRET_ACCESS_KEY"],
        )

    return make


@pytest.fixture
def served(bucket: Bucket, release: Any, start_function: Any, aws: dict[str, str], monkeypatch: Any) -> ModuleType:
    """The function, serving a release from a bucket of its own, where it also writes."""
    for name, value in aws.items():  # the client for results is made when the first one is written
        monkeypatch.setenv(name, value)
    publish(release, bucket)
    app: ModuleType = start_function(MODEL_BUCKET=bucket.name)
    return app


def keys(bucket: Bucket, prefix: str) -> list[str]:
    """What is in the bucket below a prefix, in order."""
    return [
        each["Key"] for each in bucket.client.list_objects_v2(Bucket=bucket.name, Prefix=prefix).get("Contents", [])
    ]


def read(bucket: Bucket, key: str) -> str:
    """An object's text."""
    return bucket.client.get_object(Bucket=bucket.name, Key=key)["Body"].read().decode()


def document(bucket: Bucket, key: str) -> Any:
    """An object's JSON."""
    return json.loads(read(bucket, key))


def deploy(aws_client: Client, app: ModuleType, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let moto's Lambda have the function, with its alias, and run `app` in this process for it; the version's ARN."""
    from moto.awslambda.models import LambdaFunction

    def invoke(_function: Any, event: Any = None) -> tuple[str, bool, str]:
        try:
            return json.dumps(app.lambda_handler(event, CONTEXT)), False, ""
        except Exception as error:
            return json.dumps({"errorType": type(error).__name__, "errorMessage": str(error)}), True, ""

    monkeypatch.setattr(LambdaFunction, "_invoke_lambda", invoke)
    functions, roles = aws_client("lambda"), aws_client("iam")
    if "PredictFunction" not in {each["FunctionName"] for each in functions.list_functions()["Functions"]}:
        role = roles.create_role(RoleName="function", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        code = io.BytesIO()
        with zipfile.ZipFile(code, "w") as archive:
            archive.writestr("app.py", "")
        functions.create_function(
            FunctionName="PredictFunction",
            Runtime="python3.13",
            Role=role,
            Handler="app.lambda_handler",
            Code={"ZipFile": code.getvalue()},
            Publish=True,
        )
        functions.create_alias(FunctionName="PredictFunction", Name="live", FunctionVersion="1")
    return "arn:aws:lambda:us-east-1:123456789012:function:PredictFunction:1"
