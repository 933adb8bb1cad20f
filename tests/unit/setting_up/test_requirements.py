"""The files with pinned packages agree with each other, and with the systems that people have."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lambda_torch.project import ROOT
from lambda_torch.setting_up import installer, pip_configuration
from lambda_torch.setting_up.__main__ import pins

REQUIREMENTS = ROOT / "requirements"
NO_NETWORK = re.compile(r"Failed to fetch|error sending request|dns error|Network connectivity", re.IGNORECASE)


def test_serve_has_a_part_of_what_development_has() -> None:
    """Each package of serve.txt has the same version in dev.txt, so that the second installation changes none."""
    serve, dev = ({line.partition(" ")[0] for line in pins(REQUIREMENTS / name)} for name in ("serve.txt", "dev.txt"))
    assert serve <= dev


def test_serve_needs_no_tools_of_developers() -> None:
    """What only tests and deployments need is not in the way of the first answer."""
    names = {re.split(r"[=\[ ]", line)[0] for line in pins(REQUIREMENTS / "serve.txt")}
    assert names.isdisjoint({"aws-sam-cli", "selenium", "cfn-lint", "docker", "pytest", "mypy", "ruff", "faker"})
    assert len(names) < 80


def test_torch_is_the_layers_on_every_system() -> None:
    """torch.txt has one line for Linux, whose CPU build has a name of its own, and one for all others."""
    layer = next(line for line in pins(ROOT / "layers" / "torch" / "requirements.txt") if line.startswith("torch=="))
    plain = layer.partition("+")[0]
    assert pins(REQUIREMENTS / "torch.txt") == [
        f"{plain}+cpu ; sys_platform == 'linux'",
        f"{plain} ; sys_platform != 'linux'",
    ]


@pytest.mark.parametrize(
    ("platform", "torch"),
    [("aarch64-apple-darwin", "torch==2.13.0"), ("x86_64-unknown-linux-gnu", "torch==2.13.0+cpu")],
)
def test_the_packages_exist_for_macos_and_for_wsl(platform: str, torch: str) -> None:
    """uv resolves serve.txt and torch.txt for these systems, with wheels of torch and without CUDA's libraries."""
    uv = installer.uv_of(Path(sys.executable))
    if uv is None:
        pytest.skip("uv is not installed")
    settings = pip_configuration.settings()
    options = [
        word
        for name, option in installer.UV_OPTIONS.items()
        for value in settings.get(name, [])
        for word in (option, value)
    ]
    done = subprocess.run(
        [
            *(uv, "pip", "compile", "--quiet", "--no-annotate", "--no-header", "--python-platform", platform),
            *("--python-version", f"{sys.version_info[0]}.{sys.version_info[1]}", "--only-binary", "torch"),
            *("--index-strategy", "unsafe-best-match", *options, "serve.txt", "torch.txt"),
        ],
        cwd=REQUIREMENTS,
        env={**os.environ, "MACOSX_DEPLOYMENT_TARGET": "14.0"},  # torch's wheels need macOS 14
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and NO_NETWORK.search(done.stderr):
        pytest.skip("the package index cannot be reached")
    assert done.returncode == 0, done.stderr
    names = [line.partition(" ")[0] for line in done.stdout.splitlines()]
    assert torch in names
    assert not [name for name in names if name.startswith(("nvidia", "triton"))]
