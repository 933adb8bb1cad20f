"""Makes a project one of several models: their table, a release for each, and the template."""

import shutil
from pathlib import Path

from lambda_torch.errors import ProjectError
from lambda_torch.several import model_table, written

# What `sam build` and `sam validate` take without options, in samconfig.toml.
SECTIONS = ("[default.build.parameters]\n", "[default.validate.parameters]\n")


def names_of(text: str) -> list[str]:
    """The names in a list with commas.

    Raises:
        ProjectError: one of them cannot be a model's name.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        model_table.check_name(name, "--models")
    if not names:
        raise ProjectError("--models names no model.\nNext: give names with commas, such as --models names,flowers")
    return names


def add(folder: Path, names: list[str]) -> None:
    """Add models to a new project. Each starts with a copy of its release, so that all of them can be tried.

    Raises:
        ProjectError: the template has no room for so many models.
    """
    table = model_table.add(folder, names)
    for row in table.rows:
        shutil.copytree(folder / "release", table.release(row))
    (folder / written.FILE_NAME).write_text(written.text_of(folder, table), encoding="utf-8")
    settings = folder / "samconfig.toml"
    text = settings.read_text(encoding="utf-8")
    for section in SECTIONS:
        text = text.replace(section, f'{section}template_file = "{written.FILE_NAME}"\n')
    settings.write_text(text, encoding="utf-8")
