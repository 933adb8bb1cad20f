"""`lambda-torch destroy`: remove a stack with its releases, so that nothing of it is left to pay."""

from typing import TYPE_CHECKING

import click

from lambda_torch.commands._bucket import dry_run_option, json_option, print_json

if TYPE_CHECKING:
    from rich.console import Console

    from lambda_torch.stacks.removal import StackContent, StackRemoval


@click.command()
@click.argument("stack")
@click.option("--region", help="Where the stack is. Default: the region of your AWS settings.")
@click.option("--yes", is_flag=True, help="Do not ask. For scripts.")
@dry_run_option
@json_option
def command(stack: str, region: str | None, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Remove STACK with everything that it holds. The releases in its bucket cannot be brought back.

    `sam delete` keeps the bucket of the releases. This command first asks you to type the name of the stack. Then it
    empties the bucket (every version of every file), deletes the stack, the bucket and the packages that `sam deploy`
    uploaded for it, and checks that nothing is left. If it is interrupted, the same command continues.

    \b
    Example:
        lambda-torch destroy lambda-torch-dev
    """
    import boto3
    from rich.console import Console

    from lambda_torch.aws_errors import explained
    from lambda_torch.errors import StackError
    from lambda_torch.stacks.removal import STEPS, StackRemoval, facts_of

    console = Console(stderr=True, highlight=False)
    with explained(stack, "stack", StackError, STEPS):
        removal = StackRemoval(boto3.session.Session(), region)
        content = removal.look(stack)
        console.print(_summary(content), soft_wrap=True, markup=False)
        if dry_run:
            left: list[str] = []
        else:
            if not yes:
                _ask(stack)
            _remove(removal, content, console)
            left = removal.left(content)
    if as_json:
        print_json({**facts_of(content), "left": left, "dry_run": dry_run})
    if left:
        raise StackError("\n".join(["This is left:", *(f"  {each}" for each in left), "Next: delete it yourself."]))
    if not dry_run:
        console.print("Everything is gone.")


def _summary(content: "StackContent") -> str:
    """What goes, in words."""
    from rich.filesize import decimal

    lines = [f"The stack {content.name}: {content.count} resources"]
    if content.bucket is not None:
        lines.append(
            f"The bucket {content.bucket}: {content.size.objects} versions of files, {decimal(content.size.bytes)}"
        )
    if content.packages:
        lines.append(f"Packages that `sam deploy` uploaded: {len(content.packages)}")
    return "\n".join(lines)


def _ask(stack: str) -> None:
    """Let the user type the stack's name.

    Raises:
        click.ClickException: another name was typed.
    """
    typed = click.prompt(
        "All of this will be removed, and cannot be brought back. Type the name of the stack to go on",
        default="",
        show_default=False,
        err=True,
    )
    if typed != stack:
        raise click.ClickException(f"{typed!r} is not the name of the stack. Nothing was changed.")


def _remove(removal: "StackRemoval", content: "StackContent", console: "Console") -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        emptying = bar.add_task("Emptying the bucket", total=content.size.objects)
        removal.empty_bucket(content, lambda gone: bar.update(emptying, advance=gone))
        console.print("The bucket is empty. Deleting the stack, which takes some minutes.")
        deleting = bar.add_task("Deleting the stack", total=len(content.resources))
        removal.delete_stack(content, lambda gone: bar.update(deleting, completed=gone))
    removal.delete_rest(content)
