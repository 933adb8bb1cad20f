from typing import Any

import pytest

from serving.http.events import STREAM_MARK, Transfer, transfer
from serving.settings import Settings
from stack.kit import Stack, routes, template

# ResponseStreaming, and where the function may then stream.
CHOICES = {"off": set(), "api": {"api"}, "url": {"url"}, "both": {"api", "url"}}
# How long the API waits for a stream, in milliseconds: as long as the parameter Timeout may be.
LONGEST = template()["Parameters"]["Timeout"]["MaxValue"] * 1000


def stage_of(stack: Stack) -> dict[str, Any]:
    """The API's stage."""
    (stage,) = stack.of_type("AWS::ApiGateway::Stage").values()
    return dict(stage)


@pytest.mark.parametrize("choice", CHOICES)
def test_the_function_knows_where_it_may_stream(choice: str) -> None:
    """Its variable names what the parameter turned on; by default that is nothing."""
    variables = Stack(ResponseStreaming=choice).properties("PredictFunction")["Environment"]["Variables"]
    assert Settings.from_environment(variables).streams == CHOICES[choice]
    assert Stack().resources == Stack(ResponseStreaming="off").resources


@pytest.mark.parametrize("choice", CHOICES)
def test_api_and_function_agree_on_streams(choice: str) -> None:
    """Every route of the API invokes the function as a stream exactly where the stage says so to the function."""
    stack = Stack(ResponseStreaming=choice)
    event = {"requestContext": {}, "stageVariables": stage_of(stack)["Variables"]}
    streams = transfer(event, frozenset({"api"})) is Transfer.STREAM
    assert streams == ("api" in CHOICES[choice])
    for path, method, operation in routes(stack):
        integration = operation["x-amazon-apigateway-integration"]
        assert integration["responseTransferMode"] == ("STREAM" if streams else "BUFFERED"), (path, method)
        wanted = "path/2021-11-15/functions/" if streams else "path/2015-03-31/functions/"
        assert wanted in integration["uri"]
        assert integration["uri"].endswith("/response-streaming-invocations" if streams else "/invocations")
        assert integration["timeoutInMillis"] == (LONGEST if streams else 29_000)


@pytest.mark.parametrize("choice", ["off", "api"])
def test_there_is_no_function_url_unless_one_asks(choice: str) -> None:
    """By default, and where the API streams, the API is the only way to the function."""
    stack = Stack(ResponseStreaming=choice)
    assert not stack.of_type("AWS::Lambda::Url")
    assert not stack.of_type("AWS::IAM::ManagedPolicy")
    assert not {"FunctionUrl", "FunctionUrlPolicyArn"} & stack.outputs.keys()


def test_the_function_url_streams_to_signed_requests() -> None:
    """It belongs to the alias, takes signatures only, and its two permissions are in a policy that nobody has yet."""
    stack = Stack(ResponseStreaming="url")
    (url,) = stack.of_type("AWS::Lambda::Url").values()
    assert (url["AuthType"], url["InvokeMode"]) == ("AWS_IAM", "RESPONSE_STREAM")
    assert url["TargetFunctionArn"].endswith(":function:PredictFunction:live")
    (policy,) = stack.of_type("AWS::IAM::ManagedPolicy").values()
    assert not {"Roles", "Users", "Groups"} & policy.keys()
    statements = policy["PolicyDocument"]["Statement"]
    assert {each["Action"] for each in statements} == {"lambda:InvokeFunctionUrl", "lambda:InvokeFunction"}
    for statement in statements:
        assert statement["Resource"] == url["TargetFunctionArn"]
        assert statement["Condition"]
    assert {"FunctionUrl", "FunctionUrlPolicyArn"} <= stack.outputs.keys()


def test_a_direct_invocation_is_never_a_stream() -> None:
    """An event of an API's form that did not come through the API is answered as before."""
    both = frozenset({"api", "url"})
    events: tuple[Any, ...] = (
        {"requestContext": {"stage": "prod"}, "stageVariables": None},
        {"requestContext": {"stage": "prod"}, "stageVariables": {STREAM_MARK: "off"}},
        {"requestContext": {"domainName": "abc.execute-api.us-east-1.amazonaws.com"}},
        {"httpMethod": "POST", "path": "/predict"},
        {"words": []},
        ["words"],
    )
    for event in events:
        assert transfer(event, both) is Transfer.WHOLE
