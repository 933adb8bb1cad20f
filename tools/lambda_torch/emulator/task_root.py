"""A task root of the function with another model, as in a deployment where a folder's `model` replaces src/model."""

from pathlib import Path

from lambda_torch import project

# Not for the function: the model that is replaced, and Python's cache.
LEFT_OUT = {"model", "__pycache__"}


def task_root(folder: Path, model: Path) -> Path:
    """Make `folder`, with links to everything in src/ except its model, and to the package in the folder `model`.

    Raises:
        ValueError: there is no such package.
    """
    package = project.model_package(model)
    folder.mkdir()
    for entry in project.SRC.iterdir():
        if entry.name not in LEFT_OUT:
            (folder / entry.name).symlink_to(entry)
    (folder / "model").symlink_to(package)
    return folder
