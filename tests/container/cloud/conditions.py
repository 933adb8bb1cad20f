"""Conditions of resources in updates: moto looks at them when it makes a resource, and not when a template changes one."""

from typing import Any

from moto.cloudformation import parsing


def apply() -> None:
    """Leave alone what there is not."""
    # For the type checker: it objects, rightly, to what is done to it here.
    module: Any = parsing
    change = module.parse_and_update_resource

    def changed(logical_id: str, resource_json: Any, resources_map: Any, **more: Any) -> Any:
        condition = resource_json.get("Condition")
        if condition and not resources_map.lazy_condition_map[condition]:
            return None
        return change(logical_id, resource_json, resources_map, **more)

    module.parse_and_update_resource = changed
