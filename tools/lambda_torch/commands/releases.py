"""`lambda-torch releases`: list the releases in the bucket, newest first."""

from datetime import UTC, datetime

import click

from lambda_torch.commands._bucket import bucket_options, json_option, model_name_option, opened, print_json
from lambda_torch.commands._tables import print_table


@click.command()
@bucket_options
@model_name_option
@json_option
def command(bucket: str, endpoint_url: str | None, model: str, as_json: bool) -> None:
    """List the releases: version, age, size, note, metrics, and the channels that name them."""
    from rich.filesize import decimal

    from lambda_torch.releases.catalog import age, listing

    with opened(bucket, endpoint_url, model=model) as opened_bucket:
        listed = listing(opened_bucket)
    if as_json:
        print_json([each.as_json() for each in listed])
        return
    if not listed:
        click.echo(f"No release yet. Next: lambda-torch publish FOLDER {opened_bucket.options}", err=True)
        return
    now = datetime.now(UTC)
    rows = []
    for each in listed:
        manifest = each.release.manifest
        metrics = ", ".join(f"{name} {value:g}" for name, value in manifest.metrics.items())
        about = "\n".join(filter(None, (manifest.note, metrics)))
        roles = "\n".join(each.roles)
        rows.append((manifest.version[:16], age(manifest.created, now), decimal(manifest.size), roles, about))
    print_table(("#version", "#age", "#size", "channels", "note and metrics"), rows)
