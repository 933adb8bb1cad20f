"""The documents are checked against the code, where they can be."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from lambda_torch.project import ROOT
from serving.settings import Settings
from serving.telemetry import emf
from serving.telemetry.receipts import REQUEST_PHASES, START_PHASES

FOLDERS = ("", "docs", "benchmarks", "examples/*", "layers/torch")
DOCUMENTS = sorted(path for folder in FOLDERS for path in ROOT.glob(f"{folder}/*.md".lstrip("/")))


def source(*patterns: str) -> str:
    """The text of the function's modules."""
    return "".join(path.read_text() for pattern in patterns for path in sorted((ROOT / "src").glob(pattern)))


def documented(document: str, row: str) -> set[Any]:
    """What the first group of a table row's pattern finds in a document."""
    return set(re.findall(row, (ROOT / "docs" / document).read_text(), re.MULTILINE))


def test_every_variable_of_the_function_is_documented() -> None:
    """docs/settings.md lists exactly the variables that the settings read."""
    variables = {field.alias for field in Settings.model_fields.values()}
    assert documented("settings.md", r"^\| `([A-Z_]+)` \|") == variables


def test_every_parameter_of_the_stack_is_documented_with_its_default() -> None:
    """docs/settings.md lists exactly the template's parameters, with the defaults that the template has."""

    class Loader(yaml.SafeLoader):
        """Reads CloudFormation's short tags as plain values."""

    Loader.add_multi_constructor("!", lambda loader, suffix, node: None)
    template = yaml.load((ROOT / "template.yaml").read_text(), Loader)
    rows = documented("settings.md", r"^\| `([A-Z][a-z]\w+)` \| `?([^`|]*?)`? \|")
    assert rows == {(name, str(rule["Default"])) for name, rule in template["Parameters"].items()}


def test_every_error_code_is_documented_with_its_status() -> None:
    """docs/api.md lists exactly the codes that the function can answer with."""
    with_status = set(re.findall(r'HttpError\(\s*(\d{3}),\s*"(\w+)"', source("*.py", "serving/**/*.py")))
    of_model = {("400", code) for code in re.findall(r'PydanticCustomError\(\s*"(\w+)"', source("model/names.py"))}
    of_releases = {
        ("503", code) for code in re.findall(r'ReleaseUnavailableError\(\s*"(\w+)"', source("*.py", "serving/**/*.py"))
    }
    assert documented("api.md", r"^\| (\d{3}) \| `(\w+)` \|") == with_status | of_model | of_releases


def test_every_metric_and_phase_is_documented() -> None:
    """docs/receipts.md lists exactly the metrics, with their units, and every phase."""
    assert documented("receipts.md", r"^\| `([A-Z]\w+)` \| ([\w/]+) \|") == set(emf.UNITS.items())
    phases = set(START_PHASES) | set(REQUEST_PHASES)
    assert phases <= set(re.findall(r"`([a-z0-9-]+)`", (ROOT / "docs" / "receipts.md").read_text()))


def headings(document: Path) -> set[str]:
    """The anchors that GitHub gives a document's headings: lower case, without punctuation, with dashes for spaces."""
    found = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", document.read_text(), flags=re.M | re.S), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(document: Path) -> None:
    """Every link to a file of the project names one that exists, and a heading that it has."""
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", document.read_text())
    targets = [((document.parent / name) if name else document, heading) for name, heading in links]
    assert [target for target, heading in targets if not target.exists()] == []
    assert [(target.name, heading) for target, heading in targets if heading and heading not in headings(target)] == []


def test_make_targets_in_the_documents_exist() -> None:
    """A `make` command that a document names is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for path in DOCUMENTS for name in re.findall(r"`make ([a-z-]+)", path.read_text())}
    assert named <= targets


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_tables_end_with_an_empty_line(document: Path) -> None:
    """Text right below a table's last row would be a row of the table."""
    assert re.findall(r"^\|.*\|\n(?![|\n]|<!--)(.+)", document.read_text(), re.MULTILINE) == []
