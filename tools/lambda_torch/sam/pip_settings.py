"""What pip in a build container needs of this machine's pip settings, which it cannot see.

Indexes and trusted hosts are handed on. Folders of wheels (`find-links`) are served over HTTP while the build runs, to containers
only. Nothing is handed to an image that carries the settings itself, as this project's stand-ins for AWS's images do.
"""

import functools
import hashlib
import http.server
import os
import shlex
import subprocess
import sys
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lambda_torch.sam import docker
from lambda_torch.sam.docker import Host

# Handed on where their values are addresses on the network.
_PASSED = ("index-url", "extra-index-url", "find-links", "trusted-host")


# A build image with this label carries the settings of the machine that it was made on.
CARRIED = "lambda-torch.pip-settings"


@contextmanager
def for_containers(host: Host, image: str) -> Iterator[Mapping[str, str]]:
    """Environment variables for containers of a build image, valid while the block lasts.

    They are the same from build to build where they can be: SAM builds again what was built with other variables.
    """
    if docker.label(image, CARRIED):
        yield {}
        return
    settings = _settings()
    variables = {f"PIP_{name.upper().replace('-', '_')}": " ".join(values) for name, values in addresses().items()}
    with ExitStack() as stack:
        for folder in filter(None, map(_local_folder, settings.get("find-links", []))):
            address = stack.enter_context(_served(folder, host))
            variables["PIP_FIND_LINKS"] = f"{variables.get('PIP_FIND_LINKS', '')} {address}".strip()
            variables["PIP_TRUSTED_HOST"] = f"{variables.get('PIP_TRUSTED_HOST', '')} {host.name}".strip()
        yield variables


def addresses() -> dict[str, list[str]]:
    """Those of pip's settings that are addresses on the network, which a container can reach too."""
    settings = _settings()
    found = {name: [value for value in settings.get(name, []) if not _is_local(value)] for name in _PASSED}
    return {name: list(dict.fromkeys(values)) for name, values in found.items() if values}


def looks_on_this_disk() -> bool:
    """Whether pip is set up to find packages in folders of this machine, which a container cannot see."""
    settings = _settings()
    return any(
        _is_local(value) for name in ("index-url", "extra-index-url", "find-links") for value in settings.get(name, [])
    )


def _settings() -> dict[str, list[str]]:
    """pip's own settings: later sources (site, user, environment) win over earlier ones, as in pip."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    settings = {}
    for line in sorted(listed.splitlines(), key=lambda line: line.startswith(":env:")):
        key, _, value = line.partition("=")
        section, _, name = key.partition(".")
        if section in ("global", "install", ":env:"):
            settings[name] = "".join(shlex.split(value)).split()
    return settings


def _is_local(value: str) -> bool:
    return value.startswith("file:") or ("://" not in value and Path(value).exists())


def _local_folder(value: str) -> Path | None:
    path = (
        Path(urllib.request.url2pathname(urllib.parse.urlsplit(value).path))
        if value.startswith("file:")
        else Path(value)
    )
    return path.resolve() if _is_local(value) and path.is_dir() else None


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        """Builds have their own log."""


@contextmanager
def _served(folder: Path, host: Host) -> Iterator[str]:
    """Serve a folder to containers; its address."""
    handler = functools.partial(_Quiet, directory=str(folder))
    # A port that follows from the folder, so that the address is the same for the next build; any other one if it is taken.
    preferred = 20_000 + int.from_bytes(hashlib.sha256(os.fsencode(folder)).digest()[:2], "big") % 10_000
    try:
        server = http.server.ThreadingHTTPServer((host.bind, preferred), handler)
    except OSError:
        server = http.server.ThreadingHTTPServer((host.bind, 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name=f"wheels of {folder}")
    thread.start()
    try:
        yield f"http://{host.name}:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
