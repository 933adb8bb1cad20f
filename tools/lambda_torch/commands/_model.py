"""`--model`: another folder's model in the place of src/model, for the tools and for the function that they run."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from lambda_torch import project

F = TypeVar("F", bound=Callable[..., Any])


def model_option(function: F) -> F:
    """`--model`; what follows imports that folder's package as `model`."""
    return click.option(
        "--model",
        type=click.Path(path_type=Path, exists=True, file_okay=False),
        envvar="LAMBDA_TORCH_MODEL",
        show_envvar=True,
        is_eager=True,
        callback=_use,
        help="A folder whose package `model` takes the place of src/model, such as examples/embeddings.",
    )(function)


@contextmanager
def sample_model() -> Iterator[None]:
    """Around imports of what works on the sample model alone: where src/model is another, that is said."""
    try:
        yield
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "model":
            raise
        raise click.ClickException(
            "src/model is another model than the sample, and only the sample can be trained or imported here. "
            "Next: name a release folder of your own; serve, invoke, bulk and tune take it as --release."
        ) from error


def golden_of(model: Path | None) -> Path | None:
    """The golden examples that lie beside a folder's package `model`; None where there are none."""
    file = model / "golden.json" if model is not None else None
    return file if file is not None and file.is_file() else None


def _use(_context: click.Context, _parameter: click.Parameter, model: Path | None) -> Path | None:
    try:
        project.use_function_code(model)
    except (ValueError, RuntimeError) as error:
        raise click.BadParameter(str(error)) from error
    return model
