"""A stack with two models, in the fake cloud, resource by resource: HTTP API, JWT, VPC, key and boundary, for both of them."""

import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from integration.aws_command import CREDENTIALS, Clients, Run
from integration.conftest import IN_THIS_PROCESS, start
from integration.releases.samples import folder_of
from integration.stacks.conftest import PACKAGES
from integration.stacks.test_company import COMPANY
from integration.stacks.test_destroy import everything
from lambda_torch.emulator.payloads import PAYLOADS, GatewayRequest
from lambda_torch.project import TEMPLATE
from lambda_torch.stacks import removal
from stack.combinations import BOUNDARY, KMS_KEY

Deploy = Callable[..., str]
NAME = "models-company"
TABLE = """\
[models.names]
MemorySize = 1769

[models.flowers]
Timeout = 60
LatencyAlarmMilliseconds = 2000
"""
PREDICT = {"category": "Russian", "start_letters": "RUS"}
# The way to S3 needs a VPC that exists; test_company tries it.
LEFT_OUT = ("WarmUpSchedule", "VpcId", "RouteTableIds")
PARAMETERS = {name: value for name, value in COMPANY.items() if name not in LEFT_OUT}
# What the fake cloud charges for, of two models. (moto makes no alarms.)
COUNTS = {
    "functions": 4,
    "layers": 1,
    "HTTP APIs": 1,
    "queues": 4,
    "log groups": 6,
    "machines": 2,
    "rules": 2,
    "roles": 9,
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake cloud deletes at once."""
    monkeypatch.setattr(removal, "POLL_SECONDS", 0.05)


@pytest.fixture
def folder(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a table of two models and the template for them, in which the commands run."""
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copy(TEMPLATE, folder)
    (folder / "models.toml").write_text(TABLE)
    monkeypatch.chdir(folder)
    done = run("models")
    assert done.status == 0, done.errors
    return folder


class DeployedApi:
    """Sends requests through the routes of the deployed API, to functions that run here with their deployed settings."""

    def __init__(self, client: Clients, url: str, scratch: Path) -> None:
        self._client = client
        self._url = url
        self._scratch = scratch
        self._started: dict[str, ModuleType] = {}

    def ask(self, method: str, path: str, content: Any = None) -> Any:
        """The function's answer to a request."""
        gateway = self._client("apigatewayv2")
        (api,) = gateway.get_apis()["Items"]
        (route,) = [
            each for each in gateway.get_routes(ApiId=api["ApiId"])["Items"] if each["RouteKey"] == f"{method} {path}"
        ]
        integration = gateway.get_integration(ApiId=api["ApiId"], IntegrationId=route["Target"].partition("/")[2])
        found = re.search(r":function:([^:/]+):live/", integration["IntegrationUri"])
        assert found is not None, integration
        request = GatewayRequest(method, f"/prod{path}", body=b"" if content is None else json.dumps(content).encode())
        event = PAYLOADS["v2"].event(request)
        event["routeKey"] = route["RouteKey"]
        event["requestContext"]["stage"] = "prod"
        return self._function(found[1]).lambda_handler(event, None)

    def comes_to_serve(self, model: str, version: str) -> bool:
        """Whether a release answers after some requests: the function looks for a new one beside its work."""
        for _ in range(600):
            if release_of(self.ask("POST", f"/models/{model}/predict", PREDICT)) == version:
                return True
            time.sleep(0.05)
        return False

    def _function(self, name: str) -> ModuleType:
        if name not in self._started:
            settings = self._client("lambda").get_function_configuration(FunctionName=name)
            here = {"AWS_ENDPOINT_URL_S3": self._url, "RELEASE_REFRESH_SECONDS": "0"}
            here["RELEASE_CACHE"] = str(self._scratch / name)
            # moto keeps numbers as they are in the template.
            deployed = {key: str(value) for key, value in settings["Environment"]["Variables"].items()}
            self._started[name] = start({**CREDENTIALS, **IN_THIS_PROCESS, **deployed, **here})
        return self._started[name]


def release_of(answer: Any) -> str:
    """The release that gave an answer."""
    assert answer["statusCode"] == 200, answer
    version: str = answer["headers"]["X-Model-Version"]
    return version


def objects(client: Clients, bucket: str, model: str) -> dict[str, str]:
    """Key to ETag of what the bucket has of a model."""
    listed = client("s3").list_objects_v2(Bucket=bucket, Prefix=f"models/{model}/")
    return {each["Key"]: each["ETag"] for each in listed.get("Contents", [])}


def resources(client: Clients) -> dict[str, str]:
    """Logical id to name, of the deployed stack."""
    found = client("cloudformation").list_stack_resources(StackName=NAME)["StackResourceSummaries"]
    return {each.get("LogicalResourceId"): each.get("PhysicalResourceId", "") for each in found}


def test_a_company_runs_two_models_in_one_stack(
    run: Run, client: Clients, deploy: Deploy, folder: Path, cloud_url: str, tmp_path: Path
) -> None:
    """Both models answer at their paths; a publish and a rollback of one leave the other alone; `destroy` leaves nothing."""
    bucket = deploy(NAME, source=folder / "template-models.yaml", **PARAMETERS)
    functions(client)
    found = everything(client)
    assert {kind: len(found[kind]) for kind in COUNTS} == COUNTS
    api = DeployedApi(client, cloud_url, tmp_path)
    empty = api.ask("POST", "/models/names/predict", PREDICT)
    assert (empty["statusCode"], f"--bucket {bucket} --model names" in empty["body"]) == (503, True)

    versions = {}
    for number, model in enumerate(("names", "flowers")):
        release = folder_of(tmp_path / f"{model}-1", number)
        to = ("--bucket", bucket, "--model", model, "--channel", "staging", "--no-try-processors")
        done = run("publish", release, *to, "--stack", NAME)
        assert done.status == 0, done.errors
        versions[model] = done.output.strip()
    assert len(set(versions.values())) == 2
    api = DeployedApi(client, cloud_url, tmp_path)
    for model, version in versions.items():
        assert release_of(api.ask("POST", f"/models/{model}/predict", PREDICT)) == version
        assert api.ask("GET", f"/models/{model}/health")["statusCode"] == 200
        assert "Swagger" in api.ask("GET", f"/models/{model}/docs")["body"]
        assert api.ask("GET", f"/models/{model}")["headers"]["Content-Type"].startswith("text/html")

    untouched = objects(client, bucket, "flowers")
    of_names = ("--bucket", bucket, "--model", "names", "--channel", "staging")
    second = run("publish", folder_of(tmp_path / "names-2", 7), *of_names, "--no-try-processors")
    assert second.status == 0, second.errors
    assert api.comes_to_serve("names", second.output.strip())
    listed = run("releases", "--bucket", bucket, "--model", "names", "--json").json
    assert {each["version"] for each in listed} == {versions["names"], second.output.strip()}
    back = run("rollback", *of_names)
    assert back.status == 0, back.errors
    assert api.comes_to_serve("names", versions["names"])
    assert run("gc", "--keep", "0", "--grace", "0", "--bucket", bucket, "--model", "names").status == 0
    assert release_of(api.ask("POST", "/models/flowers/predict", PREDICT)) == versions["flowers"]
    assert objects(client, bucket, "flowers") == untouched
    # Nothing lies where a stack with one model has it.
    every = client("s3").list_objects_v2(Bucket=bucket)["Contents"]
    assert {each["Key"].split("/")[0] for each in every} == {"models"}

    before = resources(client)
    assert run("models", "--add", "third").status == 0
    assert deploy(NAME, source=folder / "template-models.yaml", **PARAMETERS) == bucket
    after = resources(client)
    assert before.items() <= after.items()
    assert "ThirdPredictFunction" in after
    assert len(everything(client)["functions"]) == 6

    done = run("destroy", NAME, "--yes", "--json")
    assert (done.status, done.json["left"]) == (0, []), done.errors
    assert everything(client) == {"buckets": [PACKAGES]}


def functions(client: Clients) -> None:
    """Each function has its own figures, and the company's network, key, boundary and channel."""
    names = resources(client)
    lambdas = client("lambda")
    found = {
        part: lambdas.get_function_configuration(FunctionName=names[f"{part}PredictFunction"])
        for part in ("Names", "Flowers")
    }
    assert {part: (each["MemorySize"], each["Timeout"]) for part, each in found.items()} == {
        "Names": (1769, 30),
        "Flowers": (3008, 60),
    }
    for part, each in found.items():
        assert each["VpcConfig"]["SubnetIds"] == COMPANY["SubnetIds"].split(", ")
        variables = each["Environment"]["Variables"]
        assert (variables["MODEL_NAME"], variables["RELEASE_CHANNEL"]) == (part.lower(), "staging")
        (check,) = [names[f"{part}DeployCheckFunction"]]
        assert check == f"CodeDeployHook_{NAME}_{part.lower()}"
        queue = client("sqs").get_queue_attributes(QueueUrl=names[f"{part}RequestQueue"], AttributeNames=["All"])
        assert queue["Attributes"]["KmsMasterKeyId"] == KMS_KEY
    for each in client("iam").list_roles(PathPrefix="/teams/models/")["Roles"]:
        role = client("iam").get_role(RoleName=each["RoleName"])["Role"]
        assert role["PermissionsBoundary"]["PermissionsBoundaryArn"] == BOUNDARY


def test_an_unknown_model_is_told_the_models_that_there_are(
    run: Run, client: Clients, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names come from models.toml, or else from the bucket; nothing is changed."""
    client("s3").create_bucket(Bucket="models")
    for words in (("releases",), ("rollback",), ("gc", "--keep", "1"), ("verify", "current")):
        done = run(*words, "--bucket", "models", "--model", "roses")
        assert done.status == 1
        assert "There is no model 'roses'" in done.errors
        assert "There are: flowers, names." in done.errors
    done = run("publish", folder_of(tmp_path / "release", 1), "--bucket", "models", "--model", "roses")
    assert (done.status, "There are: flowers, names." in done.errors) == (2, True)
    monkeypatch.chdir(tmp_path)
    client("s3").put_object(Bucket="models", Key="models/tulips/channels/live.json", Body=b"{}")
    done = run("releases", "--bucket", "models", "--model", "roses")
    assert (done.status, "There are: tulips." in done.errors, "models.toml" in done.errors) == (1, True, True)
    assert len(client("s3").list_objects_v2(Bucket="models")["Contents"]) == 1
