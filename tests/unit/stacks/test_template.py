"""The reader of templates, beside SAM's own reading."""

import json

import pytest

from lambda_torch.project import TEMPLATE
from lambda_torch.stacks.template import StackTemplate
from stack.combinations import CERTIFICATE
from stack.kit import Stack, template


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"ApiAccess": "key"},
        {"AlarmEmail": "a@example.com", "StaleReleaseDays": "30"},
        {"Tracing": "on"},
        {"ApiType": "http", "DomainName": "m.example.com", "CertificateArn": CERTIFICATE, "HostedZoneId": "Z01"},
        {"ApiType": "none", "ResponseStreaming": "url", "WarmUpSchedule": "rate(5 minutes)"},
    ],
)
def test_conditions_hold_as_they_do_for_sam(parameters: dict[str, str]) -> None:
    """The resources that the template declares are there for the same parameters as in SAM's transform."""
    made = StackTemplate(TEMPLATE, parameters, "models").resources
    declared = template()["Resources"]
    by_sam = Stack(**parameters).resources
    layer = {name for name in by_sam if name.startswith("TorchLayer")}
    assert len(layer) == 1
    assert {name for name in made if name != "TorchLayer"} == declared.keys() & by_sam.keys() - layer


def test_parameters_and_the_stacks_name_are_put_in() -> None:
    """References to parameters and to the stack's name have their values; what only AWS knows stays a text."""
    made = StackTemplate(TEMPLATE, {"MemorySize": "1769"}, "models")
    function = made.of_type("AWS::Serverless::Function")["PredictFunction"]
    assert function["MemorySize"] == "1769"
    assert "ReservedConcurrentExecutions" not in function
    assert function["Layers"] == ["${TorchLayer}"]
    machine = made.resources["BulkMachine"]["Properties"]
    assert machine["StateMachineName"] == "models-bulk"
    assert machine["RoleArn"] == "${BulkRole.Arn}"
    json.dumps(made.resources)


@pytest.mark.parametrize("origins", ["*", "https://a.example", "https://a.example,https://b.example"])
def test_texts_are_split_as_they_are_for_sam(origins: str) -> None:
    """A condition on the first of several values holds as it does in SAM's transform."""
    own = StackTemplate(TEMPLATE, {"CorsOrigins": origins}).of_type("AWS::Serverless::Api")["PredictApi"]
    theirs = Stack(CorsOrigins=origins).properties("PredictApi")["Body"]["x-amazon-apigateway-gateway-responses"]
    headers = own["GatewayResponses"]["DEFAULT_4XX"].get("ResponseParameters", {}).get("Headers", {})
    made = theirs["DEFAULT_4XX"].get("responseParameters", {})
    assert set(headers.values()) == set(made.values())
