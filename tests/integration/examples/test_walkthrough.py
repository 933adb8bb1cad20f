"""docs/your-own-model.md is run as it stands there."""

import json
import re
import subprocess
import sys
from pathlib import Path

from lambda_torch import project

COMMAND = str(Path(sys.executable).with_name("lambda-torch"))


def test_the_walk_through_leads_to_a_served_model(tmp_path: Path) -> None:
    """Its training script, its convert command and its model package give a function that tells a flower's species."""
    document = (project.ROOT / "docs" / "your-own-model.md").read_text()
    for name, code in re.findall(r"```python\n# (\S+)\n(.*?)```", document, re.DOTALL):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(code)
    (convert,) = re.findall(r"^lambda-torch (convert .*)$", document, re.MULTILINE)

    def run(*command: str) -> str:
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    run(sys.executable, "train.py")
    run(COMMAND, *convert.split())
    (tmp_path / "event.json").write_text(json.dumps({"measures": [6.7, 3.0, 5.2, 2.3]}))
    options = ["--layer", "stock", "--model", "flowers", "--release", "build/releases/flowers"]
    answer = json.loads(run(COMMAND, "invoke", "event.json", *options))
    assert answer["statusCode"] == 200
    assert json.loads(answer["body"])["species"] == "virginica"
