"""A function as Lambda's configuration describes it, and the result of an invocation."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lambda_torch.emulator import sandbox_variables
from lambda_torch.emulator.software import Software
from lambda_torch.emulator.storage import CREDENTIALS, REGION

# "Lambda quotas": invocation payload, request and response, synchronous. The emulator silently cuts off a larger event.
PAYLOAD_LIMIT = 6_291_456


class NotTakenError(Exception):
    """The process of the function ended before it took the event. Another environment can take it."""


@dataclass(frozen=True)
class Function:
    """A function as Lambda's configuration describes it.

    Attributes:
        code: the task root.
        handler: `module.function`.
        software: where torch and the other packages come from.
        memory_mb: the function reads it in its environment. The emulator does not enforce it.
        timeout_seconds: the emulator ends a function process that takes longer.
        variables: the function's own environment variables.
    """

    code: Path
    handler: str
    software: Software
    name: str = "PredictFunction"
    memory_mb: int = 3008
    timeout_seconds: int = 30
    variables: Mapping[str, str] = field(default_factory=dict)

    def environment(self, scratch: Path) -> dict[str, str]:
        """The variables that Lambda sets ("Defined runtime environment variables"), and the function's own.

        `scratch` replaces /tmp. Each environment has its own.
        """
        opt = self.software.opt
        library_folders = [*([opt / "lib"] if opt else []), self.code, self.code / "lib"]
        python = f"{sys.version_info[0]}.{sys.version_info[1]}"
        return {
            "PATH": ":".join([*([str(opt / "bin")] if opt else []), "/usr/local/bin", "/usr/bin", "/bin"]),
            "LD_LIBRARY_PATH": ":".join(map(str, library_folders)),
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "HOME": str(scratch),  # on Lambda it cannot be written; here it must not be the developer's own folder
            "TMPDIR": str(scratch),
            "AWS_EXECUTION_ENV": f"AWS_Lambda_python{python}",
            "AWS_LAMBDA_FUNCTION_NAME": self.name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(self.memory_mb),
            "AWS_LAMBDA_FUNCTION_TIMEOUT": str(self.timeout_seconds),
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_FORMAT": "JSON",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            **CREDENTIALS,
            **sandbox_variables.variables(str(scratch)),
            **self.variables,
            "LAMBDA_TASK_ROOT": str(self.code),
            "LAMBDA_EMULATOR_PATH": os.pathsep.join(map(str, (self.code, *self.software.folders))),
        }


@dataclass(frozen=True)
class InvokeResult:
    """The result of an invocation.

    Attributes:
        payload: the function's answer, or the error as JSON (`errorType`, `errorMessage`, and more).
        failed: the function raised an exception, ended, ran out of time, or its environment was lost.
    """

    payload: bytes
    failed: bool = False

    @classmethod
    def failure(cls, kind: str, message: str) -> "InvokeResult":
        """An error in the form of Lambda's reports."""
        return cls(json.dumps({"errorType": kind, "errorMessage": message}).encode(), failed=True)


def exception_of(payload: bytes) -> str | None:
    """The exception that the function raised and where, as text. None if its process ended without an exception."""
    error = json.loads(payload) if is_error(payload) else {}
    if "stackTrace" not in error:
        return None
    frames = [frame for frame in error["stackTrace"] if "importlib" not in frame]
    return "\n".join([f"{error['errorType']}: {error['errorMessage']}", *map(str.rstrip, frames)])


def is_error(payload: bytes) -> bool:
    """Whether the payload is an exception: the runtime client reports it as an object with these members only."""
    if b'"errorMessage"' not in payload:
        return False
    try:
        error = json.loads(payload)
    except ValueError:
        return False
    return isinstance(error, dict) and {"errorMessage", "errorType"} <= error.keys() <= {
        *("errorMessage", "errorType", "requestId", "stackTrace")
    }
