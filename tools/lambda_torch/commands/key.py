"""`lambda-torch key`: make a key that signs releases, and show its public half."""

from pathlib import Path

import click


@click.group()
def command() -> None:
    """Make and show keys that sign releases.

    The function takes only signed releases if the stack's parameter ReleaseSigner (the variable RELEASE_SIGNERS) names
    public keys. `lambda-torch publish --sign FILE` signs.
    """


@command.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def new(file: Path) -> None:
    """Make a private key in the new FILE, and print its public key, which is for ReleaseSigner.

    Everyone who has FILE can sign releases. Keep it secret, and keep a copy.
    """
    from lambda_torch.releases.keys import new_key

    click.echo(new_key(file).signer)
    click.echo(
        f"The private key is in {file}. Only you can read it. Sign: lambda-torch publish --sign {file}", err=True
    )


@command.command()
@click.argument("key", metavar="[FILE|awskms:KEY]", required=False)
@click.option("--stack", metavar="NAME", help="The key of this deployed stack (parameter SigningKey).")
def show(key: str | None, stack: str | None) -> None:
    """Print the public key of a private key in a FILE, of a KEY of AWS KMS (its id, ARN or alias), or of a stack."""
    from lambda_torch.releases.deployed import key_of_stack
    from lambda_torch.releases.keys import open_key

    if (key is None) == (stack is None):
        raise click.UsageError("Name one key: FILE, awskms:KEY or --stack NAME.")
    click.echo(open_key(key_of_stack(stack) if stack is not None else str(key)).signer)
