"""`lambda-torch region`: the same stack in a second region, with the same releases and channels."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from lambda_torch.commands._bucket import (
    bucket_options,
    channel_name,
    dry_run_option,
    json_option,
    opened,
    print_json,
)
from lambda_torch.commands._pairs import parameters_option
from lambda_torch.commands._regions import RegionResult, follow_in, raise_if_behind
from lambda_torch.commands._tables import print_table

if TYPE_CHECKING:
    from boto3.session import Session
    from rich.console import Console

    from lambda_torch.releases.replicas import Replica
    from lambda_torch.stacks.twins import StackTwin, Twins


@click.group()
def command() -> None:
    """Serve from a second region, with the same releases and channels.

    `add` makes the stack there, copies the releases that channels name, and moves the channels there. From then on
    `publish`, `promote`, `rollback` and `canary` on the first bucket let every region follow: they copy the release and
    check it, and move the channel there afterwards.
    """


@command.command()
@click.argument("region")
@click.option("--stack", metavar="NAME", required=True, help="The deployed stack. The other one gets the same name.")
@click.option("--home", metavar="REGION", help="Where the stack is. Default: the region of your AWS settings.")
@parameters_option("A parameter that has another value there, such as KmsKeyArn=ARN.")
@click.option(
    "--packages-bucket",
    metavar="BUCKET",
    help="A bucket there for the code. Default: the one that `sam deploy --resolve-s3` uses, which is made if it is missing.",
)
@dry_run_option
@json_option
def add(
    region: str,
    stack: str,
    home: str | None,
    parameters: dict[str, str],
    packages_bucket: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make the stack in REGION, and let it follow the channels of this one.

    The other stack has the same template, packages, parameters and tags. Parameters that name something of the first
    region, such as subnets, need another value there. The command can be repeated: what is there already stays, and the
    rest is done.

    \b
    Example:
        lambda-torch region add eu-west-1 --stack models --parameter KmsKeyArn=arn:aws:kms:eu-west-1:...
    """
    import boto3
    from rich.console import Console

    from lambda_torch.aws_errors import explained
    from lambda_torch.errors import StackError
    from lambda_torch.releases.replicas import Replica, add_replica
    from lambda_torch.stacks.twins import STEPS, Twins

    console = Console(stderr=True, highlight=False)
    with explained(stack, "stack", StackError, STEPS):
        session = boto3.session.Session()
        first = home or session.region_name
        if first is None:
            raise StackError("No region is set.\nNext: give --home, or set AWS_DEFAULT_REGION.")
        twins = Twins(session, first, region)
        twin = twins.look(stack, parameters)
        made = twin.twin_bucket is None
        there = twin.twin_bucket
        if there is None and not dry_run:
            there = _make(twins, twin, session, packages_bucket, console)
    with opened(twin.bucket, None, region=first) as source:
        names = [state.name for state in source.channels()]
        results: list[RegionResult] = []
        if there is not None:
            replica = Replica(region=region, bucket=there)
            if not dry_run:
                add_replica(source, replica)
            results = [follow_in(source, replica, name, None, console, dry_run=dry_run) for name in names]
    if as_json:
        facts = {"stack": stack, "region": region, "bucket": there, "made": made and not dry_run, "dry_run": dry_run}
        print_json({**facts, "channels": {name: each.as_json() for name, each in zip(names, results, strict=False)}})
    elif dry_run and made:
        click.echo(f"The stack {stack} would be made in {region}, and follow {', '.join(names) or 'no channel yet'}.")
    elif not dry_run:
        click.echo(f"{region} follows {twin.bucket}.")
    raise_if_behind(results, twin.bucket)


def _make(
    twins: "Twins", twin: "StackTwin", session: "Session", packages_bucket: str | None, console: "Console"
) -> str:
    """Make the other stack, with a line for each step, and return its bucket."""

    def say(text: str) -> None:
        console.print(text, soft_wrap=True, markup=False)

    bucket = packages_bucket or _bucket_of_sam(twins.region, session.profile_name)
    url = twins.copy_packages(twin, bucket, lambda text: say(f"Copying {text}"))
    say(f"Making the stack {twin.name} in {twins.region}, which takes some minutes.")
    return twins.make(twin, url, say)


def _bucket_of_sam(region: str, profile: str | None) -> str:
    """The bucket that `sam deploy --resolve-s3` uses in a region. It is made if there is none."""
    import contextlib
    import sys

    from samcli.lib.bootstrap.bootstrap import manage_stack

    # It prints what it does to standard output, which is for the result.
    with contextlib.redirect_stdout(sys.stderr):
        bucket: str = manage_stack(profile=None if profile == "default" else profile, region=region)
    return bucket


@command.command("list")
@bucket_options
@json_option
def list_regions(bucket: str, endpoint_url: str | None, as_json: bool) -> None:
    """List the regions, and what each channel serves there. What is behind is marked."""
    from lambda_torch.errors import BucketError
    from lambda_torch.releases.replicas import compare, replicas_of

    rows: list[dict[str, Any]] = []
    with opened(bucket, endpoint_url) as source:
        names = [state.name for state in source.channels()]
        for replica in replicas_of(source):
            for name in names:
                row: dict[str, Any] = {"region": replica.region, "bucket": replica.bucket, "channel": name}
                try:
                    with opened(replica.bucket, endpoint_url, region=replica.region) as target:
                        found = compare(source, target, name)
                except BucketError as error:
                    rows.append({**row, "status": "cannot be read", "problem": str(error)})
                    continue
                if found is not None:
                    state = {"status": found.status, "serves": found.version, "wanted": found.wanted}
                    rows.append({**row, **state, "missing": list(found.missing)})
    if as_json:
        print_json(rows)
        return
    if not rows:
        click.echo(
            "No region follows a channel of this bucket. Next: lambda-torch region add REGION --stack NAME", err=True
        )
        return
    print_table(
        ("region", "channel", "#serves", "status", "#releases to copy"),
        [
            (
                row["region"],
                row["channel"],
                (row.get("serves") or "-")[:16],
                row["status"],
                str(len(row.get("missing", ()))),
            )
            for row in rows
        ],
    )
    for problem in dict.fromkeys(row["problem"] for row in rows if "problem" in row):
        click.echo(problem, err=True)


@command.command()
@bucket_options
@click.option("--region", "only", metavar="REGION", help="This region only. Default: all that follow.")
@click.option("--channel", metavar="NAME", callback=channel_name, help="This channel only. Default: all.")
@click.option("--force", is_flag=True, help="Take back moves that were made in the other region alone.")
@dry_run_option
@json_option
def sync(
    bucket: str,
    endpoint_url: str | None,
    only: str | None,
    channel: str | None,
    force: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Bring regions that are behind up to the first one: copy releases, check them, and move channels then."""
    from rich.console import Console

    from lambda_torch.releases.replicas import replicas_of

    console = Console(stderr=True, highlight=False)
    with opened(bucket, endpoint_url) as source:
        replicas = _chosen(replicas_of(source), only)
        names = [channel] if channel else [state.name for state in source.channels()]
        results = [
            follow_in(source, replica, name, endpoint_url, console, force=force, dry_run=dry_run)
            for replica in replicas
            for name in names
        ]
    if as_json:
        print_json([{**each.as_json(), "channel": each.channel.channel if each.channel else None} for each in results])
    raise_if_behind(results, bucket)


def _chosen(replicas: Sequence["Replica"], only: str | None) -> list["Replica"]:
    from lambda_torch.errors import BucketError

    found = [each for each in replicas if only in (None, each.region)]
    if not found:
        raise BucketError(
            f"{f'{only} does not follow' if only else 'No region follows'} this bucket.\n"
            "Next: lambda-torch region add REGION --stack NAME"
        )
    return found


@command.command()
@click.argument("region")
@bucket_options
@dry_run_option
def remove(region: str, bucket: str, endpoint_url: str | None, dry_run: bool) -> None:
    """Let REGION follow no more. Its stack stays, and serves what it serves now."""
    from lambda_torch.releases.replicas import remove_replica, replicas_of

    with opened(bucket, endpoint_url) as source:
        _chosen(replicas_of(source), region)
        if not dry_run:
            remove_replica(source, region)
    would = "would follow" if dry_run else "follows"
    click.echo(f"{region} {would} no more. To remove its stack: lambda-torch destroy NAME --region {region}")
