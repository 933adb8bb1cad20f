import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from lambda_torch.project import ROOT

SAM = Path(sys.executable).with_name("sam")


class Loader(yaml.SafeLoader):
    """Reads CloudFormation's short tags (`!Ref X`) as one-key mappings, which is what they stand for."""


def _tag(loader: Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    assert isinstance(node, yaml.ScalarNode)
    return {suffix: loader.construct_scalar(node)}


Loader.add_multi_constructor("!", _tag)


@pytest.fixture(scope="module")
def template() -> Any:
    """The template as data."""
    return yaml.load((ROOT / "template.yaml").read_text(), Loader)


def test_sam_validates_and_lints_the_template(tmp_path: Path) -> None:
    """`sam validate --lint` has nothing to say, without an AWS account."""
    environment = {**os.environ, "SAM_CLI_TELEMETRY": "0", "AWS_DEFAULT_REGION": "us-east-1", "HOME": str(tmp_path)}
    done = subprocess.run([SAM, "validate", "--lint"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_bucket_is_private_and_encrypted(template: Any) -> None:
    """No public access, encryption at rest, TLS only."""
    bucket = template["Resources"]["ModelBucket"]["Properties"]
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(bucket["PublicAccessBlockConfiguration"]) == 4
    assert bucket["BucketEncryption"]
    (statement,) = template["Resources"]["ModelBucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert statement["Effect"] == "Deny"
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_the_function_only_reads(template: Any) -> None:
    """The function's own statements allow reading releases, and nothing else."""
    (policy,) = template["Resources"]["PredictFunction"]["Properties"]["Policies"]
    actions = {statement["Action"] for statement in policy["Statement"]}
    assert actions == {"s3:GetObject", "s3:ListBucket"}


def test_snapshots_are_a_choice(template: Any) -> None:
    """Without the parameter there are no snapshots, which cost money; with it, of the versions that requests go to."""
    assert template["Parameters"]["SnapStart"]["Default"] == "None"
    assert template["Parameters"]["SnapStart"]["AllowedValues"] == ["None", "PublishedVersions"]
    function = template["Resources"]["PredictFunction"]["Properties"]
    assert function["SnapStart"] == {"ApplyOn": {"Ref": "SnapStart"}}
    assert function["AutoPublishAlias"] == "live"


def test_memory_and_timeout_are_parameters(template: Any) -> None:
    """3,008 MB and 30 s unless the stack's owner says otherwise."""
    function = template["Resources"]["PredictFunction"]["Properties"]
    assert function["MemorySize"] == {"Ref": "MemorySize"}
    assert function["Timeout"] == {"Ref": "Timeout"}
    assert template["Parameters"]["MemorySize"]["Default"] == 3008
    assert template["Parameters"]["Timeout"]["Default"] == 30


def test_there_are_no_access_keys_in_the_project() -> None:
    """Nothing that looks like an AWS access key is in any tracked file."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    texts = (
        (ROOT / name).read_text(errors="replace") for name in listed.split("\0") if name and (ROOT / name).is_file()
    )
    assert [found for text in texts for found in re.findall(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b", text)] == []
