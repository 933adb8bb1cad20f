"""`lambda-torch diff`: show what changed from one release to another."""

import json
from typing import Any

import click

from lambda_torch.commands._bucket import (
    bucket_options,
    channel_option,
    json_option,
    model_name_option,
    opened,
    print_json,
)
from lambda_torch.commands._tables import print_table

# Characters of a request or a response.
LONGEST = 300


@click.command()
@click.argument("a")
@click.argument("b")
@bucket_options
@model_name_option
@channel_option
@json_option
def command(a: str, b: str, bucket: str, endpoint_url: str | None, model: str, channel: str, as_json: bool) -> None:
    """Compare the releases A and B: their files, metrics and golden examples.

    A and B are versions, or the first letters of versions, or `current`, `previous` or `canary` for those of the
    channel.
    """
    from lambda_torch.releases.catalog import difference

    with opened(bucket, endpoint_url, model=model) as opened_bucket:
        one, other = (opened_bucket.release(opened_bucket.resolve(word, channel)) for word in (a, b))
    found = difference(one, other)
    if as_json:
        print_json(found)
    else:
        _print(found)


def _print(found: dict[str, Any]) -> None:
    titles = [version[:16] for version in found["versions"]]
    print_table(
        ("file", "change", *(f"#{title}" for title in titles)),
        [
            (name, entry["change"], *("" if size is None else f"{size:,}" for size in entry["sizes"]))
            for name, entry in found["files"].items()
        ],
        "Files, in bytes",
    )
    if found["metrics"]:
        rows = [
            (name, *("" if value is None else f"{value:g}" for value in values))
            for name, values in found["metrics"].items()
        ]
        print_table(("metric", *(f"#{title}" for title in titles)), rows, "Metrics")
    if found["golden"]:
        shown = [(entry["request"], *entry["responses"]) for entry in found["golden"]]
        print_table(("request", *titles), [tuple(map(_short, row)) for row in shown], "Golden examples")


def _short(value: Any) -> str:
    """A value as JSON. A long one ends between two items, so that no number is cut."""
    text = "" if value is None else json.dumps(value, ensure_ascii=False)
    if len(text) <= LONGEST:
        return text
    place = max(text.rfind(sign, 0, LONGEST) for sign in (", ", " "))
    return f"{text[:place] if place > 0 else text[:LONGEST]} ..."
