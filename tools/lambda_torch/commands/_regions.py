"""How the commands that move a channel let the buckets of other regions follow."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from lambda_torch.commands._bucket import opened

if TYPE_CHECKING:
    from rich.console import Console

    from lambda_torch.releases.bucket import Bucket
    from lambda_torch.releases.replicas import FollowedChannel, Replica
    from lambda_torch.releases.storing import Progress


class RegionResult(NamedTuple):
    """What became of a channel in a region.

    Attributes:
        replica: the region and its bucket.
        channel: how the channel stands there. None if that is not known.
        problem: why it does not follow. None if it does.
    """

    replica: "Replica"
    channel: "FollowedChannel | None"
    problem: str | None

    def as_json(self) -> dict[str, Any]:
        """The facts for `--json`."""
        status = self.channel.status if self.channel else None
        return {"region": self.replica.region, "bucket": self.replica.bucket, "status": status, "problem": self.problem}


def follow_everywhere(
    source: "Bucket", channel: str, endpoint_url: str | None, *, dry_run: bool = False
) -> list[RegionResult]:
    """Let the channel follow in each other region, and print a line for each. A region that fails keeps no other from it.

    With `dry_run` the channel was not moved here, so there is nothing to compare: the regions are only listed.
    """
    from rich.console import Console

    from lambda_torch.errors import BucketError
    from lambda_torch.releases.replicas import replicas_of

    console = Console(stderr=True, highlight=False)
    try:
        replicas = replicas_of(source)
    except BucketError as error:
        status = getattr(error.__cause__, "response", {}).get("ResponseMetadata", {}).get("HTTPStatusCode")
        if status != 403:
            raise
        console.print("This identity may not read regions.json, so no other region was looked at.", style="yellow")
        return []
    if dry_run:
        for each in replicas:
            console.print(f"{each.region}: {channel} would follow.")
        return [RegionResult(each, None, None) for each in replicas]
    return [follow_in(source, each, channel, endpoint_url, console) for each in replicas]


def follow_in(
    source: "Bucket",
    replica: "Replica",
    channel: str,
    endpoint_url: str | None,
    console: "Console",
    *,
    force: bool = False,
    dry_run: bool = False,
) -> RegionResult:
    """Let the channel follow in one region, and print a line."""
    from lambda_torch.errors import BucketError
    from lambda_torch.releases.replicas import compare, follow

    found, problem = None, None
    try:
        with opened(replica.bucket, endpoint_url, region=replica.region) as target:
            before = compare(source, target, channel)
            total = 2 * sum(source.release(version).manifest.size for version in before.missing) if before else 0
            with copying_bar(f"Copying to {replica.region}", total, console) as progress:
                found = follow(source, target, channel, force=force, progress=progress, dry_run=dry_run)
    except BucketError as error:
        problem = str(error)
    if found is not None and found.status == "moved there":
        problem = (
            f"{channel} was moved in {replica.region} alone, after it was moved here. It stays as it is there.\n"
            f"Next: promote in both (lambda-torch promote VERSION), or lambda-torch region sync --force."
        )
    console.print(_line(replica.region, channel, found, problem, dry_run), soft_wrap=True, markup=False)
    return RegionResult(replica, found, problem)


def _line(region: str, channel: str, found: "FollowedChannel | None", problem: str | None, dry_run: bool) -> str:
    if problem is not None:
        return f"{region}: behind. {problem}"
    if found is None:
        return f"{region}: there is no channel {channel}."
    if found.status == "same":
        return f"{region}: {channel} serves {found.wanted[:16]}."
    assert dry_run
    return f"{region}: {channel} would serve {found.wanted[:16]}; {len(found.missing)} releases would be copied."


def raise_if_behind(results: Sequence[RegionResult], bucket: str) -> None:
    """End the command with status 1 if a region does not follow.

    Raises:
        BucketError: it names the regions, and the command that repeats it.
    """
    from lambda_torch.errors import BucketError

    if behind := [each.replica.region for each in results if each.problem is not None]:
        raise BucketError(
            f"Behind: {', '.join(behind)}. This region is as it should be.\n"
            f"Next: lambda-torch region sync --bucket {bucket}"
        )


@contextmanager
def copying_bar(text: str, total: int, console: "Console") -> Iterator["Progress"]:
    """A bar for `copy_release`, whose bytes are sent and then checked."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(text, total=total)
        yield _advancer(lambda count: bar.update(task, advance=count))


def _advancer(advance: Callable[[int], None]) -> "Progress":
    return lambda _name, count: advance(count)
