"""`lambda-torch publish`: make a release folder the current release of a channel."""

import contextlib
import math
from pathlib import Path

import click

from lambda_torch.commands._bucket import (
    bucket_options,
    channel_option,
    dry_run_option,
    json_option,
    opened,
    print_json,
)
from lambda_torch.commands._model import golden_of, model_option
from lambda_torch.commands._regions import follow_everywhere, raise_if_behind

# What `--sign` without a value stands for. It is no name of a file.
KEY_OF_STACK = "\0"


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@model_option
@bucket_options
@channel_option
@click.option("--no-promote", is_flag=True, help="Upload the release, but move no channel.")
@click.option("--note", default="", help="One line for people, stored with the release.")
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME=NUMBER",
    help="A figure to store with the release. Can be given several times.",
)
@click.option(
    "--golden",
    "golden_file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help='Golden examples: a JSON list of {"request", "response", "tolerance"} that the release must answer before it serves. '
    "If a response is missing, the answer of this release is recorded. Default: golden.json beside the model, or else the "
    "answer to the model's own example.",
)
@click.option(
    "--sign",
    "key_name",
    metavar="[FILE|awskms:KEY]",
    is_flag=False,
    flag_value=KEY_OF_STACK,
    help="Sign the release with the private key in this file (lambda-torch key new FILE), or with an Ed25519 key of AWS KMS, "
    "named by its id, ARN or alias. Without a key: with that of --stack (parameter SigningKey).",
)
@click.option(
    "--stack",
    metavar="NAME",
    help="Compare the release's size with /tmp and memory of this deployed stack, and sign with its key if --sign names none. "
    "Default: with those of a new stack.",
)
@click.option(
    "--try-processors/--no-try-processors",
    default=True,
    show_default=True,
    help="Also try the golden examples with the kernels that PyTorch uses on other processors. Lambda's hosts differ.",
)
@dry_run_option
@json_option
def command(
    folder: Path,
    model: Path | None,
    bucket: str,
    endpoint_url: str | None,
    channel: str,
    no_promote: bool,
    note: str,
    metrics: tuple[str, ...],
    golden_file: Path | None,
    key_name: str | None,
    stack: str | None,
    try_processors: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Upload the release in FOLDER and make it the current release.

    The command first loads the release and compares its answers with the golden examples. If that fails, no channel is
    moved. The name of a release is the SHA-256 of its content, so files that the bucket already has are not sent again.
    Running functions serve the new release within seconds.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from lambda_torch.errors import BucketError
    from lambda_torch.releases.deployed import key_of_stack
    from lambda_torch.releases.fitting import StackSizes
    from lambda_torch.releases.keys import open_key
    from lambda_torch.releases.publishing import publish

    if key_name == KEY_OF_STACK:
        if stack is None:
            raise click.UsageError("--sign without a key takes that of a stack. Next: add --stack NAME, or name a key.")
        key_name = key_of_stack(stack)
    key = None if key_name is None else open_key(key_name)
    sizes = StackSizes() if stack is None else StackSizes.of_stack(stack)
    figures = dict(map(_metric, metrics))
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    with opened(bucket, endpoint_url) as opened_bucket, Progress(*columns, console=console) as bar:
        task = bar.add_task(f"Publishing {folder}", total=total)
        done = publish(
            folder,
            opened_bucket,
            channel=None if no_promote else channel,
            note=note,
            metrics=figures,
            golden_file=golden_file or golden_of(model),
            key=key,
            progress=lambda _, sent: bar.update(task, advance=sent),
            dry_run=dry_run,
            say=bar.console.print if try_processors else None,
        )
        is_other = done.previous not in (None, done.version)
        before = 0
        # The release before may be damaged. This one is published all the same.
        with contextlib.suppress(BucketError):
            before = opened_bucket.release(done.previous).manifest.size if done.previous and is_other else 0
        problems = sizes.problems(done.release.manifest.size, before)
    for problem in problems:
        console.print(problem, style="yellow")
    # After the bar of the upload: each region has its own.
    regions = [] if no_promote else follow_everywhere(opened_bucket, channel, endpoint_url, dry_run=dry_run)
    if as_json:
        facts = {
            "version": done.version,
            "sent": done.sent,
            "existed": done.existed,
            "previous": done.previous,
            "warnings": problems,
            "left_out": done.left_out,
        }
        facts["signer"] = None if key is None else key.signer
        facts["regions"] = [each.as_json() for each in regions]
        print_json({**facts, "channel": None if no_promote else channel, "dry_run": dry_run})
        raise_if_behind(regions, bucket)
        return
    would = "would be " if dry_run else ""
    console.print(f"{len(done.sent)} files {would}sent." if done.sent else "The bucket already had every file.")
    if done.existed and (note or metrics or golden_file):
        console.print("This release was published before. Its note, metrics and golden examples did not change.")
    if done.left_out:
        console.print(f"Left out, because no release has such files: {', '.join(done.left_out)}", soft_wrap=True)
    if key is not None:
        console.print(f"Signed by {key.signer}." if not dry_run else f"It would be signed by {key.signer}.")
    if done.programs:
        console.print(
            f"{', '.join(done.programs)}: a program. The function refuses the release unless the stack's parameter "
            "AllowPrograms is true (locally: lambda-torch serve --allow-programs).",
            style="yellow",
        )
    if not no_promote:
        if done.previous == done.version:
            console.print(f"It already was the current release of {channel}.")
        else:
            instead = f" instead of {done.previous[:16]}" if done.previous else ""
            console.print(f"{channel} {'would serve' if dry_run else 'now serves'} it{instead}.")
    click.echo(done.version)
    raise_if_behind(regions, bucket)


def _metric(text: str) -> tuple[str, float]:
    name, separator, number = text.partition("=")
    try:
        if not name or not separator:
            raise ValueError
        value = float(number)
        if not math.isfinite(value):
            raise ValueError
        return name, value
    except ValueError:
        raise click.BadParameter(f"{text!r} is not NAME=NUMBER with a finite number", param_hint="--metric") from None
