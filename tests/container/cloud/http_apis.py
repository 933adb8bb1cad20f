"""HTTP APIs, their stages, and domain names with their mappings, as CloudFormation resources. moto has only their own API."""

import json
from typing import Any

from moto.apigatewayv2 import models
from moto.core.common_models import CloudFormationModel

from container.cloud.resources import CloudResource


def apply() -> None:
    """Importing this module lets moto know the resources."""


def _as_sent(properties: dict[str, Any]) -> dict[str, Any]:
    """Properties with the names that API Gateway's own API has for them."""
    return {name[0].lower() + name[1:]: value for name, value in properties.items()}


class HttpApi(CloudResource, CloudFormationModel):
    """An HTTP API, from its OpenAPI document."""

    # moto finds the backend of a resource type by the module that defines it.
    __module__ = models.__name__
    backends = models.apigatewayv2_backends
    kind = "AWS::ApiGatewayV2::Api"

    @classmethod
    def make(cls, backend: Any, logical_id: str, properties: dict[str, Any]) -> CloudResource:
        """Make the API with its routes and its CORS rules."""
        body = properties["Body"]
        api = backend.create_api(
            "", body.get("x-amazon-apigateway-cors"), "", "", False, logical_id, "HTTP", "", {}, ""
        )
        backend.reimport_api(api.api_id, json.dumps(body), fail_on_warnings=False)
        return cls(api.api_id, lambda: backend.delete_api(api.api_id))


class HttpStage(CloudResource, CloudFormationModel):
    """A stage of an HTTP API."""

    __module__ = models.__name__
    backends = models.apigatewayv2_backends
    kind = "AWS::ApiGatewayV2::Stage"

    @classmethod
    def make(cls, backend: Any, logical_id: str, properties: dict[str, Any]) -> CloudResource:
        """Make the stage. It goes with its API."""
        backend.create_stage(properties["ApiId"], _as_sent(properties))
        return cls(properties["StageName"])


class Domain(CloudResource, CloudFormationModel):
    """A domain name."""

    __module__ = models.__name__
    backends = models.apigatewayv2_backends
    kind = "AWS::ApiGatewayV2::DomainName"

    @classmethod
    def make(cls, backend: Any, logical_id: str, properties: dict[str, Any]) -> CloudResource:
        """Make the domain name, with AWS's own name for it."""
        name = properties["DomainName"]
        backend.create_domain_name(name, [_as_sent(each) for each in properties["DomainNameConfigurations"]], {}, {})
        target = {
            "RegionalDomainName": f"d-1.execute-api.{backend.region_name}.amazonaws.com",
            "RegionalHostedZoneId": "Z1",
        }
        return cls(name, lambda: backend.delete_domain_name(name), target)


class Mapping(CloudResource, CloudFormationModel):
    """What leads from a domain name to a stage of an API."""

    __module__ = models.__name__
    backends = models.apigatewayv2_backends
    kind = "AWS::ApiGatewayV2::ApiMapping"

    @classmethod
    def make(cls, backend: Any, logical_id: str, properties: dict[str, Any]) -> CloudResource:
        """Make the mapping. moto's own function takes no REST API."""
        domain, key, stage = properties["DomainName"], properties.get("ApiMappingKey", ""), properties["Stage"]
        identity = f"{domain}/{key}"
        backend.api_mappings[identity] = models.ApiMapping(properties["ApiId"], key, identity, domain, stage)
        return cls(identity, lambda: backend.api_mappings.pop(identity, None))
