"""What `serve` and `invoke` share: options of the run, the release to publish, what people see, and how signals end it."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lambda_torch import project
from lambda_torch.commands._model import golden_of, model_option

if TYPE_CHECKING:
    from rich.console import Console

    from lambda_torch.emulator.run import Options, Reports

# Lambda's own range, "Lambda quotas".
ALLOW_PROGRAMS = "lambda_torch.allow_programs"
MEMORY = click.IntRange(128, 10_240)
TIMEOUT = click.IntRange(1, 900)


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that runs the function. Its memory is another, `memory_option`: `tune` has several sizes."""
    for option in reversed(
        (
            model_option,
            click.option(
                "--release",
                type=click.Path(path_type=Path, exists=True, file_okay=False),
                help="The release folder to publish. Default: build/release, trained first if it is not there; with "
                "--model, build/releases/NAME, made with that folder's make_release.py if it is not there.",
            ),
            click.option(
                "--layer",
                default="auto",
                show_default=True,
                metavar="auto|stock|PATH",
                help="Where torch comes from: a layer's folder, or 'stock' for the packages that this command runs with. "
                "'auto' is build/layer if it is there (make layer), else stock.",
            ),
            click.option(
                "--timeout",
                type=TIMEOUT,
                default=30,
                show_default=True,
                help="Seconds until the function's process is ended.",
            ),
            click.option(
                "--env",
                "variables",
                multiple=True,
                metavar="NAME=VALUE",
                callback=_variables,
                help="An environment variable for the function; may be repeated.",
            ),
            click.option(
                "--allow-programs",
                is_flag=True,
                expose_value=False,
                callback=_allow_programs,
                help="Take releases that hold programs (torch.export, TorchScript), as the stack's parameter AllowPrograms "
                "does. Only for programs of your own.",
            ),
        )
    ):
        command = option(command)
    return command


memory_option = click.option(
    "--memory", type=MEMORY, default=3008, show_default=True, help="MB, told to the function; not enforced."
)


def _allow_programs(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    context.meta[ALLOW_PROGRAMS] = value


def _variables(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    variables = {}
    for text in values:
        name, separator, value = text.partition("=")
        if not name or not separator:
            raise click.BadParameter(f"{text!r} is not NAME=VALUE")
        variables[name] = value
    return variables


def options_of(
    context: click.Context,
    console: "Console",
    *,
    model: Path | None,
    release: Path | None,
    layer: str,
    timeout: int,
    variables: dict[str, str],
    memory: int = 3008,
    concurrency: int = 1,
) -> "Options":
    """The run's options; trains the sample model if there is no release to publish yet."""
    from lambda_torch.emulator import software
    from lambda_torch.emulator.run import Options

    if context.meta.get(ALLOW_PROGRAMS):
        variables = {**variables, "ALLOW_PROGRAMS": "true"}
    software.emulator_binary()  # an unsupported machine is told before the long work
    chosen = software.choose(layer, reports_to(console).step)
    if release is None and model is not None:
        release = _release_of(model, console)
    if release is None:
        release = project.RELEASE
        if not release.exists():
            from lambda_torch.commands import train

            console.print(f"There is no release in {release} yet: training the sample model")
            context.invoke(train.command, output=release)
    return Options(chosen, release, concurrency, memory, timeout, variables, model, golden_of(model))


def _release_of(model: Path, console: "Console") -> Path:
    """The release of a model in a folder of its own, made first if there is none.

    Raises:
        EmulatorError: there is none, and nothing that makes it, or that failed.
    """
    from lambda_torch.emulator.errors import EmulatorError

    release = project.BUILD / "releases" / model.resolve().name
    maker = model / "make_release.py"
    if release.exists():
        return release
    if not maker.is_file():
        raise EmulatorError(
            f"There is no release of {model}: {release} is not there, and there is no {maker} to make it. "
            "Next: name a release folder with --release."
        )
    console.print(f"There is no release in {release} yet: running {maker}")
    if subprocess.run([sys.executable, str(maker), "--output", str(release)], check=False).returncode:
        raise EmulatorError(f"{maker} failed; it has said why above.")
    return release


def reports_to(console: "Console") -> "Reports":
    """A run's reports as lines on a console; the function's log is dim."""
    from rich.text import Text

    from lambda_torch.emulator.run import Reports

    def line(style: str) -> Callable[[str], None]:
        return lambda text: console.print(Text(text, style), soft_wrap=True)

    return Reports(step=line("bold"), note=line("yellow"), log=line("dim"))


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Make SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt once; while the run then ends, more of them change nothing.

    SIGINT is named too because it is ignored in a process that a script starts in the background.
    """
    handled = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt(_number: int, _frame: object) -> None:
        for number in handled:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in handled}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
