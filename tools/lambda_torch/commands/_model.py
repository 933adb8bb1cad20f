"""`--model`: use the model of another folder instead of src/model, in the tools and in the function that they run."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from lambda_torch import project

F = TypeVar("F", bound=Callable[..., Any])


def model_option(function: F) -> F:
    """`--model`. Later imports of `model` get the package of that folder."""
    return click.option(
        "--model",
        type=click.Path(path_type=Path, exists=True, file_okay=False),
        envvar="LAMBDA_TORCH_MODEL",
        show_envvar=True,
        is_eager=True,
        callback=_use,
        help="A folder whose package `model` replaces src/model, such as examples/embeddings. "
        "Default: the current folder, if it has a package `model`.",
    )(function)


@contextmanager
def sample_model() -> Iterator[None]:
    """Around imports that work with the sample model only: the message says so where src/model is another model."""
    try:
        yield
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "model":
            raise
        raise click.ClickException(
            "src/model is not the sample model, and this command works with the sample model only. "
            "Next: make a release folder with your own code, and name it with --release (serve, invoke, bulk, tune)."
        ) from error


def golden_of(model: Path | None) -> Path | None:
    """The file of golden examples beside the package `model` of a folder (None: src). None if there is no such file."""
    file = (project.SRC if model is None else model) / "golden.json"
    return file if file.is_file() else None


def _use(_context: click.Context, _parameter: click.Parameter, model: Path | None) -> Path | None:
    from lambda_torch.packages import local
    from lambda_torch.scaffold import build_files

    model = model or project.OWN
    try:
        project.use_function_code(model)
    except (ValueError, RuntimeError) as error:
        raise click.BadParameter(str(error)) from error
    if model is not None:
        local.use(local.require(model, lambda text: click.echo(text, err=True)))
        if changed := build_files.refresh(model):
            click.echo(f"requirements.txt has changed: wrote {', '.join(changed)} for the next sam build", err=True)
    return model
