"""Names that a stack gives to its resources, and the lengths that AWS allows.

CloudFormation shortens the names that it makes up itself. A name that the template makes from the stack's name is used
as it is. If it is too long, the deploy fails in the middle, and CloudFormation removes again what it has made.
"""

import re
from typing import NamedTuple

from lambda_torch.errors import StackError
from lambda_torch.stacks.template import StackTemplate

# "CreateStack": the names that CloudFormation allows.
STACK_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9-]{0,127}")

# Type of a resource -> the property with its name, and the most characters that AWS allows there. From the references of
# the types.
LIMITS = {
    "AWS::Serverless::Function": ("FunctionName", 64),
    "AWS::Lambda::Function": ("FunctionName", 64),
    "AWS::Serverless::LayerVersion": ("LayerName", 140),
    "AWS::Serverless::StateMachine": ("Name", 80),
    "AWS::StepFunctions::StateMachine": ("StateMachineName", 80),
    "AWS::Logs::LogGroup": ("LogGroupName", 512),
    "AWS::CloudWatch::Dashboard": ("DashboardName", 255),
    "AWS::CloudWatch::Alarm": ("AlarmName", 255),
    "AWS::SQS::Queue": ("QueueName", 80),
    "AWS::SNS::Topic": ("TopicName", 256),
    "AWS::Events::Rule": ("Name", 64),
    "AWS::IAM::Role": ("RoleName", 64),
    "AWS::S3::Bucket": ("BucketName", 63),
}


class GivenName(NamedTuple):
    """A name that the template gives to a resource.

    Attributes:
        resource: its logical id.
        name: the name.
        limit: the most characters that AWS allows.
    """

    resource: str
    name: str
    limit: int

    @property
    def over(self) -> int:
        """How many characters the name has too many; 0 or less if it fits."""
        return len(self.name) - self.limit


def given_names(template: StackTemplate) -> list[GivenName]:
    """Every name that the template makes from the stack's name, the one that leaves the least room first."""
    found = []
    for logical_id, resource in template.resources.items():
        name_property, limit = LIMITS.get(resource["Type"], ("", 0))
        name = resource.get("Properties", {}).get(name_property)
        if isinstance(name, str):
            found.append(GivenName(logical_id, name, limit))
    return sorted(found, key=lambda given: -given.over)


def check_name(name: str, template: StackTemplate) -> list[GivenName]:
    """Check the name of a stack before it is deployed.

    Args:
        name: of the stack.
        template: read for that name.

    Returns:
        The names that the template makes of it.

    Raises:
        StackError: CloudFormation takes no such name, or a name made of it is too long.
    """
    if not STACK_NAME.fullmatch(name):
        raise StackError(
            f"{name!r} is not the name of a stack.\nNext: give 1 to 128 letters, digits and hyphens, with a letter first."
        )
    names = given_names(template)
    long = [given for given in names if given.over > 0]
    if long:
        lines = [
            f"  {given.resource}: {given.name} has {len(given.name)} characters, and AWS allows {given.limit}."
            for given in long
        ]
        raise StackError(
            "\n".join([f"The name {name} is too long:", *lines])
            + f"\nNext: take a name of at most {len(name) - long[0].over} characters."
        )
    return names
