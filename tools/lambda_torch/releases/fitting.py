"""Whether a release fits into a stack's function: into /tmp and into memory, alone and during a swap."""

from dataclasses import dataclass
from typing import Self

from lambda_torch.aws_errors import explained
from lambda_torch.errors import BucketError
from serving.releases.room import MEGABYTE, WORKING_BYTES


@dataclass(frozen=True)
class StackSizes:
    """The two parameters of a stack that decide how large a release may be, in MB. The defaults are the template's.

    Attributes:
        memory: the parameter MemorySize.
        storage: the parameter EphemeralStorage.
        source: whose sizes these are, for messages.
    """

    memory: int = 3008
    storage: int = 512
    source: str = "a new stack"

    @classmethod
    def of_stack(cls, stack: str) -> Self:
        """The sizes that a deployed stack has.

        Raises:
            BucketError: the stack cannot be read, or does not have these parameters.
        """
        import boto3

        with explained(stack, "stack"):
            found = boto3.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
        values = {each["ParameterKey"]: each["ParameterValue"] for each in found.get("Parameters", [])}
        try:
            return cls(int(values["MemorySize"]), int(values["EphemeralStorage"]), f"the stack {stack}")
        except KeyError as error:
            raise BucketError(
                f"The stack {stack} has no parameter {error.args[0]}.\n"
                "Next: give the name of a lambda-torch stack as --stack, or deploy the stack again with this template."
            ) from error

    def problems(self, size: int, before: int) -> list[str]:
        """What a function of these sizes cannot do with a release; empty if it fits.

        Args:
            size: the release's size in bytes.
            before: the size of the release that serves until then in bytes; 0 without one.
        """
        storage, memory = _megabytes(size + before), _megabytes(size + before + WORKING_BYTES)
        alone = _megabytes(size + WORKING_BYTES)
        found = []
        if storage > self.storage:
            if _megabytes(size) > self.storage:
                what, does, storage = "The release needs", "functions refuse it", _megabytes(size)
            else:
                what, does = "The release and the one before need", "running functions keep the old one"
            found.append(
                f"{what} {storage} MB in /tmp, and {self.source} has {self.storage}: {does}. "
                f"Next: deploy with EphemeralStorage={max(storage, 512)} or more."
            )
        if alone > self.memory:
            found.append(
                f"The model needs more than {alone} MB of memory, and {self.source} has {self.memory}: functions refuse "
                f"it. Next: deploy with a larger MemorySize."
            )
        elif memory > self.memory:
            found.append(
                f"Two models need more than {memory} MB of memory, and {self.source} has {self.memory}: requests wait "
                "while a running function swaps. Next: deploy with a larger MemorySize if they must not wait."
            )
        return found


def _megabytes(size: int) -> int:
    return -(-size // MEGABYTE)
