"""What a function sees of the machine, as a command line of bubblewrap (https://github.com/containers/bubblewrap)."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from lambda_torch.errors import BoxError
from lambda_torch.testbox.rootfs import Rootfs

# The user and group of functions on Lambda, sbx_user1051.
USER, GROUP = 993, 990
TMP_BYTES = 512 * 1024 * 1024  # by default, "Configure ephemeral storage"
# "Lambda quotas": file descriptors, processes and threads.
OPEN_FILES = 1024
PROCESSES = 1024


class Hidden(NamedTuple):
    """Something that exists on developers' machines and in Docker, but not on Lambda."""

    path: str
    punishes: str


# Everything that is not bound below is hidden. Code is known to fail when these are missing.
HIDDEN = (
    Hidden("/dev/shm", "multiprocessing's locks and queues, torch's shared memory: OSError 38 or 2"),  # noqa: S108
    Hidden("/sys/devices/system/cpu/possible", "cpuinfo and other libraries that count processors there"),
    Hidden("/home", "caches below HOME: HOME names a folder that does not exist and cannot be made"),
)

# Shared libraries, shells and the like, from this machine.
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32")
ETC = (
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/nsswitch.conf",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/ssl",
)
DEVICES = ("null", "zero", "full", "random", "urandom")
# /proc/cpuinfo and /proc/meminfo describe the whole machine, on Lambda too.


def why_not() -> str | None:
    """Why this machine cannot make a sandbox. None if it can."""
    if shutil.which("bwrap") is None:
        return "a test box needs bubblewrap. Next: apt-get install bubblewrap"
    if shutil.which("setpriv") is None or shutil.which("prlimit") is None:
        return "a test box needs setpriv and prlimit. Next: apt-get install util-linux"
    tried = subprocess.run(
        ["bwrap", *_namespaces(), "--ro-bind", "/", "/", *_becoming_user(), "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode:
        return f"this machine allows no user namespaces ({tried.stderr.strip()}). Next: see user_namespaces(7)"
    return None


def _namespaces() -> list[str]:
    """The options of bubblewrap that separate the box from the machine, for this user."""
    line = [
        "--unshare-pid",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-cgroup-try",
        "--die-with-parent",
        "--new-session",
    ]
    if os.geteuid():
        return [*line, "--unshare-user", "--uid", str(USER), "--gid", str(GROUP), "--cap-drop", "ALL"]
    # Root prepares the mounts, and gives up root inside: see _becoming_user.
    return [*line, "--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]


def _becoming_user() -> list[str]:
    """The start of a command line that gives up root. Then files that only root may read are closed, as on Lambda."""
    if os.geteuid():
        return []
    return ["setpriv", f"--reuid={USER}", f"--regid={GROUP}", "--clear-groups", "--no-new-privs", "--inh-caps=-all"]


def command(rootfs: Rootfs, variables: dict[str, str], arguments: list[str]) -> list[str]:
    """The command line that runs `arguments` in the sandbox, with exactly these environment variables.

    Raises:
        BoxError: this machine cannot make a sandbox.
    """
    reason = why_not()
    if reason:
        raise BoxError(reason)
    limited = ["prlimit", f"--nofile={OPEN_FILES}", f"--nproc={PROCESSES}", "--core=0"]
    line = [*limited, "bwrap", *_namespaces(), "--hostname", "169"]
    # Only root may read parent folders that bubblewrap makes by itself.
    for path in (
        "/dev",
        "/etc",
        "/var",
        "/var/rapid",
        "/sys",
        "/sys/devices",
        "/sys/devices/system",
        "/sys/devices/system/cpu",
    ):
        line += ["--perms", "0755", "--dir", path]
    for path in SYSTEM:
        if Path(path).is_symlink():
            line += ["--symlink", str(Path(path).readlink()), path]
        elif Path(path).is_dir():
            line += ["--ro-bind", path, path]
    for path in ETC:
        line += ["--ro-bind-try", str(Path(path).resolve()), path]
    for name in DEVICES:
        line += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    line += ["--symlink", "/proc/self/fd", "/dev/fd", "--proc", "/proc"]
    for source, target in (
        (rootfs.python, "/var/lang"),
        (rootfs.runtime, "/var/runtime"),
        (rootfs.task, "/var/task"),
        (rootfs.opt, "/opt"),
        (rootfs.emulator, "/var/rapid/aws-lambda-rie"),
    ):
        line += ["--ro-bind", str(source), target]
    line += ["--size", str(TMP_BYTES), "--perms", "1777", "--tmpfs", "/tmp"]  # noqa: S108
    line += ["--remount-ro", "/"]
    line += ["--clearenv"]
    for name, value in variables.items():
        line += ["--setenv", name, value]
    return [*line, "--chdir", "/var/task", "--", *_becoming_user(), *arguments]
