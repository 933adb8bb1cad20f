"""Run both scanners, from the virtual environment named on the command line, and compare."""

import json
import logging
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stack.chosen import Chosen
from stack.combinations import combinations
from stack.kit import template
from stack.several import MODELS, combinations_of_models, derived

ROOT = Path(__file__).resolve().parents[2]
ACCEPTED = Path(__file__).with_name("accepted.toml")

Finding = tuple[str, str]
"""A check and the resource, or a kind of secret and the file."""


def in_template(programs: Path) -> dict[Finding, str]:
    """What checkov finds in the combinations of the template's parameters, with its words. The first one has the defaults.

    So it is for the template of two models. A resource of one of them has the name that it has in the template of one.

    One process scans all of them. checkov itself would see the defaults only, and it does not evaluate every condition.
    """
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        for number, choices in enumerate(combinations()):
            document = Chosen(template(), choices).document
            Path(folder, f"{number:03}.json").write_text(json.dumps(document, indent=1))
        for number, choices in enumerate(combinations_of_models()):
            document = Chosen(derived(), choices).document
            Path(folder, f"models-{number:03}.json").write_text(json.dumps(document, indent=1))
        command = [str(ROOT / programs / "checkov"), "--directory", folder, "--framework", "cloudformation"]
        command += ["--output", "json", "--quiet", "--compact", "--skip-download"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    report = json.loads(done.stdout)
    if report["summary"]["parsing_errors"] or report["summary"]["resource_count"] < 2 * len(combinations()):
        raise SystemExit(f"checkov could not read the templates: {report['summary']}")
    failed = report["results"]["failed_checks"]
    return {
        (each["check_id"], _of_one_model(each["resource"].rpartition(".")[2])): each["check_name"] for each in failed
    }


def _of_one_model(resource: str) -> str:
    """The name of a resource in the template of one model."""
    for row in MODELS:
        resource = resource.removeprefix(row.id_part)
    return resource


def in_files(programs: Path) -> dict[str, str]:
    """Tracked files in which detect-secrets finds what looks like a secret, with where and what."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    # Lock files are nothing but digests, and no place where a person writes.
    files = [
        name
        for name in listed.split("\0")
        if name and not name.endswith(("dev.txt", "audit.txt", "src/requirements.txt"))
    ]
    done = subprocess.run(
        [programs / "detect-secrets", "scan", *files], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)["results"].items()
    return {name: ", ".join(f"line {each['line_number']}: {each['type']}" for each in places) for name, places in found}


def differences(programs: Path, accepted: dict[str, Any]) -> Iterator[str]:
    """What is found and not explained, and what is explained and not found, in words."""
    explained = {(rule["check"], name) for rule in accepted["template"] for name in rule["resources"]}
    found = in_template(programs)
    for check, resource in sorted(found.keys() - explained):
        yield f"template.yaml: {resource}: {check}: {found[check, resource]}"
    for check, resource in sorted(explained - found.keys()):
        yield f"{ACCEPTED.name}: {check} is not found for {resource} any more: remove it"
    known = {rule["file"] for rule in accepted["secrets"]}
    secrets = in_files(programs)
    for name in sorted(secrets.keys() - known):
        yield f"{name}: {secrets[name]}"
    for name in sorted(known - secrets.keys()):
        yield f"{ACCEPTED.name}: nothing is found in {name} any more: remove it"


def main() -> None:
    """Print the differences; exit with 1 if there are any."""
    accepted = tomllib.loads(ACCEPTED.read_text())
    lines = list(differences(Path(sys.argv[1]), accepted))
    print("\n".join(lines) or "Every finding of checkov and detect-secrets is explained.")
    if lines:
        raise SystemExit(f"Next: mend it, or add it to {ACCEPTED.relative_to(ROOT)} with its reason.")


if __name__ == "__main__":
    main()
