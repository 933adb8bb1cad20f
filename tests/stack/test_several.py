"""The template of several models: as SAM transforms it, over every pair of parameters, and what each function may do."""

import json
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from cfnlint.api import ManualArgs, lint

from lambda_torch.project import TEMPLATE
from lambda_torch.several import written
from lambda_torch.several.model_table import ModelRow
from lambda_torch.several.parting import JOINT_RESOURCES, OWN_OUTPUTS, OWN_PARAMETERS, OWN_RESOURCES
from serving.http.routes import ROUTES
from stack.chosen import Chosen
from stack.combinations import BOUNDARY, ISSUER, KMS_KEY
from stack.kit import Stack, as_sam_transforms, routes, template
from stack.several import FLOWERS, MODELS, NAMES, StackOfModels, combinations_of_models, derived, table
from stack.test_combinations import MOST_BYTES, MOST_OUTPUTS, MOST_PARAMETERS, MOST_RESOURCES, referred
from stack.test_roles import PREDICT, REFUSED, as_set

SAM = Path(sys.executable).with_name("sam")
BUCKET = "arn:aws:s3:::ModelBucket"
THIRD = ModelRow("third", {}, None, "releases/third")


@pytest.fixture(autouse=True)
def quiet() -> Any:
    """SAM warns about features of its own service at each transform."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def own(text: str, model: str = "names") -> str:
    """A text of the stack with one model, as it is for one of several."""
    for kind in ("channels", "releases", "uploads", "results", "inbox"):
        text = text.replace(f"ModelBucket/{kind}/", f"ModelBucket/models/{model}/{kind}/")
    for name in ("PredictLogGroup", "PredictFunction", "RequestQueue", "FailedRequests", "PredictRole"):
        text = text.replace(name, f"Names{name}")
    return text


def test_every_rule_has_something_to_hold_for() -> None:
    """What the rules name exists in template.yaml."""
    document = template()
    assert OWN_PARAMETERS.keys() <= document["Parameters"].keys()
    assert OWN_RESOURCES.keys() | JOINT_RESOURCES.keys() <= document["Resources"].keys()
    assert OWN_OUTPUTS.keys() <= document["Outputs"].keys()


def test_each_model_has_all_routes() -> None:
    """Each route of the function is below /models/NAME/, by both kinds of API, and calls the function of that model."""
    wanted = {(route.method, f"/models/{row.name}{route.path.rstrip('/')}") for row in MODELS for route in ROUTES}
    for api, kind in (("PredictApi", "rest"), ("PredictHttpApi", "http")):
        found = set()
        for path, method, operation in routes(StackOfModels(ApiType=kind), api):
            id_part = "Names" if path.startswith("/models/names") else "FlowersV2"
            assert f":function:{id_part}PredictFunction:live/" in operation["x-amazon-apigateway-integration"]["uri"]
            if method != "options":
                found.add((method.upper(), path))
        assert found == wanted


def test_a_model_has_its_own_figures() -> None:
    """Memory, timeout and the limit of the alarm are those of the row, and the template's defaults where it sets none."""
    stack = StackOfModels()
    names, flowers = (stack.properties(f"{row.id_part}PredictFunction") for row in MODELS)
    assert [str(each["MemorySize"]) for each in (names, flowers)] == ["1769", "3008"]
    assert [str(each["Timeout"]) for each in (names, flowers)] == ["30", "60"]
    variables = flowers["Environment"]["Variables"]
    assert (variables["MODEL_NAME"], variables["FUNCTION_TIMEOUT"]) == ("flowers-v2", "60")
    assert variables["SLOW_MILLISECONDS"] == "2000"
    slow = stack.properties("FlowersV2LatencyAlarm")["Metrics"][1]["MetricStat"]
    assert slow["Stat"] == "PR(2000:)"
    assert [each["Value"] for each in slow["Metric"]["Dimensions"]] == [
        "FlowersV2PredictFunction",
        "FlowersV2PredictFunction:live",
    ]
    later = StackOfModels(NamesMemorySize="512").properties("NamesPredictFunction")
    assert later["MemorySize"] == "512"


def test_what_is_shared_is_there_once() -> None:
    """Layer, bucket, API, topic and dashboard are there once; functions, logs, queues, machines and checks twice."""
    stack = StackOfModels(AlarmEmail="team@example.com")
    counts = {
        "AWS::Lambda::LayerVersion": 1,
        "AWS::S3::Bucket": 1,
        "AWS::ApiGateway::RestApi": 1,
        "AWS::SNS::Topic": 1,
        "AWS::CloudWatch::Dashboard": 1,
        "AWS::Lambda::Function": 4,
        "AWS::Lambda::Alias": 2,
        "AWS::SQS::Queue": 4,
        "AWS::StepFunctions::StateMachine": 2,
        "AWS::Logs::LogGroup": 6,
    }
    assert {kind: len(stack.of_type(kind)) for kind in counts} == counts
    assert len(stack.of_type("AWS::CloudWatch::Alarm")) == 2 * len(Stack().of_type("AWS::CloudWatch::Alarm"))


def test_names_that_the_template_gives_differ() -> None:
    """No name is given twice, and none can be that of a stack with one model beside it."""
    stack, beside = StackOfModels(), Stack()
    given = [
        str(each["Properties"][key])
        for each in stack.resources.values()
        for key in ("FunctionName", "StateMachineName", "LogGroupName", "DashboardName")
        if key in each.get("Properties", {}) and each["Type"] != "AWS::Lambda::Permission"
        if each["Type"] not in ("AWS::Lambda::Alias", "AWS::Lambda::Version", "AWS::Lambda::EventSourceMapping")
    ]
    assert len(given) == len(set(given)) == 7
    assert "CodeDeployHook_models_names" in given
    assert beside.properties("DeployCheckFunction")["FunctionName"] == "CodeDeployHook_models"


def test_each_function_may_do_exactly_this() -> None:
    """The role of each function has the actions of the function of one model, on what belongs to its own model."""
    found: dict[str, set[str]] = {}
    for statement in StackOfModels().statements("NamesPredictRole"):
        for action in as_set(statement["Action"]):
            found[action] = found.get(action, set()) | as_set(statement["Resource"])
    assert found == {action: {own(each) for each in resources} for action, resources in PREDICT.items()}


@pytest.mark.parametrize(("action", "resource"), REFUSED)
def test_each_function_may_not(action: str, resource: str) -> None:
    """What the function of one model may not, none of several may."""
    assert not StackOfModels().allows("NamesPredictRole", action, own(resource))


@pytest.mark.parametrize("role", ["NamesPredictRole", "NamesBulkRole", "NamesDeployCheckRole", "NamesDroppedFileRole"])
def test_no_role_reaches_another_model(role: str) -> None:
    """What is of another model, objects, queue, function, log and state machine, is out of reach."""
    stack = StackOfModels()
    for kind in ("channels/live.json", "releases/1/manifest.json", "uploads/1", "inbox/a.jsonl", "results/1.json"):
        for action in ("s3:GetObject", "s3:PutObject", "s3:GetObjectVersion"):
            assert not stack.allows(role, action, f"{BUCKET}/models/flowers-v2/{kind}"), (action, kind)
            assert not stack.allows(role, action, f"{BUCKET}/{kind}"), (action, kind)
    others = json.dumps(stack.statements(role))
    assert "FlowersV2" not in others
    assert "flowers" not in others


def test_a_dropped_file_starts_the_run_of_its_model() -> None:
    """The rule, the state machine and the role agree on where inputs and results are."""
    stack = StackOfModels()
    key = stack.properties("FlowersV2DroppedFile")["EventPattern"]["detail"]["object"]["key"]
    assert key == [{"wildcard": "models/flowers-v2/inbox/*.jsonl"}]
    definition = json.loads(stack.properties("FlowersV2BulkMachine")["DefinitionString"])["States"]["EveryLine"]
    assert definition["ResultWriter"]["Parameters"]["Prefix.$"].startswith(
        "States.Format('models/flowers-v2/results/{}"
    )
    # The function puts its own prefix before it.
    assert definition["ItemBatcher"]["BatchInput"]["prefix.$"].startswith("States.Format('results/{}/")
    assert stack.allows("FlowersV2BulkRole", "s3:GetObject", f"{BUCKET}/models/flowers-v2/inbox/a.jsonl")
    assert stack.allows("FlowersV2BulkRole", "s3:PutObject", f"{BUCKET}/models/flowers-v2/results/a/run/manifest.json")


def test_the_bucket_removes_what_is_of_clients_for_each_model() -> None:
    """Rules with a prefix are there for each model, and the others once."""
    rules = StackOfModels().properties("ModelBucket")["LifecycleConfiguration"]["Rules"]
    of_one = Stack().properties("ModelBucket")["LifecycleConfiguration"]["Rules"]
    shared = [rule for rule in of_one if "Prefix" not in rule]
    assert rules[: len(shared)] == shared
    assert len({rule["Id"] for rule in rules}) == len(rules)
    prefixes = [rule["Prefix"] for rule in rules if "Prefix" in rule]
    wanted = [rule["Prefix"] for rule in of_one if "Prefix" in rule]
    assert prefixes == [f"models/{row.name}/{prefix}" for row in MODELS for prefix in wanted]


def test_the_dashboard_has_a_part_for_each_model() -> None:
    """Below the name of a model are all widgets of one model, for its own function, and none covers another."""
    widgets = json.loads(StackOfModels().properties("Dashboard")["DashboardBody"])["widgets"]
    of_one = json.loads(Stack().properties("Dashboard")["DashboardBody"])["widgets"]
    size = len(of_one) + 1
    assert len(widgets) == 2 * size
    for row, part in zip(MODELS, (widgets[:size], widgets[size:]), strict=True):
        assert part[0]["properties"] == {"markdown": f"## {row.name}"}
        shown = json.dumps([each["properties"] for each in part[1:]]).replace(f"models_{row.name}-bulk", "models-bulk")
        assert shown.replace(row.id_part, "") == json.dumps([each["properties"] for each in of_one])
    places = {(each["x"], y) for each in widgets for y in range(each["y"], each["y"] + each["height"])}
    assert len(places) == sum(each["height"] for each in widgets)


def test_a_third_model_replaces_nothing_of_the_first_two() -> None:
    """Every resource of the two is as before; only the API, its deployment, the dashboard and the bucket's rules grow."""
    apis: tuple[dict[str, str], ...] = ({}, {"ApiType": "http"})
    for choices in apis:
        two, three = StackOfModels(**choices).resources, StackOfModels((*MODELS, THIRD), **choices).resources
        changed = {name for name, each in two.items() if three.get(name) != each}
        changed = {name for name in changed if not name.startswith("PredictApiDeployment")}
        assert changed == {"PredictHttpApi" if choices else "PredictApi", "ModelBucket", "Dashboard"} | (
            set() if choices else {"PredictApiStage"}
        )
        new = {name for name in three.keys() - two.keys() if not name.startswith("PredictApiDeployment")}
        assert {name for name in new if not name.startswith("Third")} == set()
        # The address of the API, and what the bucket holds, stay.
        api = "PredictHttpApi" if choices else "PredictApi"
        assert two[api]["Properties"]["Body"]["paths"].items() <= three[api]["Properties"]["Body"]["paths"].items()


def test_every_combination_is_a_stack_of_models() -> None:
    """SAM transforms each combination of the parameters; what it refers to is there, within CloudFormation's limits."""
    assert len(derived()["Parameters"]) <= MOST_PARAMETERS
    for each in combinations_of_models():
        stack = StackOfModels(**each)
        assert "Fn::" not in json.dumps(stack.resources)
        chosen = Chosen(derived(), each).document
        assert referred(chosen) <= {*chosen["Resources"], "ServerlessDeploymentApplication"} | {
            f"{name}.{part}" for name in chosen["Resources"] for part in ("Alias", "Version", "Stage")
        }, each


@pytest.mark.parametrize("kind", ["rest", "http", "private", "none"])
def test_the_largest_stack_of_models_of_each_kind_has_no_lint(kind: str) -> None:
    """cfn-lint has nothing to say to the combination with the most resources of each kind of API, transformed by SAM."""
    stacks = [each for each in combinations_of_models() if each["ApiType"] == kind]
    largest = max(stacks, key=lambda each: len(StackOfModels(**each).resources))
    document = Chosen(as_sam_transforms(derived(), largest), largest).document
    assert lint(json.dumps(document), config=ManualArgs(regions=["us-east-1"])) == []


def test_ten_models_fit_into_a_stack() -> None:
    """The numbers of parameters, resources and outputs, and the bytes, are within CloudFormation's limits."""
    rows = tuple(ModelRow(f"model-{letter}", {}, None, "release") for letter in "abcdefghij")
    stack = StackOfModels(rows)
    assert len(derived(rows)["Parameters"]) <= MOST_PARAMETERS
    assert len(stack.resources) <= MOST_RESOURCES
    assert len(stack.outputs) <= MOST_OUTPUTS
    assert len(written.text_of(TEMPLATE.parent, table(rows))) <= MOST_BYTES


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The written template, beside the folders that it names."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("src", "layers"):
        (folder / name).symlink_to(TEMPLATE.parent / name)
    path = folder / written.FILE_NAME
    path.write_text(written.text_of(TEMPLATE.parent, table()))
    return path


def test_sam_validates_and_lints_the_template_of_models(file: Path, tmp_path: Path) -> None:
    """`sam validate --lint` has nothing to say to the file, without an AWS account."""
    environment = {**os.environ, "SAM_CLI_TELEMETRY": "0", "AWS_DEFAULT_REGION": "us-east-1", "HOME": str(tmp_path)}
    command = [str(SAM), "validate", "--lint", "--template-file", str(file)]
    done = subprocess.run(command, cwd=file.parent, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_sam_local_has_the_routes_of_all_models(file: Path) -> None:
    """`sam local start-api` finds every route in the file, with the function of its model."""
    from samcli.lib.providers.api_provider import ApiProvider
    from samcli.lib.providers.sam_stack_provider import SamLocalStackProvider

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SAM calls what it has deprecated itself
        stacks, _ = SamLocalStackProvider.get_stacks(str(file))
        found = {(route.function_name, route.path) for route in ApiProvider(stacks).api.routes}
    assert found == {
        (f"{row.id_part}PredictFunction", f"/models/{row.name}{route.path.rstrip('/')}")
        for row in (NAMES, FLOWERS)
        for route in ROUTES
    }


def test_the_company_of_two_models() -> None:
    """With HTTP API, JWT, VPC, key and boundary, every role has the boundary, and both functions have network and key."""
    stack = StackOfModels(
        ApiType="http",
        ApiAccess="jwt",
        JwtIssuer=ISSUER,
        JwtAudience="app",
        SubnetIds="subnet-0123456789abcdef0",
        SecurityGroupIds="sg-0123456789abcdef0",
        KmsKeyArn=KMS_KEY,
        PermissionsBoundaryArn=BOUNDARY,
    )
    roles = stack.of_type("AWS::IAM::Role")
    # Four of each model, and that of CodeDeploy.
    assert len(roles) == 9
    assert {each["PermissionsBoundary"] for each in roles.values()} == {BOUNDARY}
    for row in MODELS:
        function = stack.properties(f"{row.id_part}PredictFunction")
        assert function["VpcConfig"]["SubnetIds"] == ["subnet-0123456789abcdef0"]
        assert function["KmsKeyArn"] == KMS_KEY
    for path, method, operation in routes(stack, "PredictHttpApi"):
        assert operation["security"] == (
            [{"jwt": []}]
            if not path.endswith(("/docs", "/openapi.json"))
            and (method == "post" or path.endswith(("/health", "/models")))
            else []
        ), (path, method)
