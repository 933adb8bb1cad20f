"""`lambda-torch`: one command whose subcommands are loaded only when they are called.

Each subcommand is a click command in `lambda_torch.commands`. To import torch or SAM for `--help` would take seconds.
"""

from importlib import import_module
from typing import Any

import click

from lambda_torch import project
from lambda_torch.errors import LambdaTorchError

# name -> (module in lambda_torch.commands, one line for the overview)
COMMANDS = {
    "init": ("init", "Make a project for a model of your own."),
    "check": ("check", "Go through a model before it is published: code, answers, packages, sizes."),
    "upgrade": ("upgrade", "Bring the files of a project up to this version of lambda-torch."),
    "train": ("train", "Train the sample model (names) into a release folder."),
    "import": ("import_", "Make a release folder from a state dict and a parameters pickle."),
    "convert": ("convert", "Convert a PyTorch checkpoint (.pth, .bin) to safetensors."),
    "publish": ("publish", "Upload a release folder to the bucket and make it current."),
    "releases": ("releases", "List the releases in the bucket, and the channels that name them."),
    "promote": ("promote", "Make a release the current one."),
    "rollback": ("rollback", "Serve the previous release again."),
    "canary": ("canary", "Let a release answer a share of the requests."),
    "diff": ("diff", "Compare two releases."),
    "verify": ("verify", "Check every byte of a release."),
    "region": ("region", "Serve from a second region, with the same releases and channels."),
    "gc": ("gc", "Remove old releases that no channel names."),
    "key": ("key", "Make a key that signs releases, and show its public half."),
    "serve": ("serve", "Serve the function on this machine, without Docker and without an AWS account."),
    "local": ("local", "Serve the function in AWS's own container, with sam local start-api."),
    "invoke": ("invoke", "Send one event to the function and print its answer."),
    "event": ("event", "Make an event from a file, such as an image, for invoke and for sam local invoke."),
    "bench": ("bench", "Measure the function beside other ways to serve PyTorch."),
    "openapi": ("openapi", "Print the OpenAPI document of the API."),
    "bulk": ("bulk", "Answer every line of a file, with the deployed stack or on this machine."),
    "tune": ("tune", "Measure memory sizes, compute their prices, and recommend one."),
    "cost": ("cost", "Compute what a stack costs in a month, from its template and dated prices."),
    "check-name": ("check_name", "Check that the name of a stack is short enough, before it is deployed."),
    "destroy": ("destroy", "Remove a stack with its releases, so that nothing of it is left to pay."),
    "layer": ("layer", "Show what is in a layer, record what your model uses of torch, and publish the layer."),
}

# What a command may miss when only the package is installed: module -> the extra that installs it.
EXTRAS = {
    "torch": "torch",
    "numpy": "torch",
    "safetensors": "torch",
    "cryptography": "sign",
    "faker": "train",
    "anyascii": "train",
    "aiohttp": "serve",
    "httptools": "serve",
    "samcli": "serve",
    "moto": "serve",
    "watchdog": "serve",
    "werkzeug": "serve",
}


class LazyGroup(click.Group):
    """A group that knows the names of its subcommands. It imports a subcommand to run it or to show its help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The subcommands, in the order in which a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The click command called `command` in the module of the subcommand. None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"lambda_torch.commands.{COMMANDS[cmd_name][0]}").command
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand. What the user can mend becomes a message and exit status 1, without a traceback."""
        try:
            return super().invoke(ctx)
        except LambdaTorchError as error:
            raise click.ClickException(str(error)) from error
        except ModuleNotFoundError as error:
            extra = EXTRAS.get((error.name or "").partition(".")[0])
            if extra is None:
                raise
            raise click.ClickException(
                f"This command needs the package {error.name}, which is not installed. "
                f"Next: {project.install_hint(extra)}"
            ) from error
        except OSError as error:
            if error.filename is None:
                raise
            raise click.ClickException(f"{error.filename}: {error.strerror}") from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The overview, from COMMANDS alone. No subcommand is imported for it."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lambda-torch")
def main() -> None:
    """Serve PyTorch models on AWS Lambda."""
    project.use_function_code()
