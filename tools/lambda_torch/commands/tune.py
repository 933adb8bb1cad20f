"""`lambda-torch tune`: measure latency and cost at several memory sizes, and recommend one."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lambda_torch.commands._bucket import json_option, print_json
from lambda_torch.commands._running import options_of, reports_to, run_options, signals_interrupt
from lambda_torch.commands._tables import print_table

if TYPE_CHECKING:
    from lambda_torch.tuning.cost import Prices, Row
    from lambda_torch.tuning.measure import Times

SIZES = "1024,1769,3008"


def _sizes(_context: click.Context, _parameter: click.Parameter, value: str) -> list[int]:
    try:
        sizes = [int(each) for each in value.split(",")]
    except ValueError:
        raise click.BadParameter("give sizes in MB, such as 1024,1769,3008") from None
    if not all(128 <= each <= 10_240 for each in sizes):
        raise click.BadParameter("Lambda offers 128 to 10240 MB")
    return sorted(set(sizes))


@click.command()
@click.option("--sizes", default=SIZES, show_default=True, callback=_sizes, metavar="MB,MB,...", help="Memory sizes.")
@click.option(
    "--requests",
    type=click.IntRange(10, 100_000),
    default=200,
    show_default=True,
    help="How many warm requests to measure at each size.",
)
@click.option(
    "--event",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The request, as an event file. Default: the model's own example.",
)
@click.option(
    "--target-ms",
    type=click.FloatRange(min=0, min_open=True),
    help="The time in milliseconds that 99 of 100 warm requests must not exceed.",
)
@click.option(
    "--function",
    help="Measure this deployed function (PredictFunctionName in the outputs), in its version $LATEST.",
)
@click.option("--architecture", type=click.Choice(["x86_64", "arm64"]), default="x86_64", show_default=True)
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("build/tune.svg"),
    show_default=True,
    help="The file for the picture.",
)
@json_option
@run_options
@click.pass_context
def command(
    context: click.Context,
    /,
    sizes: list[int],
    requests: int,
    event: Path | None,
    target_ms: float | None,
    function: str | None,
    architecture: str,
    plot: Path,
    as_json: bool,
    **running: Any,
) -> None:
    """Measure the function at several memory sizes, compute what each costs, and recommend one.

    Without --function it measures in the test box, which limits memory and CPU as Lambda does. That needs Linux, root,
    and make layer. With --function it measures the deployed function: it resizes the unpublished version and restores
    its size afterwards. AWS charges for these requests. The options from --model on apply to the test box.

    \b
    Examples:
        lambda-torch tune --sizes 1024,1769,3008
        lambda-torch tune --function NAME --target-ms 50
    """
    from rich.console import Console

    from lambda_torch.tuning import cost, measure
    from lambda_torch.tuning.plot import svg
    from lambda_torch.tuning.settling import ROUNDS, settled

    console = Console(stderr=True, highlight=False)
    prices = cost.Prices.read()
    with signals_interrupt():
        try:
            payload = None if event is None else _checked(event)
            if function is None:
                measure.require_box()
                options = options_of(context, console, **running)
                measuring = measure.in_boxes(options, payload, reports_to(console).step)
            else:
                measuring = _deployed(function, payload or _documented())
            with measuring as times_at:

                def at(size: int) -> "Times":
                    console.print(f"Measuring {size} MB: one start and {requests} requests")
                    return times_at(size, requests)

                found, noisy = settled(sizes, at, console.print)
            rows = [
                cost.row(size, times.cold_ms, times.warm_ms, times.peak_mb, prices, architecture)
                for size, times in found.items()
            ]
        except ValueError as error:
            raise click.ClickException(str(error)) from error
        except (KeyboardInterrupt, click.Abort):
            console.print("Stopped.")
            raise SystemExit(130) from None
    chosen, why = cost.recommend(rows, target_ms)
    plot.parent.mkdir(parents=True, exist_ok=True)
    plot.write_text(svg(rows, chosen, prices))
    if as_json:
        result = {"rows": [each.as_dict() for each in rows], "recommended_mb": chosen.memory_mb, "why": why}
        print_json(
            {
                **result,
                "noisy": noisy,
                "prices": {"source": prices.source, "date": prices.date, "region": prices.region},
            }
        )
    else:
        _print(rows, chosen, why, prices)
    for small, large in noisy:
        console.print(
            f"This machine is too noisy: {large} MB was slower than {small} MB in {ROUNDS} rounds, so the recommendation "
            "may be wrong. Next: run it again while nothing else runs, or measure a deployed function with --function.",
            style="yellow",
        )
    console.print(f"The picture: {plot}", soft_wrap=True)


@contextmanager
def _deployed(function: str, payload: bytes) -> Iterator[Callable[[int, int], "Times"]]:
    import boto3

    from lambda_torch.aws_errors import explained
    from lambda_torch.tuning import measure

    with (
        explained(function, "function"),
        measure.deployed(boto3.client("lambda"), function, payload) as times_at,
    ):
        yield times_at


def _checked(event: Path) -> bytes:
    content = event.read_bytes()
    try:
        json.loads(content)
    except ValueError as error:
        raise click.BadParameter(f"{event} is not JSON: {error}", param_hint="--event") from error
    return content


def _documented() -> bytes:
    """A request for a deployed function, whose release is not on this machine: the example of the model's `Request`."""
    from lambda_torch.emulator.run import documented_example

    example = documented_example()
    if example is None:
        raise click.UsageError("The model's Request has no example. Next: name a request with --event.")
    return json.dumps(example).encode()


def _print(rows: list["Row"], chosen: "Row", why: str, prices: "Prices") -> None:
    titles = ("#MB", "#cold, ms", "#p50, ms", "#p99, ms", "#peak MB", "#US$/million", "#cold US$/million", "")
    cells = []
    for each in rows:
        figures = (each.memory_mb, each.cold_ms, each.p50_ms, each.p99_ms, each.peak_mb or "-", each.million_usd)
        cells.append((*map(str, figures), str(each.cold_million_usd), "<-" if each is chosen else ""))
    print_table(titles, cells)
    click.echo(
        f"{chosen.memory_mb} MB: {why}. To use it: sam deploy --parameter-overrides MemorySize={chosen.memory_mb}"
    )
    click.echo(
        f"Prices of {prices.date}, {prices.region}, from {prices.source}. "
        "They do not include the free tier and the price of the API."
    )
