"""`lambda-torch gc`: remove old releases that no channel names."""

import click

from lambda_torch.commands._bucket import bucket_options, dry_run_option, json_option, opened, print_json


@click.command()
@click.option(
    "--keep", type=click.IntRange(min=0), required=True, help="How many of the newest releases to keep in any case."
)
@bucket_options
@dry_run_option
@json_option
def command(keep: int, bucket: str, endpoint_url: str | None, dry_run: bool, as_json: bool) -> None:
    """Remove old releases. The newest (--keep) stay, and so does every release that a channel names."""
    from rich.filesize import decimal

    from lambda_torch.releases.catalog import collect_garbage

    with opened(bucket, endpoint_url) as opened_bucket:
        removed = collect_garbage(opened_bucket, keep, dry_run=dry_run)
    if as_json:
        print_json({"removed": [each.ref.version for each in removed], "dry_run": dry_run})
        return
    for each in removed:
        click.echo(each.ref.version)
    size = decimal(sum(each.manifest.size for each in removed))
    click.echo(f"{len(removed)} releases {'would be ' if dry_run else ''}removed, {size}.", err=True)
