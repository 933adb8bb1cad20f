"""A template for one choice of parameters: what a scanner sees that evaluates neither parameters nor conditions."""

import re
from collections.abc import Mapping
from typing import Any

from lambda_torch.stacks.evaluating import Resolver

LEFT_OUT = ("Parameters", "Conditions", "Mappings", "Rules", "Metadata")


class Chosen(Resolver):
    """Puts parameters, conditions and mappings into a template. What only AWS knows stays as it is.

    Args:
        document: the template, with functions as mappings.
        parameters: those that do not have their defaults.
    """

    def __init__(self, document: dict[str, Any], parameters: dict[str, str]) -> None:
        rules = document["Parameters"]
        given = {name: str(rule["Default"]) for name, rule in rules.items()} | parameters
        numbers = {name for name, rule in rules.items() if rule["Type"] == "Number"}
        super().__init__(document, {name: int(value) if name in numbers else value for name, value in given.items()})
        rest = {key: value for key, value in document.items() if key not in LEFT_OUT}
        for section in ("Resources", "Outputs"):
            existing = self.existing(rest[section])
            rest[section] = {
                name: {key: value for key, value in each.items() if key != "Condition"}
                for name, each in existing.items()
            }
        self.document: dict[str, Any] = rest | {
            key: self.resolve(value) for key, value in rest.items() if key not in ("Resources", "Outputs")
        }

    def refer(self, name: str) -> Any:
        """The function itself."""
        return {"Ref": name}

    def attribute(self, name: str, attribute: str) -> Any:
        """The function itself."""
        return {"Fn::GetAtt": [name, attribute]}

    def of_list(self, function: str, first: Any, second: Any) -> Any:
        """The list, or the function itself if an argument is known to AWS only."""
        known = {
            "Fn::Split": isinstance(second, str),
            "Fn::Join": isinstance(second, list) and all(isinstance(each, str) for each in second),
            "Fn::Select": isinstance(second, list),
        }
        return super().of_list(function, first, second) if known[function] else {function: [first, second]}

    def substitute(self, text: str, values: Mapping[str, Any]) -> Any:
        """The text with parameters put in, and the function around it if there is more in it."""
        texts = {**self.parameters, **{name: each for name, each in values.items() if not isinstance(each, dict)}}
        text = re.sub(r"\$\{(\w+)\}", lambda match: str(texts.get(match[1], match[0])), text)
        left = {name: each for name, each in values.items() if isinstance(each, dict)}
        if left:
            return {"Fn::Sub": [text, left]}
        return {"Fn::Sub": text} if "${" in text else text
