"""Makes stand-ins for AWS's images, for machines that cannot pull these.

    make images            (PYTHONPATH=tests:tools python -m container.images.build)
    make images-remove     (the same with --remove)

`sam build --use-container` and `sam local` ask for public.ecr.aws/sam/build-python<V> and public.ecr.aws/lambda/python:<V>. Where
the real ones are there or can be pulled, they are used, and this does nothing. Otherwise images with the same names and contracts
(paths, variables, entry point, `sys.path`, the build protocol) are made from Debian's packages of this machine's own release,
a CPython of this machine, and PyPI: so the very same tests run everywhere.

What differs from the real ones: Debian's glibc is newer than Amazon Linux's (the layer's builder checks every library's symbol
versions for that), Python's patch release is this machine's, and pip's settings, with what pip finds on this machine's disk only,
are this machine's too, so that `sam build --use-container` finds there what pip finds here.

Needs a Docker daemon, mmdebstrap (Debian and its derivatives), and the network to the package mirrors.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import shutil
import ssl
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from container.images import recipe
from lambda_torch import project
from lambda_torch.emulator.software import emulator_binary
from lambda_torch.errors import DockerError
from lambda_torch.sam import image_names, pip_settings
from lambda_torch.sam.docker import docker, has_image, label
from runtimes import matrix

HERE = Path(__file__).resolve().parent
CONTEXT_FILES = ("Dockerfile", "lambda-entrypoint.sh", "bootstrap", "bootstrap.py", "lambda-builders")
EXECUTABLE = ("lambda-entrypoint.sh", "bootstrap", "lambda-builders")
PINS = project.ROOT / "requirements" / "dev.txt"
LAYER_REQUIREMENTS = project.LAYER_SOURCE / "requirements.txt"

# A registry that is not there is told within seconds; a pull that goes on is a network that works.
PULL_SECONDS = 600

# What an interpreter says of itself.
ABOUT = """\
import json, sys, sysconfig
paths = [sys.base_prefix, sysconfig.get_path("stdlib"), sysconfig.get_path("include")]
print(json.dumps([sys.executable, sys.version, *paths]))
"""

Say = Callable[[str], None]


class ImagesError(Exception):
    """The images cannot be had; with the next step."""


class HostPython(NamedTuple):
    """A CPython of this machine: its program, its `sys.version`, and where its files are."""

    executable: str
    description: str
    prefix: Path
    library: Path
    include: Path

    @classmethod
    def of(cls, version: str) -> "HostPython":
        """The one that runs this if it is of that version, or else one on PATH or of pyenv.

        Raises:
            ImagesError: this machine has none.
        """
        own = f"{sys.version_info[0]}.{sys.version_info[1]}"
        try:
            program = Path(sys.executable) if version == own else matrix.interpreter(version)
        except matrix.MissingError as error:
            raise ImagesError(
                f"The images for Python {version} cannot be pulled, and stand-ins for them need that Python here. {error}, "
                "or connect to public.ecr.aws."
            ) from error
        listed = subprocess.run([program, "-c", ABOUT], capture_output=True, text=True, check=True).stdout
        executable, description, *folders = json.loads(listed)
        return cls(executable, description, *map(Path, folders))

    @property
    def version(self) -> str:
        """Its version, "3.13"."""
        return ".".join(self.description.split(".")[:2])

    def pip(self, *arguments: str) -> None:
        """Run its pip. Raises `ImagesError` if that fails."""
        command = [self.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise ImagesError(f"pip {' '.join(arguments)} failed:\n{done.stderr.strip()[-2000:]}")


def provide(version: str, say: Say) -> dict[str, str]:
    """Have both images for Python `version` ("3.11"), and return where each is from: "present", "pulled" or "made".

    Raises:
        ImagesError: one can neither be pulled nor made.
        DockerError: there is no daemon to have it.
    """
    digest = functools.cache(lambda: _digest(HostPython.of(version)))
    wanted = {image_names.runtime(version): "runtime", image_names.build(version): "build"}
    origin: dict[str, str] = {}
    missing: dict[str, str] = {}
    for image, target in wanted.items():
        made_by = label(image, recipe.LABEL)
        if has_image(image) and (made_by == "" or made_by == digest()):
            origin[image] = "present"
        elif made_by == "" and _pull(image, say):
            origin[image] = "pulled"
        else:
            missing[image] = target
    if missing:
        _make(HostPython.of(version), missing, say)
        origin |= dict.fromkeys(missing, "made")
    return origin


def remove() -> list[str]:
    """Remove the images that this made, those that SAM built on them, and their containers. AWS's own stay."""
    containers = docker(
        "ps", "--all", "--quiet", "--filter", f"label={recipe.LABEL}"
    ).split()  # they have their image's labels
    if containers:
        docker("rm", "--force", "--volumes", *containers)
    listed = docker("image", "ls", "--quiet", "--filter", f"label={recipe.LABEL}").split()
    for image in dict.fromkeys(listed):
        docker("image", "rm", "--force", image)
    return listed


def _digest(python: HostPython) -> str:
    """What a stand-in depends on, as a short hash."""
    packages = [f"{name}=={importlib.metadata.version(name)}" for name in recipe.RUNTIME_PACKAGES]
    pip = (pip_settings.addresses(), pip_settings.looks_on_this_disk(), LAYER_REQUIREMENTS.read_text())
    digest = hashlib.sha256(repr((python.description, packages, _builders(), pip)).encode())
    for name in (*CONTEXT_FILES, "recipe.py", "build.py"):
        digest.update((HERE / name).read_bytes())
    return digest.hexdigest()[:16]


def _builders() -> str:
    """aws-lambda-builders, at the version with which this SAM CLI speaks."""
    return f"aws-lambda-builders=={importlib.metadata.version('aws-lambda-builders')}"


def _pull(image: str, say: Say) -> bool:
    say(f"Pulling {image}")
    try:
        done = subprocess.run(
            ["docker", "pull", "--quiet", image], capture_output=True, text=True, timeout=PULL_SECONDS
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _make(python: HostPython, targets: dict[str, str], say: Say) -> None:
    started = time.monotonic()
    if shutil.which("mmdebstrap") is None:
        raise ImagesError(
            f"{' and '.join(targets)} cannot be pulled, and making stand-ins needs mmdebstrap. "
            "Next: apt-get install mmdebstrap (as .ci/run does)."
        )
    with tempfile.TemporaryDirectory(prefix="images-") as folder, ThreadPoolExecutor(4) as pool:
        context = Path(folder)
        say(f"Making stand-ins for {' and '.join(targets)}: Debian's packages, this machine's Python {python.version}")
        packages = {
            "runtime": recipe.names(recipe.LIBRARIES),
            "build": recipe.names(recipe.LIBRARIES + recipe.TOOLS),
        }
        work = [pool.submit(_rootfs, context / f"{target}.tar", packages[target]) for target in targets.values()]
        work.append(pool.submit(_python, python, context / "python.tar"))
        work.append(pool.submit(_install, python, context / "runtime", [*recipe.RUNTIME_PACKAGES]))
        work.append(pool.submit(_install, python, context / "builders", [_builders(), "setuptools", "wheel"]))
        work.append(pool.submit(_pip_settings, python, context / "pip"))
        for name in CONTEXT_FILES:
            shutil.copyfile(HERE / name, context / name)
            (context / name).chmod(0o755 if name in EXECUTABLE else 0o644)
        shutil.copyfile(emulator_binary(), context / "aws-lambda-rie")
        (context / "aws-lambda-rie").chmod(0o755)
        shutil.copyfile(_certificates(), context / "ca-certificates.crt")
        for each in work:
            each.result()
        for image, target in targets.items():
            _build(context, image, target, _digest(python))
            say(f"Made {image} after {time.monotonic() - started:.0f} s")


def _rootfs(output: Path, packages: list[str]) -> None:
    """A Debian tree as a tar file. Packages are only unpacked: their scripts set up services, which no container has."""
    accounts = 'for f in passwd group; do cp "$1/usr/share/base-passwd/$f.master" "$1/etc/$f"; done'
    folders = 'mkdir -p "$1/opt" "$1/var/task" "$1/var/runtime" "$1/var/lang" "$1/etc/ssl/certs"'
    names = 'echo "hosts: files dns" >"$1/etc/nsswitch.conf"'
    clean = " ".join(f'"$1{folder}"/*' for folder in recipe.USELESS) + ' "$1"/dev/*'
    # The sources are this machine's own, whatever mirror they name.
    sources = [
        str(path)
        for path in (Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*"))
        if path.is_file()
    ]
    command = ["mmdebstrap", "--quiet", "--variant=extract", f"--include={','.join(packages)}"]
    for hook in (accounts, folders, names, f"rm -rf {clean}"):
        command.append(f"--customize-hook={hook}")
    done = subprocess.run([*command, _release(), str(output), *sources], capture_output=True, text=True)
    if done.returncode:
        raise ImagesError(
            f"mmdebstrap failed:\n{done.stderr.strip()[-2000:]}\nNext: check the network to the Debian mirror."
        )


def _release() -> str:
    fields = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    try:
        return fields["VERSION_CODENAME"].strip('"')
    except KeyError:
        raise ImagesError(
            "Stand-ins can only be made on Debian and its derivatives. Next: connect to public.ecr.aws."
        ) from None


def _python(python: HostPython, output: Path) -> None:
    """The CPython as a tar file, laid out for /var/lang: bin, lib, include."""
    version, prefix = python.version, python.prefix

    def wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if any(
            fnmatch(member.name, pattern) or fnmatch(Path(member.name).name, pattern)
            for pattern in recipe.PYTHON_LEFT_OUT
        ):
            return None
        member.uid = member.gid = 0
        return member

    with tempfile.TemporaryDirectory() as scratch, tarfile.open(output, "w") as tar:
        binaries = [
            prefix / "bin" / f"python{version}",
            *sorted(prefix.glob(f"lib/libpython{version}.so*")),
        ]
        for binary in binaries:
            # Debug information makes these four times as large.
            stripped = Path(scratch, binary.name)
            shutil.copy(binary, stripped)
            subprocess.run(["strip", "--strip-unneeded", stripped], check=False, capture_output=True)
            tar.add(stripped, binary.relative_to(prefix), filter=wanted)
        tar.add(python.library, f"lib/python{version}", filter=wanted)
        tar.add(python.include, f"include/python{version}", filter=wanted)
        for name in ("python3", "python"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, f"python{version}"
            tar.addfile(link)
        packages = tarfile.TarInfo(f"lib/python{version}/site-packages")
        packages.type, packages.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(packages)


def _install(python: HostPython, target: Path, packages: list[str]) -> None:
    python.pip("install", "--no-compile", "--constraint", str(PINS), "--target", str(target), *packages)


def _pip_settings(python: HostPython, target: Path) -> None:
    """A folder for /etc/pip of the build image: this machine's pip settings, and what pip finds on this machine's disk only.

    The variables that would say the same can be given to `sam build`, but not to `sam sync`.
    """
    wheels = target / "wheels"
    wheels.mkdir(parents=True)
    settings = pip_settings.addresses()
    if pip_settings.looks_on_this_disk():
        settings["find-links"] = [*settings.get("find-links", []), "/etc/pip/wheels"]
        python.pip("download", "--no-deps", "--requirement", str(LAYER_REQUIREMENTS), "--dest", str(wheels))
    lines = [f"{name} = {' '.join(values)}" for name, values in settings.items()]
    (target / "pip.conf").write_text("\n".join(["[global]", *lines, ""]))


def _certificates() -> Path:
    """The certificates that this machine trusts."""
    paths = ssl.get_default_verify_paths()
    for candidate in (os.environ.get("SSL_CERT_FILE"), paths.cafile, "/etc/ssl/certs/ca-certificates.crt"):
        if candidate and Path(candidate).is_file():
            return Path(candidate)
    import certifi

    return Path(certifi.where())


def _build(context: Path, image: str, target: str, digest: str) -> None:
    command = ["docker", "build", "--quiet", "--target", target, "--build-arg", f"ROOTFS={target}.tar"]
    command += ["--label", f"{recipe.LABEL}={digest}"]
    if target == "build":
        command += ["--label", f"{pip_settings.CARRIED}=yes"]
    command += ["--tag", image, str(context)]
    # The classic builder: the newer one is a plug-in that Debian does not install with docker.io.
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
    before = docker("image", "ls", "--quiet", image).split()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise ImagesError(f"docker build of {image} failed:\n{(done.stderr or done.stdout).strip()[-2000:]}")
    for stale in set(before) - set(docker("image", "ls", "--quiet", image).split()):
        with contextlib.suppress(DockerError):  # a container may still use it
            docker("image", "rm", stale)


def main() -> None:
    """Provide both images for the runtime that is built for here and try them, or remove what was made."""
    from container import usable
    from lambda_torch.sam import runtime

    try:
        if "--remove" in sys.argv[1:]:
            print(f"Removed {len(remove())} images")
            return
        version = runtime.choose(print).version
        for image, origin in provide(version, print).items():
            print(f"{image}: {origin}")
        usable.check(version)
    except (ImagesError, DockerError) as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
