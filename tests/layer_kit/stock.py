"""A folder with stock PyTorch: the layer's packages as pip installed them here, and no other package of this environment."""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path

# What an installer writes about itself. The layer is always installed by pip, and this environment may be by uv.
OF_THE_INSTALLER = frozenset(["INSTALLER", "REQUESTED", "uv_cache.json"])
# What goes into the layer: layers/torch/requirements.txt.
PACKAGES = (
    "torch", "numpy", "filelock", "fsspec", "jinja2", "markupsafe", "mpmath", "networkx", "setuptools", "sympy",
    "typing-extensions",
)  # fmt: skip


def installed_files() -> tuple[str, ...]:
    """Paths of every file of these packages, relative to site-packages."""
    paths = [str(path) for package in PACKAGES for path in distribution(package).files or ()]
    return tuple(path for path in paths if not path.startswith("..") and Path(path).name not in OF_THE_INSTALLER)


def link_stock(folder: Path) -> Path:
    """Fill an empty folder with links to the packages, and return it."""
    for name in {Path(path).parts[0] for path in installed_files()} - {"__pycache__"}:
        (folder / name).symlink_to(Path(str(distribution("torch").locate_file(name))))
    return folder
