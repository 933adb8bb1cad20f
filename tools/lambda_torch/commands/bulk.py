"""`lambda-torch bulk`: answer a file of many requests, with the deployed stack or with environments on this machine."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lambda_torch.commands._model import name_of
from lambda_torch.commands._running import memory_option, options_of, reports_to, run_options, signals_interrupt

if TYPE_CHECKING:
    from rich.console import Console

    from lambda_torch.bulk.lines import Input
    from lambda_torch.bulk.output import Counts

S3_URI = re.compile(r"s3://(?P<bucket>[^/]+)/(?P<key>.+)")


@click.command()
@click.argument("source", metavar="INPUT")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file to write. Default: the name of INPUT with .results.jsonl, in the current folder.",
)
@click.option("--local", is_flag=True, help="Answer on this machine, in environments as Lambda has them.")
@click.option(
    "--bucket", envvar="MODEL_BUCKET", show_envvar=True, help="The bucket of the stack: ModelBucketName in its outputs."
)
@click.option("--state-machine", metavar="ARN", help="The state machine of the stack, from its output BulkCommand.")
@click.option("--endpoint-url", help="The address of an AWS emulator, such as a local one. Also: AWS_ENDPOINT_URL.")
@click.option(
    "--concurrency",
    type=click.IntRange(1, 1000),
    default=2,
    show_default=True,
    help="With --local: the number of environments.",
)
@click.option(
    "--batch",
    type=click.IntRange(1, 10_000),
    default=500,
    show_default=True,
    help="With --local: the most lines in a batch. A batch takes about one second.",
)
@run_options
@memory_option
@click.pass_context
def command(
    context: click.Context,
    /,
    source: str,
    output: Path | None,
    local: bool,
    bucket: str | None,
    state_machine: str | None,
    endpoint_url: str | None,
    concurrency: int,
    batch: int,
    **running: Any,
) -> None:
    """Answer every line of INPUT: a JSON Lines file on this machine, or at s3://BUCKET/KEY.

    The output has one line for each line of INPUT, in the same order: the index (from 0) and the response or the error.
    If a run ends early, for any reason, the same command continues where it stopped.

    Without --local the state machine of the stack does the work: this command uploads the file, starts a run, waits for
    it and collects the results. The options from --model on apply to --local. With a stack of several models, --model NAME says
    whose state machine it is.

    \b
    Examples:
        lambda-torch bulk requests.jsonl --local
        lambda-torch bulk requests.jsonl --bucket BUCKET --state-machine ARN
        lambda-torch bulk s3://BUCKET/inbox/requests.jsonl --bucket BUCKET --state-machine ARN
    """
    from rich.console import Console

    from lambda_torch.bulk import lines

    console = Console(stderr=True, highlight=False)
    target = output if output is not None else Path(f"{Path(source).name.removesuffix('.jsonl')}.results.jsonl")
    started = time.monotonic()
    with signals_interrupt():
        try:
            if local:
                if S3_URI.fullmatch(source):
                    raise click.UsageError("--local takes a file on this machine.")
                checked = lines.read_input(Path(source))  # before the long work
                needed = min(concurrency, -(-checked.count // batch))
                options = replace(options_of(context, console, concurrency=needed, **running), all_at_once=True)
                counts, fresh = _local(checked, target, options, batch, console)
            else:
                if bucket is None or state_machine is None:
                    raise click.UsageError(
                        "Give --bucket and --state-machine (the stack's output BulkCommand), or --local."
                    )
                counts, fresh = _deployed(
                    source, target, bucket, state_machine, endpoint_url, console, name_of(context)
                )
        except (KeyboardInterrupt, click.Abort):
            console.print("Stopped. The lines in the output are complete. The same command continues after them.")
            raise SystemExit(130) from None
    seconds = time.monotonic() - started
    console.print(
        f"{counts.total:,} lines in {target}: {counts.answered:,} answered, {counts.refused:,} refused, "
        f"{counts.failed:,} failed. This run answered {fresh:,} of them in {seconds:.1f} s",
        soft_wrap=True,
    )
    if counts.failed:
        raise SystemExit(1)


@contextmanager
def _bar(console: "Console", what: str, total: int | None, done: int = 0) -> Iterator[Callable[[int], None]]:
    """A progress bar. Call what it gives to set how much is done."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(what, total=total, completed=done)
        yield lambda completed: progress.update(task, completed=completed)


def _local(checked: "Input", target: Path, options: Any, batch: int, console: "Console") -> tuple["Counts", int]:
    from lambda_torch.bulk import local_run
    from lambda_torch.bulk.output import Output
    from lambda_torch.emulator import run

    reports = reports_to(console)
    quiet = run.Reports(reports.step, reports.note, log=lambda _: None)  # a log line for each batch would hide the bar
    with Output.opened(target, checked.sha256) as output:
        before = output.done
        if before:
            console.print(f"Continuing after line {before:,} of {checked.count:,}.")
        with run.running(options, b'{"httpMethod":"GET","path":"/health"}', quiet) as running:
            console.print(f"Release {running.version}", soft_wrap=True)
            with _bar(console, "Lines", checked.count, before) as show:
                local_run.run(checked, output, running.pool, options.concurrency, batch, show)
        output.complete = True
    return output.counts, output.done - before


def _deployed(
    source: str, target: Path, bucket: str, machine: str, endpoint_url: str | None, console: "Console", model: str
) -> tuple["Counts", int]:
    import boto3

    from lambda_torch.aws_errors import explained
    from lambda_torch.bulk import deployed_run, lines
    from lambda_torch.bulk.output import Output
    from lambda_torch.errors import BulkError
    from serving.settings import key_prefix

    with explained(bucket):
        s3 = boto3.client("s3", endpoint_url=endpoint_url)
        at = S3_URI.fullmatch(source)
        if at is not None:
            placed = deployed_run.find(s3, bucket, at["bucket"], at["key"], key_prefix(model))
        else:
            checked = lines.read_input(Path(source))
            sent = 0
            with _bar(console, "Bytes", Path(source).stat().st_size) as show:

                def count(more: int) -> None:
                    nonlocal sent
                    sent += more
                    show(sent)

                placed = deployed_run.place(s3, bucket, checked, count, key_prefix(model))
        run = deployed_run.Execution(boto3.client("stepfunctions", endpoint_url=endpoint_url), machine, placed)
        with Output.opened(target, f"s3://{bucket}/{placed.key}@{placed.version}") as output:
            before = output.done
            with explained(machine, "state machine"):
                console.print(f"Run {placed.name} {run.start()}", soft_wrap=True)
                with _bar(console, "Lines", None if at else checked.count) as show:
                    status = run.wait(show)
            if status != "SUCCEEDED":
                raise BulkError(
                    f"The run ended with status {status}. {run.why()}\n"
                    f"Its report is under s3://{bucket}/{placed.results}run/. Next: correct the cause and give the same "
                    "command again. It repeats the batches that failed."
                )
            total = run.total() if at else checked.count
            with _bar(console, "Collecting", total, before) as show:
                deployed_run.collect(s3, placed, total, output, show)
            output.complete = True
    return output.counts, output.done - before
