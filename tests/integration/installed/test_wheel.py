"""The package as a user installs it with pip, away from the checkout: the wheel, in an environment of its own."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from integration.work.conftest import GOOD, aws_client, served
from integration.work.test_bulk import Machine, machine
from lambda_torch.project import ROOT
from lambda_torch.releases.bucket import Bucket
from model.config import CONFIG_FILE

__all__ = ["aws_client", "machine", "served"]

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel. The other packages are those of this environment, so it needs no network."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = (folder / "dist").glob("*.whl")
    venv = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    (site,) = venv.glob("lib/python*/site-packages")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", f"--python={venv / 'bin' / 'python'}"]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        # Without the editable installation of the checkout.
        if not (site / entry.name).exists() and "lambda_torch" not in entry.name:
            (site / entry.name).symlink_to(entry)
    return venv


@pytest.fixture
def run(environment: Path, aws: dict[str, str], bucket: Bucket, tmp_path: Path) -> Run:
    """Runs the installed `lambda-torch` with these words in an empty folder, with S3 at the test's address."""
    folder = tmp_path / "empty"
    folder.mkdir()
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTHON"))}
    variables |= {**aws, "AWS_ENDPOINT_URL": aws["AWS_ENDPOINT_URL_S3"], "MODEL_BUCKET": bucket.name, "COLUMNS": "200"}

    def command(*words: str | Path) -> "subprocess.CompletedProcess[str]":
        line = [str(environment / "bin" / "lambda-torch"), *map(str, words)]
        return subprocess.run(line, cwd=folder, env=variables, input="{}", capture_output=True, text=True, check=False)

    return command


def test_help_names_every_command_and_loads_no_torch(environment: Path, run: Run, tmp_path: Path) -> None:
    """`lambda-torch --help` works in an empty folder, and the code that it runs is the installed one."""
    done = run("--help")
    assert done.returncode == 0, done.stderr
    assert "publish" in done.stdout
    code = "import sys, lambda_torch.cli; print(lambda_torch.__file__, sorted({'torch', 'samcli'} & set(sys.modules)))"
    python = environment / "bin" / "python"
    said = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split()
    assert Path(said[0]).is_relative_to(environment)
    assert said[1:] == ["[]"]


def test_a_release_is_published_moved_and_removed(run: Run, release: Path, tmp_path: Path) -> None:
    """publish, releases, canary, promote, rollback, diff, verify and gc work on a bucket from the installed package."""
    other = tmp_path / "other"
    shutil.copytree(release, other)
    config = json.loads((other / CONFIG_FILE).read_text())
    (other / CONFIG_FILE).write_text(json.dumps({**config, "max_start_letters": 3}))
    first, second = run("publish", release), run("publish", other, "--no-promote")
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    versions = first.stdout.strip(), second.stdout.strip()
    for words in (
        ["canary", versions[1], "--share", "0.5"],
        ["promote", "canary"],
        ["rollback"],
        ["diff", "current", "previous"],
        ["verify", "current"],
    ):
        done = run(*words)
        assert done.returncode == 0, (words, done.stderr)
    listed = json.loads(run("releases", "--json").stdout)
    assert {each["version"]: each["channels"] for each in listed} == {
        versions[0]: ["live: current"],
        versions[1]: ["live: previous"],
    }
    assert json.loads(run("gc", "--keep", "0", "--json").stdout)["removed"] == []


def test_a_file_is_answered_by_the_deployed_stack(
    run: Run, machine: Machine, bucket: Bucket, s3_url: str, served: ModuleType, tmp_path: Path
) -> None:
    """bulk uploads the file, starts the state machine, and joins what it wrote."""
    bucket.client.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    (tmp_path / "in.jsonl").write_text(f"{json.dumps(GOOD)}\n" * 3)
    options = ["--state-machine", machine.arn, "--endpoint-url", s3_url, "--output", tmp_path / "out.jsonl"]
    done = run("bulk", tmp_path / "in.jsonl", *options)
    assert done.returncode == 0, done.stderr
    assert "3 answered" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tune", "--function", "nowhere"], "The function nowhere cannot be used"),
        (["invoke", "-", "--url", "http://127.0.0.1:9"], "Nothing answers at"),
    ],
)
def test_commands_on_deployed_functions_reach_them(run: Run, words: list[str], said: str) -> None:
    """tune and invoke ask AWS, or the address, and say what it answers."""
    done = run(*words)
    assert done.returncode == 1
    assert said in done.stderr


def test_weights_are_converted(run: Run, tmp_path: Path) -> None:
    """convert needs torch and nothing of the checkout."""
    import torch

    torch.save({"weight": torch.ones(2)}, tmp_path / "model.pth")
    done = run("convert", tmp_path / "model.pth", tmp_path / "model.safetensors")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "model.safetensors").is_file()


def test_a_layer_is_inspected(run: Run, tmp_path: Path) -> None:
    """`layer inspect` has the builder's accounts with it."""
    (tmp_path / "layer" / "python").mkdir(parents=True)
    (tmp_path / "layer" / "python" / "lake.py").write_text("DEPTH = 1\n")
    done = run("layer", "inspect", tmp_path / "layer", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["unzipped_bytes"] == 10


@pytest.mark.parametrize("words", [["local"], ["bench", "coldstart"], ["layer", "record"]])
def test_what_needs_a_checkout_says_so(run: Run, words: list[str]) -> None:
    """A command that works on the project's files names the next step."""
    done = run(*words)
    assert done.returncode == 1
    assert "needs the project's files" in done.stderr
    assert "make setup" in done.stderr


def test_a_missing_package_is_named_with_its_extra(environment: Path, tmp_path: Path) -> None:
    """Without torch, convert says which extra brings it."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from lambda_torch.cli import main\n"
        "main(['convert', 'a.pth', 'b.safetensors'])"
    )
    done = subprocess.run([environment / "bin" / "python", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install 'lambda-torch[torch]'" in done.stderr


def test_a_run_on_this_machine_needs_no_checkout(run: Run, release: Path, tmp_path: Path) -> None:
    """invoke and bulk --local start the installed function in Lambda's emulator."""
    event = tmp_path / "event.json"
    event.write_text(json.dumps({"category": "Russian", "start_letters": "RUS"}))
    done = run("invoke", event, "--release", release, "--layer", "stock")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["statusCode"] == 200
    (tmp_path / "in.jsonl").write_text('{"category": "Russian", "start_letters": "R"}\n')
    options = ["--local", "--release", release, "--layer", "stock", "--output", tmp_path / "out.jsonl"]
    done = run("bulk", tmp_path / "in.jsonl", *options)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out.jsonl").read_text())["index"] == 0


def test_the_torch_extra_is_the_layers_version() -> None:
    """A release is checked with the torch that serves it."""
    import tomllib

    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    layer = (ROOT / "layers" / "torch" / "requirements.txt").read_text()
    (pinned,) = (
        line.removeprefix("torch==").partition("+")[0] for line in layer.splitlines() if line.startswith("torch==")
    )
    assert f"torch=={pinned.rpartition('.')[0]}.*" in extra["torch"]
    function = (ROOT / "src" / "requirements.in").read_text()
    wanted = {line.partition("#")[0].strip() for line in function.splitlines()} - {""}
    declared = {requirement.partition(">=")[0] for requirement in extra["serve"]} | {"pydantic"}
    assert wanted <= declared, "the extra `serve` has what the function needs"
