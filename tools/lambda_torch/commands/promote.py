"""`lambda-torch promote`: make a release the current one of a channel."""

import click

from lambda_torch.commands._bucket import (
    bucket_options,
    channel_option,
    dry_run_option,
    json_option,
    model_name_option,
    opened,
    print_json,
)


@click.command()
@click.argument("version")
@bucket_options
@model_name_option
@channel_option
@dry_run_option
@json_option
def command(
    version: str, bucket: str, endpoint_url: str | None, model: str, channel: str, dry_run: bool, as_json: bool
) -> None:
    """Make VERSION the current release of the channel.

    The first letters of the version are enough. `canary` and `previous` mean those releases of the channel.
    """
    from lambda_torch.releases.channels import promote

    with opened(bucket, endpoint_url, model) as opened_bucket:
        ref = opened_bucket.release(opened_bucket.resolve(version, channel)).ref
        moved, before = promote(opened_bucket, channel, ref, dry_run=dry_run)
    if as_json:
        print_json({"channel": channel, "dry_run": dry_run, **moved.model_dump(mode="json")})
    elif before == ref.version:
        click.echo(f"{channel} already serves {ref.version}.")
    else:
        click.echo(f"{channel} {'would serve' if dry_run else 'now serves'} {ref.version}.")
