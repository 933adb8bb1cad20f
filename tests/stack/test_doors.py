"""The kinds of API, who may call them, and domains: what ApiType, ApiAccess and DomainName make."""

from typing import Any

import pytest

from serving.http.responses import ALLOWED_HEADERS, EXPOSED_HEADERS, PREFLIGHT_SECONDS
from stack.combinations import CERTIFICATE, ISSUER, USER_POOL, WEB_ACL
from stack.kit import Stack, refusals, routes, template
from stack.test_access import PAGES

JWT = {"ApiType": "http", "ApiAccess": "jwt", "JwtIssuer": ISSUER, "JwtAudience": "app , another"}
COGNITO = {"ApiAccess": "cognito", "UserPoolArn": USER_POOL}
PRIVATE = {"ApiType": "private", "VpcEndpointIds": "vpce-0123456789abcdef0 , vpce-01234567"}
DOMAIN = {"DomainName": "models.example.com", "CertificateArn": CERTIFICATE}


def kinds(stack: Stack) -> dict[str, int]:
    """How many resources of each type of API Gateway there are."""
    found: dict[str, int] = {}
    for resource in stack.resources.values():
        if resource["Type"].startswith("AWS::ApiGateway"):
            name = resource["Type"].removeprefix("AWS::")
            found[name] = found.get(name, 0) + 1
    return found


@pytest.mark.parametrize(
    ("choices", "wanted"),
    [
        ({}, {"ApiGateway::RestApi": 1, "ApiGateway::Deployment": 1, "ApiGateway::Stage": 1}),
        (PRIVATE, {"ApiGateway::RestApi": 1, "ApiGateway::Deployment": 1, "ApiGateway::Stage": 1}),
        ({"ApiType": "http"}, {"ApiGatewayV2::Api": 1, "ApiGatewayV2::Stage": 1}),
        ({"ApiType": "none"}, {}),
    ],
    ids=["rest", "private", "http", "none"],
)
def test_a_stack_has_the_api_that_it_asked_for(choices: dict[str, str], wanted: dict[str, int]) -> None:
    """One API of the chosen kind with one stage, and nothing of another kind; its address is an output."""
    stack = Stack(**choices)
    assert kinds(stack) == wanted
    assert ("PredictUrl" in stack.outputs) == bool(wanted)


@pytest.mark.parametrize(
    ("choices", "scheme"),
    [({"ApiType": "http"}, "signature"), (JWT, "jwt"), ({"ApiType": "http", "ApiAccess": "open"}, None)],
    ids=["iam", "jwt", "open"],
)
def test_every_route_of_the_http_api_asks_for_what_api_access_says(choices: dict[str, str], scheme: str | None) -> None:
    """A signature or a token at each route; a page that a person opens has no token by itself, so it is open then."""
    stack = Stack(**choices)
    for path, method, operation in routes(stack, "PredictHttpApi"):
        is_free = scheme is None or (scheme == "jwt" and (path, method) in PAGES)
        assert operation["security"] == ([] if is_free else [{scheme: []}]), (path, method)
        integration = operation["x-amazon-apigateway-integration"]
        assert (integration["type"], integration["payloadFormatVersion"]) == ("aws_proxy", "2.0")
        assert integration["uri"].endswith(":function:PredictFunction:live/invocations")
        assert integration["timeoutInMillis"] <= 30_000
    schemes = stack.properties("PredictHttpApi")["Body"]["components"]["securitySchemes"]
    assert scheme is None or scheme in schemes


def test_tokens_are_checked_for_issuer_and_audience() -> None:
    """The authorizer of the HTTP API takes tokens of this issuer for one of these audiences."""
    schemes = Stack(**JWT).properties("PredictHttpApi")["Body"]["components"]["securitySchemes"]
    assert schemes["jwt"]["x-amazon-apigateway-authorizer"] == {
        "type": "jwt",
        "identitySource": "$request.header.Authorization",
        "jwtConfiguration": {"issuer": ISSUER, "audience": ["app", "another"]},
    }


def test_people_of_a_user_pool_may_call_a_rest_api() -> None:
    """With ApiAccess=cognito each route but the pages asks for a token of this user pool."""
    stack = Stack(**COGNITO)
    for path, method, operation in routes(stack):
        is_free = method == "options" or (path, method) in PAGES
        assert operation.get("security", []) == ([] if is_free else [{"cognito": []}]), (path, method)
    scheme = stack.properties("PredictApi")["Body"]["components"]["securitySchemes"]["cognito"]
    assert scheme["x-amazon-apigateway-authorizer"] == {"type": "cognito_user_pools", "providerARNs": [USER_POOL]}


@pytest.mark.parametrize(
    ("origins", "wanted"),
    [("*", ["*"]), ("https://a.example , https://b.example", ["https://a.example", "https://b.example"])],
)
def test_the_http_api_answers_preflights_as_the_function_does(origins: str, wanted: list[str]) -> None:
    """An HTTP API puts its own CORS headers on all answers, its refusals included: they are those of the function."""
    cors = Stack(ApiType="http", CorsOrigins=origins).properties("PredictHttpApi")["Body"]["x-amazon-apigateway-cors"]
    assert cors["allowOrigins"] == wanted
    assert cors["allowHeaders"] == ALLOWED_HEADERS.split(", ")
    assert cors["exposeHeaders"] == EXPOSED_HEADERS.split(", ")
    assert cors["maxAge"] == PREFLIGHT_SECONDS
    used = {method.upper() for _, method, _ in routes(Stack(ApiType="http"), "PredictHttpApi")}
    assert set(cors["allowMethods"]) == used | {"OPTIONS"}


def test_the_http_api_is_throttled() -> None:
    """Rate and burst of all routes together are the same parameters as for a REST API."""
    stack = Stack(ApiType="http", ThrottleRate="5", ThrottleBurst="6", StageName="v1")
    stage = stack.properties("PredictHttpApiStage")
    assert stage["DefaultRouteSettings"] == {"ThrottlingRateLimit": "5", "ThrottlingBurstLimit": "6"}
    assert (stage["StageName"], stage["AutoDeploy"]) == ("v1", True)
    assert stack.outputs["PredictUrl"] == "https://PredictHttpApi.execute-api.us-east-1.amazonaws.com/v1/predict"


def test_a_private_api_takes_requests_of_its_endpoints_only() -> None:
    """The API is private, belongs to the endpoints, and its policy denies whatever does not come through them."""
    properties = Stack(**PRIVATE).properties("PredictApi")
    ids = ["vpce-0123456789abcdef0", "vpce-01234567"]
    assert properties["EndpointConfiguration"]["Types"] == ["PRIVATE"]
    assert properties["EndpointConfiguration"]["VpcEndpointIds"] == ids
    (deny,) = properties["Body"]["x-amazon-apigateway-policy"]["Statement"]
    assert (deny["Effect"], deny["Principal"]) == ("Deny", "*")
    assert deny["Condition"] == {"StringNotEquals": {"aws:SourceVpce": ids}}
    assert "x-amazon-apigateway-policy" not in Stack().properties("PredictApi")["Body"]


def test_the_policy_of_a_private_api_lets_in_nobody_who_may_not_call() -> None:
    """With signatures the callers' own policies decide, so this one allows nothing; a key or a token is checked beside it."""
    for access, effects in (("iam", ["Deny"]), ("key", ["Allow", "Deny"]), ("open", ["Allow", "Deny"])):
        body = Stack(**PRIVATE, ApiAccess=access).properties("PredictApi")["Body"]
        assert [each["Effect"] for each in body["x-amazon-apigateway-policy"]["Statement"]] == effects


@pytest.mark.parametrize(("kind", "api"), [("rest", "PredictApi"), ("http", "PredictHttpApi")])
def test_a_domain_leads_to_the_stage(kind: str, api: str) -> None:
    """The domain with its certificate leads to the stage of the API, under the base path; the output has this address."""
    stack = Stack(ApiType=kind, BasePath="names/v1", **DOMAIN)
    (configuration,) = stack.properties("Domain")["DomainNameConfigurations"]
    assert configuration == {"CertificateArn": CERTIFICATE, "EndpointType": "REGIONAL", "SecurityPolicy": "TLS_1_2"}
    mapping = stack.properties("DomainMapping")
    assert (mapping["ApiId"], mapping["Stage"], mapping["ApiMappingKey"]) == (api, f"{api}Stage", "names/v1")
    assert stack.outputs["PredictUrl"] == "https://models.example.com/names/v1/predict"
    assert "DomainRecord" not in stack.resources
    plain = Stack(ApiType=kind, HostedZoneId="Z0123456789ABC", **DOMAIN)
    assert "ApiMappingKey" not in plain.properties("DomainMapping")
    assert plain.outputs["PredictUrl"] == "https://models.example.com/predict"
    record = plain.properties("DomainRecord")
    assert (record["Type"], record["Name"], record["HostedZoneId"]) == ("A", "models.example.com", "Z0123456789ABC")
    assert record["AliasTarget"]["DNSName"] == plain.outputs["DomainTarget"]


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"ApiType": "http", "ApiAccess": "key"}, "API keys need a REST API"),
        ({"ApiAccess": "jwt", "JwtIssuer": ISSUER, "JwtAudience": "app"}, "needs ApiType=http"),
        ({"ApiType": "http", "ApiAccess": "jwt", "JwtIssuer": ISSUER}, "needs JwtAudience"),
        ({"ApiType": "http", "ApiAccess": "jwt", "JwtAudience": "app"}, "needs JwtIssuer"),
        ({"ApiType": "http", "JwtIssuer": ISSUER}, "say nothing without ApiAccess=jwt"),
        ({"ApiType": "http", **COGNITO}, "needs ApiType=rest or private"),
        ({"ApiAccess": "cognito"}, "needs UserPoolArn"),
        ({"UserPoolArn": USER_POOL}, "says nothing without ApiAccess=cognito"),
        ({"ApiType": "private"}, "needs VpcEndpointIds"),
        ({"VpcEndpointIds": "vpce-01234567"}, "say nothing without ApiType=private"),
        ({**PRIVATE, **DOMAIN}, "A private API has no DomainName"),
        ({"ApiType": "none", "ApiAccess": "open"}, "Without an API only signed requests"),
        ({"ApiType": "none", **DOMAIN}, "DomainName needs an API"),
        ({"ApiType": "http", "ResponseStreaming": "both"}, "Only a REST API streams"),
        ({"ApiType": "none", "ResponseStreaming": "api"}, "Only a REST API streams"),
        ({"ApiType": "http", "WebAclArn": WEB_ACL}, "AWS WAF does not stand in front of an HTTP API"),
        ({"DomainName": "models.example.com"}, "DomainName needs CertificateArn"),
        ({"BasePath": "names"}, "say nothing without DomainName"),
        ({"SubnetIds": "subnet-01234567"}, "SubnetIds and SecurityGroupIds need each other"),
        ({"SecurityGroupIds": "sg-01234567"}, "SubnetIds and SecurityGroupIds need each other"),
        ({"VpcId": "vpc-01234567"}, "VpcId and RouteTableIds need each other"),
        ({"RouteTableIds": "rtb-01234567"}, "VpcId and RouteTableIds need each other"),
        ({"VpcId": "vpc-01234567", "RouteTableIds": "rtb-01234567"}, "say nothing without SubnetIds"),
        (
            {"ProvisionedConcurrency": "1", "SnapStart": "PublishedVersions"},
            "ProvisionedConcurrency or SnapStart, not both",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_made(choices: dict[str, str], said: str) -> None:
    """CloudFormation evaluates the rules first: each says what does not go together, and what to choose."""
    told = refusals(choices)
    assert [each for each in told if said in each]
    assert all(each.endswith(".") for each in told)


def test_each_rule_refuses_something() -> None:
    """The table above breaks every rule of the template at least once."""
    mark: Any = next(each for each in test_what_does_not_go_together_is_refused_before_anything_is_made.pytestmark)  # type: ignore[attr-defined]
    told = {each for choices, _ in mark.args[1] for each in refusals(choices)}
    rules = template()["Rules"].values()
    assert told == {assertion["AssertDescription"] for rule in rules for assertion in rule["Assertions"]}
