"""Step 1: install the requirements into a staging tree with pip, and refuse what Lambda could not load.

pip resolves twice: once without touching anything (`--dry-run`), so that a CUDA build or a torch that is not known is
refused by name before gigabytes of it are fetched, and then for real.
"""

import base64
import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from builder.errors import RequirementsError
from builder.stage import loadable, policy

_WHEELS = "wheels.json"
# A line of a requirements file: `torch==2.13.0+cpu ; marker`.
_TORCH_PIN = re.compile(r"^\s*torch\s*==\s*(\d+\.\d[\w.+]*)", re.MULTILINE | re.IGNORECASE)
# pip says the second where a constraint names a version of torch that no index has.
_MISSING_TORCH = re.compile(
    r"(No matching distribution|Could not find a version)[^\n]*(\btorch\b|\+cpu)|contradict each other:\s+[^\n]*\btorch==\S*\+cpu"
)
# pip goes on to the next index after these, and ends by saying that there is no such version.
UNREACHED = re.compile(r"connection broken by|Could not fetch URL|Connection to \S+ timed out")


class Wheel(NamedTuple):
    """One installed distribution."""

    name: str
    version: str
    sha256: str  # of the archive that pip installed


class Installed(NamedTuple):
    """A staging tree as pip made it; never changed afterwards."""

    tree: Path
    wheels: tuple[Wheel, ...]
    reused: bool

    def owners(self) -> dict[str, str]:
        """Which distribution owns each path relative to the tree."""
        return owners_of(self.tree)


def owners_of(tree: Path) -> dict[str, str]:
    """`name version` by relative path, from the RECORD files of an installed tree."""
    return {path: owner for path, owner, _ in _records(tree)}


def hashes_of(tree: Path) -> dict[str, str]:
    """The sha256 of each file as its wheel had it, in hex, by relative path; from the RECORD files of an installed tree."""
    return {path: base64.urlsafe_b64decode(f"{digest}==").hex() for path, _, digest in _records(tree) if digest}


def _records(tree: Path) -> Iterator[tuple[str, str, str]]:
    """Relative path, `name version` of the owner, and sha256 in RECORD's form, which may be empty."""
    for record in sorted(tree.glob("*.dist-info/RECORD")):
        name, _, version = record.parent.name.removesuffix(".dist-info").rpartition("-")
        with record.open(encoding="utf-8", newline="") as file:
            for path, digest, _ in csv.reader(file):
                yield os.path.normpath(path), f"{name} {version}", digest.removeprefix("sha256=")


def install(requirements: list[Path], work: Path, *, any_torch: bool = False) -> Installed:
    """Install into a folder of `work`, or find it there from an earlier build with the same requirements.

    Args:
        requirements: pip requirement files; all are installed together, so that they agree with each other.
        work: Where the trees of earlier builds are.
        any_torch: Take a torch that the rules do not know, too.

    Raises:
        RequirementsError: pip fails; the requirements bring what Lambda has no use for (`policy`); or the tree holds
            what the runtime cannot load (`loadable`).
    """
    for file in requirements:
        if not file.is_file():
            raise RequirementsError(f"{file} does not exist", "restore it, or name another with --requirements")
    runtime, machine = policy.running_runtime(), policy.running_machine()
    tree = work / f"installed-{_key(requirements, machine)}"
    if (tree / _WHEELS).is_file():
        wheels = tuple(Wheel(*entry) for entry in json.loads((tree / _WHEELS).read_text(encoding="utf-8")))
        _refuse_unfit(wheels, any_torch=any_torch)
        return Installed(tree / "python", wheels, reused=True)

    if not any_torch:
        _refuse_unknown_pins(requirements)
    resolved, options = _resolve(requirements)
    _refuse_unfit(resolved, any_torch=any_torch)
    work.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="installing-", dir=work))
    try:
        target, report = scratch / "python", scratch / "report.json"
        _pip([*options, "--target", str(target), "--no-compile", "--report", str(report)], requirements)
        wheels = _wheels(json.loads(report.read_text(encoding="utf-8")))
        report.unlink()
        _refuse_unfit(wheels, any_torch=any_torch)
        loadable.require_loadable(target, owners_of(target), runtime, machine)
        (scratch / _WHEELS).write_text(json.dumps(wheels, indent=1), encoding="utf-8")
        for old in work.glob("installed-*"):
            shutil.rmtree(old)
        scratch.chmod(0o755)
        scratch.rename(tree)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return Installed(tree / "python", wheels, reused=False)


def _refuse_unfit(wheels: Iterable[Wheel], *, any_torch: bool) -> None:
    """Refuse by name and version, which takes no file."""
    policy.refuse_forbidden(wheel.name for wheel in wheels)
    for wheel in wheels:
        if policy.normalised(wheel.name) == "torch" and not any_torch:
            policy.require_known_torch(wheel.version)


def _refuse_unknown_pins(requirements: Iterable[Path]) -> None:
    """Refuse an unknown torch by its pin, before pip looks for it: pip only says that it finds none."""
    for file in requirements:
        for version in _TORCH_PIN.findall(file.read_text(encoding="utf-8")):
            policy.require_known_torch(version)


def _key(requirements: list[Path], machine: str) -> str:
    digest = hashlib.sha256(f"{sys.implementation.cache_tag} {machine}".encode())
    for file in requirements:
        digest.update(file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _resolve(requirements: list[Path]) -> tuple[tuple[Wheel, ...], list[str]]:
    """What pip would install, and the index options under which it finds it all."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        arguments = ["--dry-run", "--ignore-installed", "--report", str(report)]
        options: list[str] = []
        try:
            _pip(arguments, requirements)
        except RequirementsError as error:
            if not _MISSING_TORCH.search(error.cause):
                raise
            # PyPI has no "+cpu" builds: they are in PyTorch's own index, unless pip's configuration names a mirror of
            # it.
            options = ["--extra-index-url", policy.CPU_INDEX]
            _pip([*options, *arguments], requirements)
        return _wheels(json.loads(report.read_text(encoding="utf-8")), hashes=False), options


def _pip(arguments: list[str], requirements: list[Path]) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
    # A source distribution would be compiled for this machine, with what this machine happens to have.
    command += ["--only-binary", ":all:", *arguments]
    for file in requirements:
        command += ["--requirement", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise _failure(done.stderr or done.stdout, done.stdout, requirements)


def quoted(said: str, most: int = 12) -> str:
    """The end of pip's errors, indented, without its warnings (one for each index and each attempt)."""
    lines = [line for line in said.strip().splitlines() if not line.startswith("WARNING:")]
    return "".join(f"\n  {line}" for line in lines[-most:])


def conflict(output: str) -> str:
    """The requirements that contradict each other, indented, as pip lists them on standard output; empty if none do."""
    found = re.search(r"^The conflict is caused by:\n((?:[ \t]+\S.*\n)+)", output, re.MULTILINE)
    return "".join(f"\n  {line.strip()}" for line in found[1].splitlines()) if found else ""


def _failure(said: str, output: str, requirements: list[Path]) -> RequirementsError:
    """What pip's output means, with the end of it."""
    words = quoted(said)
    files = " and ".join(str(file) for file in requirements)
    cause = f"pip could not install {', '.join(file.name for file in requirements)}"
    tag = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    target = f"Python {sys.version_info[0]}.{sys.version_info[1]} on {policy.running_machine()}"
    if foreign := re.search(r"(\S+\.whl) is not a supported wheel on this platform", said):
        return RequirementsError(
            f"{cause}: {foreign[1]} is a wheel for another Python or another processor, and the layer is built for {target}"
            + words,
            f"name the wheel that has {tag} and {policy.running_machine()} in its name, or build with the Python and on the "
            "processor that it is for (make layer PYTHON=python3.13)",
        )
    unreached = UNREACHED.search(said) is not None
    if contradicting := conflict(output):
        more = "\n  And an index could not be reached, which may have what pip did not find." if unreached else ""
        return RequirementsError(
            f"{cause}: these contradict each other:{contradicting}{more}",
            f'change one of them in {files}; what pip calls a "(constraint)" is in its own configuration (pip config list), '
            "and PIP_CONSTRAINT=/dev/null leaves it out",
        )
    if missing := re.search(r"No matching distribution found for ([^\n]+)", said):
        if unreached:
            return RequirementsError(
                f"{cause}: {missing[1].strip()} is not where pip could look, and an index could not be reached{words}",
                "check the network; or name a mirror or a folder of wheels in pip's configuration (PIP_INDEX_URL, "
                "PIP_FIND_LINKS)",
            )
        return RequirementsError(
            f"{cause}: there is no wheel of {missing[1].strip()} for {target}{words}",
            f"check the name and the version in {files}; a version may have wheels for other Pythons only (make layer "
            f"PYTHON=python3.13), or no wheel at all: the line `--no-binary NAME` has pip build that package from its source",
        )
    return RequirementsError(cause + ":" + words, f"check the names and versions in {files}, and the network")


def _wheels(report: dict[str, Any], *, hashes: bool = True) -> tuple[Wheel, ...]:
    """The distributions of pip's installation report (https://pip.pypa.io/en/stable/reference/installation-report/)."""
    wheels = []
    for item in report["install"]:
        info = item["download_info"]
        archive = info.get("archive_info", {})
        sha256 = archive.get("hashes", {}).get("sha256") or archive.get("hash", "").removeprefix("sha256=")
        if not sha256 and hashes:
            sha256 = _sha256_of(info["url"])
        wheels.append(Wheel(item["metadata"]["name"], item["metadata"]["version"], sha256))
    return tuple(sorted(wheels))


def _sha256_of(url: str) -> str:
    """The hash of a local archive, which pip reports without one; empty for what is no local archive (a folder, a checkout)."""
    parts = urllib.parse.urlsplit(url)
    path = Path(urllib.request.url2pathname(parts.path))
    if parts.scheme != "file" or not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
