import pytest

from stack.kit import REGION_AND_ACCOUNT, Stack

BUCKET = "arn:aws:s3:::ModelBucket"
QUEUE = f"arn:aws:sqs:{REGION_AND_ACCOUNT}:RequestQueue"
DEAD = f"arn:aws:sqs:{REGION_AND_ACCOUNT}:FailedRequests"
LOG = f"arn:aws:logs:{REGION_AND_ACCOUNT}:log-group:PredictLogGroup:log-stream:one"
FUNCTION = f"arn:aws:lambda:{REGION_AND_ACCOUNT}:function:PredictFunction"

# Everything that the function may do, and nothing else.
PREDICT = {
    "s3:GetObject": {f"{BUCKET}/channels/*", f"{BUCKET}/releases/*", f"{BUCKET}/uploads/*"},
    "s3:ListBucket": {BUCKET},
    "s3:PutObject": {f"{BUCKET}/results/*", f"{BUCKET}/uploads/*"},
    "sqs:ReceiveMessage": {QUEUE},
    "sqs:DeleteMessage": {QUEUE},
    "sqs:GetQueueAttributes": {QUEUE},
    "logs:CreateLogStream": {f"arn:aws:logs:{REGION_AND_ACCOUNT}:log-group:PredictLogGroup:*"},
    "logs:PutLogEvents": {f"arn:aws:logs:{REGION_AND_ACCOUNT}:log-group:PredictLogGroup:*"},
}

REFUSED = [
    ("s3:PutObject", f"{BUCKET}/releases/1/model.json"),
    ("s3:PutObject", f"{BUCKET}/channels/live.json"),
    ("s3:DeleteObject", f"{BUCKET}/results/1.json"),
    ("s3:DeleteObject", f"{BUCKET}/uploads/1"),
    ("s3:GetObject", f"{BUCKET}/results/1.json"),
    ("s3:GetObject", f"{BUCKET}/inbox/input.jsonl"),
    ("s3:GetObject", f"{BUCKET}-of-somebody-else/releases/1/model.json"),
    ("s3:GetObject", "arn:aws:s3:::another/releases/1/model.json"),
    ("s3:ListBucket", "arn:aws:s3:::another"),
    ("sqs:ReceiveMessage", DEAD),
    ("sqs:SendMessage", QUEUE),
    ("logs:CreateLogGroup", LOG),
    ("logs:PutLogEvents", f"arn:aws:logs:{REGION_AND_ACCOUNT}:log-group:another:log-stream:one"),
    ("lambda:InvokeFunction", FUNCTION),
    ("iam:PassRole", "arn:aws:iam::123456789012:role/PredictRole"),
    ("sts:AssumeRole", "arn:aws:iam::123456789012:role/another"),
    ("dynamodb:PutItem", f"arn:aws:dynamodb:{REGION_AND_ACCOUNT}:table/another"),
]


def as_set(value: str | list[str]) -> set[str]:
    """One text, or several."""
    return {value} if isinstance(value, str) else set(value)


def test_the_function_may_do_exactly_this() -> None:
    """Its role's actions and resources are those listed here; no AWS-managed policy widens it."""
    stack = Stack()
    found: dict[str, set[str]] = {}
    for statement in stack.statements("PredictRole"):
        for action in as_set(statement["Action"]):
            found[action] = found.get(action, set()) | as_set(statement["Resource"])
    assert found == PREDICT
    assert "ManagedPolicyArns" not in stack.properties("PredictRole")
    assert stack.properties("PredictFunction")["Role"] == "arn:aws:iam::123456789012:role/PredictRole"


@pytest.mark.parametrize(("action", "resource"), REFUSED)
def test_the_function_may_not(action: str, resource: str) -> None:
    """Whatever else is asked in its name is refused."""
    assert not Stack().allows("PredictRole", action, resource)


def test_the_function_may_read_releases_and_write_results() -> None:
    """What it needs, it may."""
    stack = Stack()
    assert stack.allows("PredictRole", "s3:GetObject", f"{BUCKET}/channels/live.json")
    assert stack.allows("PredictRole", "s3:GetObject", f"{BUCKET}/releases/1/weights.safetensors")
    assert stack.allows("PredictRole", "s3:PutObject", f"{BUCKET}/results/1.json")
    assert stack.allows("PredictRole", "logs:PutLogEvents", LOG)


def test_tracing_adds_traces_and_nothing_else() -> None:
    """With Tracing=on the function may send traces; without it, not."""
    before, after = Stack().statements("PredictRole"), Stack(Tracing="on").statements("PredictRole")
    (added,) = [statement for statement in after if statement not in before]
    assert all(action.startswith("xray:") for action in added["Action"])
    assert Stack(Tracing="on").properties("PredictFunction")["TracingConfig"] == {"Mode": "Active"}


def test_a_bulk_run_reads_its_input_and_invokes_the_alias() -> None:
    """The state machine may read dropped files, write results, invoke the live alias, and start itself."""
    stack = Stack()
    machine = f"arn:aws:states:{REGION_AND_ACCOUNT}:stateMachine:models-bulk"
    for action, resource in (
        ("s3:GetObject", f"{BUCKET}/inbox/input.jsonl"),
        ("s3:GetObjectVersion", f"{BUCKET}/bulk/input.jsonl"),
        ("s3:PutObject", f"{BUCKET}/results/inbox/input.jsonl/1/run/manifest.json"),
        ("lambda:InvokeFunction", f"{FUNCTION}:live"),
        ("states:StartExecution", machine),
    ):
        assert stack.allows("BulkRole", action, resource), action
    for action, resource in (
        ("s3:GetObject", f"{BUCKET}/releases/1/weights.safetensors"),
        ("s3:PutObject", f"{BUCKET}/channels/live.json"),
        ("lambda:InvokeFunction", FUNCTION),
        ("states:StartExecution", f"{machine}-of-somebody-else"),
    ):
        assert not stack.allows("BulkRole", action, resource), action


def test_the_deploy_check_reads_examples_and_invokes_versions() -> None:
    """The check before a deploy may read manifests and signatures, invoke versions of this function, and report, but not
    read weights."""
    stack = Stack()
    assert stack.allows("DeployCheckRole", "s3:GetObject", f"{BUCKET}/releases/1/manifest.json")
    assert stack.allows("DeployCheckRole", "s3:GetObject", f"{BUCKET}/releases/1/.signatures.json")
    assert stack.allows("DeployCheckRole", "lambda:InvokeFunction", f"{FUNCTION}:8")
    assert not stack.allows("DeployCheckRole", "s3:GetObject", f"{BUCKET}/releases/1/weights.safetensors")
    assert not stack.allows("DeployCheckRole", "lambda:InvokeFunction", f"{FUNCTION}-of-somebody-else:8")
    assert not stack.allows("DeployCheckRole", "s3:PutObject", f"{BUCKET}/results/1.json")


def test_no_role_of_ours_has_a_wildcard_action() -> None:
    """No policy allows all actions of a service."""
    stack = Stack(Tracing="on")
    for role in ("PredictRole", "BulkRole", "DeployCheckRole", "DroppedFileRole"):
        for statement in stack.statements(role):
            assert not [action for action in as_set(statement["Action"]) if "*" in action]
