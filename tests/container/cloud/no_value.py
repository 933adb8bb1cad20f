"""AWS::NoValue in a list: CloudFormation leaves the item out, and moto leaves an empty item."""

from typing import Any

from moto.cloudformation import parsing


def apply() -> None:
    """Leave such items out."""
    # For the type checker: it objects, rightly, to what is done to it here.
    module: Any = parsing
    clean = module.clean_json

    def cleaned(value: Any, resources: Any) -> Any:
        result = clean(value, resources)
        return [each for each in result if each is not None] if isinstance(value, list) else result

    module.clean_json = cleaned
