"""Step 1: install the requirements into a staging tree with pip, and refuse what Lambda could not load.

pip resolves twice: once without touching anything (`--dry-run`), so that a CUDA build is refused by name before gigabytes of it
are fetched, and then for real.
"""

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
from pathlib import Path
from typing import Any, NamedTuple

from builder.errors import RequirementsError
from builder.stage import policy

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
_WHEELS = "wheels.json"


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
    owners = {}
    for record in sorted(tree.glob("*.dist-info/RECORD")):
        name, _, version = record.parent.name.removesuffix(".dist-info").rpartition("-")
        for line in record.read_text(encoding="utf-8").splitlines():
            path = line.rpartition(",")[0].rpartition(",")[0].strip('"')
            owners[os.path.normpath(path)] = f"{name} {version}"
    return owners


def install(requirements: list[Path], work: Path) -> Installed:
    """Install into a folder of `work`, or find it there from an earlier build with the same requirements.

    Args:
        requirements: pip requirement files; all are installed together, so that they agree with each other.
        work: Where the trees of earlier builds are.

    Raises:
        RequirementsError: pip fails; or the tree holds what the runtime cannot load (`policy`).
    """
    for file in requirements:
        if not file.is_file():
            raise RequirementsError(f"{file} does not exist", "restore it, or name another with --requirements")
    runtime, machine = policy.running_runtime(), policy.running_machine()
    tree = work / f"installed-{_key(requirements, machine)}"
    if (tree / _WHEELS).is_file():
        wheels = tuple(Wheel(*entry) for entry in json.loads((tree / _WHEELS).read_text(encoding="utf-8")))
        return Installed(tree / "python", wheels, reused=True)

    plan, options = _resolve(requirements)
    policy.check_distributions(wheel.name for wheel in plan)
    work.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="installing-", dir=work))
    try:
        target, report = scratch / "python", scratch / "report.json"
        _pip([*options, "--target", str(target), "--no-compile", "--report", str(report)], requirements)
        wheels = _wheels(json.loads(report.read_text(encoding="utf-8")))
        report.unlink()
        policy.check_distributions(wheel.name for wheel in wheels)
        policy.check_files(target, owners_of(target), runtime, machine)
        (scratch / _WHEELS).write_text(json.dumps(wheels, indent=1), encoding="utf-8")
        for old in work.glob("installed-*"):
            shutil.rmtree(old)
        scratch.chmod(0o755)
        scratch.rename(tree)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return Installed(tree / "python", wheels, reused=False)


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
            if not re.search(r"(No matching distribution|Could not find a version)[^\n]*\btorch\b", error.cause):
                raise
            # PyPI has no "+cpu" builds: they are in PyTorch's own index, unless pip's configuration names a mirror of it.
            options = ["--extra-index-url", CPU_INDEX]
            _pip([*options, *arguments], requirements)
        return _wheels(json.loads(report.read_text(encoding="utf-8")), hashes=False), options


def _pip(arguments: list[str], requirements: list[Path]) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--no-input",
        "install",
        "--quiet",
        *arguments,
    ]
    for file in requirements:
        command += ["--requirement", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [
            line
            for line in (done.stderr or done.stdout).strip().splitlines()
            if not line.startswith("WARNING: Retrying")
        ]
        raise RequirementsError(
            f"pip could not install {', '.join(file.name for file in requirements)}:\n  " + "\n  ".join(lines[-12:]),
            f"check the names and versions in {' and '.join(str(file) for file in requirements)}, and the network",
        )


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
