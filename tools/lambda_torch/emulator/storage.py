"""S3 for one run: moto's server in a process of its own. Its data lives in that process, so it ends with the run."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lambda_torch.emulator.processes import Child, Processes, free_port
from lambda_torch.errors import EmulatorError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

REGION = "us-east-1"
# What moto and the emulator are called with. It is a placeholder: neither checks it.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}

START_SECONDS = 60.0
_ATTEMPTS = 3


class Storage:
    """A running S3 server with one bucket.

    Args:
        processes: what ends the server.
        folder: a scratch folder; large objects are spooled there.
        bucket: the bucket to make.
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
        """An S3 client for this server and no other, whatever the developer's own AWS configuration says."""
        import boto3
        import botocore.session

        # Without these three, a profile in AWS_PROFILE or ~/.aws would be looked up, and may be missing or name an endpoint.
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
    for attempt in range(1, _ATTEMPTS + 1):
        port = free_port()
        arguments = [sys.executable, "-m", "moto.server", "-H", host, "-p", str(port)]
        server = processes.start("the S3 server (moto)", arguments, environment, folder)
        try:
            server.wait_listening(port, START_SECONDS, host)
            return server, port
        except EmulatorError:
            processes.stop(server)
            # The port may have been taken between asking for it and binding it; anything else fails again, and is told.
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError("unreachable")
