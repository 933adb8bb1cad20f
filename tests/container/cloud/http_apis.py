"""HTTP APIs, their stages, and domain names with their mappings, as CloudFormation resources. moto has only their own API."""

import json
from collections.abc import Callable
from typing import Any

from moto.apigatewayv2 import models
from moto.core.common_models import CloudFormationModel

from container.cloud.transform import plain


def apply() -> None:
    """Importing this module lets moto know the resources."""


class _Resource:
    """What these resources have in common. moto knows only the direct subclasses of CloudFormationModel, so it is none.

    Args:
        name: what `Ref` gives.
        remove: deletes it.
        attributes: what Fn::GetAtt gives.
    """

    kind = ""

    def __init__(self, name: str, remove: Callable[[], object], attributes: dict[str, str] | None = None) -> None:
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
    ) -> "_Resource":
        """Make it."""
        backend = models.apigatewayv2_backends[account_id][region_name]
        return cls.make(backend, resource_name, plain(cloudformation_json["Properties"]))

    @classmethod
    def make(cls, backend: Any, logical_id: str, properties: dict[str, Any]) -> "_Resource":
        """Make it in moto."""
        raise NotImplementedError

    def delete(self, account_id: str, region_name: str) -> None:
        """Delete it."""
        self._remove()


def _as_sent(properties: dict[str, Any]) -> dict[str, Any]:
    """Properties with the names that API Gateway's own API has for them."""
    return {name[0].lower() + name[1:]: value for name, value in properties.items()}


class HttpApi(_Resource, CloudFormationModel):
    """An HTTP API, from its OpenAPI document."""

    # moto finds the backend of a resource type by the module that defines it.
    __module__ = models.__name__
    kind = "AWS::ApiGatewayV2::Api"

    @classmethod
    def make(cls, backend: Any, logical_id: str, properties: dict[str, Any]) -> _Resource:
        """Make the API with its routes and its CORS rules."""
        body = properties["Body"]
        api = backend.create_api(
            "", body.get("x-amazon-apigateway-cors"), "", "", False, logical_id, "HTTP", "", {}, ""
        )
        backend.reimport_api(api.api_id, json.dumps(body), fail_on_warnings=False)
        return cls(api.api_id, lambda: backend.delete_api(api.api_id))

    @classmethod
    def update_from_cloudformation_json(
        cls,
        original_resource: _Resource,
        new_resource_name: str,
        cloudformation_json: dict[str, Any],
        account_id: str,
        region_name: str,
    ) -> _Resource:
        """Give the API the routes of another document. Its id, and so its address, stays."""
        backend = models.apigatewayv2_backends[account_id][region_name]
        body = plain(cloudformation_json["Properties"])["Body"]
        backend.reimport_api(original_resource.name, json.dumps(body), fail_on_warnings=False)
        return original_resource


class HttpStage(_Resource, CloudFormationModel):
    """A stage of an HTTP API."""

    __module__ = models.__name__
    kind = "AWS::ApiGatewayV2::Stage"

    @classmethod
    def make(cls, backend: Any, logical_id: str, properties: dict[str, Any]) -> _Resource:
        """Make the stage. It goes with its API."""
        backend.create_stage(properties["ApiId"], _as_sent(properties))
        return cls(properties["StageName"], lambda: None)


class Domain(_Resource, CloudFormationModel):
    """A domain name."""

    __module__ = models.__name__
    kind = "AWS::ApiGatewayV2::DomainName"

    @classmethod
    def make(cls, backend: Any, logical_id: str, properties: dict[str, Any]) -> _Resource:
        """Make the domain name, with AWS's own name for it."""
        name = properties["DomainName"]
        backend.create_domain_name(name, [_as_sent(each) for each in properties["DomainNameConfigurations"]], {}, {})
        target = {
            "RegionalDomainName": f"d-1.execute-api.{backend.region_name}.amazonaws.com",
            "RegionalHostedZoneId": "Z1",
        }
        return cls(name, lambda: backend.delete_domain_name(name), target)


class Mapping(_Resource, CloudFormationModel):
    """What leads from a domain name to a stage of an API."""

    __module__ = models.__name__
    kind = "AWS::ApiGatewayV2::ApiMapping"

    @classmethod
    def make(cls, backend: Any, logical_id: str, properties: dict[str, Any]) -> _Resource:
        """Make the mapping. moto's own function takes no REST API."""
        domain, key, stage = properties["DomainName"], properties.get("ApiMappingKey", ""), properties["Stage"]
        identity = f"{domain}/{key}"
        backend.api_mappings[identity] = models.ApiMapping(properties["ApiId"], key, identity, domain, stage)
        return cls(identity, lambda: backend.api_mappings.pop(identity, None))
