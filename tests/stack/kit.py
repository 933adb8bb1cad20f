"""The stack as CloudFormation would make it: SAM's own transform, then parameters, conditions and functions resolved."""

import copy
import fnmatch
import functools
import json
from collections.abc import Iterator
from typing import Any

import boto3
from samcli.yamlhelper import yaml_parse
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

from lambda_torch.project import ROOT
from lambda_torch.stacks.evaluating import Resolver

PSEUDO = {
    "AWS::StackName": "models",
    "AWS::Region": "us-east-1",
    "AWS::AccountId": "123456789012",
    "AWS::Partition": "aws",
    "AWS::URLSuffix": "amazonaws.com",
}
REGION_AND_ACCOUNT = "us-east-1:123456789012"
# What `Ref` and `Arn` give, where it is not the logical id itself.
ARNS = {
    "AWS::S3::Bucket": "arn:aws:s3:::{name}",
    "AWS::SQS::Queue": f"arn:aws:sqs:{REGION_AND_ACCOUNT}:{{name}}",
    "AWS::Logs::LogGroup": f"arn:aws:logs:{REGION_AND_ACCOUNT}:log-group:{{name}}:*",
    "AWS::Lambda::Function": f"arn:aws:lambda:{REGION_AND_ACCOUNT}:function:{{name}}",
    "AWS::Lambda::Version": f"arn:aws:lambda:{REGION_AND_ACCOUNT}:function:PredictFunction:7",
    "AWS::Lambda::Alias": f"arn:aws:lambda:{REGION_AND_ACCOUNT}:function:PredictFunction:live",
    "AWS::StepFunctions::StateMachine": f"arn:aws:states:{REGION_AND_ACCOUNT}:stateMachine:models-bulk",
    "AWS::SNS::Topic": f"arn:aws:sns:{REGION_AND_ACCOUNT}:{{name}}",
    "AWS::IAM::Role": "arn:aws:iam::123456789012:role/{name}",
    "AWS::KMS::Key": f"arn:aws:kms:{REGION_AND_ACCOUNT}:key/{{name}}",
    "AWS::Events::Rule": f"arn:aws:events:{REGION_AND_ACCOUNT}:rule/{{name}}",
}
REFERRED_BY_ARN = ("AWS::Lambda::Version", "AWS::Lambda::Alias", "AWS::StepFunctions::StateMachine", "AWS::SNS::Topic")


def template() -> dict[str, Any]:
    """A copy of template.yaml, short tags as the mappings they stand for."""
    return copy.deepcopy(_template())


@functools.cache
def _template() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(json.dumps(yaml_parse((ROOT / "template.yaml").read_text())))
    return document


@functools.cache
def _transformed(choices: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    document = template()
    for resource in document["Resources"].values():
        for source in ("CodeUri", "ContentUri"):
            if source in resource.get("Properties", {}):
                resource["Properties"][source] = "s3://packages/key"
    parameters = _parameters(document, dict(choices))
    session = boto3.session.Session(region_name="us-east-1")
    result: dict[str, Any] = Translator({}, Parser(), boto_session=session).translate(document, parameters)
    plain: dict[str, Any] = json.loads(json.dumps(result))
    return plain | {"Parameters": document["Parameters"]}


def transformed(**choices: str) -> dict[str, Any]:
    """A copy of the template as SAM transforms it for these parameters, with conditions and functions as they are."""
    return copy.deepcopy(_transformed(tuple(sorted(choices.items()))))


def _parameters(document: dict[str, Any], choices: dict[str, str]) -> dict[str, Any]:
    unknown = choices.keys() - document["Parameters"].keys()
    assert not unknown, unknown
    return {name: rule["Default"] for name, rule in document["Parameters"].items()} | choices


def refusals(choices: dict[str, str], *, whole: bool = True) -> list[str]:
    """What CloudFormation says to these parameters before it makes anything: the template's rules that they break.

    Args:
        choices: parameters with their values.
        whole: whether the other parameters have their defaults. Otherwise they are not known, and only rules are looked at whose
            parameters are all known.
    """
    known = {**_defaults(), **choices} if whole else choices
    rules = Resolver({}, known)
    return [
        assertion["AssertDescription"]
        for condition, asked, assertions in _rules()
        if asked <= known.keys() and rules.is_true(condition)
        for names, assertion in assertions
        if names <= known.keys() and not rules.is_true(assertion["Assert"])
    ]


@functools.cache
def _defaults() -> dict[str, str]:
    return {name: str(rule["Default"]) for name, rule in template()["Parameters"].items()}


@functools.cache
def _rules() -> list[tuple[Any, set[str], list[tuple[set[str], Any]]]]:
    """The template's rules: condition and assertions, each with the parameters that it refers to."""
    return [
        (
            rule["RuleCondition"],
            _names(rule["RuleCondition"]),
            [(_names(assertion["Assert"]), assertion) for assertion in rule["Assertions"]],
        )
        for rule in template()["Rules"].values()
    ]


def _names(expression: Any) -> set[str]:
    """The parameters that a rule refers to."""
    if isinstance(expression, dict):
        if "Ref" in expression:
            return {expression["Ref"]}
        return set().union(*map(_names, expression.values()))
    return set().union(*map(_names, expression)) if isinstance(expression, list) else set()


class Stack(Resolver):
    """A deployed stack's resources, with everything resolved. Keyword arguments are the stack's parameters.

    Attributes:
        resources: logical id to resource, those whose condition holds.
        outputs: name to value.
    """

    def __init__(self, **choices: str) -> None:
        assert not refusals(choices), refusals(choices)
        document = transformed(**choices)
        super().__init__(document, {name: str(value) for name, value in _parameters(document, choices).items()})
        self._types = {name: resource["Type"] for name, resource in document["Resources"].items()}
        self.resources: dict[str, Any] = {
            name: {key: value for key, value in resource.items() if key != "Condition"}
            for name, resource in self.existing(document["Resources"]).items()
        }
        self.outputs: dict[str, Any] = {
            name: output["Value"] for name, output in self.existing(document["Outputs"]).items()
        }

    def of_type(self, kind: str) -> dict[str, Any]:
        """Logical id to properties, of the resources of a type."""
        found = {name: each for name, each in self.resources.items() if each["Type"] == kind}
        return {name: each.get("Properties", {}) for name, each in found.items()}

    def properties(self, name: str) -> Any:
        """A resource's properties."""
        return self.resources[name]["Properties"]

    def statements(self, role: str) -> list[dict[str, Any]]:
        """Everything that a role's policies say."""
        documents = [each["PolicyDocument"] for each in self.properties(role)["Policies"]]
        for policy in self.of_type("AWS::IAM::Policy").values():
            if role in policy["Roles"]:
                documents.append(policy["PolicyDocument"])
        return [statement for document in documents for statement in document["Statement"]]

    def allows(self, role: str, action: str, resource: str) -> bool:
        """Whether the role may do this: IAM's evaluation, for policies that only allow and have no conditions."""
        for statement in self.statements(role):
            assert statement["Effect"] == "Allow"
            assert "Condition" not in statement
            if _matches(statement["Action"], action) and _matches(statement["Resource"], resource):
                return True
        return False

    def refer(self, name: str) -> Any:
        """What AWS gives: a pseudo parameter, an ARN, or the logical id in the place of a name."""
        if name in PSEUDO:
            return PSEUDO[name]
        return self._arn(name) if self._types[name] in REFERRED_BY_ARN else name

    def attribute(self, name: str, attribute: str) -> str:
        """The ARN; of other attributes a text with their name."""
        return self._arn(name) if attribute == "Arn" else f"{name}.{attribute}"

    def _arn(self, name: str) -> str:
        return ARNS[self._types[name]].format(name=name)


def _matches(patterns: str | list[str], text: str) -> bool:
    return any(fnmatch.fnmatchcase(text, each) for each in ([patterns] if isinstance(patterns, str) else patterns))


def routes(stack: Stack, api: str = "PredictApi") -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, method and operation of every route of the API."""
    for path, methods in stack.properties(api)["Body"]["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation
