import re
from typing import Any

import pytest

from lambda_torch.project import ROOT
from serving.settings import Settings, SettingsError
from stack.combinations import USER_POOL
from stack.kit import Stack, routes, template

# What a client must send, by ApiAccess: nothing for `open`.
SCHEMES: dict[str, dict[str, Any]] = {
    "iam": {
        "signature": {
            "type": "apiKey",
            "name": "Authorization",
            "in": "header",
            "x-amazon-apigateway-authtype": "awsSigv4",
        }
    },
    "key": {"key": {"type": "apiKey", "name": "x-api-key", "in": "header"}},
    "open": {},
}
# A scheme that no route names, with what `sam local` needs to read it.
UNUSED = {"cognito": {"type": "apiKey", "name": "Authorization", "in": "header"}}
# Routes that a person opens in a browser, which sends no key by itself: with a key they are open, and the page asks for it.
PAGES: set[tuple[str, str]] = {("/", "get"), ("/docs", "get"), ("/openapi.json", "get")}


@pytest.fixture(params=sorted(SCHEMES))
def access(request: pytest.FixtureRequest) -> str:
    """Each value of ApiAccess."""
    value: str = request.param
    return value


def test_signed_requests_are_the_default() -> None:
    """A stack that nobody chose anything for takes signed requests only."""
    assert template()["Parameters"]["ApiAccess"]["Default"] == "iam"
    assert Stack().resources == Stack(ApiAccess="iam").resources


def test_every_route_asks_for_what_api_access_says(access: str) -> None:
    """Each route but preflights, and but a page where there are keys, asks for a signature, a key, or nothing."""
    stack = Stack(ApiAccess=access)
    for path, method, operation in routes(stack):
        free = method == "options" or (access == "key" and (path, method) in PAGES)
        wanted: list[dict[str, Any]] = [] if free else [{scheme: []} for scheme in SCHEMES[access]]
        assert operation.get("security", []) == wanted, (path, method)


def test_the_schemes_are_declared(access: str) -> None:
    """What routes may ask for is declared: API Gateway ignores a name that it does not know, and lets everybody in."""
    components = Stack(ApiAccess=access).properties("PredictApi")["Body"]["components"]
    assert components["securitySchemes"] == SCHEMES["iam"] | SCHEMES["key"] | UNUSED


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of SAM's own calls
def test_sam_local_finds_the_routes() -> None:
    """SAM reads the routes of the REST API for each ApiAccess and ApiType: `sam local start-api` asks for no credentials."""
    from samcli.lib.providers.api_provider import ApiProvider
    from samcli.lib.providers.sam_stack_provider import SamLocalStackProvider

    for choices in (*({"ApiAccess": access} for access in sorted(SCHEMES)), {"ApiType": "http"}):
        stacks, _ = SamLocalStackProvider.get_stacks(
            template_file=str(ROOT / "template.yaml"), parameter_overrides=choices
        )
        api = ApiProvider(stacks).api
        found = {(route.path, method.lower()) for route in api.routes for method in route.methods}
        assert found == {(path, method) for path, method, _ in routes(Stack())}
        assert {(route.function_name, route.event_type) for route in api.routes} == {("PredictFunction", "Api")}
        assert api.binary_media_types == ["*/*"]


def test_every_route_leads_to_the_alias() -> None:
    """All routes with an access rule lead to the function, at its alias."""
    for _, _, operation in routes(Stack()):
        integration = operation["x-amazon-apigateway-integration"]
        assert integration["type"] == "aws_proxy"
        assert ":function:PredictFunction:live/invocations" in integration["uri"]


@pytest.mark.parametrize(
    "choices",
    [
        {"ApiAccess": "key"},
        {"ApiAccess": "cognito", "UserPoolArn": USER_POOL},
        {"ApiType": "private", "VpcEndpointIds": "vpce-01234567"},
        {"ResponseStreaming": "api"},
        {"CorsOrigins": "https://a.example"},
    ],
    ids=lambda choices: "-".join(choices),
)
def test_a_change_of_access_reaches_the_stage(choices: dict[str, str]) -> None:
    """The stage serves a deployment of the API, which stays as it is. So a change of the API needs another deployment."""
    (before,), (after,) = (stack.of_type("AWS::ApiGateway::Deployment") for stack in (Stack(), Stack(**choices)))
    assert before != after
    same = Stack(MemorySize="1024").of_type("AWS::ApiGateway::Deployment")
    assert list(same) == [before]
    assert Stack(**choices).properties("PredictApi")["BinaryMediaTypes"] == ["*~1*"]


def test_keys_have_a_plan(access: str) -> None:
    """With ApiAccess=key there is a key with a rate, a burst and a monthly quota from the parameters, and otherwise none."""
    stack = Stack(ApiAccess=access, KeyRate="7", KeyBurst="9", KeyMonthlyQuota="1000")
    plans = stack.of_type("AWS::ApiGateway::UsagePlan")
    assert ("ApiKeyId" in stack.outputs) == (access == "key")
    if access != "key":
        assert not plans
        assert not stack.of_type("AWS::ApiGateway::ApiKey")
        return
    (plan,) = plans.values()
    assert plan["Throttle"] == {"RateLimit": "7", "BurstLimit": "9"}
    assert plan["Quota"] == {"Limit": "1000", "Period": "MONTH"}
    assert plan["ApiStages"] == [{"ApiId": "PredictApi", "Stage": "PredictApiStage"}]
    (member,) = stack.of_type("AWS::ApiGateway::UsagePlanKey").values()
    assert member == {"KeyId": "ClientKey", "KeyType": "API_KEY", "UsagePlanId": "ClientPlan"}


def test_the_whole_api_is_throttled(access: str) -> None:
    """Rate and burst of all routes together are parameters, however the API is called."""
    (stage,) = Stack(ApiAccess=access, ThrottleRate="5", ThrottleBurst="6").of_type("AWS::ApiGateway::Stage").values()
    (settings,) = stage["MethodSettings"]
    assert (settings["ResourcePath"], settings["HttpMethod"]) == ("/*", "*")
    assert (settings["ThrottlingRateLimit"], settings["ThrottlingBurstLimit"]) == ("5", "6")


def test_requests_have_caps() -> None:
    """The body's cap is a parameter that the function gets."""
    variables = Stack(MaxBodyBytes="4096").properties("PredictFunction")["Environment"]["Variables"]
    assert variables["MAX_BODY_BYTES"] == "4096"


def test_concurrency_can_be_reserved() -> None:
    """Without a choice the account's limit holds, with one the function has its own."""
    assert "ReservedConcurrentExecutions" not in Stack().properties("PredictFunction")
    assert Stack(ReservedConcurrency="5").properties("PredictFunction")["ReservedConcurrentExecutions"] == "5"


def test_a_web_acl_can_be_put_in_front() -> None:
    """WebAclArn puts a WAF web ACL before the stage; without it there is none."""
    acl = "arn:aws:wafv2:us-east-1:123456789012:regional/webacl/mine/1"
    assert not Stack().of_type("AWS::WAFv2::WebACLAssociation")
    (association,) = Stack(WebAclArn=acl).of_type("AWS::WAFv2::WebACLAssociation").values()
    assert association["WebACLArn"] == acl
    assert association["ResourceArn"] == "arn:aws:apigateway:us-east-1::/restapis/PredictApi/stages/PredictApiStage"


@pytest.mark.parametrize(("kind", "api"), [("rest", "PredictApi"), ("http", "PredictHttpApi"), ("none", None)])
def test_only_the_api_may_invoke_the_function(kind: str, api: str | None) -> None:
    """The only permission on the function is API Gateway's, for this API, on the alias; without an API there is none."""
    permissions = list(Stack(ApiType=kind).of_type("AWS::Lambda::Permission").values())
    assert [each["SourceArn"] for each in permissions] == (
        [f"arn:aws:execute-api:us-east-1:123456789012:{api}/*"] if api else []
    )
    for permission in permissions:
        assert permission["Principal"] == "apigateway.amazonaws.com"
        assert permission["FunctionName"].endswith(":function:PredictFunction:live")


@pytest.mark.parametrize(
    ("origins", "header"),
    [
        ("*", "'*'"),
        ("https://a.example", "'https://a.example'"),
        ("https://a.example,https://b.example", None),
        ("https://a.example , https://b.example", None),
    ],
)
def test_refusals_of_the_gateway_carry_cors(origins: str, header: str | None) -> None:
    """API Gateway's own 4xx and 5xx are for pages of any origin, or of the one origin, or of none where there are several."""
    body = Stack(CorsOrigins=origins).properties("PredictApi")["Body"]
    for kind in ("DEFAULT_4XX", "DEFAULT_5XX"):
        headers = body["x-amazon-apigateway-gateway-responses"][kind]["responseParameters"]
        assert headers == ({"gatewayresponse.header.Access-Control-Allow-Origin": header} if header else {})


@pytest.mark.parametrize(
    ("origins", "good"),
    [
        ("*", True),
        ("https://a.example", True),
        ("http://localhost:8080", True),
        ("https://[::1]:8443", True),
        ("https://a.example,https://b.example", True),
        ("https://a.example , http://127.0.0.1:3000", True),
        ("https://a.example/", False),
        ("https://a.example/page", False),
        ("https://A.example", False),
        ("HTTPS://a.example", False),
        ("https://a.example?x", False),
        ("https://me@a.example", False),
        ("https://a.example:", False),
        ("https://*.example", False),
        ("https://", False),
        ("a.example", False),
        ("*,https://a.example", False),
        ("https://a.example,", False),
        ("https://b\u00fccher.example", False),
    ],
)
def test_template_and_function_take_the_same_origins(origins: str, good: bool) -> None:
    """An origin that no browser sends is refused at the deploy, and at the start of the function."""
    pattern = template()["Parameters"]["CorsOrigins"]["AllowedPattern"]
    assert bool(re.fullmatch(pattern, origins)) == good
    if good:
        assert Settings.from_environment({"CORS_ORIGINS": origins}).cors_origins
    else:
        with pytest.raises(SettingsError, match="CORS_ORIGINS"):
            Settings.from_environment({"CORS_ORIGINS": origins})


def test_signers_reach_both_functions() -> None:
    """The function and the check before a deploy take the same signed releases; by default none needs a signature."""
    key = f"ed25519:{'A' * 43}="
    for choices, expected in (({}, ""), ({"ReleaseSigner": f"{key},{key}"}, f"{key},{key}")):
        stack = Stack(**choices)
        for name in ("PredictFunction", "DeployCheckFunction"):
            assert stack.properties(name)["Environment"]["Variables"]["RELEASE_SIGNERS"] == expected


def test_the_key_that_signs_is_a_choice() -> None:
    """Without it the stack has no key; with it, only IAM of this account decides who signs, and no role here may."""
    assert "ReleaseKey" not in Stack().resources
    stack = Stack(SigningKey="on")
    key = stack.properties("ReleaseKey")
    assert (key["KeySpec"], key["KeyUsage"]) == ("ECC_NIST_EDWARDS25519", "SIGN_VERIFY")
    (statement,) = key["KeyPolicy"]["Statement"]
    assert statement["Principal"] == {"AWS": "arn:aws:iam::123456789012:root"}
    roles = [name for name, properties in stack.of_type("AWS::IAM::Role").items() if "Policies" in properties]
    actions = [str(each["Action"]) for role in roles for each in stack.statements(role) if each["Effect"] == "Allow"]
    assert roles
    assert not [action for action in actions if "kms:Sign" in action or "kms:*" in action or action == "*"]


@pytest.mark.parametrize("value", ["ed25519:short=", f"ed25519:{'A' * 44}", f"{'A' * 43}=", f"ed25519:{'A' * 43}=,"])
def test_what_is_no_public_key_is_refused(value: str) -> None:
    """The deploy and the start of the function refuse it, so that no mistake leaves releases unsigned."""
    assert not re.fullmatch(template()["Parameters"]["ReleaseSigner"]["AllowedPattern"], value)
    with pytest.raises(SettingsError, match="RELEASE_SIGNERS"):
        Settings.from_environment({"RELEASE_SIGNERS": value})
