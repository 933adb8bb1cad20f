"""`lambda-torch destroy` on the project's own template, resource by resource."""

from collections.abc import Callable

import pytest

from integration.aws_command import Clients, Run
from integration.stacks.conftest import PACKAGES
from lambda_torch.stacks import emptying, removal

Deploy = Callable[..., str]
NAME = "models-dev"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake cloud deletes at once."""
    monkeypatch.setattr(removal, "POLL_SECONDS", 0.05)


def fill(client: Clients, bucket: str, objects: int = 7) -> None:
    """Put versions, delete markers and a begun upload into a bucket."""
    s3 = client("s3")
    for number in range(objects):
        s3.put_object(Bucket=bucket, Key=f"releases/{number}", Body=b"first")
        s3.put_object(Bucket=bucket, Key=f"releases/{number}", Body=b"second")
    s3.delete_object(Bucket=bucket, Key="releases/0")
    s3.create_multipart_upload(Bucket=bucket, Key="begun")


def everything(client: Clients) -> dict[str, list[str]]:
    """The names of all that this project's stack makes and that can be charged, by kind."""
    found = {
        "stacks": [each["StackName"] for each in client("cloudformation").describe_stacks()["Stacks"]],
        "buckets": [each["Name"] for each in client("s3").list_buckets()["Buckets"]],
        "functions": [each["FunctionName"] for each in client("lambda").list_functions()["Functions"]],
        "layers": [each["LayerName"] for each in client("lambda").list_layers()["Layers"]],
        "mappings": [each["UUID"] for each in client("lambda").list_event_source_mappings()["EventSourceMappings"]],
        "queues": client("sqs").list_queues().get("QueueUrls", []),
        "APIs": [each["id"] for each in client("apigateway").get_rest_apis()["items"]],
        "HTTP APIs": [each["ApiId"] for each in client("apigatewayv2").get_apis()["Items"]],
        "domains": [each["DomainName"] for each in client("apigatewayv2").get_domain_names()["Items"]],
        "topics": [each["TopicArn"] for each in client("sns").list_topics()["Topics"]],
        "log groups": [each["logGroupName"] for each in client("logs").describe_log_groups()["logGroups"]],
        "alarms": [each["AlarmName"] for each in client("cloudwatch").describe_alarms()["MetricAlarms"]],
        "dashboards": [each["DashboardName"] for each in client("cloudwatch").list_dashboards()["DashboardEntries"]],
        "machines": [each["name"] for each in client("stepfunctions").list_state_machines()["stateMachines"]],
        "rules": [each["Name"] for each in client("events").list_rules()["Rules"]],
        "endpoints": [each["VpcEndpointId"] for each in client("ec2").describe_vpc_endpoints()["VpcEndpoints"]],
        "roles": [each["RoleName"] for each in client("iam").list_roles()["Roles"]],
    }
    return {kind: names for kind, names in found.items() if names}


def test_nothing_of_a_destroyed_stack_is_left(run: Run, client: Clients, deploy: Deploy) -> None:
    """Functions, layer, API, queues, logs, dashboard, roles, bucket, packages: all of them are gone. (moto makes no alarms.)"""
    bucket = deploy(NAME)
    fill(client, bucket)
    before = everything(client)
    assert {
        "functions",
        "layers",
        "APIs",
        "queues",
        "log groups",
        "dashboards",
        "machines",
        "roles",
    } <= before.keys()
    done = run("destroy", NAME, typed=f"{NAME}\n")
    assert done.status == 0, done.errors
    assert everything(client) == {"buckets": [PACKAGES]}
    assert [each["Key"] for each in client("s3").list_objects_v2(Bucket=PACKAGES)["Contents"]] == ["somebody/else"]
    assert f"The bucket {bucket}: 15 versions of files, 77 bytes" in done.errors
    assert "Everything is gone." in done.errors


def test_more_versions_than_one_call_takes_are_removed(
    run: Run, client: Clients, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches follow each other until the bucket is empty."""
    monkeypatch.setattr(emptying, "BATCH", 4)
    fill(client, deploy(NAME), objects=11)
    done = run("destroy", NAME, "--yes", "--json")
    assert done.status == 0, done.errors
    assert (done.json["objects"], done.json["left"]) == (23, [])
    assert everything(client) == {"buckets": [PACKAGES]}


@pytest.mark.parametrize("typed", ["another\n", "\n\n", ""])
def test_only_the_name_of_the_stack_removes_it(run: Run, client: Clients, deploy: Deploy, typed: str) -> None:
    """Another name, nothing, or the end of the input changes nothing."""
    fill(client, deploy(NAME))
    before = everything(client)
    done = run("destroy", NAME, typed=typed)
    assert done.status == 1
    assert everything(client) == before


def test_a_dry_run_changes_nothing(run: Run, client: Clients, deploy: Deploy) -> None:
    """--dry-run says what would go, and asks nothing."""
    bucket = deploy(NAME)
    fill(client, bucket)
    before = everything(client)
    done = run("destroy", NAME, "--dry-run", "--json")
    assert done.status == 0, done.errors
    assert done.json["bucket"] == bucket
    assert done.json["objects"] == 15
    assert f"s3://{PACKAGES}/lambda-torch/PredictFunction" in done.json["packages"]
    assert everything(client) == before


def test_what_sam_delete_has_left_is_removed(run: Run, client: Clients, deploy: Deploy) -> None:
    """After the stack was deleted without this command, its name still leads to the bucket that was kept."""
    bucket = deploy(NAME)
    fill(client, bucket)
    client("cloudformation").delete_stack(StackName=NAME)
    assert bucket in everything(client)["buckets"]
    done = run("destroy", NAME, "--yes")
    assert done.status == 0, done.errors
    assert everything(client) == {"buckets": [PACKAGES]}
    again = run("destroy", NAME, "--yes")
    assert again.status == 1
    assert "There is no stack models-dev" in again.errors


def test_packages_that_another_stack_uses_stay(run: Run, client: Clients, deploy: Deploy) -> None:
    """Two stacks of equal code share their packages. The first one to go leaves them, and the last one takes them along."""
    deploy(NAME)
    deploy("models-prod")
    assert run("destroy", NAME, "--yes").status == 0
    keys = [each["Key"] for each in client("s3").list_objects_v2(Bucket=PACKAGES)["Contents"]]
    assert "lambda-torch/PredictFunction" in keys
    assert run("destroy", "models-prod", "--yes").status == 0
    assert everything(client) == {"buckets": [PACKAGES]}
    assert [each["Key"] for each in client("s3").list_objects_v2(Bucket=PACKAGES)["Contents"]] == ["somebody/else"]


def test_a_stack_of_another_project_is_refused(run: Run, client: Clients, deploy: Deploy) -> None:
    """A stack without the bucket of the releases is none of ours; names that do not exist are refused too."""
    template = '{"Resources": {"Queue": {"Type": "AWS::SQS::Queue"}, "Data": {"Type": "AWS::S3::Bucket"}}}'
    client("cloudformation").create_stack(StackName="other", TemplateBody=template)
    before = everything(client)
    done = run("destroy", "other", "--yes")
    assert done.status == 1
    assert "has no resource ModelBucket, so it is not one of this project" in done.errors
    missing = run("destroy", "nowhere", "--yes", "--region", "us-east-1")
    assert missing.status == 1
    assert "There is no stack nowhere in us-east-1.\nNext: check the name" in missing.errors
    assert everything(client) == before


def test_without_credentials_the_command_says_so(run: Run, client: Clients) -> None:
    """AWS's refusals are one message with the next step."""
    done = run("destroy", NAME, AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="", AWS_EC2_METADATA_DISABLED="true")
    assert done.status == 1
    assert "Next: Sign in" in done.errors
