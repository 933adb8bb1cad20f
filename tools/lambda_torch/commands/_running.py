"""What `serve`, `invoke`, `bulk` and `tune` share: options, the release to publish, output, and the end by signals."""

import os
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
from lambda_torch.commands._pairs import named_values

if TYPE_CHECKING:
    from rich.console import Console

    from lambda_torch.emulator.run import Reports, RunOptions

# Lambda's own range, "Lambda quotas".
ALLOW_PROGRAMS = "lambda_torch.allow_programs"
MEMORY = click.IntRange(128, 10_240)
TIMEOUT = click.IntRange(1, 900)


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that runs the function, except `memory_option`: `tune` takes several sizes."""
    for option in reversed(
        (
            model_option,
            click.option(
                "--release",
                type=click.Path(path_type=Path, exists=True, file_okay=False),
                help="The release folder to publish. Default: build/release if it exists, else the trained release of the "
                "sample model. With --model: build/releases/NAME, which that folder's make_release.py makes if it does "
                "not exist.",
            ),
            click.option(
                "--layer",
                default="auto",
                show_default=True,
                metavar="auto|stock|PATH",
                help="Where torch comes from: the folder of a layer, or 'stock' for the packages that this command uses. "
                "'auto' means build/layer if it exists (make layer), else stock.",
            ),
            click.option(
                "--timeout",
                type=TIMEOUT,
                default=30,
                show_default=True,
                help="Seconds until the process of the function is ended.",
            ),
            click.option(
                "--env",
                "variables",
                multiple=True,
                metavar="NAME=VALUE",
                callback=named_values,
                help="An environment variable for the function. Can be given several times.",
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
    "--memory",
    type=MEMORY,
    default=3008,
    show_default=True,
    help="MB of memory that the function reads in its environment. It is not a limit here.",
)


def _allow_programs(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    context.meta[ALLOW_PROGRAMS] = value


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
    shipped_emulator: bool = False,
) -> "RunOptions":
    """The options of the run.

    Raises:
        EmulatorError: the function cannot run here, or there is no release to publish.
    """
    from lambda_torch.emulator import software
    from lambda_torch.emulator.run import RunOptions
    from lambda_torch.packages import local
    from lambda_torch.scaffold import parameters

    if context.meta.get(ALLOW_PROGRAMS) or (model is not None and parameters.of(model).allow_programs):
        variables = {**variables, "ALLOW_PROGRAMS": "true"}
    if shipped_emulator:
        software.emulator_binary()  # fails on an unsupported machine, before the long work
    chosen = software.choose(layer, reports_to(console).step)
    own = None if model is None else local.installed(model, reports_to(console).step)
    for packages in (local.of_layer(reports_to(console).step), own):
        # Those that the layer has come from there, as on Lambda.
        if packages is not None and not local.are_in(chosen.opt, packages):
            chosen = chosen.after(packages)
    golden = golden_of(model)
    if release is None:
        release, golden = (own_release(), golden) if model is None else (release_of(model, console), golden)
        if release == project.SAMPLE_RELEASE:
            golden = project.SAMPLE_GOLDEN
    return RunOptions(
        chosen,
        release,
        concurrency,
        memory,
        timeout,
        variables,
        model,
        golden,
        shipped_emulator=shipped_emulator,
    )


def own_release() -> Path:
    """The release of src/model: that in build/release, or else the sample model's.

    Raises:
        EmulatorError: src/model is a model of the user's own, and build/release does not exist.
    """
    from lambda_torch.errors import EmulatorError

    if project.RELEASE.exists():
        return project.RELEASE
    if project.has_sample_model():
        return project.SAMPLE_RELEASE
    raise EmulatorError(
        f"There is no release of the model in {project.SRC / 'model'}: {project.RELEASE} does not exist.\n"
        f"Next: put the files that Model.load reads into {project.RELEASE}, or name their folder: "
        "make serve RELEASE=FOLDER (lambda-torch serve --release FOLDER)."
    )


def release_of(model: Path, console: "Console") -> Path:
    """The release of a model in its own folder: `release` beside its package, or build/releases/NAME.

    Makes it first if there is none.

    Raises:
        EmulatorError: there is no release, and no make_release.py, or it failed.
    """
    from lambda_torch.errors import EmulatorError

    beside = model / "release"
    release = project.BUILD / "releases" / model.resolve().name
    maker = model / "make_release.py"
    if beside.is_dir() or model == project.OWN:
        release = beside
    if release.exists():
        return release
    if not maker.is_file():
        raise EmulatorError(
            f"There is no release of {model}: {release} does not exist, and there is no {maker} that makes it.\n"
            f"Next: put the files that Model.load reads into {release} (lambda-torch convert writes one of a .pth "
            "file), or name their folder: make serve MODEL=... RELEASE=FOLDER (lambda-torch serve --release FOLDER)."
        )
    console.print(f"{release} has no release yet: running {maker}")
    from lambda_torch.packages import local

    packages = (local.installed(model, console.print), local.of_layer(console.print))
    folders = [project.SRC, *(each for each in packages if each is not None)]
    path = os.pathsep.join([*map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, str(maker), "--output", str(release)]
    if subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, check=False).returncode:
        raise EmulatorError(
            f"{maker} failed. The lines above say why.\nNext: correct it, and run the same command again."
        )
    return release


def reports_to(console: "Console") -> "Reports":
    """The reports of a run as lines on a console. The function's log is dim."""
    from lambda_torch.emulator.run import Reports

    def line(style: str) -> Callable[[str], None]:
        return styled_lines(console, style)

    return Reports(step=line("bold"), note=line("yellow"), log=line("dim"))


def styled_lines(console: "Console", style: str) -> Callable[[str], None]:
    """Writes lines in a style. The style is worked out once: a thousand lines a second must cost little."""
    from rich.text import Text

    with console.capture() as capture:
        console.print(Text("|", style), end="")
    before, after = capture.get().split("|")

    def write(text: str) -> None:
        console.file.write(f"{before}{text}{after}\n")
        console.file.flush()

    return write


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Make the first SIGINT, SIGTERM or SIGHUP raise KeyboardInterrupt. Later ones are ignored while the run ends.

    SIGINT is in the list because a process that a script starts in the background ignores it.
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
