"""Whether a release fits into a stack's function: into memory or into /tmp, alone and during a swap."""

from dataclasses import dataclass
from typing import Self

from lambda_torch.errors import BucketError
from lambda_torch.releases.deployed import described_stack
from serving.releases.room import MEGABYTE, PROCESS_BYTES, WORKING_BYTES


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
    def of_stack(cls, stack: str, id_part: str = "") -> Self:
        """The sizes that a deployed stack has.

        Args:
            stack: its name.
            id_part: what the parameters of the model begin with, in a stack with several.

        Raises:
            BucketError: the stack cannot be read, or does not have these parameters.
        """
        found = described_stack(stack)
        values = {each["ParameterKey"]: each["ParameterValue"] for each in found.get("Parameters", [])}
        try:
            return cls(
                int(values[f"{id_part}MemorySize"]), int(values[f"{id_part}EphemeralStorage"]), f"the stack {stack}"
            )
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
        alone = _megabytes(size + WORKING_BYTES)
        if alone > self.memory:
            return [
                f"The model needs more than {alone} MB of memory, and {self.source} has {self.memory}: functions refuse "
                "it. Next: deploy with a larger MemorySize."
            ]
        if self._in_memory(size) > self.memory and _megabytes(size) > self.storage:
            return [
                f"The release needs {_megabytes(size)} MB in /tmp, where {self.source} has {self.storage}, or "
                f"{self._in_memory(size)} MB of memory, where it has {self.memory}: functions refuse it. "
                f"{self._next(size)}"
            ]
        if self._in_memory(size + before) <= self.memory:
            return []
        if _megabytes(size + before) <= self.storage:
            return [
                f"Two models need more than {self._in_memory(size + before)} MB of memory, and {self.source} has "
                f"{self.memory}: requests wait while a running function swaps. Next: deploy with a larger MemorySize if "
                "they must not wait."
            ]
        return [
            f"The release and the one before need {_megabytes(size + before)} MB in /tmp, where {self.source} has "
            f"{self.storage}, or {self._in_memory(size + before)} MB of memory, where it has {self.memory}: running "
            f"functions keep the old one. {self._next(size + before)}"
        ]

    @staticmethod
    def _in_memory(size: int) -> int:
        """The MB of memory with which releases of this size in bytes need no place in /tmp."""
        return _megabytes(size + PROCESS_BYTES + WORKING_BYTES)

    def _next(self, size: int) -> str:
        return (
            f"Next: deploy with EphemeralStorage={max(_megabytes(size), 512)} or more, or with "
            f"MemorySize={self._in_memory(size)} or more."
        )


def _megabytes(size: int) -> int:
    return -(-size // MEGABYTE)
