"""What goes into the stand-ins, as data."""

from typing import NamedTuple


class Packages(NamedTuple):
    """Debian packages of one image."""

    names: tuple[str, ...]
    reason: str


LIBRARIES = (
    Packages(
        (
            "base-files",
            "base-passwd",
            "libc-bin",
            "dash",
            "bash",
            "coreutils",
            "sed",
            "grep",
            "findutils",
            "tar",
            "gzip",
        ),
        "a shell and the usual commands: bootstrap scripts, SAM's own `mkdir` and `cp` in the build container",
    ),
    Packages(
        ("libssl3", "libffi8", "libsqlite3-0", "liblzma5", "libbz2-1.0", "zlib1g", "libexpat1", "libreadline8"),
        "what CPython's extension modules are linked with",
    ),
    Packages(("libncursesw6", "libuuid1", "libnsl2", "libtirpc3", "libcrypt1"), "the same, less often used"),
    Packages(("libgcc-s1", "libstdc++6"), "what torch's libraries are linked with; Amazon Linux has them, too"),
)
TOOLS = (
    Packages(("make", "gcc", "libc6-dev", "binutils"), "layers/torch compiles its pager; AWS's build image has them"),
    Packages(("zip", "unzip", "git", "curl", "diffutils"), "AWS's build image has them"),
)

# What of a Debian tree no container needs.
USELESS = ("/usr/share/doc", "/usr/share/man", "/usr/share/locale", "/usr/share/info", "/var/lib/apt", "/var/cache/apt")

# What of the host's Python no image needs (tar's patterns).
PYTHON_LEFT_OUT = (
    "*/test", "*/tests", "*/idlelib", "*/tkinter", "*/turtledemo", "config-*", "__pycache__", "*_tkinter*",
    "*/site-packages/*", "*/dist-packages/*",
)  # fmt: skip

# The runtime's own packages: what AWS's Python runtime lets functions import.
RUNTIME_PACKAGES = ("awslambdaric", "boto3")

# Every image that the project makes carries it, with the recipe's digest: what is stale is made again, and all can be removed.
LABEL = "lambda-torch.stand-in"


def names(groups: tuple[Packages, ...]) -> list[str]:
    """All the packages of some groups."""
    return [name for group in groups for name in group.names]
