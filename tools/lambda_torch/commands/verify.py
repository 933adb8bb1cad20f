"""`lambda-torch verify`: read every byte of a release and compare it with its manifest."""

import click

from lambda_torch.commands._bucket import (
    bucket_options,
    channel_option,
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
@json_option
def command(version: str, bucket: str, endpoint_url: str | None, model: str, channel: str, as_json: bool) -> None:
    """Check that every file of VERSION exists and every byte is as published, and show who signed it.

    If a file or a signature is not right, the exit status is 1.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    from lambda_torch.releases.catalog import signers, verify

    with opened(bucket, endpoint_url, model=model) as opened_bucket:
        release = opened_bucket.release(opened_bucket.resolve(version, channel))
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(f"Verifying {release.ref.version[:16]}", total=release.manifest.size)
            problems = verify(opened_bucket, release, lambda count: bar.update(task, advance=count))
        signed = signers(opened_bucket, release)
    problems += [f"the signature of {signer} is not valid" for signer, valid in signed.items() if not valid]
    valid_signers = [signer for signer, valid in signed.items() if valid]
    if as_json:
        print_json({"version": release.ref.version, "problems": problems, "signers": valid_signers})
    else:
        for problem in problems:
            click.echo(problem, err=True)
        click.echo(f"{release.ref.version} {'is damaged' if problems else 'is complete'}.")
        click.echo("\n".join(f"Signed by {signer}." for signer in valid_signers) or "It is not signed.", err=True)
    if problems:
        raise SystemExit(1)
