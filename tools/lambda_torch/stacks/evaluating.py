"""CloudFormation's functions and conditions, evaluated: for commands, and for tests that look at a whole stack.

How a `Ref`, an `Fn::GetAtt` and a text of `Fn::Sub` become values is different for each, so subclasses say that.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from lambda_torch.errors import StackError

# What AWS::NoValue stands for: the property or the item is left out.
NOTHING: Final = object()
_NAME = re.compile(r"\$\{([^}]+)\}")


class Resolver:
    """Evaluates the functions of a template.

    Args:
        document: the template, with functions as mappings.
        parameters: name to value.

    Attributes:
        parameters: the same.
    """

    def __init__(self, document: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
        self.parameters = dict(parameters)
        self._conditions: Mapping[str, Any] = document.get("Conditions", {})
        self._mappings: Mapping[str, Any] = document.get("Mappings", {})

    def refer(self, name: str) -> Any:
        """What `Ref` gives for a name that is no parameter and not AWS::NoValue. Here: the text ${Name}."""
        return f"${{{name}}}"

    def attribute(self, name: str, attribute: str) -> Any:
        """What `Fn::GetAtt` gives. Here: the text ${Name.Attribute}."""
        return f"${{{name}.{attribute}}}"

    def holds(self, condition: str | None) -> bool:
        """Whether a condition of the template holds. No condition always does."""
        return condition is None or self.is_true(self._conditions[condition])

    def is_true(self, expression: Any) -> bool:
        """What the function of a condition or of a rule gives.

        Raises:
            StackError: this function is not known.
        """
        ((function, value),) = expression.items()
        if function == "Condition":
            return self.holds(value)
        if function == "Fn::Equals":
            one, other = (str(self.resolve(each)) for each in value)
            return one == other
        if function == "Fn::Contains":
            return str(self.resolve(value[1])) in value[0]
        if function == "Fn::Not":
            return not self.is_true(value[0])
        if function in ("Fn::And", "Fn::Or"):
            return (all if function == "Fn::And" else any)(self.is_true(each) for each in value)
        raise StackError(f"The template uses {function} in a condition, which is not known here.")

    def existing(self, section: Mapping[str, Any]) -> dict[str, Any]:
        """The resources or outputs of a section whose condition holds, with everything resolved."""
        return {name: self.resolve(each) for name, each in section.items() if self.holds(each.get("Condition"))}

    def resolve(self, value: Any) -> Any:
        """A value with all functions in it evaluated."""
        if isinstance(value, list):
            return [each for item in value if (each := self.resolve(item)) is not NOTHING]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((function, argument),) = value.items()
            if function == "Ref":
                return self._referred(argument)
            if function == "Fn::GetAtt":
                return self.attribute(*(argument if isinstance(argument, list) else argument.split(".", 1)))
            if function == "Fn::If":
                condition, yes, no = argument
                return self.resolve(yes if self.holds(condition) else no)
            if function == "Fn::Sub":
                text, values = argument if isinstance(argument, list) else (argument, {})
                return self.substitute(text, {name: self.resolve(each) for name, each in values.items()})
            if function == "Fn::FindInMap":
                table, row, column = (self.resolve(each) for each in argument)
                return self._mappings[table][row][column]
            if function in ("Fn::Split", "Fn::Join", "Fn::Select"):
                first, second = (self.resolve(each) for each in argument)
                return self.of_list(function, first, second)
        return {key: each for key, item in value.items() if (each := self.resolve(item)) is not NOTHING}

    def of_list(self, function: str, first: Any, second: Any) -> Any:
        """What a function of a list gives for its two resolved arguments."""
        if function == "Fn::Split":
            return str(second).split(first)
        if function == "Fn::Join":
            return str(first).join(map(str, second))
        return second[int(first)]

    def substitute(self, text: str, values: Mapping[str, Any]) -> Any:
        """What `Fn::Sub` gives for a text and its own values, which are resolved."""

        def found(match: re.Match[str]) -> str:
            name = match[1]
            if name.startswith("!"):
                return f"${{{name[1:]}}}"
            if name in values:
                return str(values[name])
            return str(self.attribute(*name.split(".", 1)) if "." in name else self._referred(name))

        return _NAME.sub(found, text)

    def _referred(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return NOTHING
        return self.parameters[name] if name in self.parameters else self.refer(name)
