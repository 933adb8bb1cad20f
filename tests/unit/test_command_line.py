"""`lambda-torch`: what every subcommand has in common."""

import errno
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from rich.console import Console

from lambda_torch.cli import COMMANDS, main
from lambda_torch.commands._model import sample_model
from lambda_torch.commands._running import options_of, run_options


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    """--help of each has a sentence, and nothing is run."""
    done = CliRunner().invoke(main, [name, "--help"])
    assert done.exit_code == 0
    assert done.output.startswith(f"Usage: main {name} ")
    assert ". " in done.output.replace("\n", " ")


@pytest.mark.parametrize("output", ["nowhere/api.json", "file/api.json"])
def test_a_file_that_cannot_be_written_is_named(output: str, tmp_path: Path) -> None:
    """One line with the file and the system's reason; no trace."""
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(main, ["openapi", "--output", str(tmp_path / output)])
    assert done.exit_code == 1
    assert done.output.startswith(f"Error: {tmp_path / output}: ")


def test_the_samples_own_commands_say_that_the_model_was_replaced() -> None:
    """Where src/model is a model of one's own, training the sample is refused; other defects are not hidden."""
    with pytest.raises(click.ClickException, match=r"src/model is not the sample model.* --release"), sample_model():
        import_module("model.nowhere")
    with pytest.raises(ModuleNotFoundError), sample_model():
        import_module("nowhere")


def test_a_defect_keeps_its_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the system that is about no file is not taken for one."""

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr("lambda_torch.commands.openapi.document", broken)
    done = CliRunner().invoke(main, ["openapi"])
    assert isinstance(done.exception, OSError)


@pytest.mark.parametrize(("words", "expected"), [((), None), (("--allow-programs",), "true")])
def test_programs_are_allowed_by_a_flag(words: tuple[str, ...], expected: str | None, tmp_path: Path) -> None:
    """`--allow-programs` reaches the function as ALLOW_PROGRAMS, beside the variables of --env."""
    found: dict[str, str] = {}

    @click.command()
    @run_options
    @click.pass_context
    def command(context: click.Context, /, **options: Any) -> None:
        """Make the options of a run."""
        found.update(options_of(context, Console(), **options).variables)

    done = CliRunner().invoke(
        command, [*words, "--layer", "stock", "--release", str(tmp_path), "--env", "A=1"], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    assert found.pop("ALLOW_PROGRAMS", None) == expected
    assert found == {"A": "1"}
