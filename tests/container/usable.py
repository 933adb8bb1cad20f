"""Whether containers on this machine can do what the tests ask of them: run, reach this machine, and reach pip's index.

Without that, the tests of containers fail for reasons that have nothing to do with the project.
"""

import functools
import http.server
import subprocess
import tempfile
import threading

from lambda_torch import project
from lambda_torch.errors import DockerError
from lambda_torch.sam import docker, image_names, pip_settings

SECONDS = 120
REQUIREMENTS = project.SRC / "requirements.txt"
PROBE = """\
import subprocess, sys, urllib.request
address, requirement = sys.argv[1:]
try:
    urllib.request.urlopen(address, timeout=10).read()
except OSError as error:
    sys.exit(f"it does not reach this machine at {address} ({error})")
pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--retries", "1", "--timeout", "15", "download"]
done = subprocess.run([*pip, "--quiet", "--no-deps", "--dest", "/tmp/probe", requirement], stderr=subprocess.PIPE, text=True)
if done.returncode:
    sys.exit("pip gets nothing in it: " + "; ".join(done.stderr.split("\\n")[-4:]))
"""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        """Nobody asks for it."""


def check(version: str) -> None:
    """Run a container of the build image for Python `version`.

    Raises:
        DockerError: it cannot run, or cannot do what builds and functions in containers need; in one line.
    """
    image, host = image_names.build(version), docker.host()
    requirement = next(line for line in REQUIREMENTS.read_text().splitlines() if "==" in line)
    with tempfile.TemporaryDirectory() as empty, pip_settings.for_containers(host, image) as variables:
        handler = functools.partial(_Quiet, directory=empty)
        with http.server.ThreadingHTTPServer((host.bind, 0), handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                environment = [f"--env={name}={value}" for name, value in variables.items()]
                run = [
                    "docker",
                    "run",
                    "--rm",
                    *environment,
                    "--entrypoint",
                    "/var/lang/bin/python3",
                    image,
                    "-c",
                    PROBE,
                ]
                _run([*run, f"http://{host.name}:{server.server_port}", requirement])
            finally:
                server.shutdown()
                thread.join()


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise DockerError(f"a container has not ended within {SECONDS} s") from None
    if done.returncode:
        raise DockerError(f"a container cannot be used: {' '.join(done.stderr.split())[-500:]}")
