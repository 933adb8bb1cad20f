"""`lambda-torch diff`: show what changed from one release to another."""

from typing import Any

import click

from lambda_torch.commands._bucket import bucket_options, channel_option, json_option, opened, print_json


@click.command()
@click.argument("a")
@click.argument("b")
@bucket_options
@channel_option
@json_option
def command(a: str, b: str, bucket: str, endpoint_url: str | None, channel: str, as_json: bool) -> None:
    """Compare the releases A and B: their files, metrics and golden examples.

    A and B are versions, or the first letters of versions, or `current`, `previous` or `canary` for those of the
    channel.
    """
    from lambda_torch.releases.catalog import difference

    with opened(bucket, endpoint_url) as opened_bucket:
        one, other = (opened_bucket.release(opened_bucket.resolve(word, channel)) for word in (a, b))
    found = difference(one, other)
    if as_json:
        print_json(found)
    else:
        _print(found)


def _print(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    titles = [version[:16] for version in found["versions"]]
    files = Table("file", "change", *titles, title="files")
    for name, entry in found["files"].items():
        files.add_row(name, entry["change"], *("" if size is None else f"{size:,}" for size in entry["sizes"]))
    console.print(files)
    if found["metrics"]:
        metrics = Table("metric", *titles, title="metrics")
        for name, values in found["metrics"].items():
            metrics.add_row(name, *("" if value is None else f"{value:g}" for value in values))
        console.print(metrics)
    if found["golden"]:
        golden = Table("request", *titles, title="golden examples")
        for entry in found["golden"]:
            golden.add_row(str(entry["request"])[:60], *(str(response)[:60] for response in entry["responses"]))
        console.print(golden)
