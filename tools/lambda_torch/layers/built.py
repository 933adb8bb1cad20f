"""A built layer as it is published: one zip file, and what the file itself says about its content."""

import hashlib
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from lambda_torch.errors import LayerError

# "Lambda quotas": a function with its layers, unzipped.
UNZIPPED_LIMIT = 262_144_000
# "PublishLayerVersion": the longest text that its field LicenseInfo takes.
LICENSE_INFO_LIMIT = 512
# The field Description of a layer version holds this before the hash of the content.
HASH_MARK = "tree_sha256="

# Linux names architectures in one way and Lambda in another.
ARCHITECTURES = {"x86_64": "x86_64", "aarch64": "arm64"}
# A compiled module carries the Python version and the machine in its name, PEP 3149.
_COMPILED = re.compile(r"\.cpython-3(\d+)-(\w+)-linux-gnu\.so$")
_METADATA = re.compile(r"^python/[^/]+\.dist-info/METADATA$")
_CHUNK = 1 << 20


@dataclass(frozen=True)
class BuiltLayer:
    """A layer's zip file, with what is in it.

    Attributes:
        path: the zip file.
        zip_bytes: its size.
        zip_sha256: of the file, in hex.
        tree_sha256: of names, modes and contents of what it unpacks to, in hex. `make layer` writes it into
            report.json.
        unzipped_bytes: the size of what it unpacks to.
        runtimes: the Lambda runtimes that its compiled modules are for, such as python3.13.
        architectures: the architectures that they are for, as Lambda names them.
        torch: the version of torch.
        license_info: the licences of its packages as one SPDX expression.
    """

    path: Path
    zip_bytes: int
    zip_sha256: str
    tree_sha256: str
    unzipped_bytes: int
    runtimes: tuple[str, ...]
    architectures: tuple[str, ...]
    torch: str
    license_info: str

    @property
    def name(self) -> str:
        """The default name of the Lambda layer, one for each runtime and architecture."""
        runtimes = "-".join(runtime.replace(".", "") for runtime in self.runtimes)
        return f"lambda-torch-{runtimes}-{'-'.join(self.architectures)}"

    @property
    def description(self) -> str:
        """The description of a layer version. By the hash in it, the next `publish` finds the version."""
        return f"torch {self.torch} for {', '.join(self.runtimes)}; {HASH_MARK}{self.tree_sha256}"


@contextmanager
def opened_layer(path: Path, progress: Callable[[str], None] = lambda _step: None) -> Iterator[BuiltLayer]:
    """The layer in `path`, a zip file or the folder of a layer, which is zipped first.

    Args:
        path: what `make layer` makes: build/layer.zip or build/layer.
        progress: is called with each step, in words.

    Raises:
        LayerError: `path` is no layer with torch, or Lambda would refuse it.
    """
    if not path.exists():
        raise LayerError(f"{path} does not exist.\nNext: build the layer with `make layer`, or name its zip file.")
    if not path.is_dir():
        progress(f"Reading {path}")
        yield _read(path)
        return
    from lambda_torch import project

    project.use_builder()
    from builder.account.packaging import write_zip

    with TemporaryDirectory(prefix="layer-") as folder:
        zipped = Path(folder, "layer.zip")
        progress(f"Zipping {path}")
        write_zip(path, zipped)
        progress(f"Reading {zipped}")
        yield _read(zipped)


def _read(path: Path) -> BuiltLayer:
    try:
        with zipfile.ZipFile(path) as archive:
            files = sorted(
                (item for item in archive.infolist() if not item.is_dir()),
                key=lambda item: PurePosixPath(item.filename),
            )
            unzipped = sum(item.file_size for item in files)
            if unzipped > UNZIPPED_LIMIT:
                raise LayerError(
                    f"{path} unpacks to {unzipped:,} bytes, and Lambda takes {UNZIPPED_LIMIT:,}.\n"
                    "Next: `lambda-torch layer inspect` shows where the bytes are."
                )
            runtimes, architectures = made_for(path, [item.filename for item in files])
            require_deployed(path, runtimes)
            packages = {item.filename: archive.read(item) for item in files if _METADATA.search(item.filename)}
            tree = _tree_sha256(archive, files)
    except (zipfile.BadZipFile, zlib.error, OSError) as error:
        raise LayerError(f"{path} is not a zip file that can be read: {error}\nNext: make layer") from error
    versions = {name: (version, license) for name, version, license in map(_metadata, packages.values())}
    if "torch" not in versions:
        raise LayerError(f"{path} has no torch in python/.\nNext: name the zip file that `make layer` made.")
    with path.open("rb") as file:
        whole = hashlib.file_digest(file, "sha256").hexdigest()
    licenses = [license for _, license in versions.values()]
    return BuiltLayer(
        path,
        path.stat().st_size,
        whole,
        tree,
        unzipped,
        runtimes,
        architectures,
        versions["torch"][0],
        license_expression(licenses),
    )


def made_for(path: Path, names: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The runtimes and architectures of the compiled modules."""
    tags = {(int(match[1]), match[2]) for name in names if (match := _COMPILED.search(name))}
    unknown = sorted({machine for _, machine in tags} - ARCHITECTURES.keys())
    if unknown:
        raise LayerError(f"{path} is for {', '.join(unknown)}, and Lambda has {' and '.join(ARCHITECTURES.values())}.")
    if not tags:
        raise LayerError(
            f"{path} has no compiled module, so nothing says which Python it is for.\n"
            "Next: name the zip file that `make layer` made."
        )
    minors = sorted({minor for minor, _ in tags})
    machines = sorted({machine for _, machine in tags}, reverse=True)
    return tuple(f"python3.{minor}" for minor in minors), tuple(ARCHITECTURES[machine] for machine in machines)


def require_deployed(path: Path, runtimes: Iterable[str]) -> None:
    """Refuse a layer that only a developer's machine can load.

    Raises:
        LayerError: Lambda's runtime of that name cannot load it.
    """
    from lambda_torch import project

    project.use_builder()
    from builder.stage import policy

    for known in policy.RUNTIMES:
        if known.name in runtimes and not known.is_deployed:
            raise LayerError(
                f"{path} is for {known.name}, where Lambda cannot load it. It is {known.reason}.\n"
                "Next: make layer PYTHON=python3.13"
            )


def _tree_sha256(archive: zipfile.ZipFile, files: list[zipfile.ZipInfo]) -> str:
    """What `builder.account.ledger.tree_sha256` gives for the unpacked files."""
    digest = hashlib.sha256()
    for item in files:
        executable = "x" if item.external_attr >> 16 & 0o100 else "-"
        content = hashlib.sha256()
        with archive.open(item) as source:
            while chunk := source.read(_CHUNK):
                content.update(chunk)
        digest.update(f"{item.filename}\0{executable}\0{content.hexdigest()}\n".encode())
    return digest.hexdigest()


def _metadata(content: bytes) -> tuple[str, str, str]:
    """Name, version and licence of a package, from its METADATA file."""
    headers = HeaderParser().parsestr(content.decode("utf-8", "replace"))
    # "License" is free text in older packages, and some put a whole licence there. Its first line is the name.
    license = headers.get("License-Expression") or (headers.get("License") or "").strip().partition("\n")[0]
    return str(headers.get("Name", "")), str(headers.get("Version", "")), str(license).strip()


def license_expression(licenses: list[str]) -> str:
    """One SPDX expression for packages that lie together, each licence once, in alphabetical order.

    If Lambda does not take a text of that length, the expression ends with what is left out.
    """
    parts = sorted({_bracketed(part) for license in licenses for part in _parts(license) if part})
    text = " AND ".join(parts)
    if len(text) <= LICENSE_INFO_LIMIT:
        return text
    more = " AND others, see python/*.dist-info"
    return text[: LICENSE_INFO_LIMIT - len(more)].rpartition(" AND ")[0] + more


def _parts(license: str) -> list[str]:
    """The licences that all apply. What has brackets of its own is one part."""
    return [license] if "(" in license else license.split(" AND ")


def _bracketed(part: str) -> str:
    return f"({part})" if " OR " in part else part
