"""The running API keeps what its OpenAPI document says, whatever is sent."""

import re
import subprocess
import sys
from pathlib import Path

from browser.conftest import command
from lambda_torch.emulator import software
from lambda_torch.emulator.gateway import Gateway
from lambda_torch.emulator.payloads import PAYLOADS
from lambda_torch.emulator.run import Reports, RunOptions, listen, running, serving
from lambda_torch.project import ROOT

PICTURES = ROOT / "tests" / "browser" / "pictures"
SILENT = Reports(step=lambda _: None, note=lambda _: None, log=lambda _: None)
EXAMPLES = 40


def test_every_answer_is_as_documented(release: Path, tmp_path: Path) -> None:
    """All checks: no 5xx, no undocumented status, type or form; what fits the schema is answered, and all else refused."""
    options = RunOptions(software.stock(), release)
    with (
        running(options, b'{"warm": "up"}', SILENT) as run,
        serving(Gateway(run.pool, PAYLOADS["v1"]), listen("127.0.0.1", 0)) as url,
    ):
        program = str(Path(sys.executable).with_name("schemathesis"))
        checks = ["--checks", "all", "--continue-on-failure", "--generation-deterministic", "--no-color"]
        words = [program, "run", f"{url}/openapi.json", *checks, "--max-examples", str(EXAMPLES)]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    generated = re.search(r"(\d+) generated", done.stdout)
    assert generated is not None
    assert int(generated[1]) > 100
    assert "Operations:       11 selected / 11 total" in done.stdout


def test_requests_with_files_are_as_documented(tmp_path: Path) -> None:
    """Whatever JSON, form or file is sent to a model with files, the answer is a documented one, and no defect."""
    release = tmp_path / "release"
    release.mkdir()
    (release / "labels.json").write_text("[]")
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    with command("--model", str(PICTURES), "--release", str(release)) as url:
        program = str(Path(sys.executable).with_name("schemathesis"))
        options = ["--continue-on-failure", "--generation-deterministic", "--no-color", "--max-examples", str(EXAMPLES)]
        words = [program, "run", f"{url}/openapi.json", "--checks", checks, *options]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    generated = re.search(r"(\d+) generated", done.stdout)
    assert generated is not None
    assert int(generated[1]) > 100
