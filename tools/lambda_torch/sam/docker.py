"""What SAM needs to know about Docker: whether it works, and how a container reaches this machine."""

import ipaddress
import json
import os
import shutil
import subprocess
from typing import NamedTuple

from lambda_torch.errors import DockerError

QUICK_SECONDS = 20


class Host(NamedTuple):
    """How containers reach a server on this machine.

    Attributes:
        bind: the address on which the server listens. No other machine can reach it.
        name: the name or address that a container uses.
    """

    bind: str
    name: str


def require() -> None:
    """Check that there is a Docker daemon that answers.

    Raises:
        DockerError: there is none, it does not run, or this user may not use it.
    """
    if shutil.which("docker") is None:
        raise DockerError(
            "Docker is not installed. Next: install it (https://docs.docker.com/get-docker/, or docker.io on Debian). "
            "Without Docker, make serve runs the same function."
        )
    done = _run("version", "--format", "{{.Server.Version}}")
    if done.returncode == 0:
        return
    said = done.stderr.strip() or done.stdout.strip()
    if "permission denied" in said.lower():
        raise DockerError(
            f"Docker runs, but user {os.environ.get('USER') or os.getuid()} may not use it. "
            'Next: sudo usermod -aG docker "$USER", and log in again.'
        )
    raise DockerError(
        f"Docker is installed, but no daemon answers ({said.splitlines()[-1] if said else 'docker printed nothing'}). "
        "Next: start it (Docker Desktop, or sudo systemctl start docker)."
    )


def docker(*arguments: str) -> str:
    """The output of a quick docker command. Raises `DockerError` with its message if it fails."""
    done = _run(*arguments)
    if done.returncode:
        raise DockerError(f"docker {arguments[0]} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def has_image(name: str) -> bool:
    """Whether the daemon has an image."""
    return _run("image", "inspect", name).returncode == 0


def label(image: str, name: str) -> str:
    """A label of an image. Empty if the image does not exist or has no such label."""
    done = _run(
        "image", "inspect", "--format", f'{{{{with .Config.Labels}}}}{{{{index . "{name}"}}}}{{{{end}}}}', image
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def host() -> Host:
    """How containers reach servers on this machine. Raises `DockerError` if Docker does not say it."""
    if "Docker Desktop" in docker("info", "--format", "{{.OperatingSystem}}"):
        return Host("127.0.0.1", "host.docker.internal")
    # On Linux the gateway of the default network is this machine, at an address that only containers can reach.
    networks = docker("network", "inspect", "bridge", "--format", "{{json .IPAM.Config}}")
    for network in json.loads(networks) or ():
        # A daemon that has not restarted since it made the network does not name the gateway. It is the first address.
        subnet = ipaddress.ip_network(network["Subnet"])
        if subnet.version == 4:
            gateway = network.get("Gateway") or str(next(subnet.hosts()))
            return Host(gateway, gateway)
    raise DockerError(
        "Docker's default network has no address. Next: restart Docker, and see docker network inspect bridge."
    )


def _run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=QUICK_SECONDS)
    except FileNotFoundError:
        return subprocess.CompletedProcess(arguments, 127, "", "docker: command not found")
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(arguments, 124, "", f"no answer within {QUICK_SECONDS} s")
