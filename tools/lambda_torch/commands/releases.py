"""`lambda-torch releases`: list the releases in the bucket, newest first."""

from datetime import UTC, datetime

import click

from lambda_torch.commands._bucket import bucket_options, json_option, opened, print_json


@click.command()
@bucket_options
@json_option
def command(bucket: str, endpoint_url: str | None, as_json: bool) -> None:
    """List the releases: version, age, size, note, metrics, and the channels that name them."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.filesize import decimal
    from rich.table import Table

    from lambda_torch.releases.catalog import age, listing

    with opened(bucket, endpoint_url) as opened_bucket:
        listed = listing(opened_bucket)
    if as_json:
        print_json([each.as_json() for each in listed])
        return
    if not listed:
        click.echo(f"No release yet. Next: lambda-torch publish FOLDER --bucket {bucket}", err=True)
        return
    table = Table("version", "age", "size", "channels", "note and metrics", box=SIMPLE_HEAD, padding=(0, 1, 1, 0))
    now = datetime.now(UTC)
    for each in listed:
        manifest = each.release.manifest
        metrics = ", ".join(f"{name} {value:g}" for name, value in manifest.metrics.items())
        about = "\n".join(filter(None, (manifest.note, metrics)))
        roles = "\n".join(each.roles)
        table.add_row(manifest.version[:16], age(manifest.created, now), decimal(manifest.size), roles, about)
    Console().print(table)
