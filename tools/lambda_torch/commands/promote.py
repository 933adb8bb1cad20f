"""`lambda-torch promote`: make a release the current one of a channel, also in the bucket of another account."""

from typing import TYPE_CHECKING, Any

import click

from lambda_torch.commands._bucket import (
    bucket_options,
    channel_name,
    channel_option,
    dry_run_option,
    json_option,
    opened,
    print_json,
)
from lambda_torch.commands._regions import copying_bar, follow_everywhere, raise_if_behind

if TYPE_CHECKING:
    from lambda_torch.releases.bucket import Bucket
    from lambda_torch.releases.copying import CopiedRelease
    from serving.releases.format import ReleaseRef


@click.command()
@click.argument("version")
@bucket_options
@channel_option
@click.option("--profile", help="The AWS profile that reads --bucket. Default: the credentials of the environment.")
@click.option(
    "--to-bucket",
    metavar="BUCKET",
    help="Copy the release to this bucket, such as that of production, and move the channel there. It may be in another "
    "account.",
)
@click.option(
    "--to-channel", metavar="NAME", callback=channel_name, help="The channel there. Default: the same as --channel."
)
@click.option(
    "--to-profile", metavar="NAME", help="The AWS profile that writes --to-bucket. Default: the same credentials."
)
@click.option(
    "--to-role", metavar="ARN", help="A role to take on for --to-bucket, with --to-profile or the environment."
)
@click.option("--to-region", metavar="REGION", help="Where --to-bucket is. Default: the region of the AWS settings.")
@dry_run_option
@json_option
def command(
    version: str,
    bucket: str,
    endpoint_url: str | None,
    channel: str,
    profile: str | None,
    to_bucket: str | None,
    to_channel: str | None,
    to_profile: str | None,
    to_role: str | None,
    to_region: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make VERSION the current release of the channel.

    The first letters of the version are enough. `current`, `canary` and `previous` mean those releases of the channel.

    With --to-bucket, the release is copied to that bucket first: every file is hashed on its way, and again as the target
    has it. Then the channel is moved there. Nothing changes in --bucket. The target's stack names the role that may do so in
    its parameter ReleaseWriters.

    \b
    Examples:
        lambda-torch promote 3f2a
        lambda-torch promote current --bucket staging-models --profile staging --to-bucket models --to-profile production
    """
    from lambda_torch.releases.channels import promote

    there = (to_channel, to_profile, to_role, to_region)
    if to_bucket is None and any(value is not None for value in there):
        raise click.UsageError("--to-channel, --to-profile, --to-role and --to-region need --to-bucket.")
    copied = None
    with opened(bucket, endpoint_url, profile=profile) as source:
        found = source.resolve(version, channel)
        if to_bucket is None:
            target, name, ref = source, channel, source.release(found).ref
        else:
            name = to_channel or channel
            with opened(to_bucket, endpoint_url, region=to_region, profile=to_profile, role_arn=to_role) as target:
                copied = _copy(source, target, found, dry_run=dry_run)
            ref = copied.release.ref
        moved, before = promote(target, name, ref, dry_run=dry_run)
        regions = follow_everywhere(target, name, endpoint_url, dry_run=dry_run)
    if as_json:
        facts: dict[str, Any] = {"channel": name, "dry_run": dry_run, **moved.model_dump(mode="json")}
        if copied is not None:
            facts |= {"bucket": to_bucket, "sent": list(copied.sent), "existed": copied.existed}
        print_json({**facts, "regions": [each.as_json() for each in regions]})
    else:
        _say(name, ref, before, to_bucket, dry_run=dry_run)
    raise_if_behind(regions, target.name)


def _copy(source: "Bucket", target: "Bucket", version: str, *, dry_run: bool) -> "CopiedRelease":
    """Copy the release, with a bar, and say what was sent."""
    from rich.console import Console

    from lambda_torch.releases.copying import copy_release

    console = Console(stderr=True, highlight=False)
    size = source.release(version).manifest.size
    with copying_bar(f"Copying {version[:16]}", 2 * size, console) as progress:
        copied = copy_release(source, target, version, progress=progress, dry_run=dry_run)
    sent = f"{len(copied.sent)} files {'would be ' if dry_run else ''}sent." if copied.sent else "It had every file."
    console.print(f"{target.name}: {sent}", soft_wrap=True)
    if not copied.same_manifest:
        console.print(
            f"{target.name} has this release with a note, metrics or golden examples of its own. They stay.",
            style="yellow",
            soft_wrap=True,
        )
    return copied


def _say(channel: str, ref: "ReleaseRef", before: str | None, bucket: str | None, *, dry_run: bool) -> None:
    where = f"{channel} of {bucket}" if bucket else channel
    if before == ref.version:
        click.echo(f"{where} already serves {ref.version}.")
    else:
        click.echo(f"{where} {'would serve' if dry_run else 'now serves'} {ref.version}.")
