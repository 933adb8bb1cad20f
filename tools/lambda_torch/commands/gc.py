"""`lambda-torch gc`: remove old releases that no channel names."""

import click

from lambda_torch.commands._bucket import (
    bucket_options,
    dry_run_option,
    json_option,
    model_name_option,
    opened,
    print_json,
)
from lambda_torch.commands._tables import print_table


@click.command()
@click.option(
    "--keep", type=click.IntRange(min=0), required=True, help="How many of the newest releases to keep in any case."
)
@click.option(
    "--grace",
    "grace_hours",
    type=click.FloatRange(min=0, max=24 * 365),
    default=24.0,
    show_default=True,
    metavar="HOURS",
    help="Keep what was published, promoted or leased in these last hours. Use 0 only if nobody publishes meanwhile.",
)
@bucket_options
@model_name_option
@dry_run_option
@json_option
def command(
    keep: int, grace_hours: float, bucket: str, endpoint_url: str | None, model: str, dry_run: bool, as_json: bool
) -> None:
    """Remove old releases, and files that unfinished publications left.

    The newest (--keep) stay, and so does every release that a channel names, and what is younger than --grace.
    """
    from datetime import timedelta

    from rich.filesize import decimal

    from lambda_torch.releases.collecting import collect_garbage

    with opened(bucket, endpoint_url, model=model) as opened_bucket:
        removed = collect_garbage(opened_bucket, keep, timedelta(hours=grace_hours), dry_run=dry_run)
    if as_json:
        print_json({"removed": [each.version for each in removed], "dry_run": dry_run})
        return
    if removed:
        print_table(("#version", "#size"), [(each.version[:16], decimal(each.size)) for each in removed])
    size = decimal(sum(each.size for each in removed))
    click.echo(f"{len(removed)} releases {'would be ' if dry_run else ''}removed, {size}.", err=True)
