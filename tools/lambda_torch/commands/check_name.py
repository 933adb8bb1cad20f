"""`lambda-torch check-name`: check the name of a stack before it is deployed."""

from pathlib import Path

import click

from lambda_torch import project
from lambda_torch.commands._bucket import json_option, print_json


def template_option(function: click.decorators.FC) -> click.decorators.FC:
    """`--template`."""
    return click.option(
        "--template",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        default=project.TEMPLATE,
        help="The template of the stack. Default: template.yaml of the project.",
    )(function)


@click.command()
@click.argument("stack")
@template_option
@json_option
def command(stack: str, template: Path, as_json: bool) -> None:
    """Check that STACK is short enough. Some resources get names that contain the name of the stack.

    AWS refuses a name that is too long in the middle of a deploy. Run this before the first deploy of a new stack. The
    exit status is 1 if a name is too long.

    \b
    Example:
        lambda-torch check-name my-company-production-europe
    """
    from lambda_torch.stacks.name_limits import check_name
    from lambda_torch.stacks.template import StackTemplate

    names = check_name(stack, StackTemplate(template, stack_name=stack))
    if as_json:
        print_json({"stack": stack, "names": [{**given._asdict(), "over": given.over} for given in names]})
        return
    for given in names:
        click.echo(f"{given.resource}: {given.name} ({len(given.name)} of {given.limit} characters)")
