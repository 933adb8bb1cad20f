"""The stack that a company would run, in the fake cloud, resource by resource: HTTP API, JWT, domain, VPC, key, boundary."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from integration.aws_command import Clients, Run
from integration.stacks.conftest import PACKAGES
from integration.stacks.test_destroy import everything, fill
from lambda_torch.stacks import removal
from stack.combinations import BOUNDARY, CERTIFICATE, ISSUER, KMS_KEY, WRITER

Deploy = Callable[..., str]
NAME = "models-company"
COMPANY = {
    "ApiType": "http",
    "ApiAccess": "jwt",
    "JwtIssuer": ISSUER,
    "JwtAudience": "app, another",
    "DomainName": "models.example.com",
    "CertificateArn": CERTIFICATE,
    "BasePath": "names/v1",
    "SubnetIds": "subnet-0123456789abcdef0, subnet-01234567",
    "SecurityGroupIds": "sg-01234567",
    "RouteTableIds": "{routes}",
    "VpcId": "{vpc}",
    "ReleaseWriters": WRITER,
    "KmsKeyArn": KMS_KEY,
    "PermissionsBoundaryArn": BOUNDARY,
    "RolePath": "/teams/models/",
    "AlarmEmail": "team@example.com",
    "ReleaseChannel": "staging",
    "WarmUpSchedule": "rate(5 minutes)",
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake cloud deletes at once."""
    monkeypatch.setattr(removal, "POLL_SECONDS", 0.05)


def resource(client: Clients, logical_id: str) -> str:
    """What a resource of the stack is called."""
    found = client("cloudformation").list_stack_resources(StackName=NAME)["StackResourceSummaries"]
    names: dict[str, str] = {each.get("LogicalResourceId"): each.get("PhysicalResourceId", "") for each in found}
    return names[logical_id]


def test_a_company_deploys_and_removes_its_stack(run: Run, client: Clients, deploy: Deploy) -> None:
    """What was deployed has the company's network, key, boundary and domain; `destroy` leaves nothing of it."""
    vpc = client("ec2").create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    routes = client("ec2").create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
    bucket = deploy(NAME, **{name: value.format(vpc=vpc, routes=routes) for name, value in COMPANY.items()})
    functions(client)
    api(client)
    stores(client, bucket)
    network(client, vpc, routes, bucket)
    roles = client("iam").list_roles(PathPrefix="/teams/models/")["Roles"]
    assert len(roles) == 5
    for each in roles:
        boundary = client("iam").get_role(RoleName=each["RoleName"])["Role"]["PermissionsBoundary"]
        assert boundary["PermissionsBoundaryArn"] == BOUNDARY
    rule = client("events").describe_rule(Name=resource(client, "WarmUp"))
    assert rule["ScheduleExpression"] == "rate(5 minutes)"
    fill(client, bucket)
    before = everything(client)
    assert {
        "functions",
        "layers",
        "HTTP APIs",
        "endpoints",
        "domains",
        "queues",
        "log groups",
        "rules",
        "roles",
        "topics",
    } <= before.keys()
    assert "APIs" not in before
    done = run("destroy", NAME, "--yes", "--json")
    assert done.status == 0, done.errors
    assert done.json["left"] == []
    assert everything(client) == {"buckets": [PACKAGES]}


def functions(client: Clients) -> None:
    """The function is in the subnets with its groups, has the key, and follows its channel; so does the check of deploys."""
    found = client("lambda").get_function_configuration(FunctionName=resource(client, "PredictFunction"))
    assert found["VpcConfig"]["SubnetIds"] == COMPANY["SubnetIds"].split(", ")
    assert found["VpcConfig"]["SecurityGroupIds"] == ["sg-01234567"]
    for name in ("PredictFunction", "DeployCheckFunction"):
        configuration = client("lambda").get_function_configuration(FunctionName=resource(client, name))
        assert configuration["Environment"]["Variables"]["RELEASE_CHANNEL"] == "staging"


def api(client: Clients) -> None:
    """The HTTP API has the routes, CORS and the stage; the domain leads there; the outputs name the address."""
    gateway: Any = client("apigatewayv2")
    (found,) = gateway.get_apis()["Items"]
    keys = {each["RouteKey"] for each in gateway.get_routes(ApiId=found["ApiId"])["Items"]}
    assert {"POST /predict", "GET /health", "POST /v1/chat/completions", "GET /"} <= keys
    (stage,) = gateway.get_stages(ApiId=found["ApiId"])["Items"]
    assert (stage["StageName"], stage["AutoDeploy"]) == ("prod", True)
    (domain,) = gateway.get_domain_names()["Items"]
    assert domain["DomainNameConfigurations"][0]["CertificateArn"] == CERTIFICATE
    (mapping,) = gateway.get_api_mappings(DomainName=domain["DomainName"])["Items"]
    assert (mapping["ApiId"], mapping["ApiMappingKey"], mapping["Stage"]) == (found["ApiId"], "names/v1", "prod")
    (stack,) = client("cloudformation").describe_stacks(StackName=NAME)["Stacks"]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
    assert outputs["PredictUrl"] == "https://models.example.com/names/v1/predict"
    assert outputs["DomainTarget"].startswith("d-")


def network(client: Clients, vpc: str, routes: str, bucket: str) -> None:
    """The VPC has a gateway endpoint for S3 in its route table, for this bucket. (moto makes no bucket policies.)"""
    (endpoint,) = client("ec2").describe_vpc_endpoints()["VpcEndpoints"]
    assert (endpoint["VpcId"], endpoint["RouteTableIds"]) == (vpc, [routes])
    assert endpoint["ServiceName"] == "com.amazonaws.us-east-1.s3"
    assert f"arn:aws:s3:::{bucket}/*" in json.dumps(endpoint["PolicyDocument"])


def stores(client: Clients, bucket: str) -> None:
    """Bucket, queues and topic are encrypted with the company's key."""
    (rule,) = client("s3").get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"]["KMSMasterKeyID"] == KMS_KEY
    for name in ("RequestQueue", "FailedRequests"):
        attributes = client("sqs").get_queue_attributes(QueueUrl=resource(client, name), AttributeNames=["All"])
        assert attributes["Attributes"]["KmsMasterKeyId"] == KMS_KEY
    # moto leaves the key of a log group out.
    assert json.dumps(client("sns").get_topic_attributes(TopicArn=resource(client, "AlarmTopic"))["Attributes"]).count(
        KMS_KEY
    )
