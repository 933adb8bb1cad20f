"""`lambda-torch layer`: add packages to a layer, show what is in it, record what your own model uses, publish it."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lambda_torch import project
from lambda_torch.commands import layer_doctor, layer_image, layer_packages, layer_publish
from lambda_torch.commands._model import model_option
from lambda_torch.commands._tables import megabytes, print_table

if TYPE_CHECKING:
    from rich.console import Console

    from builder.account.ledger import LayerReport

REPORT = project.BUILD / "report.json"
# Bytes of a kind of file in a package. Smaller parts are not shown.
SMALLEST_PART = 5000


@click.group()
def command() -> None:
    """Add packages to the layer, show what is in it, record what your own model uses, publish it, prepare a new torch.

    `make layer` builds the layer.
    """
    project.use_builder()


command.add_command(layer_publish.publish)
command.add_command(layer_image.image)
command.add_command(layer_doctor.doctor)
command.add_command(layer_packages.add)
command.add_command(layer_packages.remove)
command.add_command(layer_packages.show)


@command.command()
@click.argument("path", type=click.Path(path_type=Path), default=project.LAYER)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Also draw a treemap into this file.")
@click.option("--rows", type=click.IntRange(1), default=12, show_default=True, help="The most lines in each table.")
def inspect(path: Path, as_json: bool, html: Path | None, rows: int) -> None:
    """Show where every byte of the layer in PATH is. PATH is the folder or zip file of any layer. Default: build/layer.

    The exit status is 1 if Lambda would refuse the layer: more than 262,144,000 bytes unzipped.

    \b
    Example:
        lambda-torch layer inspect
        lambda-torch layer inspect ~/Downloads/other-layer.zip --html layer.html
    """
    from builder.account import ledger, treemap
    from builder.errors import BuildError

    try:
        report = ledger.inspect(path)
    except BuildError as error:
        raise click.ClickException(str(error)) from error
    _complete(report, path)
    if html is not None:
        html.write_text(treemap.draw(report.tree(), f"{path.name}: {report.unzipped_bytes:,} bytes"), encoding="utf-8")
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=1))
    else:
        _print(report, rows)
    if report.headroom_bytes < 0:
        sys.exit(1)


def _print(report: "LayerReport", rows: int) -> None:
    """Tables of steps, packages and libraries, each with at most `rows` rows, and how many bytes are left."""
    from builder.account import table
    from builder.account.contents import KINDS

    if report.steps:
        steps = [step for step in report.steps if step.saved_bytes or step is report.steps[0]]
        cells = [
            (step.name, megabytes(step.bytes), megabytes(step.saved_bytes), f"{step.seconds:.0f}") for step in steps
        ]
        print_table(("after step", "#MB", "#saved", "#seconds"), cells)
    packages = []
    for package in report.packages[:rows]:
        kinds = sorted(package.kinds.items(), key=lambda item: -item[1])
        parts = [f"{KINDS[kind]} {megabytes(size)}" for kind, size in kinds if size >= SMALLEST_PART]
        packages.append((package.name, megabytes(package.bytes), ", ".join(parts)))
    print_table(("package", "#MB", "of it"), packages)
    _print_more(len(report.packages) - rows)
    if report.libraries:
        libraries = []
        for library in report.libraries[:rows]:
            sections = sorted(library.sections, key=lambda section: -section["hot"])[:3]
            parts = [f"{section['name']} {section['hot'] / 1e6:.1f}" for section in sections]
            path = library.path.removeprefix("python/")
            libraries.append((path, megabytes(library.bytes), megabytes(library.cold_bytes), ", ".join(parts)))
        print_table(("library", "#MB", "#+ cold", "largest sections"), libraries)
        _print_more(len(report.libraries) - rows)
    click.echo(table.total(report))


def _print_more(count: int) -> None:
    if count > 0:
        click.echo(f"... and {count} more (--rows shows them)")


def _complete(report: "LayerReport", path: Path) -> None:
    """Add what only the build knows (its steps, the size of the zip file), if the build's report is about this tree."""
    from builder.account.ledger import StepAccount, tree_sha256

    if path.resolve() != project.LAYER or not REPORT.is_file():
        return
    built = json.loads(REPORT.read_text(encoding="utf-8"))
    if built.get("tree_sha256") == tree_sha256(path):
        report.steps = [StepAccount(**step) for step in built["steps"]]
        report.zip_bytes, report.tree_sha256 = built["zip_bytes"], built["tree_sha256"]


@command.command()
@click.argument("events", type=click.Path(path_type=Path, exists=True, dir_okay=False), nargs=-1)
@click.option(
    "--name", default="model", show_default=True, help="The name of the profile. It replaces a profile with that name."
)
@click.option(
    "--release",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The release folder that the handler serves. Default: build/release if it exists, else the trained sample.",
)
@model_option
@click.pass_context
def record(
    context: click.Context, events: tuple[Path, ...], name: str, release: Path | None, model: Path | None
) -> None:
    """Send EVENTS (default: events/*.json) to src/app.py with a recording copy of torch, and store a profile of it.

    The profile is a JSON file in layers/torch/profiles. The next `make layer` leaves uncompressed what any profile
    names, so that your model does not wait for compressed code. Commit the profile.

    \b
    Example:
        lambda-torch layer record
        lambda-torch layer record my-events/*.json --name resnet
    """
    from rich.console import Console

    from builder.errors import BuildError
    from lambda_torch.commands._running import options_of, signals_interrupt

    project.need_checkout("lambda-torch layer record")
    if not name.replace("-", "").isalnum():
        raise click.BadParameter(f"{name!r} has more than letters, digits and hyphens", param_hint="--name")
    console = Console(stderr=True, highlight=False)
    chosen = events or tuple(sorted(project.EVENTS.glob("*.json")))
    with signals_interrupt():
        try:
            options = options_of(
                context, console, model=model, release=release, layer="stock", memory=3008, timeout=30, variables={}
            )
            _record(console, chosen, name, options.release, model, options.software.folders)
        except BuildError as error:
            raise click.ClickException(str(error)) from error
        except (KeyboardInterrupt, click.Abort):
            console.print("Stopped. Nothing was changed.")
            sys.exit(130)


def _record(
    console: "Console",
    events: tuple[Path, ...],
    name: str,
    release: Path,
    model: Path | None,
    packages: tuple[Path, ...],
) -> None:
    import platform
    import tempfile

    import boto3  # noqa: F401  # if it is missing, fail here rather than inside the recorded process

    from builder import paths
    from builder.__main__ import default_requirements
    from builder.console import Console as Steps
    from builder.options import BuildOptions
    from builder.profile import profiles
    from builder.profile.record import record_command
    from builder.staging import Staging
    from lambda_torch.emulator.processes import Processes
    from lambda_torch.emulator.storage import CREDENTIALS, REGION, Storage
    from lambda_torch.emulator.task_root import task_root
    from lambda_torch.releases.bucket import Bucket
    from lambda_torch.releases.publishing import publish

    steps = Steps(sys.stderr)
    options = BuildOptions(default_requirements(), project.LAYER, project.BUILD / "cache" / "layer")
    staging = Staging(options, steps)
    with staging.alone(), tempfile.TemporaryDirectory(prefix="record-") as folder, Processes() as processes:
        installed, staged = staging.stage()
        scratch = Path(folder)
        storage = Storage(processes, scratch, "models")
        publish(release, Bucket(storage.client(), "models"))
        code = project.SRC if model is None else task_root(scratch / "task", model)
        variables = {
            "MODEL_BUCKET": "models",
            "AWS_ENDPOINT_URL_S3": storage.url,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            **CREDENTIALS,
            "TMPDIR": folder,
            "HOME": folder,
        }
        with steps.step("record", f"{len(events)} events to the handler") as step:
            driver = Path(__file__).parents[1] / "emulator" / "replay.py"
            target = profiles.target_of(installed, platform.machine())
            command = [str(driver), *(str(event.resolve()) for event in events)]
            profile = record_command(staged, options.work, target, command, variables, [code, *packages], step.say)
            path = paths.PROFILES / profiles.file_name(target, name)
            profile.save(path)
            step.result = (
                f"{len(profile.hot):,} modules and {profile.pages.count() * 4096 / 1e6:.1f} MB of libraries, in {path}"
            )
    console.print("Next: make layer")
