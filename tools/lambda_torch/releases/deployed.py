"""What commands read of a deployed stack: its parameters and outputs."""

from typing import Any, Final

from lambda_torch.aws_errors import explained
from lambda_torch.errors import BucketError
from lambda_torch.releases.keys import KMS_PREFIX

# The output with the ARN of the stack's key.
SIGNING_OUTPUT: Final = "SigningKeyArn"


def described_stack(stack: str) -> Any:
    """What CloudFormation says about a deployed stack.

    Raises:
        BucketError: there is no such stack, or it cannot be read.
    """
    import boto3

    with explained(stack, "stack"):
        return boto3.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]


def key_of_stack(stack: str) -> str:
    """The name of the key that a stack has for signing, as `lambda_torch.releases.keys.open_key` takes it.

    Raises:
        BucketError: the stack has none, or cannot be read.
    """
    outputs = {each["OutputKey"]: each["OutputValue"] for each in described_stack(stack).get("Outputs", [])}
    if SIGNING_OUTPUT not in outputs:
        raise BucketError(
            f"The stack {stack} has no key that signs releases.\n"
            "Next: sam deploy --parameter-overrides SigningKey=on, or give a key to --sign: a FILE or awskms:KEY."
        )
    return f"{KMS_PREFIX}{outputs[SIGNING_OUTPUT]}"
