"""What resources have in common that moto does not know as CloudFormation resources."""

from collections.abc import Callable
from typing import Any

from container.cloud.transform import plain


class CloudResource:
    """What these resources have in common. moto knows only the direct subclasses of CloudFormationModel, so it is none.

    Args:
        name: what `Ref` gives.
        remove: deletes it.
        attributes: what Fn::GetAtt gives.

    Attributes:
        kind: the resource type.
        backends: moto's backends of the service, by account and region.
    """

    kind = ""
    backends: Any = None

    def __init__(
        self, name: str, remove: Callable[[], object] = lambda: None, attributes: dict[str, str] | None = None
    ) -> None:
        self.name = name
        self.type = self.kind
        self._remove = remove
        self._attributes = attributes or {}

    @property
    def physical_resource_id(self) -> str:
        """What `Ref` gives."""
        return self.name

    @staticmethod
    def cloudformation_name_type() -> str:
        """The property with the resource's name; there is none that CloudFormation makes up."""
        return ""

    @classmethod
    def cloudformation_type(cls) -> str:
        """The resource type."""
        return cls.kind

    def has_cfn_attr(self, attr: str) -> bool:
        """Whether Fn::GetAtt gives it."""
        return attr in self._attributes

    def get_cfn_attribute(self, attribute_name: str) -> str:
        """What Fn::GetAtt gives."""
        return self._attributes[attribute_name]

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: dict[str, Any], account_id: str, region_name: str, **_: Any
    ) -> "CloudResource":
        """Make it."""
        backend = cls.backends[account_id][region_name]
        return cls.make(backend, resource_name, plain(cloudformation_json["Properties"]))

    @classmethod
    def make(cls, backend: Any, logical_id: str, properties: dict[str, Any]) -> "CloudResource":
        """Make it in moto."""
        raise NotImplementedError

    def delete(self, account_id: str, region_name: str) -> None:
        """Delete it."""
        self._remove()
