"""Reads a CloudFormation template, and resolves its parameters and conditions as far as the commands need it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lambda_torch.errors import StackError
from lambda_torch.stacks.evaluating import Resolver


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


_Loader.add_multi_constructor("!", _function)


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
        try:
            document: Any = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506  # a SafeLoader
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise StackError(f"{path} is not a template: {error}\nNext: name a file in YAML or JSON.") from error
        if not isinstance(document, dict) or not isinstance(document.get("Resources"), dict):
            raise StackError(f"{path} is not a template: it has no Resources.\nNext: name the template of a stack.")
        rules: dict[str, Any] = document.get("Parameters", {})
        unknown = sorted((parameters or {}).keys() - rules.keys())
        if unknown:
            raise StackError(f"{path} has no parameter {', '.join(unknown)}. It has {', '.join(sorted(rules))}.")
        defaults = {name: rule["Default"] for name, rule in rules.items() if "Default" in rule}
        self.parameters = {name: str(value) for name, value in {**defaults, **(parameters or {})}.items()}
        resolver = _Deployed(document, self.parameters, stack_name)
        self.resources: dict[str, dict[str, Any]] = resolver.existing(document["Resources"])

    def of_type(self, *kinds: str) -> dict[str, dict[str, Any]]:
        """Logical id to properties, of the resources of these types."""
        found = {name: each for name, each in self.resources.items() if each.get("Type") in kinds}
        return {name: each.get("Properties", {}) for name, each in found.items()}


class _Deployed(Resolver):
    """Knows the stack's name. What only AWS knows stays as it is."""

    def __init__(self, document: Mapping[str, Any], parameters: Mapping[str, str], stack_name: str) -> None:
        super().__init__(document, parameters)
        self._stack_name = stack_name

    def refer(self, name: str) -> Any:
        """The name of the stack; of a resource, the text ${Name}."""
        return self._stack_name if name == "AWS::StackName" else super().refer(name)
