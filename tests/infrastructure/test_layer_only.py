"""examples/layer-only and template-layer.yaml, each with the tool that it is for."""

import json
import os
import re
import runpy
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from samcli.yamlhelper import yaml_parse
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

from infrastructure.conftest import EXAMPLES, Example
from integration.aws_command import clients, runner
from integration.layers.sample_layers import write_layer
from lambda_torch.project import ROOT
from stack.kit import template

ARN = "arn:aws:lambda:us-east-1:123456789012:layer:lambda-torch-python313-x86_64:1"
SAM = Path(sys.executable).with_name("sam")
Examples = Callable[[str], Example]


def checked(properties: dict[str, Any], layers: Any) -> None:
    """The function of every example is the same."""
    assert properties["Layers"] == layers
    assert (properties["Handler"], properties["Runtime"]) == ("app.handler", "python3.13")
    assert (properties["MemorySize"], properties["Timeout"]) == (1769, 30)
    assert properties["Architectures"] == ["x86_64"]


def test_the_function_of_the_examples_answers() -> None:
    """The handler needs torch alone, and computes what it says."""
    module = runpy.run_path(str(EXAMPLES / "function" / "app.py"))
    assert module["handler"]({}, None)["sum"] == pytest.approx(2 / 3 + 2 + 4)
    assert module["handler"]({"values": [0, 3, 0, 0]}, None)["sum"] == pytest.approx(1)


@pytest.mark.parametrize("name", ["template-layer.yaml", "examples/layer-only/sam/template.yaml"])
def test_sam_validates_and_lints_the_templates(name: str, tmp_path: Path) -> None:
    """`sam validate --lint` finds nothing."""
    variables = {**os.environ, "SAM_CLI_TELEMETRY": "0", "AWS_DEFAULT_REGION": "us-east-1", "HOME": str(tmp_path)}
    words: list[str | Path] = [SAM, "validate", "--lint", "--template", name]
    done = subprocess.run(words, cwd=ROOT, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_layers_template_makes_nothing_but_the_layer() -> None:
    """One resource, with the build, the runtime and the architecture that the project's own template has."""
    alone = json.loads(json.dumps(yaml_parse((ROOT / "template-layer.yaml").read_text())))
    assert list(alone["Resources"]) == ["TorchLayer"]
    layer, own = alone["Resources"]["TorchLayer"], template()["Resources"]["TorchLayer"]
    assert layer["Metadata"] == own["Metadata"]
    for name in ("ContentUri", "CompatibleRuntimes", "CompatibleArchitectures"):
        assert layer["Properties"][name] == own["Properties"][name]
    assert layer["Properties"]["RetentionPolicy"] == "Retain"
    layer["Properties"]["ContentUri"] = "s3://packages/layer"
    import boto3

    made = Translator({}, Parser(), boto_session=boto3.Session(region_name="us-east-1")).translate(alone, {})
    assert [each["Type"] for each in made["Resources"].values()] == ["AWS::Lambda::LayerVersion"]


def test_sam_builds_the_function_with_the_layer(example: Examples) -> None:
    """`sam build` makes the package of one file, and the template hands the layer's ARN to the function."""
    sam = example("sam")
    document = json.loads(json.dumps(yaml_parse((sam.folder / "template.yaml").read_text())))
    checked(document["Resources"]["Function"]["Properties"], [{"Ref": "LayerArn"}])
    assert re.fullmatch(document["Parameters"]["LayerArn"]["AllowedPattern"], ARN)


def test_cdk_synthesises_the_function_with_the_layer(example: Examples, installed: None) -> None:
    """`cdk synth` gives a template whose function has the parameter's layer, and an asset with the one file."""
    cdk = example("cdk")
    cdk.run("cdk", "synth", "--quiet", "--no-notices", "--output", "out")
    made = json.loads((cdk.folder / "out" / "torch-layer-only.template.json").read_text())
    (function,) = (each for each in made["Resources"].values() if each["Type"] == "AWS::Lambda::Function")
    checked(function["Properties"], [{"Ref": "LayerArn"}])
    assert made["Parameters"]["LayerArn"]["Type"] == "String"
    (asset,) = (cdk.folder / "out").glob("asset.*")
    assert [path.name for path in asset.iterdir()] == ["app.py"]


def test_serverless_framework_packages_the_function_with_the_layer(example: Examples, installed: None) -> None:
    """`serverless package` gives a template with the layer, and a package with the one file, without a warning."""
    serverless = example("serverless")
    (serverless.folder / "app.py").write_bytes((serverless.folder.parent / "function" / "app.py").read_bytes())
    said = serverless.run("serverless", "package", f"--param=layerArn={ARN}")
    assert "Warning" not in said
    made = json.loads((serverless.folder / ".serverless" / "cloudformation-template-update-stack.json").read_text())
    checked(made["Resources"]["PredictLambdaFunction"]["Properties"], [ARN])
    with zipfile.ZipFile(serverless.folder / ".serverless" / "torch-layer-only.zip") as package:
        assert package.namelist() == ["app.py"]


# moto's answers must do for the provider.
LOCAL = """provider "aws" {
  skip_credentials_validation = true
  skip_requesting_account_id  = true
  skip_metadata_api_check     = true
}
"""


def test_terraform_applies_and_destroys_the_function_with_the_layer(
    example: Examples, terraform: Path, aws_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The published layer's ARN goes into `terraform apply`, the function has that layer, and nothing changes the next time."""
    published = runner(aws_url, monkeypatch)("layer", "publish", write_layer(tmp_path / "layer.zip"))
    arn = published.output.strip()
    assert arn.endswith(":layer:lambda-torch-python313-x86_64:1")
    configuration = example("terraform")
    configuration.variables.update(TF_CLI_CONFIG_FILE=str(terraform), AWS_ENDPOINT_URL=aws_url)
    (configuration.folder / "local_override.tf").write_text(LOCAL)
    with zipfile.ZipFile(configuration.folder / "function.zip", "w") as package:
        package.write(configuration.folder.parent / "function" / "app.py", "app.py")
    configuration.run("terraform", "init", "-no-color")
    configuration.run("terraform", "fmt", "-check", "-diff")
    configuration.run("terraform", "validate", "-no-color")
    variable = f"-var=layer_arn={arn}"
    configuration.run("terraform", "apply", "-no-color", "-auto-approve", variable)
    functions = clients(aws_url)("lambda")
    made = functions.get_function(FunctionName="torch-layer-only")["Configuration"]
    checked(made, [{"Arn": arn, "CodeSize": (tmp_path / "layer.zip").stat().st_size}])
    configuration.run("terraform", "plan", "-no-color", "-detailed-exitcode", variable)
    configuration.run("terraform", "destroy", "-no-color", "-auto-approve", variable)
    assert functions.list_functions()["Functions"] == []


def test_the_document_shows_the_examples_as_they_are() -> None:
    """Each block of docs/layer-only.md that names a file is that file's content."""
    text = (ROOT / "docs" / "layer-only.md").read_text()
    shown = re.findall(
        r"\[`?(examples/layer-only/[^\]`]+|template-layer.yaml)`?\]\([^)]+\):\n\n```\w*\n(.*?)```", text, re.DOTALL
    )
    assert {name for name, _ in shown} >= {
        "examples/layer-only/function/app.py",
        "examples/layer-only/sam/template.yaml",
        "examples/layer-only/cdk/app.py",
        "examples/layer-only/terraform/main.tf",
        "examples/layer-only/serverless/serverless.yml",
    }
    for name, content in shown:
        assert content == (ROOT / name).read_text(), name
