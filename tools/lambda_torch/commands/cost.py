"""`lambda-torch cost`: compute what a stack costs in a month, from its template and a dated table of prices."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lambda_torch.commands._bucket import json_option, print_json
from lambda_torch.commands._pairs import parameters_option
from lambda_torch.commands.check_name import template_option

if TYPE_CHECKING:
    from lambda_torch.stacks.template import StackTemplate
    from lambda_torch.tuning.bill import BilledStack, MonthOfRequests, Tally

VOLUMES = (0, 1_000, 1_000_000, 100_000_000)


@click.command()
@click.option(
    "--ms",
    type=click.FloatRange(min=0, min_open=True),
    help="Milliseconds of a warm request. `lambda-torch tune` measures them. Only --watching does without.",
)
@click.option(
    "--requests",
    "volumes",
    type=click.IntRange(min=0),
    multiple=True,
    help="Requests in a month. Can be given several times. Default: 0, 1000, 1 million and 100 million.",
)
@click.option(
    "--cold-share",
    type=click.FloatRange(0, 1),
    default=0.01,
    show_default=True,
    help="The share of the requests that start an environment.",
)
@click.option(
    "--cold-ms",
    type=click.FloatRange(min=0),
    default=1000.0,
    show_default=True,
    help="Milliseconds of a start.",
)
@click.option(
    "--release-mb",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="MB of all releases in the bucket.",
)
@template_option
@parameters_option("A parameter of the stack, such as MemorySize=1769.")
@click.option("--free-tier", is_flag=True, help="Subtract what an account has free in each month.")
@click.option("--watching", is_flag=True, help="Print what each alarm, metric and dashboard costs instead.")
@click.option("--markdown", is_flag=True, help="Print the tables as Markdown.")
@json_option
def command(
    ms: float | None,
    volumes: tuple[int, ...],
    cold_share: float,
    cold_ms: float,
    release_mb: float,
    template: Path,
    parameters: dict[str, str],
    free_tier: bool,
    watching: bool,
    markdown: bool,
    as_json: bool,
) -> None:
    """Compute what a stack costs in a month, in US dollars, from its template.

    The first table has the parts of the costs, for requests by the first door of the stack. The second one has the total
    for each door. Traces and SnapStart are shown with what they would cost, also if the stack does not use them. The
    prices are a dated table (tools/lambda_torch/tuning/prices.toml). Data transfer, taxes and WAF are not in it.

    \b
    Examples:
        lambda-torch cost --ms 20
        lambda-torch cost --ms 20 --requests 5000000 --parameter MemorySize=1769 --parameter Tracing=on
        lambda-torch cost --watching --parameter Watching=alarms
    """
    from lambda_torch.stacks.template import StackTemplate
    from lambda_torch.tuning.bill import DOORS, MonthOfRequests, Tally, billed_stack
    from lambda_torch.tuning.price_table import PriceTable

    if ms is None and not watching:
        raise click.UsageError("Give --ms, the milliseconds of a warm request. Next: lambda-torch tune measures them.")
    resolved = StackTemplate(template, parameters)
    if watching:
        _print_watching(resolved, markdown, as_json)
        return
    assert ms is not None
    try:
        stack = billed_stack(resolved)
    except KeyError as error:
        raise click.ClickException(
            f"{template} is not the template of this project: it has no {error}. Next: name it with --template."
        ) from error
    table = PriceTable.read()
    chosen = volumes or VOLUMES
    months = [MonthOfRequests(count, ms, cold_share, cold_ms, release_mb) for count in chosen]
    tally = Tally(table, free_tier)
    doors = {door: [_bill(tally, stack, month, door) for month in months] for door in DOORS}
    first = doors[stack.doors[0]]
    totals = {door: [_total(bill, stack) for bill in bills] for door, bills in doors.items()}
    if as_json:
        print_json(
            {
                "requests": list(chosen),
                "doors": doors,
                "totals": totals,
                "doors_of_the_stack": list(stack.doors),
                "traced": stack.traced,
                "snapshots": stack.snapshots,
                "prices": {name: {"source": row.source, "date": row.date} for name, row in table.rows.items()},
            }
        )
        return
    parts = {_title(part, stack): [bill[part] for bill in first] for part in first[0]}
    parts["**total**" if markdown else "total"] = totals[stack.doors[0]]
    named = {f"{door}{'' if door in stack.doors else ' (not in this stack)'}": usd for door, usd in totals.items()}
    heads = [f"{count:,}" if count else "idle" for count in chosen]
    for head, rows in (("part", parts), ("door", named)):
        _print([head, *heads], rows, markdown)
        click.echo()
    click.echo(f"US dollars a month in {table.region}. The prices were read from {table.dates[0]} to {table.dates[1]}.")
    click.echo(
        f"The function has {stack.memory_mb} MB. A warm request takes {ms:g} ms. A share of {cold_share:g} of the requests\n"
        f"starts an environment, which takes {cold_ms:g} ms more. The free tier is {'' if free_tier else 'not '}subtracted."
    )


def _print_watching(template: "StackTemplate", markdown: bool, as_json: bool) -> None:
    """The table of what watches the stack."""
    from lambda_torch.tuning.bill import Tally
    from lambda_torch.tuning.price_table import PriceTable
    from lambda_torch.tuning.watched import watched_parts

    table = PriceTable.read()
    parts = list(watched_parts(Tally(table), template))
    total = sum(part.usd for part in parts)
    if as_json:
        print_json({"parts": [asdict(part) for part in parts], "total": total})
        return
    rows = {f"{part.kind} {part.name}": [part.usd] for part in parts}
    _print(["", "US$ a month"], {**rows, "**total**" if markdown else "total": [total]}, markdown)
    click.echo()
    click.echo(
        f"The prices of {table.region}. The free tier is not subtracted. Metrics are charged in hours with requests."
    )


def _bill(tally: "Tally", stack: "BilledStack", month: "MonthOfRequests", door: str) -> dict[str, float]:
    """The parts of the bill, those that a parameter switches on too."""
    from lambda_torch.tuning.bill import month_bill

    on = replace(stack, traced=True, snapshots=True)
    return month_bill(tally, on, month, door)


def _total(bill: Mapping[str, float], stack: "BilledStack") -> float:
    """All parts that the stack uses."""
    off = {"traces": not stack.traced, "SnapStart": not stack.snapshots}
    return sum(usd for part, usd in bill.items() if not off.get(part))


def _title(part: str, stack: "BilledStack") -> str:
    if part == "door":
        return stack.doors[0]
    used = {"traces": stack.traced, "SnapStart": stack.snapshots}.get(part, True)
    return part if used else f"{part}, if on"


def _print(heads: Sequence[str], rows: Mapping[str, Sequence[float]], markdown: bool) -> None:
    if markdown:
        click.echo(f"| {' | '.join(heads)} |")
        click.echo("|---" + "|--:" * (len(heads) - 1) + "|")
        for name, values in rows.items():
            click.echo(f"| {name} | {' | '.join(map(_usd, values))} |")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(heads[0])
    for head in heads[1:]:
        table.add_column(head, justify="right")
    for name, values in rows.items():
        table.add_row(name, *map(_usd, values))
    Console(highlight=False).print(table)


def _usd(value: float) -> str:
    """With two decimals; what is less than a cent, and not nothing, is said so."""
    if 0 < value < 0.005:
        return "< 0.01"
    return f"{value:,.2f}"
