"""The SAM CLI as a process: its path, and the environment in which it runs here."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from lambda_torch.emulator.storage import CREDENTIALS, REGION
from lambda_torch.errors import SamError


def executable() -> str:
    """The path of the SAM CLI in this environment. Raises `SamError` if it is not installed."""
    path = Path(sys.executable).with_name("sam")
    if not path.exists():
        raise SamError(f"{path} does not exist. The SAM CLI is part of the package aws-sam-cli. Next: make setup")
    return str(path)


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Variables for a sam command that must not use an AWS account. Otherwise it would find the developer's own."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_") or name == "AWS_CA_BUNDLE"}
    return {
        **own,
        **CREDENTIALS,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        # SAM asks STS for its identity before each local run. With one try, it does not wait 8 s for an answer.
        "AWS_MAX_ATTEMPTS": "1",
        "SAM_CLI_TELEMETRY": "0",
        **(more or {}),
    }
