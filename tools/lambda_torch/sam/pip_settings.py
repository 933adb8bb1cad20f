"""This machine's pip settings, for pip in a build container, which cannot see them.

Containers get the indexes and trusted hosts. Folders of wheels (`find-links`) are served over HTTP while the build
runs, to containers only. An image that has the settings in it, such as this project's stand-ins for AWS's images, gets
nothing.
"""

import functools
import hashlib
import http.server
import os
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lambda_torch.sam import docker
from lambda_torch.sam.docker import Host
from lambda_torch.setting_up import pip_configuration

# Containers get these settings if their values are addresses on the network.
_PASSED = ("index-url", "extra-index-url", "find-links", "trusted-host")


# A build image with this label contains the settings of the machine on which it was made.
CARRIED = "lambda-torch.pip-settings"


@contextmanager
def for_containers(host: Host, image: str) -> Iterator[Mapping[str, str]]:
    """Environment variables for containers of a build image, valid during the block.

    They are the same for each build if possible, because SAM builds again after its variables have changed.
    """
    if docker.label(image, CARRIED):
        yield {}
        return
    settings = pip_configuration.settings()
    variables = {f"PIP_{name.upper().replace('-', '_')}": " ".join(values) for name, values in addresses().items()}
    with ExitStack() as stack:
        for folder in filter(None, map(_local_folder, settings.get("find-links", []))):
            address = stack.enter_context(_served(folder, host))
            variables["PIP_FIND_LINKS"] = f"{variables.get('PIP_FIND_LINKS', '')} {address}".strip()
            variables["PIP_TRUSTED_HOST"] = f"{variables.get('PIP_TRUSTED_HOST', '')} {host.name}".strip()
        yield variables


def addresses() -> dict[str, list[str]]:
    """The pip settings that are addresses on the network. A container can reach them too."""
    settings = pip_configuration.settings()
    found = {name: [value for value in settings.get(name, []) if not _is_local(value)] for name in _PASSED}
    return {name: list(dict.fromkeys(values)) for name, values in found.items() if values}


def looks_on_this_disk() -> bool:
    """Whether pip looks for packages in folders of this machine, which a container cannot see."""
    settings = pip_configuration.settings()
    return any(
        _is_local(value) for name in ("index-url", "extra-index-url", "find-links") for value in settings.get(name, [])
    )


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
        """Log nothing. Builds have their own log."""


@contextmanager
def _served(folder: Path, host: Host) -> Iterator[str]:
    """Serve a folder to containers, and give its address."""
    handler = functools.partial(_Quiet, directory=str(folder))
    # The port depends on the folder, so that the next build has the same address. If it is in use, take any other port.
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
