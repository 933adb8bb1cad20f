"""`lambda-torch layer publish`: publish the layer alone, for functions that are not this project's."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lambda_torch import project
from lambda_torch.commands._bucket import dry_run_option, json_option, print_json

if TYPE_CHECKING:
    from boto3.session import Session
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from lambda_torch.layers.built import BuiltLayer
    from lambda_torch.layers.versions import LayerVersionArn, Publication

ZIP = project.BUILD / "layer.zip"


@click.command()
@click.argument("path", type=click.Path(path_type=Path), default=ZIP)
@click.option(
    "--region",
    "regions",
    multiple=True,
    help="Where to publish. Can be given several times. Default: the region of your AWS settings.",
)
@click.option("--name", help="The name of the Lambda layer. Default: lambda-torch-RUNTIME-ARCHITECTURE.")
@click.option(
    "--bucket",
    help="Where the zip file is uploaded to if it has more than 50 MB. It is made if it does not exist, and may contain "
    "{region}. Default: lambda-torch-layers-ACCOUNT-REGION.",
)
@click.option(
    "--account", "accounts", multiple=True, help="Let this AWS account use the layer. Can be given several times."
)
@click.option(
    "--organization",
    "organizations",
    multiple=True,
    help="Let every account of this organization use the layer (o-...). Can be given several times.",
)
@click.option("--public", is_flag=True, help="Let every AWS account use the layer.")
@dry_run_option
@json_option
def publish(
    path: Path,
    regions: tuple[str, ...],
    name: str | None,
    bucket: str | None,
    accounts: tuple[str, ...],
    organizations: tuple[str, ...],
    public: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Publish the layer in PATH as a version of a Lambda layer, and print its ARN. Default: build/layer.zip.

    A function of any kind can use it by this ARN. docs/layer-only.md shows how with SAM, CDK, Terraform and Serverless
    Framework. The same content is published once in each region. Another call with that content prints the ARN that
    exists. Runtimes, architectures and licences of the version come from the layer itself.

    \b
    Examples:
        lambda-torch layer publish
        lambda-torch layer publish --region eu-west-1 --region us-east-1 --account 123456789012
    """
    import boto3
    from rich.console import Console

    from lambda_torch.aws_errors import explained
    from lambda_torch.errors import LayerError
    from lambda_torch.layers.built import opened_layer
    from lambda_torch.layers.grants import grants_of
    from lambda_torch.layers.versions import Publication, check

    console = Console(stderr=True, highlight=False)
    grants = grants_of(public, organizations, accounts)
    with explained("this account", "layer in", LayerError):
        session = boto3.session.Session()
    chosen = tuple(dict.fromkeys(regions or ((session.region_name,) if session.region_name else ())))
    if not chosen:
        raise LayerError("No region is set.\nNext: give --region, or set AWS_DEFAULT_REGION.")
    with opened_layer(path, lambda step: console.print(step, soft_wrap=True)) as layer:
        publication = Publication(layer, name or layer.name, bucket, grants, dry_run)
        check(publication, chosen)
        done, failed = _everywhere(publication, chosen, session, console, as_json)
    if as_json:
        print_json(_facts(layer, publication, done, failed))
    if failed:
        for text in failed.values():
            console.print(f"Error: {text}", style="red", soft_wrap=True, markup=False)
        raise SystemExit(1)


def _everywhere(
    publication: "Publication", regions: tuple[str, ...], session: "Session", console: "Console", as_json: bool
) -> tuple[list["LayerVersionArn"], dict[str, str]]:
    """Publish in each region. A failure in one region does not keep the others from it."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from lambda_torch.aws_errors import explained
    from lambda_torch.errors import LayerError
    from lambda_torch.layers import versions

    done, failed = [], {}
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    for region in regions:
        try:
            with (
                Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar,
                explained(f"{publication.name} in {region}", "layer", LayerError, versions.STEPS),
            ):
                task = bar.add_task(f"Uploading to {region}", total=publication.layer.zip_bytes)
                version = versions.publish(publication, region, session, partial(_advance, bar, task))
        except LayerError as error:
            failed[region] = str(error)
            continue
        done.append(version)
        console.print(_line(publication, version), soft_wrap=True, markup=False)
        if not as_json and version.arn:
            click.echo(version.arn)
    return done, failed


def _advance(bar: "Progress", task: "TaskID", sent: int) -> None:
    bar.update(task, advance=sent)


def _line(publication: "Publication", version: "LayerVersionArn") -> str:
    """What happened in a region, in words."""
    dry = publication.dry_run
    if version.existed:
        text = f"{version.region}: version {version.version} has this content already."
    elif dry:
        text = f"{version.region}: {publication.name} would get a new version."
    else:
        text = f"{version.region}: published version {version.version}."
    if version.bucket:
        text += f" The zip file {'would go' if dry else 'went'} to the bucket {version.bucket}."
    if version.granted:
        text += f" {'It would be' if dry else 'It is'} open to {', '.join(version.granted)}."
    return text


def _facts(
    layer: "BuiltLayer", publication: "Publication", done: list["LayerVersionArn"], failed: dict[str, str]
) -> dict[str, Any]:
    return {
        "name": publication.name,
        "torch": layer.torch,
        "tree_sha256": layer.tree_sha256,
        "zip_sha256": layer.zip_sha256,
        "zip_bytes": layer.zip_bytes,
        "unzipped_bytes": layer.unzipped_bytes,
        "runtimes": list(layer.runtimes),
        "architectures": list(layer.architectures),
        "license_info": layer.license_info,
        "versions": [{**each._asdict(), "arn": each.arn or None, "version": each.version or None} for each in done],
        "failed": failed,
        "dry_run": publication.dry_run,
    }
