"""API Gateway's REST APIs, as SAM declares them: routes in the API's body, and stages as resources of their own."""

from typing import Any

from moto.apigateway import models
from moto.core.common_models import CloudFormationModel

from container.cloud.resources import CloudResource
from container.cloud.transform import plain


def apply() -> None:
    """Let moto make an API from its body, give deployments an id, and know stages."""
    # For the type checker: it objects, rightly, to what is done to them here.
    api_type: Any = models.RestAPI
    deployment_type: Any = models.Deployment
    api_type.create_from_cloudformation_json = classmethod(_api)
    deployment_type.physical_resource_id = property(lambda deployment: deployment.id)
    # A deployment goes with its API.
    deployment_type.delete = lambda deployment, account, region: None


def _api(
    cls: Any, /, resource_name: str, cloudformation_json: dict[str, Any], account_id: str, region_name: str, **_: Any
) -> Any:
    properties = cloudformation_json["Properties"]
    backend = models.apigateway_backends[account_id][region_name]
    api = backend.create_rest_api(
        name=properties.get("Name", resource_name),
        description=properties.get("Description", ""),
        endpoint_configuration=properties.get("EndpointConfiguration"),
    )
    if "Body" in properties:
        body = plain(properties["Body"])
        for operation in (each for path in body["paths"].values() for each in path.values() if isinstance(each, dict)):
            operation.setdefault("responses", {})  # OpenAPI asks for it, and SAM leaves it out
        backend.put_rest_api(api.id, body, fail_on_warnings=False)
    return api


class Stage(CloudResource, CloudFormationModel):
    """A stage as a CloudFormation resource. It goes with its API."""

    # moto finds the backend of a resource type by the module that defines it.
    __module__ = models.__name__
    backends = models.apigateway_backends
    kind = "AWS::ApiGateway::Stage"

    @classmethod
    def make(cls, backend: Any, logical_id: str, properties: dict[str, Any]) -> CloudResource:
        """Make the stage."""
        backend.create_stage(
            properties["RestApiId"],
            properties["StageName"],
            _id(properties["DeploymentId"]),
            properties.get("Variables"),
        )
        return cls(properties["StageName"])

    @classmethod
    def update_from_cloudformation_json(
        cls,
        original_resource: "Stage",
        new_resource_name: str,
        cloudformation_json: dict[str, Any],
        account_id: str,
        region_name: str,
    ) -> "Stage":
        """Point the stage at another deployment."""
        properties = cloudformation_json["Properties"]
        api = cls.backends[account_id][region_name].get_rest_api(properties["RestApiId"])
        api.stages[original_resource.name].deployment_id = _id(properties["DeploymentId"])
        return original_resource


def _id(deployment: Any) -> Any:
    return getattr(deployment, "id", deployment)
