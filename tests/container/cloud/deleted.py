"""Deleted stacks: their APIs, layers and endpoints go too, and what became of each resource is still known by the stack's id.

moto keeps these, and to list the resources of a deleted stack, it would make them again.
"""

from typing import Any

from moto.apigateway import models as gateway
from moto.awslambda import models as functions
from moto.cloudformation.models import Stack
from moto.cloudformation.responses import CloudFormationResponse
from moto.core.responses import ActionResult
from moto.ec2.models import ec2_backends
from moto.ec2.models import vpcs as network


def apply() -> None:
    """Remember a stack's resources when it is deleted, list those, and delete all of them."""
    # For the type checker: it objects, rightly, to what is done to them here.
    stack_type: Any = Stack
    response_type: Any = CloudFormationResponse
    delete, list_resources = stack_type.delete, response_type.list_stack_resources

    def deleted(self: Any) -> None:
        summaries = [
            _summary(self, resource) for resource in self.stack_resources if hasattr(resource, "logical_resource_id")
        ]
        delete(self)
        self.summaries_when_deleted = summaries

    def listed(self: Any) -> ActionResult:
        stack = self.cloudformation_backend.get_stack(self._get_param("StackName"))
        if hasattr(stack, "summaries_when_deleted"):
            return ActionResult({"StackResourceSummaries": stack.summaries_when_deleted})
        answer: ActionResult = list_resources(self)
        return answer

    api_type: Any = gateway.RestAPI
    layer_type: Any = functions.LayerVersion
    api_type.delete = lambda api, account, region: gateway.apigateway_backends[account][region].delete_rest_api(api.id)
    layer_type.delete = _delete_layer
    endpoint_type: Any = network.VPCEndPoint
    endpoint_type.delete = lambda endpoint, account, region: ec2_backends[account][region].vpc_end_points.pop(
        endpoint.id, None
    )
    stack_type.delete = deleted
    response_type.list_stack_resources = listed


def _delete_layer(version: Any, account: str, region: str) -> None:
    functions.lambda_backends[account][region].delete_layer_version(version.name, version.version)


def _summary(stack: Any, resource: Any) -> dict[str, Any]:
    name = getattr(resource, "logical_resource_id", "")
    stays = stack.template_dict["Resources"].get(name, {}).get("DeletionPolicy") == "Retain"
    return {
        "LogicalResourceId": name,
        "PhysicalResourceId": getattr(resource, "physical_resource_id", ""),
        "ResourceType": getattr(resource, "cf_resource_type", "") or "AWS::Unknown",
        "ResourceStatus": "DELETE_SKIPPED" if stays else "DELETE_COMPLETE",
        "LastUpdatedTimestamp": stack.creation_time,
    }
