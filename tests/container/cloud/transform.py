"""The SAM transform, where moto reads a template: as CloudFormation does it, on AWS's side of the API."""

import copy
import functools
import json
from typing import Any

import boto3
import moto.cloudformation.parsing  # noqa: F401  (it imports every module that defines CloudFormation resources)
from moto.cloudformation.models import ChangeSet, Stack
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

TRANSFORM = "AWS::Serverless-2016-10-31"


def apply() -> None:
    """Transform the templates of stacks and change sets, and let a change set make the stack's outputs."""
    # For the type checker: it objects, rightly, to what is done to them here.
    stack_type: Any = Stack
    change_set_type: Any = ChangeSet
    parse_stack, parse_change_set = Stack.parse_template, ChangeSet._parse_template

    def of_change_set(self: Any) -> None:
        parse_change_set(self)
        self.template_dict = transformed(self.template_dict, getattr(self, "parameters", None))

    def apply_change_set(self: Any) -> None:
        resources = self.stack.resource_map
        # moto takes a default that took effect before, and is sent now, for a change, and modifies whatever refers to it.
        before = self.stack.stack_parameters
        resources.input_parameters = {
            name: value if str(before.get(name)) == str(value) else before.get(name)
            for name, value in self.parameters.items()
        }
        self.stack.template_dict = self.template_dict
        resources.update(self.template_dict, self.parameters)
        self.stack.output_map = self.stack._create_output_map()  # moto leaves the outputs of a change set out

    def has_parameters(self: Any, others: dict[str, Any]) -> bool:
        # CloudFormation compares with the defaults that took effect; and a value left as it is comes as a number, not as text.
        return all(str(self.stack_parameters.get(name)) == str(value) for name, value in others.items())

    stack_type.has_parameters = has_parameters
    stack_type.parse_template = staticmethod(lambda template: transformed(parse_stack(template), None))
    change_set_type._parse_template = of_change_set
    change_set_type.apply = apply_change_set


def transformed(template: dict[str, Any], parameters: dict[str, str] | None) -> dict[str, Any]:
    """The template without SAM's own resource types."""
    named = template.get("Transform")
    if TRANSFORM not in (named if isinstance(named, list) else [named]):
        return template
    return copy.deepcopy(
        _translate(json.dumps(plain(template), sort_keys=True), json.dumps(parameters or {}, sort_keys=True))
    )


# Once per text: a layer's logical id ends in a hash of its properties, and must be the same whoever reads the template.
@functools.cache
def _translate(template: str, parameters: str) -> dict[str, Any]:
    document = json.loads(template)
    defaults = {name: rule["Default"] for name, rule in document.get("Parameters", {}).items() if "Default" in rule}
    session = boto3.session.Session(region_name="us-east-1")
    translator = Translator({}, Parser(), boto_session=session)
    result: dict[str, Any] = plain(translator.translate(document, parameter_values=defaults | json.loads(parameters)))
    return result


def plain(value: Any) -> Any:
    """Dictionaries and lists of any kind as plain ones."""
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value
