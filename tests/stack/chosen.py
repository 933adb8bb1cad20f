"""A template for one choice of parameters: what a scanner sees that evaluates neither parameters nor conditions."""

import re
from typing import Any

_NOTHING = object()


class Chosen:
    """Puts parameters, conditions and mappings into a template. What only AWS knows stays as it is.

    Args:
        document: the template, with functions as mappings.
        parameters: those that do not have their defaults.
    """

    def __init__(self, document: dict[str, Any], parameters: dict[str, str]) -> None:
        rules = document["Parameters"]
        given = {name: str(rule["Default"]) for name, rule in rules.items()} | parameters
        self._parameters: dict[str, Any] = {
            name: int(value) if rules[name]["Type"] == "Number" else value for name, value in given.items()
        }
        self._conditions: dict[str, Any] = document.get("Conditions", {})
        self._mappings: dict[str, Any] = document.get("Mappings", {})
        left_out = ("Parameters", "Conditions", "Mappings", "Rules", "Metadata")
        rest = {key: value for key, value in document.items() if key not in left_out}
        for section in ("Resources", "Outputs"):
            rest[section] = {
                name: {key: value for key, value in each.items() if key != "Condition"}
                for name, each in rest[section].items()
                if "Condition" not in each or self._holds(each["Condition"])
            }
        self.document: dict[str, Any] = self._resolve(rest)

    def _holds(self, condition: str) -> bool:
        return self._evaluate(self._conditions[condition])

    def _evaluate(self, expression: Any) -> bool:
        ((function, value),) = expression.items()
        if function == "Condition":
            return self._holds(value)
        if function == "Fn::Not":
            return not self._evaluate(value[0])
        if function in ("Fn::And", "Fn::Or"):
            return (all if function == "Fn::And" else any)(map(self._evaluate, value))
        assert function == "Fn::Equals", function
        one, other = (str(self._resolve(each)) for each in value)
        return one == other

    def _resolve(self, value: Any) -> Any:
        if isinstance(value, list):
            return [each for item in value if (each := self._resolve(item)) is not _NOTHING]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((function, argument),) = value.items()
            if function == "Ref":
                return _NOTHING if argument == "AWS::NoValue" else self._parameters.get(argument, value)
            if function == "Fn::If":
                condition, yes, no = argument
                return self._resolve(yes if self._holds(condition) else no)
            if function == "Fn::FindInMap":
                table, row, column = (self._resolve(each) for each in argument)
                return self._mappings[table][row][column]
            if function == "Fn::Sub":
                return self._substitute(argument)
            if function in ("Fn::Split", "Fn::Join", "Fn::Select"):
                return self._of_list(function, [self._resolve(each) for each in argument])
        return {key: each for key, item in value.items() if (each := self._resolve(item)) is not _NOTHING}

    @staticmethod
    def _of_list(function: str, argument: list[Any]) -> Any:
        first, second = argument
        if function == "Fn::Split" and isinstance(second, str):
            return second.split(first)
        if function == "Fn::Join" and isinstance(second, list) and all(isinstance(each, str) for each in second):
            return first.join(second)
        if function == "Fn::Select" and isinstance(second, list):
            return second[int(first)]
        return {function: argument}

    def _substitute(self, argument: Any) -> Any:
        text, given = argument if isinstance(argument, list) else (argument, {})
        values = {name: self._resolve(value) for name, value in given.items()}
        texts = {**self._parameters, **{name: each for name, each in values.items() if not isinstance(each, dict)}}
        text = re.sub(r"\$\{(\w+)\}", lambda match: str(texts.get(match[1], match[0])), text)
        left = {name: each for name, each in values.items() if isinstance(each, dict)}
        if left:
            return {"Fn::Sub": [text, left]}
        return {"Fn::Sub": text} if "${" in text else text
