"""Puts the function's code and the layer's builder into the wheel, in `lambda_torch/_app`, in the layout of a checkout.

Everything else about the package is in pyproject.toml. `serving`, `model` and `builder` are top-level packages in the
function and in the layer's build. In site-packages such names could collide with other packages, so there they are data
files, and `lambda_torch.project` puts their folders on `sys.path`.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
# Patterns of the files that the installed command uses, from the root of the checkout.
APP = (
    "src/**/*",
    "layers/torch/**/*",
    "events/*.json",
    "examples/names/**/*",
    "template.yaml",
    "samconfig.toml",
    "requirements/dev.txt",
)
SUFFIXES_LEFT_OUT = {".pyc", ".so", ".o"}


def app_files() -> list[Path]:
    """The files of the app, relative to the root of the checkout."""
    found = (path for pattern in APP for path in HERE.glob(pattern) if path.is_file())
    return sorted(
        path.relative_to(HERE)
        for path in found
        if path.suffix not in SUFFIXES_LEFT_OUT
        and not any(part.startswith(".") for part in path.relative_to(HERE).parts)
    )


class BuildWithApp(build_py):
    """Builds the package, and copies the app into it. An editable installation has no copy: it uses the checkout."""

    def run(self) -> None:
        """Build, then copy."""
        super().run()
        if self.editable_mode:
            return
        for path in app_files():
            target = Path(self.build_lib, "lambda_torch", "_app", path)
            self.mkpath(str(target.parent))
            self.copy_file(str(HERE / path), str(target))


setup(cmdclass={"build_py": BuildWithApp})
