"""Training with output on a console: the names, the progress, and the result."""

from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lambda_torch.names.data import from_faker, from_folder
from lambda_torch.names.folder import check_output, write_release
from lambda_torch.names.training import TrainingSettings, train


def train_release(output: Path, settings: TrainingSettings, console: Console, data: Path | None = None) -> None:
    """Train on the names of the folder `data`, or on Faker's, and write the release folder `output`.

    Raises:
        ValueError: the names or the output folder cannot be used.
        TrainingError: the training learned nothing that is worth a release.
        OSError: the release cannot be written.
    """
    check_output(output)
    names = from_folder(data, settings.max_length) if data else from_faker(settings.max_length)
    console.print(f"{names.total} names in {len(names.names)} categories, from {names.source}.")
    if names.skipped:
        console.print(f"{names.skipped} left out: shorter than 2 or longer than {settings.max_length + 1} letters.")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("Training", total=settings.batches)
        config, weights = train(
            names,
            settings,
            lambda done, loss: bar.update(task, completed=done, description=f"Training (loss {loss:.3f})"),
        )
    write_release(output, config, weights)
    figures = config.training
    console.print(
        f"Loss on names that were not learned: {figures['held_out_loss']} nats for each letter (with letter frequencies "
        f"alone: {figures['letter_frequency_loss']}). It took {figures['seconds']} s."
    )
