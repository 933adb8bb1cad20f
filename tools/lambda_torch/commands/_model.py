"""`--model`: use the model of another folder instead of src/model, in the tools and in the function that they run."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lambda_torch import project

if TYPE_CHECKING:
    from lambda_torch.several.model_table import ModelRow

F = TypeVar("F", bound=Callable[..., Any])


# Where the context keeps the row of models.toml that `--model` named.
ROW = "lambda_torch.model_row"


class FolderOrName(click.ParamType):
    """A folder with a package `model`, or a model of models.toml, which stands for the folder of its code."""

    name = "model"

    def convert(self, value: str | Path, param: click.Parameter | None, ctx: click.Context | None) -> "Path | ModelRow":
        """The folder, or the row of the model."""
        from lambda_torch.several import model_table

        table = model_table.find()
        row = next((each for each in table.rows if each.name == str(value)), None) if table else None
        if row is not None:
            return row
        if Path(value).is_dir():
            return Path(value)
        message = (
            f"Directory {str(value)!r} does not exist, and there is no {model_table.FILE_NAME} here with such a model."
        )
        if table is not None and "/" not in str(value):
            message = model_table.unknown(str(value), [each.name for each in table.rows], str(table.path))
        return self.fail(message, param, ctx)


def row_of(context: click.Context) -> "ModelRow | None":
    """The row of models.toml that `--model` named. None without such a name."""
    return context.meta.get(ROW)


def name_of(context: click.Context) -> str:
    """The name of that row. Empty without such a name."""
    row = row_of(context)
    return row.name if row else ""


def model_option(function: F) -> F:
    """`--model`. Later imports of `model` get the package of that folder."""
    return click.option(
        "--model",
        type=FolderOrName(),
        metavar="FOLDER|NAME",
        envvar="LAMBDA_TORCH_MODEL",
        show_envvar=True,
        is_eager=True,
        callback=_use,
        help="A folder whose package `model` replaces src/model, such as examples/embeddings. "
        "Default: the current folder, if it has a package `model`. Or the name of a model in models.toml (lambda-torch models).",
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


def _use(context: click.Context, _parameter: click.Parameter, value: "Path | ModelRow | None") -> Path | None:
    from lambda_torch.packages import local
    from lambda_torch.scaffold import build_files

    model = value if isinstance(value, Path) else None
    if value is not None and not isinstance(value, Path):
        context.meta[ROW] = value
        model = None if value.code is None else Path(value.code)
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
