"""Brings the files of a project up to the version of lambda-torch that runs."""

import re
from dataclasses import dataclass
from pathlib import Path

from lambda_torch.scaffold import build_files, making, pin, stack
from lambda_torch.scaffold.pin import Pin
from lambda_torch.several import model_table, written

# The line of requirements-dev.txt that names lambda-torch: a version, or a wheel of the project.
_PIN = re.compile(r"^(lambda-torch|\./layer/\S*lambda_torch-)\S*$", re.MULTILINE)


@dataclass(frozen=True)
class Upgrade:
    """What would change.

    Attributes:
        pin: the version.
        texts: the new text of each file that differs, by its path in the project.
        edited: whether the user changed template.yaml where upgrades write.
    """

    pin: Pin
    texts: dict[str, str]
    edited: bool


def plan(folder: Path, scratch: Path) -> Upgrade:
    """Compare the files of a project with those of this version.

    Args:
        folder: the project.
        scratch: where a wheel is made, if there must be one.

    Raises:
        PackagesError: pip cannot resolve requirements.txt.
        ProjectError: the wheel cannot be made.
    """
    chosen = pin.current(scratch)
    before = (folder / "template.yaml").read_text(encoding="utf-8")
    texts = {"template.yaml": stack.render(chosen.version, stack.own_resources(before))}
    texts |= build_files.contents(folder, chosen.for_build)
    table = model_table.find(folder)
    if table is not None:
        (scratch / written.SOURCE_NAME).write_text(texts["template.yaml"], encoding="utf-8")
        texts[written.FILE_NAME] = written.text_of(scratch, table)
    needed = folder / "requirements-dev.txt"
    if needed.is_file():
        texts[needed.name] = _PIN.sub(lambda _: chosen.for_people, needed.read_text(encoding="utf-8"), count=1)
    changed = {
        name: text
        for name, text in texts.items()
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text
    }
    return Upgrade(chosen, changed, stack.is_edited(before) and "template.yaml" in changed)


def write(folder: Path, upgrade: Upgrade) -> None:
    """Write the changes, and put the wheel in its place."""
    for name, text in upgrade.texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    making.place_wheel(folder, upgrade.pin)
