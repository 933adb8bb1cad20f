"""The arrows of docs/architecture.md, held by the imports that the code really has."""

import ast
from pathlib import Path

import pytest

from lambda_torch.project import ROOT

AWS = {"boto3", "botocore", "aws_lambda_powertools", "awslambdaric"}
OURS = {"app", "serving", "model", "lambda_torch", "builder", "torch_layer"}

# room -> (its files, what it must not import)
FORBIDDEN = {
    "the model knows nothing of AWS or of serving": ("src/model/**/*.py", AWS | (OURS - {"model"})),
    "serving knows nothing of names or networks": ("src/serving/**/*.py", {"torch", "numpy"} | (OURS - {"serving"})),
    "the door knows serving and model": ("src/app.py", {"torch"} | (OURS - {"serving", "model"})),
    "the builder stands alone": ("layers/torch/builder/**/*.py", AWS | (OURS - {"builder", "torch_layer"})),
    "the layer's run time stands alone": ("layers/torch/torch_layer/**/*.py", AWS | (OURS - {"torch_layer"})),
    "the tools know nothing of tests": ("tools/lambda_torch/**/*.py", {"tests", "integration", "unit", "pytest"}),
}


def imported(path: Path) -> set[str]:
    """The top-level packages that a module imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


# What looks into torch's program files asks torch's own reader, so that it sees what torch would see; only files that are
# declared as programs bring it in. And the receipt of a start holds what the layer's pager counted, where there is one.
ALLOWED = {"src/serving/releases/programs.py": {"torch"}, "src/serving/telemetry/receipts.py": {"torch_layer"}}


@pytest.mark.parametrize("rule", FORBIDDEN)
def test_imports_follow_the_arrows(rule: str) -> None:
    """No module imports what its room must not know."""
    pattern, forbidden = FORBIDDEN[rule]
    files = sorted(ROOT.glob(pattern))
    assert files
    found = {path.relative_to(ROOT).as_posix(): imported(path) & forbidden for path in files}
    assert {name: names for name, each in found.items() if (names := each - ALLOWED.get(name, set()))} == {}


def test_one_module_reads_the_functions_environment() -> None:
    """Only src/serving/settings.py touches os.environ."""
    readers = [
        path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / "src").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute | ast.Name)
        and (getattr(node, "attr", None) or getattr(node, "id", None)) in ("environ", "getenv", "putenv")
    ]
    assert set(readers) == {"src/serving/settings.py"}
