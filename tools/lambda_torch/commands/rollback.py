"""`lambda-torch rollback`: make the previous release current again."""

import click

from lambda_torch.commands._bucket import (
    bucket_options,
    channel_option,
    dry_run_option,
    json_option,
    opened,
    print_json,
)
from lambda_torch.commands._regions import follow_everywhere, raise_if_behind


@click.command()
@bucket_options
@channel_option
@dry_run_option
@json_option
def command(bucket: str, endpoint_url: str | None, channel: str, dry_run: bool, as_json: bool) -> None:
    """Serve the previous release again. A second rollback undoes the first."""
    from lambda_torch.releases.channels import rollback

    with opened(bucket, endpoint_url) as opened_bucket:
        moved = rollback(opened_bucket, channel, dry_run=dry_run)
        regions = follow_everywhere(opened_bucket, channel, endpoint_url, dry_run=dry_run)
    if as_json:
        facts = {"channel": channel, "dry_run": dry_run, **moved.model_dump(mode="json")}
        print_json({**facts, "regions": [each.as_json() for each in regions]})
    else:
        click.echo(f"{channel} {'would serve' if dry_run else 'now serves'} {moved.current.version}.")
    raise_if_behind(regions, bucket)
