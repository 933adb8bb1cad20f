"""What companies ask for: their network, their key, their boundary, their channel, environments that are warm."""

import json
import re
from fnmatch import fnmatch
from typing import Any

import pytest
from cfnlint.schema import PROVIDER_SCHEMA_MANAGER

from lambda_torch.project import ROOT
from serving.http.events import to_http
from serving.settings import Settings
from stack.combinations import BOUNDARY, KMS_KEY, WRITER, combinations
from stack.kit import Stack, template, transformed

NETWORK = {"SubnetIds": "subnet-0123456789abcdef0 , subnet-01234567", "SecurityGroupIds": "sg-01234567"}
ROLES = ("PredictRole", "BulkRole", "DroppedFileRole", "DeployCheckRole", "DeployRole")


def as_list(value: str | list[str]) -> list[str]:
    """One text, or several."""
    return [value] if isinstance(value, str) else value


def added(role: str, **choices: str) -> list[dict[str, Any]]:
    """The statements of a role that these parameters add."""
    before = Stack().statements(role)
    return [statement for statement in Stack(**choices).statements(role) if statement not in before]


def test_the_function_can_be_in_a_vpc() -> None:
    """With subnets and groups the function is there, and its role may do what Lambda needs for it; without, neither."""
    assert "VpcConfig" not in Stack().properties("PredictFunction")
    stack = Stack(**NETWORK)
    assert stack.properties("PredictFunction")["VpcConfig"] == {
        "SubnetIds": ["subnet-0123456789abcdef0", "subnet-01234567"],
        "SecurityGroupIds": ["sg-01234567"],
    }
    # It calls Lambda and CodeDeploy, which a VPC without more endpoints does not reach, and gets no requests.
    assert "VpcConfig" not in stack.properties("DeployCheckFunction")
    connect, look = added("PredictRole", **NETWORK)
    assert {"ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface"} <= set(connect["Action"])
    assert not [resource for resource in connect["Resource"] if resource == "*"]
    assert all(action.startswith("ec2:Describe") for action in look["Action"])


def test_a_vpc_can_get_its_way_to_the_bucket() -> None:
    """With route tables there is a gateway endpoint for S3; only the function's calls to the stack's bucket pass it."""
    assert "BucketEndpoint" not in Stack(**NETWORK).resources
    ways = {"VpcId": "vpc-0123456789abcdef0", "RouteTableIds": "rtb-0123456789abcdef0 , rtb-01234567"}
    stack = Stack(**NETWORK, **ways)
    endpoint = stack.properties("BucketEndpoint")
    assert (endpoint["VpcEndpointType"], endpoint["ServiceName"]) == ("Gateway", "com.amazonaws.us-east-1.s3")
    assert endpoint["VpcId"] == "vpc-0123456789abcdef0"
    assert endpoint["RouteTableIds"] == ["rtb-0123456789abcdef0", "rtb-01234567"]
    (through,) = endpoint["PolicyDocument"]["Statement"]
    assert set(through["Resource"]) == {"arn:aws:s3:::ModelBucket", "arn:aws:s3:::ModelBucket/*"}
    asked = [action for each in stack.statements("PredictRole") for action in as_list(each["Action"])]
    assert set(through["Action"]) == {action for action in asked if action.startswith("s3:")}


def writers_may(action: str, resource: str) -> bool:
    """Whether the bucket's policy lets a writer do this, by its statements that allow."""
    policy = Stack(ReleaseWriters=WRITER).properties("ModelBucketPolicy")["PolicyDocument"]
    allowing = [each for each in policy["Statement"] if each["Effect"] == "Allow"]
    assert [each["Principal"] for each in allowing] == [{"AWS": [WRITER]}] * len(allowing)
    return any(
        action in as_list(each["Action"]) and any(fnmatch(resource, pattern) for pattern in as_list(each["Resource"]))
        for each in allowing
    )


def test_writers_may_write_releases_and_delete_nothing() -> None:
    """Roles of other accounts add releases and move channels. They delete nothing, see no request or result, and write none."""
    bucket = "arn:aws:s3:::ModelBucket"
    assert writers_may("s3:ListBucket", bucket)
    for name in ("releases/1/weights.safetensors", "channels/live.json"):
        assert writers_may("s3:GetObject", f"{bucket}/{name}")
        assert writers_may("s3:PutObject", f"{bucket}/{name}")
        assert not writers_may("s3:DeleteObject", f"{bucket}/{name}")
        assert not writers_may("s3:DeleteObjectVersion", f"{bucket}/{name}")
    for name in ("results/1.json", "inbox/input.jsonl", "uploads/1"):
        assert not writers_may("s3:GetObject", f"{bucket}/{name}")
        assert not writers_may("s3:PutObject", f"{bucket}/{name}")
    assert writers_may("s3:GetObject", f"{bucket}/regions.json")
    assert not writers_may("s3:PutObject", f"{bucket}/regions.json")


def test_writers_replace_no_manifest() -> None:
    """A manifest is written under the condition that there is none, or not at all; several writers may be named."""
    policy = Stack(ReleaseWriters=f"{WRITER} , {WRITER}-2").properties("ModelBucketPolicy")["PolicyDocument"]
    (denied,) = [each for each in policy["Statement"] if each["Sid"] == "WritersReplaceNoManifest"]
    assert denied["Principal"] == {"AWS": [WRITER, f"{WRITER}-2"]}
    assert (denied["Effect"], denied["Action"]) == ("Deny", "s3:PutObject")
    assert denied["Resource"] == "arn:aws:s3:::ModelBucket/releases/*/manifest.json"
    assert denied["Condition"] == {"Null": {"s3:if-none-match": "true"}}
    assert [each["Sid"] for each in Stack().properties("ModelBucketPolicy")["PolicyDocument"]["Statement"]] == [
        "TlsOnly"
    ]


def test_one_key_encrypts_all_that_holds_content() -> None:
    """With KmsKeyArn the bucket, the queues, the logs, the topic and the functions' variables have it."""
    stack = Stack(KmsKeyArn=KMS_KEY, AlarmEmail="a@example.com")
    (rule,) = stack.properties("ModelBucket")["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule == {
        "ServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KMS_KEY},
        "BucketKeyEnabled": True,
    }
    for name in ("RequestQueue", "FailedRequests"):
        assert stack.properties(name)["KmsMasterKeyId"] == KMS_KEY
        assert "SqsManagedSseEnabled" not in stack.properties(name)
    assert stack.properties("AlarmTopic")["KmsMasterKeyId"] == KMS_KEY
    groups = stack.of_type("AWS::Logs::LogGroup")
    assert len(groups) == 3
    assert {properties["KmsKeyId"] for properties in groups.values()} == {KMS_KEY}
    functions = stack.of_type("AWS::Lambda::Function")
    assert {properties["KmsKeyArn"] for properties in functions.values()} == {KMS_KEY}


def test_without_a_key_of_ones_own_nothing_names_one() -> None:
    """By default AWS's keys encrypt, and no role may use a key."""
    text = json.dumps(Stack(AlarmEmail="a@example.com").resources)
    assert not re.search(r"KmsKeyArn|KmsKeyId|KmsMasterKeyId|KMSMasterKeyID|kms:", text)


@pytest.mark.parametrize(
    ("role", "actions"),
    [
        ("PredictRole", {"kms:Decrypt", "kms:GenerateDataKey"}),
        ("BulkRole", {"kms:Decrypt", "kms:GenerateDataKey"}),
        ("DeployCheckRole", {"kms:Decrypt"}),
        ("DroppedFileRole", set()),
    ],
)
def test_roles_may_use_the_key_for_what_they_do(role: str, actions: set[str]) -> None:
    """Whoever writes may make data keys, whoever reads may decrypt: with this key, and no other."""
    found = added(role, KmsKeyArn=KMS_KEY)
    assert [each["Resource"] for each in found] == [KMS_KEY] * bool(actions)
    assert {
        action for each in found for action in ([each["Action"]] if isinstance(each["Action"], str) else each["Action"])
    } == actions


def test_every_role_has_the_boundary_and_the_path() -> None:
    """All roles of the stack, those that SAM would make included, and the policy too."""
    stack = Stack(PermissionsBoundaryArn=BOUNDARY, RolePath="/teams/models/", ResponseStreaming="url")
    roles = stack.of_type("AWS::IAM::Role")
    assert roles.keys() == set(ROLES)
    for properties in roles.values():
        assert (properties["PermissionsBoundary"], properties["Path"]) == (BOUNDARY, "/teams/models/")
    (policy,) = stack.of_type("AWS::IAM::ManagedPolicy").values()
    assert policy["Path"] == "/teams/models/"
    plain = Stack().of_type("AWS::IAM::Role")
    assert plain.keys() == set(ROLES)
    assert not [name for name, properties in plain.items() if "PermissionsBoundary" in properties]


def test_code_deploy_has_a_role_of_the_stack() -> None:
    """CodeDeploy moves the alias with a role that only CodeDeploy may take."""
    stack = Stack()
    assert stack.properties("DeployRole")["ManagedPolicyArns"] == [
        "arn:aws:iam::aws:policy/service-role/AWSCodeDeployRoleForLambda"
    ]
    (statement,) = stack.properties("DeployRole")["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": "codedeploy.amazonaws.com"}
    (group,) = stack.of_type("AWS::CodeDeploy::DeploymentGroup").values()
    assert group["ServiceRoleArn"] == "arn:aws:iam::123456789012:role/DeployRole"


def test_environments_can_be_kept_started() -> None:
    """ProvisionedConcurrency belongs to the alias, which requests go to; by default there is none."""
    alias = Stack(ProvisionedConcurrency="3").properties("PredictFunctionAliaslive")
    assert alias["ProvisionedConcurrencyConfig"] == {"ProvisionedConcurrentExecutions": "3"}
    assert "ProvisionedConcurrencyConfig" not in Stack().properties("PredictFunctionAliaslive")


def test_a_schedule_calls_health_at_the_alias() -> None:
    """The event of the schedule is a GET /health for the function, and only this rule may send it."""
    assert not {"WarmUp", "WarmUpMayInvoke"} & Stack().resources.keys()
    stack = Stack(WarmUpSchedule="rate(5 minutes)")
    rule = stack.properties("WarmUp")
    assert rule["ScheduleExpression"] == "rate(5 minutes)"
    (target,) = rule["Targets"]
    assert target["Arn"].endswith(":function:PredictFunction:live")
    request = to_http(json.loads(target["Input"]))
    assert (request.method, request.path) == ("GET", "/health")
    permission = stack.properties("WarmUpMayInvoke")
    assert (permission["Principal"], permission["FunctionName"]) == ("events.amazonaws.com", target["Arn"])
    assert permission["SourceArn"].endswith(":rule/WarmUp")


def test_a_stage_can_follow_a_channel_of_its_own() -> None:
    """Both functions look at the channel that the parameter names."""
    for name in ("PredictFunction", "DeployCheckFunction"):
        variables = Stack(ReleaseChannel="staging").properties(name)["Environment"]["Variables"]
        assert Settings.from_environment(variables).channel == "staging"


def test_the_types_that_take_no_tags_are_documented() -> None:
    """docs/companies.md lists exactly the types of the stack whose schema takes no tags."""
    kinds = {resource["Type"] for each in combinations() for resource in transformed(**each)["Resources"].values()}
    schemas = {kind: PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", kind).schema for kind in kinds}
    untagged = {
        kind
        for kind, schema in schemas.items()
        if not schema.get("tagging", {}).get("taggable", schema.get("taggable"))
    }
    listed = (ROOT / "docs" / "companies.md").read_text().partition("<!-- types without tags -->")[2]
    assert re.findall(r"^- `([\w:]+)`$", listed.partition("<!-- end of types -->")[0], re.MULTILINE) == sorted(untagged)


GOOD_AND_BAD = {
    "WarmUpSchedule": (
        ["", "rate(1 minute)", "rate(15 minutes)", "rate(2 hours)", "cron(0/5 7-18 ? * MON-FRI *)"],
        ["rate(1 minutes)", "rate(5 minute)", "rate(0 minutes)", "5 minutes", "cron(* * * * *)", "rate(5 seconds)"],
    ),
    "ReleaseChannel": (["live", "staging-2"], ["", "Live", "-a", "a/b", "a" * 64]),
    "JwtIssuer": (
        ["", "https://login.example", "https://login.example:8443/a/", "https://x.example/pool_1"],
        [
            "http://login.example",
            "login.example",
            "https://",
            "https://a b",
            "https://a.example/?x=1",
            "https://me@a.example",
        ],
    ),
    "JwtAudience": (["", "app", "https://api.example/v1", "a, b"], [",", "a,", "a b", 'a"']),
    "UserPoolArn": (
        ["", "arn:aws-us-gov:cognito-idp:us-gov-west-1:123456789012:userpool/us-gov-west-1_Ab1"],
        ["us-east-1_Ab1", "arn:aws:cognito-idp:us-east-1:12:userpool/us-east-1_Ab1"],
    ),
    "VpcEndpointIds": (["", "vpce-01234567, vpce-0123456789abcdef0"], ["vpc-01234567", "vpce-0123", "vpce-01234567,"]),
    "DomainName": (
        ["", "models.example.com", "a-b.c.example"],
        [
            "example",
            "Models.example.com",
            "https://a.example",
            "*.example.com",
            "-a.example",
            "a..example",
            "a.example/",
        ],
    ),
    "CertificateArn": (
        ["", "arn:aws:acm:us-east-1:123456789012:certificate/0a-1b"],
        ["arn:aws:iam::123456789012:server-certificate/a", "certificate"],
    ),
    "BasePath": (["", "names", "names/v1"], ["/names", "names/", "a//b", "a b", "a?b"]),
    "HostedZoneId": (["", "Z0123456789ABC"], ["/hostedzone/Z01", "z01", "A01"]),
    "SubnetIds": (["", "subnet-01234567,subnet-0123456789abcdef0"], ["sg-01234567", "subnet-xyz", "subnet-01234567;"]),
    "SecurityGroupIds": (["", "sg-01234567"], ["subnet-01234567", "default"]),
    "VpcId": (["", "vpc-0123456789abcdef0"], ["vpce-01234567", "vpc-0123", "vpc-01234567,vpc-01234567"]),
    "RouteTableIds": (["", "rtb-01234567 , rtb-0123456789abcdef0"], ["rtb-xyz", "rtb-01234567;", "vpc-01234567"]),
    "ReleaseWriters": (
        ["", WRITER, f"{WRITER}, arn:aws-cn:iam::123456789012:role/a.b"],
        [
            "123456789012",
            "arn:aws:iam::123456789012:root",
            "*",
            "arn:aws:iam::123456789012:user/a",
            f"{WRITER} {WRITER}",
        ],
    ),
    "KmsKeyArn": (
        ["", "arn:aws:kms:eu-central-1:123456789012:key/mrk-0a1b"],
        ["alias/mine", "arn:aws:kms:eu-central-1:123456789012:alias/mine", "0a1b"],
    ),
    "PermissionsBoundaryArn": (
        ["", "arn:aws:iam::123456789012:policy/a/b", "arn:aws:iam::aws:policy/PowerUserAccess"],
        ["arn:aws:iam::123456789012:role/a", "boundary"],
    ),
    "RolePath": (["/", "/teams/models/"], ["", "teams/", "/teams", "//", "/a b/"]),
    "WebAclArn": (
        ["", "arn:aws:wafv2:us-east-1:123456789012:regional/webacl/mine/1-a"],
        ["arn:aws:wafv2:us-east-1:123456789012:global/webacl/mine/1", "mine"],
    ),
}


@pytest.mark.parametrize("name", GOOD_AND_BAD)
def test_a_parameter_takes_what_it_can_use_and_nothing_else(name: str) -> None:
    """The pattern of the parameter lets through what AWS takes there, and refuses the usual mistakes, with words."""
    rule = template()["Parameters"][name]
    good, bad = GOOD_AND_BAD[name]
    assert [value for value in good if not re.fullmatch(rule["AllowedPattern"], value)] == []
    assert [value for value in bad if re.fullmatch(rule["AllowedPattern"], value)] == []
    assert rule.get("ConstraintDescription", "must be").startswith("must be")
