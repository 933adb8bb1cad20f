"""Makes a project: all of its files beside the target first, so that a failure leaves nothing."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from lambda_torch import project
from lambda_torch.emulator.payloads import PAYLOADS, GatewayRequest
from lambda_torch.errors import ProjectError
from lambda_torch.packages import local
from lambda_torch.scaffold import build_files, files, pin, stack
from lambda_torch.scaffold.blueprints import Blueprint
from lambda_torch.scaffold.pin import WHEELS, Pin

Say = Callable[[str], None]
# What may be in a folder that counts as empty.
_NOTHING = {".git", ".DS_Store"}


def make(target: Path, blueprint: Blueprint, say: Say) -> None:
    """Make a project in a new or empty folder.

    Args:
        target: the folder.
        blueprint: what it shall hold.
        say: called with one sentence before each step that takes time.

    Raises:
        ProjectError: the folder has files, or a step failed. Then the folder is as it was.
    """
    require_empty(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        _write(scratch, target.name, blueprint, say)
        if (scratch / "make_release.py").is_file():
            packages = local.installed(scratch, say, scratch / "build")
            say("Making the release: small or random weights, in place of your own")
            train(scratch, packages)
        target.mkdir(exist_ok=True)
        for entry in scratch.iterdir():
            shutil.move(entry, target / entry.name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def require_empty(target: Path) -> None:
    """Check that a project can be made there.

    Raises:
        ProjectError: there is a file of this name, or the folder has files.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", target.name):
        raise ProjectError(f"{target.name!r} cannot be the name of a project. Next: use letters, digits, - and _.")
    if target.is_file():
        raise ProjectError(f"{target} is a file. Next: name another folder.")
    held = sorted(entry.name for entry in target.iterdir() if entry.name not in _NOTHING) if target.is_dir() else []
    if held:
        raise ProjectError(
            f"{target} is not empty: it has {', '.join(held[:3])}{' and more' if len(held) > 3 else ''}. "
            "Next: name a new folder. In a project that init has made, lambda-torch upgrade brings its files up to date."
        )


def train(folder: Path, packages: Path | None) -> None:
    """Run the project's make_release.py.

    Raises:
        ProjectError: it failed. The message has its last lines.
    """
    path = os.pathsep.join(map(str, (project.SRC, *([packages] if packages else []))))
    # The stand-ins are small: on a busy machine, several threads would mostly wait for each other.
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-B", "make_release.py", "--output", "release"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ProjectError(f"make_release.py failed:\n{done.stderr.strip()[-1500:]}")


def _write(folder: Path, name: str, blueprint: Blueprint, say: Say) -> None:
    if project.IN_CHECKOUT:
        say("Building the wheel of this checkout, for the project")
    with tempfile.TemporaryDirectory() as wheels:
        chosen = pin.current(Path(wheels))
        place_wheel(folder, chosen)
    values = {
        "NAME": name,
        "LAMBDA_TORCH": chosen.for_people,
        "REQUIREMENTS": "\n".join(blueprint.requirements),
        "EXAMPLE": shlex.quote(blueprint.example_json),
        "STEPS": blueprint.steps,
        "PYTHON": runtime_of_template(),
        "CODE": "`network.py`, " if "network.py" in _names(blueprint) else "",
        "MAKER": "| `make_release.py` | makes `release/` |\n" if "make_release.py" in _names(blueprint) else "",
        **blueprint.values,
    }
    texts = {**files.texts("any", values), **files.texts(blueprint.kind, values)}
    texts["template.yaml"] = stack.render(chosen.version)
    texts["samconfig.toml"] = samconfig(name, allow_programs=blueprint.allow_programs)
    texts |= events(blueprint.example_json)
    for path, text in texts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    for into, copied in (("model", blueprint.modules), ("release", blueprint.release)):
        for path, source in copied.items():
            (folder / into / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / into / path)
    if blueprint.requirements:
        say(f"Asking pip which packages {', '.join(blueprint.requirements)} need")
    for path, text in build_files.contents(folder, chosen.for_build).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")


def place_wheel(folder: Path, chosen: Pin) -> None:
    """Put the wheel, if there is one, into the folders that `sam build` copies."""
    for part in ("model", "layer", *(f"{code}/model" for code in build_files.code_folders(folder))):
        place = folder / part / WHEELS
        if chosen.wheel is None:
            shutil.rmtree(place, ignore_errors=True)
            continue
        place.mkdir(parents=True, exist_ok=True)
        for old in place.glob("*.whl"):
            old.unlink()
        shutil.copy(chosen.wheel, place)


def runtime_of_template() -> str:
    """The version of Python that the template names, such as 3.13."""
    match = re.search(r"\bRuntime: python(3\.\d+)\b", project.TEMPLATE.read_text(encoding="utf-8"))
    assert match is not None
    return match[1]


def samconfig(name: str, *, allow_programs: bool) -> str:
    """The defaults of the `sam` commands, with the project's name for its stacks."""
    text = (project.ROOT / "samconfig.toml").read_text(encoding="utf-8")
    stack_name = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")
    text = text.replace('stack_name = "lambda-torch', f'stack_name = "{stack_name}')
    if allow_programs:
        allowed = "AllowPrograms=true"
        text = text.replace('parameter_overrides = "', f'parameter_overrides = "{allowed} ')
        head, mark, rest = text.partition("[default.deploy.parameters]\n")
        text = f'{head}{mark}parameter_overrides = "{allowed}"\n{rest}'
    return text


def events(example: str) -> dict[str, str]:
    """Events with the example: as it is, and as API Gateway sends it."""
    headers = [("Content-Type", "application/json"), ("Accept", "*/*")]
    request = GatewayRequest("POST", "/predict", headers=headers, body=example.encode(), request_id="example")
    return {
        "events/bare.json": json.dumps(json.loads(example), indent=2, ensure_ascii=False),
        "events/api.json": json.dumps(PAYLOADS["v1"].event(request), indent=2, ensure_ascii=False),
    }


def _names(blueprint: Blueprint) -> set[str]:
    return {Path(name).name for name in files.names(blueprint.kind)} | set(blueprint.modules)
