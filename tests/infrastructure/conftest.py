"""The tools that the examples are for, and an AWS to deploy to.

CDK and Serverless Framework come from their registries (`make infrastructure`). Terraform and its AWS provider are in no registry
of packages; they are used where the machine has them.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import requests
from moto.server import ThreadedMotoServer

from integration.aws_command import CREDENTIALS
from lambda_torch.project import ROOT

EXAMPLES = ROOT / "examples" / "layer-only"
TOOLS = ROOT / "build" / "infrastructure"
# Where Terraform looks for providers by itself, and where images of machines keep a mirror of them.
MIRRORS = ("/usr/local/share/terraform/plugins", "/usr/share/terraform/plugins", *map(str, Path("/opt").glob("*")))
PROVIDER = "registry.terraform.io/hashicorp/aws"


class Example(NamedTuple):
    """A copy of examples/layer-only, in which a tool may write.

    Attributes:
        folder: of the tool's own example.
        variables: the environment of its commands.
    """

    folder: Path
    variables: dict[str, str]

    def run(self, *words: str) -> str:
        """Run a command there: its standard output. The test fails with all that it said if it fails."""
        done = subprocess.run(words, cwd=self.folder, env=self.variables, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture
def example(tmp_path: Path) -> Callable[[str], Example]:
    """Copies the examples: `example("cdk")`."""

    def copy(name: str) -> Example:
        shutil.copytree(EXAMPLES, tmp_path / "layer-only", ignore=shutil.ignore_patterns("__pycache__"))
        home = tmp_path / "home"
        home.mkdir()
        path = os.pathsep.join([str(TOOLS / "bin"), str(TOOLS / "node_modules" / ".bin"), os.environ["PATH"]])
        # What a tool would tell its makers stays here.
        quiet = {"SAM_CLI_TELEMETRY": "0", "SLS_TELEMETRY_DISABLED": "1", "SLS_NOTIFICATIONS_MODE": "off"}
        quiet |= {"CDK_DISABLE_CLI_TELEMETRY": "true", "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"}
        proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
        variables = {"PATH": path, "HOME": str(home), "TMPDIR": str(tmp_path), **proxies, **CREDENTIALS, **quiet}
        return Example(tmp_path / "layer-only" / name, variables)

    return copy


@pytest.fixture(scope="session")
def installed() -> None:
    """The command lines of CDK and Serverless Framework, and generators of clients."""
    if (TOOLS / ".ready").exists():
        return
    reason = "the tools of CDK and Serverless Framework are not installed. Next: make infrastructure"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration with which Terraform finds its AWS provider on this machine."""
    if shutil.which("terraform") is None:
        pytest.skip("Terraform is not installed")
    mirror = next((each for each in MIRRORS if Path(each, PROVIDER).is_dir()), None)
    if mirror is None:
        pytest.skip(f"no mirror of Terraform's providers on this machine has {PROVIDER}")
    path = tmp_path_factory.mktemp("terraform") / "terraform.rc"
    path.write_text(f'provider_installation {{\n  filesystem_mirror {{\n    path = "{mirror}"\n  }}\n}}\n')
    return path


@pytest.fixture
def aws_url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an empty AWS, with the policies that AWS itself manages."""
    monkeypatch.setenv("MOTO_IAM_LOAD_MANAGED_POLICIES", "true")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = f"http://localhost:{server.get_host_and_port()[1]}"
    requests.post(f"{url}/moto-api/reset", timeout=30)
    yield url
    server.stop()
