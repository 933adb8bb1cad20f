import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import yaml
from samcli.yamlhelper import yaml_dump, yaml_parse
from yaml.tokens import AliasToken, AnchorToken

from lambda_torch.project import ROOT
from stack.kit import Stack, template

SAM = Path(sys.executable).with_name("sam")


def test_sam_validates_and_lints_the_template(tmp_path: Path) -> None:
    """`sam validate --lint` has nothing to say, without an AWS account."""
    environment = {**os.environ, "SAM_CLI_TELEMETRY": "0", "AWS_DEFAULT_REGION": "us-east-1", "HOME": str(tmp_path)}
    done = subprocess.run([SAM, "validate", "--lint"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_sam_writes_has_no_aliases() -> None:
    """CloudFormation does not read YAML's aliases, which the template has; `sam build` writes out what they stand for."""
    written = yaml_dump(yaml_parse((ROOT / "template.yaml").read_text()))
    assert any(isinstance(token, AliasToken) for token in yaml.scan((ROOT / "template.yaml").read_text()))
    assert not [token for token in yaml.scan(written) if isinstance(token, AliasToken | AnchorToken)]


def test_memory_and_timeout_are_parameters() -> None:
    """3,008 MB and 30 s unless the stack's owner says otherwise."""
    for choices, wanted in (({}, ("3008", "30")), ({"MemorySize": "1769", "Timeout": "60"}, ("1769", "60"))):
        function = Stack(**choices).properties("PredictFunction")
        assert (function["MemorySize"], function["Timeout"]) == wanted


@pytest.mark.parametrize("choices", [{}, {"Architecture": "arm64"}])
def test_the_layer_and_all_functions_are_for_the_same_processors(choices: dict[str, str]) -> None:
    """The parameter Architecture is that of the layer and of every function, x86_64 unless the stack's owner says otherwise."""
    wanted = [choices.get("Architecture", "x86_64")]
    stack = Stack(**choices)
    functions = stack.of_type("AWS::Lambda::Function")
    assert len(functions) >= 2
    assert [each["Architectures"] for each in functions.values()] == [wanted] * len(functions)
    (layer,) = stack.of_type("AWS::Lambda::LayerVersion").values()
    assert layer["CompatibleArchitectures"] == wanted


@pytest.mark.parametrize("name", ["template.yaml", "template-layer.yaml"])
def test_sam_builds_for_the_stacks_processors(name: str) -> None:
    """`sam build --parameter-overrides Architecture=arm64` takes the build image of arm64 for the layer and the functions."""
    from samcli.lib.providers.sam_function_provider import SamFunctionProvider
    from samcli.lib.providers.sam_layer_provider import SamLayerProvider
    from samcli.lib.providers.sam_stack_provider import SamLocalStackProvider

    for choices, wanted in (({}, "x86_64"), ({"Architecture": "arm64"}, "arm64")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # SAM calls what it has deprecated itself
            stacks, _ = SamLocalStackProvider.get_stacks(str(ROOT / name), parameter_overrides=choices)
            (layer,) = SamLayerProvider(stacks).get_all()
            functions = list(SamFunctionProvider(stacks).get_all())
        assert (layer.build_architecture, layer.compatible_architectures) == (wanted, [wanted])
        assert [each.architectures for each in functions] == [[wanted]] * (2 if name == "template.yaml" else 0)


def test_snapshots_are_a_choice() -> None:
    """Without the parameter there are no snapshots, which cost money; with it, of the versions that requests go to."""
    for choices, wanted in (({}, "None"), ({"SnapStart": "PublishedVersions"}, "PublishedVersions")):
        assert Stack(**choices).properties("PredictFunction")["SnapStart"] == {"ApplyOn": wanted}


def test_every_parameter_belongs_to_a_group() -> None:
    """The console and the guided deploy show the parameters in groups, and no parameter is left out."""
    document = template()
    groups = document["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    listed = [name for group in groups for name in group["Parameters"]]
    assert sorted(listed) == sorted(document["Parameters"])


def test_there_are_no_access_keys_in_the_project() -> None:
    """Nothing that looks like an AWS access key is in any tracked file."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    texts = (
        (ROOT / name).read_text(errors="replace") for name in listed.split("\0") if name and (ROOT / name).is_file()
    )
    assert [found for text in texts for found in re.findall(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b", text)] == []
