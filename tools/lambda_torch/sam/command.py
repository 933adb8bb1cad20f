"""The SAM CLI as a process: where it is, and with which environment it runs here."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from lambda_torch.emulator.storage import CREDENTIALS, REGION
from lambda_torch.errors import SamError


def executable() -> str:
    """The SAM CLI of this environment. Raises `SamError` if it is not there."""
    path = Path(sys.executable).with_name("sam")
    if not path.exists():
        raise SamError(f"{path} is not there: the SAM CLI comes with aws-sam-cli. Next: make setup")
    return str(path)


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Variables for a sam command that is to meet no AWS account: it would look for one, or find the developer's own."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_") or name == "AWS_CA_BUNDLE"}
    return {
        **own,
        **CREDENTIALS,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        # SAM asks STS who it is before each local run: one try, or it waits 8 s for nobody.
        "AWS_MAX_ATTEMPTS": "1",
        "SAM_CLI_TELEMETRY": "0",
        **(more or {}),
    }
