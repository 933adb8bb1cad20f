"""`lambda-torch canary`: let a release answer a share of the requests."""

import math

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


def _share(_context: click.Context, _parameter: click.Parameter, value: float | None) -> float | None:
    # NaN is neither below nor above any bound.
    if value is not None and math.isnan(value):
        raise click.BadParameter("it is not a number")
    return value


@click.command()
@click.argument("version", required=False)
@click.option(
    "--share",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    callback=_share,
    help="Between 0 and 1: 0.1 is one request in ten.",
)
@click.option("--off", is_flag=True, help="End the canary.")
@bucket_options
@channel_option
@dry_run_option
@json_option
def command(
    version: str | None,
    share: float | None,
    off: bool,
    bucket: str,
    endpoint_url: str | None,
    channel: str,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Let VERSION answer a share of the requests, beside the current release.

    Later, `lambda-torch promote canary` makes it the current release, and `--off` ends it. Equal requests get the same
    release. With the header X-Canary-Key, requests with equal keys do. Every answer names its release in
    X-Model-Version.
    """
    from lambda_torch.releases.channels import set_canary

    if off == (version is not None) or off == (share is not None):
        raise click.UsageError("Give a VERSION and its --share, or --off alone.")
    with opened(bucket, endpoint_url) as opened_bucket:
        ref = None if version is None else opened_bucket.release(opened_bucket.resolve(version, channel)).ref
        moved = set_canary(opened_bucket, channel, ref, share or 0.0, dry_run=dry_run)
        regions = follow_everywhere(opened_bucket, channel, endpoint_url, dry_run=dry_run)
    if as_json:
        facts = {"channel": channel, "dry_run": dry_run, **moved.model_dump(mode="json")}
        print_json({**facts, "regions": [each.as_json() for each in regions]})
    elif ref is None:
        click.echo(
            f"{channel} {'would have' if dry_run else 'has'} no canary; {moved.current.version} answers everything."
        )
    else:
        click.echo(f"{ref.version} {'would answer' if dry_run else 'answers'} {(share or 0) * 100:.3g}% of {channel}.")
    raise_if_behind(regions, bucket)
