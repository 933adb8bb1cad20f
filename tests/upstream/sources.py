"""Gets the sources of PyTorch's own tests. They are no part of this project, and stay below `build/`."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import urllib.request
from pathlib import Path
from typing import NamedTuple


class SourceError(Exception):
    """The tests cannot be had; the message says why and what to do."""


class SourcePackage(NamedTuple):
    """A source package of Debian that holds PyTorch's tests.

    Attributes:
        torch: the version of PyTorch whose tests these are.
        url: of the archive; a path without a host is below the Debian mirror of this machine.
        sha256: of the archive, as Debian's signed index has it.
        folder: the folder of the tests in the archive.
    """

    torch: str
    url: str
    sha256: str
    folder: str


OWN_SOURCES = "Next: --sources FOLDER, with the folder `test` of a checkout of PyTorch"

# Debian's stable release, so that the archive stays where it is. Tests of newer features are missing. Tests of what has changed
# since then fail on stock PyTorch too: both sides must give the same verdict, whatever it is.
DEBIAN = SourcePackage(
    "2.6.0",
    "pool/main/p/pytorch/pytorch_2.6.0+dfsg.orig.tar.xz",
    "099a9601bc40d67656e75735c44abedb0fbe92d08817852ab7472eebb7e6ddff",
    "pytorch-v2.6.0/test",
)


def mirror() -> str:
    """The Debian mirror that this machine's apt uses, with a slash at its end.

    Raises:
        SourceError: this machine has no apt, or apt knows no mirror.
    """
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError) as error:
        raise SourceError(f"apt does not say which mirror it uses: {error}. {OWN_SOURCES}") from error
    mirrors = [each for each in found if "security" not in each]
    if not mirrors:
        raise SourceError(f"apt knows no mirror of Debian. {OWN_SOURCES}")
    return mirrors[0]


def fetch(place: Path, package: SourcePackage = DEBIAN) -> Path:
    """The folder of the tests below `place`. The archive is downloaded once, and its hash is checked.

    Raises:
        SourceError: it cannot be downloaded, or it is another archive.
    """
    folder = place / f"test-{package.torch}"
    if folder.is_dir():
        return folder
    place.mkdir(parents=True, exist_ok=True)
    archive = place / package.url.rpartition("/")[2]
    if not archive.is_file():
        url = package.url if ":" in package.url else mirror() + package.url
        sys.stderr.write(f"Downloading {url}\n")
        part = archive.with_suffix(".part")
        try:
            with urllib.request.urlopen(url, timeout=60) as answer, part.open("wb") as file:
                shutil.copyfileobj(answer, file)
        except OSError as error:  # urllib's errors are among these
            part.unlink(missing_ok=True)
            raise SourceError(f"{url} cannot be downloaded: {error}. {OWN_SOURCES}") from error
        part.replace(archive)
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != package.sha256:
        raise SourceError(f"{archive} has the SHA-256 {found}, and not {package.sha256}. Next: remove the file")
    unpacked = place / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    with tarfile.open(archive) as tar:
        inside = [member for member in tar if member.name.startswith(f"{package.folder}/")]
        tar.extractall(unpacked, inside, filter="data")
    (unpacked / package.folder).rename(folder)
    shutil.rmtree(unpacked)
    return folder
