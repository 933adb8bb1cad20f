"""`lambda-torch`: one command, its subcommands loaded only when they are called.

Each subcommand is a click command in `lambda_torch.commands`; importing torch or SAM for `--help` would take seconds.
"""

from importlib import import_module
from typing import Any

import click

from lambda_torch import project

# name -> (module in lambda_torch.commands, one line for the overview)
COMMANDS = {
    "train": ("train", "Train the sample model (names) into a release folder."),
    "import": ("import_", "Make a release folder from a state dict and a parameters pickle."),
    "convert": ("convert", "Convert a PyTorch checkpoint (.pth, .bin) to safetensors."),
    "publish": ("publish", "Upload a release folder to the bucket and make it current."),
    "releases": ("releases", "List the releases in the bucket, and which channel names them."),
    "promote": ("promote", "Make a release the current one."),
    "rollback": ("rollback", "Serve the previous release again."),
    "canary": ("canary", "Let a release answer a share of the requests."),
    "diff": ("diff", "Compare two releases."),
    "verify": ("verify", "Check every byte of a release."),
    "gc": ("gc", "Remove old releases that nothing names."),
    "serve": ("serve", "Serve the function at a local address, with no Docker and no AWS account."),
    "local": ("local", "Serve the function in AWS's own container, by sam local start-api."),
    "invoke": ("invoke", "Send one event to the function and print its answer."),
    "bench": ("bench", "Measure the function beside other ways to serve PyTorch."),
    "openapi": ("openapi", "Print the API's OpenAPI document."),
    "bulk": ("bulk", "Answer every line of a file, by the deployed stack or on this machine."),
    "tune": ("tune", "Measure memory sizes, price them, and recommend one."),
    "layer": ("layer", "Look into layers: where every byte went."),
}


class LazyGroup(click.Group):
    """A group that knows its subcommands' names and imports a subcommand's module only to run it or to show its help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The subcommands in the order in which a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The click command called `command` in the subcommand's module; None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"lambda_torch.commands.{COMMANDS[cmd_name][0]}").command
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand; a file that cannot be read or written is told by its name, and not by a trace."""
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.filename is None:
                raise
            raise click.ClickException(f"{error.filename}: {error.strerror}") from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The overview, from COMMANDS alone: no subcommand is imported for it."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lambda-torch")
def main() -> None:
    """Serve PyTorch models on AWS Lambda."""
    project.use_function_code()
