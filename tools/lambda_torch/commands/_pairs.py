"""Options that take NAME=VALUE several times."""

from collections.abc import Callable

import click


def parameters_option(text: str) -> Callable[[click.decorators.FC], click.decorators.FC]:
    """`--parameter NAME=VALUE`, which the command gets as the dictionary `parameters`.

    Args:
        text: what such a parameter is, for the help.
    """
    return click.option(
        "--parameter",
        "parameters",
        multiple=True,
        metavar="NAME=VALUE",
        callback=named_values,
        help=f"{text} Can be given several times.",
    )


def named_values(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """What click calls with the texts of such an option."""
    pairs = {}
    for text in values:
        name, separator, value = text.partition("=")
        if not name or not separator:
            raise click.BadParameter(f"{text!r} is not NAME=VALUE")
        pairs[name] = value
    return pairs
