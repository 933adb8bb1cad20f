"""The stack as CloudFormation would make it: SAM's own transform, then parameters, conditions and functions resolved."""

import copy
import fnmatch
import functools
import json
import re
from collections.abc import Iterator
from typing import Any

import boto3
from samcli.yamlhelper import yaml_parse
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

from lambda_torch.project import ROOT

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
_NOTHING = object()


def template() -> dict[str, Any]:
    """A copy of template.yaml, short tags as the mappings they stand for."""
    return copy.deepcopy(_template())


@functools.cache
def _template() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(json.dumps(yaml_parse((ROOT / "template.yaml").read_text())))
    return document


@functools.cache
def _transformed(choices: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    return as_sam_transforms(template(), dict(choices))


def as_sam_transforms(document: dict[str, Any], choices: dict[str, str]) -> dict[str, Any]:
    """What SAM makes of a template for these parameters, with the template's own parameters."""
    for resource in document["Resources"].values():
        for source in ("CodeUri", "ContentUri"):
            if source in resource.get("Properties", {}):
                resource["Properties"][source] = "s3://packages/key"
    parameters = _parameters(document, choices)
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
    return [
        assertion["AssertDescription"]
        for condition, asked, assertions in _rules()
        if asked <= known.keys() and evaluate(condition, known)
        for names, assertion in assertions
        if names <= known.keys() and not evaluate(assertion["Assert"], known)
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


def evaluate(expression: Any, parameters: dict[str, str]) -> bool:
    """What a rule's function gives for these parameters."""
    ((function, value),) = expression.items()
    if function in ("Fn::And", "Fn::Or"):
        return (all if function == "Fn::And" else any)(evaluate(each, parameters) for each in value)
    if function == "Fn::Not":
        return not evaluate(value[0], parameters)
    first, second = (parameters[each["Ref"]] if isinstance(each, dict) else each for each in value)
    return str(second) in first if function == "Fn::Contains" else str(first) == str(second)


class Stack:
    """A deployed stack's resources, with everything resolved. Keyword arguments are the stack's parameters.

    Attributes:
        resources: logical id to resource, those whose condition holds.
        outputs: name to value.
    """

    def __init__(self, **choices: str) -> None:
        assert not refusals(choices), refusals(choices)
        self._make(transformed(**choices), choices)

    def _make(self, document: dict[str, Any], choices: dict[str, str]) -> None:
        self._parameters = {name: str(value) for name, value in _parameters(document, choices).items()}
        self._mappings: dict[str, Any] = document.get("Mappings", {})
        self._conditions: dict[str, Any] = document.get("Conditions", {})
        self._types = {name: resource["Type"] for name, resource in document["Resources"].items()}
        self.resources: dict[str, Any] = {
            name: {key: self._resolve(value) for key, value in resource.items() if key != "Condition"}
            for name, resource in document["Resources"].items()
            if self._holds(resource.get("Condition"))
        }
        self.outputs: dict[str, Any] = {
            name: self._resolve(output["Value"])
            for name, output in document["Outputs"].items()
            if self._holds(output.get("Condition"))
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

    def _holds(self, condition: str | None) -> bool:
        return condition is None or bool(self._evaluate(self._conditions[condition]))

    def _evaluate(self, expression: Any) -> bool:
        ((function, value),) = expression.items()
        if function == "Condition":
            return self._holds(value)
        if function == "Fn::Equals":
            one, other = (str(self._resolve(each)) for each in value)
            return one == other
        if function == "Fn::Contains":
            return str(self._resolve(value[1])) in value[0]
        if function == "Fn::Not":
            return not self._evaluate(value[0])
        if function in ("Fn::And", "Fn::Or"):
            return (all if function == "Fn::And" else any)(self._evaluate(each) for each in value)
        raise AssertionError(function)

    def _resolve(self, value: Any) -> Any:
        if isinstance(value, list):
            return [each for item in value if (each := self._resolve(item)) is not _NOTHING]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((function, argument),) = value.items()
            if function == "Ref":
                return self._refer(argument)
            if function == "Fn::GetAtt":
                return self._attribute(*(argument if isinstance(argument, list) else argument.split(".", 1)))
            if function == "Fn::Sub":
                return self._substitute(argument)
            if function == "Fn::Split":
                separator, text = argument
                return str(self._resolve(text)).split(separator)
            if function == "Fn::Join":
                separator, items = argument
                return separator.join(map(str, self._resolve(items)))
            if function == "Fn::Select":
                position, choices = argument
                return self._resolve(choices)[int(position)]
            if function == "Fn::FindInMap":
                table, row, column = (self._resolve(each) for each in argument)
                return self._mappings[table][row][column]
            if function == "Fn::If":
                condition, yes, no = argument
                return self._resolve(yes if self._holds(condition) else no)
            assert not function.startswith("Fn::"), function
        return {key: found for key, each in value.items() if (found := self._resolve(each)) is not _NOTHING}

    def _refer(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return _NOTHING
        if name in PSEUDO:
            return PSEUDO[name]
        if name in self._parameters:
            return self._parameters[name]
        kind = self._types[name]
        return self._arn(name) if kind in REFERRED_BY_ARN else name

    def _attribute(self, name: str, attribute: str) -> str:
        return self._arn(name) if attribute == "Arn" else f"{name}.{attribute}"

    def _arn(self, name: str) -> str:
        return ARNS[self._types[name]].format(name=name)

    def _substitute(self, argument: Any) -> str:
        text, values = argument if isinstance(argument, list) else (argument, {})
        values = {name: self._resolve(value) for name, value in values.items()}

        def found(match: re.Match[str]) -> str:
            name = match[1]
            if name.startswith("!"):
                return f"${{{name[1:]}}}"
            if name in values:
                return str(values[name])
            return str(self._attribute(*name.split(".", 1)) if "." in name else self._refer(name))

        return re.sub(r"\$\{([^}]+)\}", found, text)


def _matches(patterns: str | list[str], text: str) -> bool:
    return any(fnmatch.fnmatchcase(text, each) for each in ([patterns] if isinstance(patterns, str) else patterns))


def routes(stack: Stack, api: str = "PredictApi") -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, method and operation of every route of the API."""
    for path, methods in stack.properties(api)["Body"]["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation
