"""Reads a CloudFormation template, and resolves its parameters and conditions as far as the commands need it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from lambda_torch.errors import StackError

_NOTHING = object()


class _Loader(yaml.SafeLoader):
    """Reads the short forms of CloudFormation's functions as the mappings that they stand for."""


def _function(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


def _mapping(loader: _Loader, node: yaml.MappingNode) -> Iterator[dict[Any, Any]]:
    return loader.construct_yaml_map(node)


_Loader.add_multi_constructor("!", _function)
# SAM, in the same process, lets every other loader make dictionaries of a kind of its own.
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def load_template(path: Path) -> dict[str, Any]:
    """Read a template. Short forms of functions become the mappings that they stand for.

    Raises:
        StackError: the file is no template.
    """
    try:
        document: Any = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506  # a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StackError(f"{path} is not a template: {error}\nNext: name a file in YAML or JSON.") from error
    if not isinstance(document, dict) or not isinstance(document.get("Resources"), dict):
        raise StackError(f"{path} is not a template: it has no Resources.\nNext: name the template of a stack.")
    return document


class StackTemplate:
    """A template with its parameters set.

    Functions whose result only AWS knows (Ref of a resource, Fn::GetAtt) stay as the text ${Name}.

    Args:
        path: the template, in YAML or JSON.
        parameters: values that replace the defaults.
        stack_name: what AWS::StackName stands for.

    Attributes:
        parameters: name to value, as text.
        resources: logical id to resource. Those whose condition does not hold are left out.

    Raises:
        StackError: the file is no template, or it has no such parameter.
    """

    def __init__(
        self, path: Path, parameters: Mapping[str, str] | None = None, stack_name: str = "lambda-torch"
    ) -> None:
        document = load_template(path)
        rules: dict[str, Any] = document.get("Parameters", {})
        unknown = sorted((parameters or {}).keys() - rules.keys())
        if unknown:
            raise StackError(f"{path} has no parameter {', '.join(unknown)}. It has {', '.join(sorted(rules))}.")
        defaults = {name: rule["Default"] for name, rule in rules.items() if "Default" in rule}
        self.parameters = {name: str(value) for name, value in {**defaults, **(parameters or {})}.items()}
        self._stack_name = stack_name
        self._conditions: dict[str, Any] = document.get("Conditions", {})
        self._mappings: dict[str, Any] = document.get("Mappings", {})
        self.resources: dict[str, dict[str, Any]] = {
            name: self._resolve(resource)
            for name, resource in document["Resources"].items()
            if "Condition" not in resource or self._holds(resource["Condition"])
        }

    def of_type(self, *kinds: str) -> dict[str, dict[str, Any]]:
        """Logical id to properties, of the resources of these types."""
        found = {name: each for name, each in self.resources.items() if each.get("Type") in kinds}
        return {name: each.get("Properties", {}) for name, each in found.items()}

    def _holds(self, condition: str) -> bool:
        return self._is_true(self._conditions[condition])

    def _is_true(self, expression: Any) -> bool:
        ((function, value),) = expression.items()
        if function == "Condition":
            return self._holds(value)
        if function == "Fn::Equals":
            one, other = (str(self._resolve(each)) for each in value)
            return one == other
        if function == "Fn::Not":
            return not self._is_true(value[0])
        if function in ("Fn::And", "Fn::Or"):
            return (all if function == "Fn::And" else any)(self._is_true(each) for each in value)
        raise StackError(f"The template uses {function} in a condition, which this command does not know.")

    def _resolve(self, value: Any) -> Any:
        if isinstance(value, list):
            return [each for item in value if (each := self._resolve(item)) is not _NOTHING]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((function, argument),) = value.items()
            if function == "Ref":
                return self._refer(argument)
            if function == "Fn::If":
                condition, yes, no = argument
                return self._resolve(yes if self._holds(condition) else no)
            if function == "Fn::Sub":
                return self._substitute(argument)
            if function == "Fn::Split":
                separator, text = argument
                return str(self._resolve(text)).split(separator)
            if function == "Fn::Join":
                separator, items = argument
                return separator.join(map(str, self._resolve(items)))
            if function == "Fn::Select":
                index, items = argument
                return self._resolve(items)[int(index)]
            if function == "Fn::FindInMap":
                table, row, column = (self._resolve(each) for each in argument)
                return self._mappings[table][row][column]
            if function == "Fn::GetAtt":
                return "${" + ".".join(map(str, argument)) + "}"
        return {key: each for key, item in value.items() if (each := self._resolve(item)) is not _NOTHING}

    def _refer(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return _NOTHING
        if name == "AWS::StackName":
            return self._stack_name
        return self.parameters.get(name, "${" + name + "}")

    def _substitute(self, argument: Any) -> str:
        text: str = argument[0] if isinstance(argument, list) else argument
        for name, value in {**self.parameters, "AWS::StackName": self._stack_name}.items():
            text = text.replace("${" + name + "}", value)
        return text
