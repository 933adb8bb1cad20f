"""S3 for one run: moto's server in a separate process. Its data is in that process, so it ends with the run."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lambda_torch.emulator.processes import Child, Processes

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

REGION = "us-east-1"
# Placeholders: moto and the emulator need credentials, and neither checks them.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}

START_SECONDS = 60.0


class Storage:
    """A running S3 server with one bucket.

    Args:
        processes: ends the server.
        folder: a scratch folder. The server stores large objects there.
        bucket: the bucket to create.
        host: the address to listen on.

    Attributes:
        url: the server's address, for AWS_ENDPOINT_URL_S3.
    """

    def __init__(self, processes: Processes, folder: Path, bucket: str, host: str = "127.0.0.1") -> None:
        self.bucket = bucket
        self._server, port = _start(processes, folder, host)
        self.url = f"http://{host}:{port}"
        self.client().create_bucket(Bucket=bucket)

    @property
    def alive(self) -> bool:
        """Whether the server still runs."""
        return self._server.alive

    def tail(self) -> str:
        """The last lines of the server's output."""
        return self._server.tail()

    def client(self) -> "S3Client":
        """An S3 client for this server only. It ignores the developer's own AWS configuration."""
        import boto3
        import botocore.session

        # Without these three, boto3 would read a profile from AWS_PROFILE or ~/.aws. It may be missing, or name an
        # endpoint.
        unset = (None, None, None, None)
        nowhere = (None, None, os.devnull, None)
        variables = {"profile": unset, "config_file": nowhere, "credentials_file": nowhere}
        session = boto3.session.Session(botocore_session=botocore.session.Session(session_vars=variables))
        return session.client(
            "s3",
            region_name=REGION,
            endpoint_url=self.url,
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )


def _start(processes: Processes, folder: Path, host: str) -> tuple[Child, int]:
    environment = {
        "PATH": os.defpath,
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "PYTHONUNBUFFERED": "1",
        **CREDENTIALS,
    }

    def arguments(port: int) -> list[str]:
        return [sys.executable, "-m", "moto.server", "-H", host, "-p", str(port)]

    name = "the S3 server (moto)"
    return processes.start_listening(name, arguments, environment, folder, seconds=START_SECONDS, host=host)
