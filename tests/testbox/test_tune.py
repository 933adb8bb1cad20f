"""`lambda-torch tune` in the test box."""

import json
import subprocess
import sys
from pathlib import Path

from lambda_torch.project import ROOT
from lambda_torch.testbox import Rootfs

COMMAND = Path(sys.executable).with_name("lambda-torch")
KINDS = ROOT / "tests" / "browser" / "kinds"


def test_a_model_of_ones_own_is_measured_with_its_own_example(function: Rootfs, tmp_path: Path) -> None:
    """With --model it is that model that runs in the box, on its example; each size has its figures, and one is recommended."""
    release, plot = tmp_path / "release", tmp_path / "plots" / "tune.svg"
    release.mkdir()
    (release / "model.json").write_text("{}")
    options = ["--model", str(KINDS), "--release", str(release), "--plot", str(plot)]
    done = subprocess.run(
        [COMMAND, "tune", "--sizes", "1024,1769", "--requests", "10", "--json", *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [row["memory_mb"] for row in found["rows"]] == [1024, 1769]
    assert all(row["cold_ms"] > row["p50_ms"] > 0 for row in found["rows"])
    assert found["recommended_mb"] in (1024, 1769)
    assert plot.read_text().startswith("<svg")
