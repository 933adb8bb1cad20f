"""Versions and aliases of Lambda functions as CloudFormation resources: moto has the first half, and none of the second."""

from typing import Any

from moto.awslambda import models
from moto.core.common_models import CloudFormationModel


def apply() -> None:
    """Give versions the ARN that `Ref` gives, and know aliases."""
    # For the type checker: it objects, rightly, to what is done to it here.
    version_type: Any = models.LambdaVersion
    create = version_type.create_from_cloudformation_json.__func__

    def created(cls: Any, /, name: str, definition: dict[str, Any], account: str, region: str, **more: Any) -> Any:
        version = create(cls, name, definition, account, region, **more)
        function = models.lambda_backends[account][region].get_function(definition["Properties"]["FunctionName"])
        version.arn = f"{function.function_arn.removesuffix(':$LATEST')}:{version.version}"
        return version

    version_type.create_from_cloudformation_json = classmethod(created)
    version_type.physical_resource_id = property(lambda version: version.arn)
    version_type.get_cfn_attribute = lambda version, _name: str(version.version)
    version_type.has_cfn_attr = classmethod(lambda _cls, name: name == "Version")
    # A version goes with its function.
    version_type.delete = lambda version, account, region: None


class Alias(CloudFormationModel):
    """An alias as a CloudFormation resource. An update moves it at once: moto has no CodeDeploy that would do it slowly."""

    # moto finds the backend of a resource type by the module that defines it.
    __module__ = models.__name__

    def __init__(self, alias: models.LambdaAlias, function: str) -> None:
        self.alias = alias
        self.function = function
        self.type = self.cloudformation_type()

    @property
    def physical_resource_id(self) -> str:
        """What `Ref` gives."""
        return self.alias.arn

    @staticmethod
    def cloudformation_name_type() -> str:
        """The property with the resource's name; none that CloudFormation would make up."""
        return ""

    @staticmethod
    def cloudformation_type() -> str:
        """The resource type."""
        return "AWS::Lambda::Alias"

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: dict[str, Any], account_id: str, region_name: str, **_: Any
    ) -> "Alias":
        """Make the alias."""
        properties = cloudformation_json["Properties"]
        backend = models.lambda_backends[account_id][region_name]
        function = properties["FunctionName"]
        return cls(
            backend.create_alias(properties["Name"], function, str(properties["FunctionVersion"]), "", ""), function
        )

    @classmethod
    def update_from_cloudformation_json(
        cls,
        original_resource: "Alias",
        new_resource_name: str,
        cloudformation_json: dict[str, Any],
        account_id: str,
        region_name: str,
    ) -> "Alias":
        """Move the alias to another version."""
        version = str(cloudformation_json["Properties"]["FunctionVersion"])
        original_resource.alias.update(None, version, None)
        return original_resource

    def delete(self, account_id: str, region_name: str) -> None:
        """An alias goes with its function."""
