"""`lambda-torch models`: the table of models, the template, and what is refused."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lambda_torch.cli import main
from lambda_torch.errors import ProjectError
from lambda_torch.project import TEMPLATE
from lambda_torch.scaffold import build_files, of_several
from lambda_torch.several import model_table
from lambda_torch.several.naming import names_in, renamed
from lambda_torch.stacks.template import StackTemplate, load_template


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the template of one model."""
    shutil.copy(TEMPLATE, tmp_path)
    return tmp_path


def models(folder: Path, *words: str) -> Result:
    """Run `lambda-torch models` on a folder."""
    return CliRunner(mix_stderr=False).invoke(main, ["models", str(folder), *words])


def write(folder: Path, text: str) -> None:
    """Write the table."""
    (folder / "models.toml").write_text(text)


def test_names_are_enough(folder: Path) -> None:
    """`--add` makes the table and the template; a second run changes nothing, and `--check` agrees."""
    first = models(folder, "--add", "names,flowers-v2", "--json")
    assert first.exit_code == 0, first.stderr
    facts = json.loads(first.stdout)
    assert facts["changed"] == ["template-models.yaml"]
    assert [each["path"] for each in facts["models"]] == ["/models/names", "/models/flowers-v2"]
    text = (folder / "template-models.yaml").read_text()
    assert models(folder, "--add", "names").exit_code == 0
    assert (folder / "template-models.yaml").read_text() == text
    assert models(folder, "--check").exit_code == 0
    functions = StackTemplate(folder / "template-models.yaml").of_type("AWS::Serverless::Function")
    assert {"NamesPredictFunction", "FlowersV2PredictFunction", "NamesDeployCheckFunction"} <= functions.keys()


def test_a_template_that_is_not_up_to_date_fails_the_check(folder: Path) -> None:
    """`--check` writes nothing, and names the command that does."""
    assert models(folder, "--add", "names").exit_code == 0
    before = (folder / "template-models.yaml").read_text()
    write(folder, "[models.names]\nMemorySize = 1024\n")
    done = models(folder, "--check")
    assert (done.exit_code, "Next: lambda-torch models" in done.stderr) == (1, True)
    assert (folder / "template-models.yaml").read_text() == before


def test_an_edited_template_is_not_overwritten(folder: Path) -> None:
    """A change by hand stays until `--force`."""
    assert models(folder, "--add", "names").exit_code == 0
    file = folder / "template-models.yaml"
    file.write_text(file.read_text().replace("Default: 3008", "Default: 1024"))
    edited = file.read_text()
    done = models(folder)
    assert (done.exit_code, "edited by hand" in done.stderr) == (1, True)
    assert file.read_text() == edited
    assert models(folder, "--force").exit_code == 0
    assert "Default: 1024" not in file.read_text()


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("[models.Names]\n", "'Names' is not a model's name"),
        ("[models.a--b]\n", "is not a model's name"),
        (f"[models.{'a' * 31}]\n", "is not a model's name"),
        ("[models.a-1]\n[models.a1]\n", "resources of the same name, A1"),
        ("[model.names]\n", "no models, or something else"),
        ("", "no models"),
        ("[models.names\n", "is not TOML"),
        ("[models]\nnames = 1\n", "names is not a table"),
        ("[models.names]\nMemorySize = 100\n", "is 100, and it takes 512 to 10240"),
        ("[models.names]\nMemorySize = 1.5\n", "no whole number"),
        ('[models.names]\nSnapStart = "yes"\n', "and it takes None, PublishedVersions"),
        ('[models.names]\nWarmUpSchedule = "often"\n', "must be empty, or a schedule"),
        ('[models.names]\nApiType = "http"\n', "is shared by all models"),
        ("[models.names]\nMemory = 1024\n", "does not exist"),
        ("[models.names]\nTimeout = [1]\n", "no text and no number"),
        ('[models.names]\ncode = "../elsewhere"\n', "name a folder below"),
        ('[models.names]\ncode = "names"\n', "has no package model"),
        ("".join(f"[models.m{number}]\n" for number in range(40)), "a stack has at most 200"),
    ],
)
def test_what_cannot_be_is_refused(folder: Path, table: str, says: str) -> None:
    """The message names the row, the key and what is allowed, and nothing is written."""
    write(folder, table)
    done = models(folder)
    assert done.exit_code == 1
    assert says in done.stderr
    assert "Next: " in done.stderr
    assert not (folder / "template-models.yaml").exists()


def test_a_bad_name_leaves_the_table_as_it_is(folder: Path) -> None:
    """`--add` checks all names before it writes one."""
    assert models(folder, "--add", "names").exit_code == 0
    before = (folder / "models.toml").read_text()
    assert models(folder, "--add", "good,Bad").exit_code == 1
    assert models(folder, "--add", "flowers-2,flowers2").exit_code == 1
    assert (folder / "models.toml").read_text() == before
    model_table.add(folder, ["flowers-2", "names"])
    assert [row.name for row in model_table.read(folder / "models.toml").rows] == ["names", "flowers-2"]
    assert (folder / "models.toml").read_text().startswith(before)


def test_without_a_table_or_a_template_the_next_step_is_told(tmp_path: Path) -> None:
    """Each of the two files has its own message."""
    done = models(tmp_path)
    assert (done.exit_code, "lambda-torch models --add" in done.stderr) == (1, True)
    write(tmp_path, "[models.names]\n")
    done = models(tmp_path)
    assert (done.exit_code, "There is no" in done.stderr, "template.yaml" in done.stderr) == (1, True, True)


def test_another_template_is_refused(tmp_path: Path) -> None:
    """A template without the function of lambda-torch is none to derive from."""
    write(tmp_path, "[models.names]\n")
    (tmp_path / "template.yaml").write_text("Resources: {Queue: {Type: 'AWS::SQS::Queue'}}\n")
    done = models(tmp_path)
    assert (done.exit_code, "has no PredictFunction" in done.stderr) == (1, True)


def test_a_users_own_resource_goes_with_what_it_refers_to(folder: Path) -> None:
    """A resource of the user that refers to the function is there for each model, and another one is there once."""
    own = "  Table: {Type: 'AWS::DynamoDB::Table'}\n"
    own += "  Watch: {Type: 'AWS::SNS::Topic', Properties: {DisplayName: !Ref PredictFunction}}\n"
    template = folder / "template.yaml"
    template.write_text(template.read_text().replace("\nOutputs:\n", f"\n{own}\nOutputs:\n"))
    assert models(folder, "--add", "names,flowers").exit_code == 0
    found = load_template(folder / "template-models.yaml")["Resources"]
    assert {"Table", "NamesWatch", "FlowersWatch"} <= found.keys()
    assert "Watch" not in found
    assert found["FlowersWatch"]["Properties"] == {"DisplayName": {"Ref": "FlowersPredictFunction"}}


def test_references_are_found_and_renamed() -> None:
    """References of every form are seen; names in texts, and variables of Fn::Sub, are none."""
    part = {
        "Condition": "On",
        "DependsOn": ["A"],
        "Text": "A",
        "Ref": "A.Alias",
        "Get": {"Fn::GetAtt": ["A", "Arn"]},
        "If": {"Fn::If": ["On", {"Ref": "B"}, {"Ref": "AWS::NoValue"}]},
        "Sub": {"Fn::Sub": ["${A.Arn}-${C}-${!A}-${B}", {"C": {"Ref": "D"}}]},
        "Policy": {"Condition": {"Bool": {"A": "true"}}},
    }
    assert names_in(part) == {"On", "A", "B", "D", "AWS::NoValue"}
    other = renamed(part, {"A": "NewA", "C": "NewC", "On": "NewOn"})
    assert other["Condition"] == "NewOn"
    assert (other["DependsOn"], other["Text"], other["Ref"]) == (["NewA"], "A", "NewA.Alias")
    assert other["Get"] == {"Fn::GetAtt": ["NewA", "Arn"]}
    assert other["If"]["Fn::If"][0] == "NewOn"
    assert other["Sub"]["Fn::Sub"] == ["${NewA.Arn}-${C}-${!A}-${B}", {"C": {"Ref": "D"}}]
    assert other["Policy"] == part["Policy"]
    assert part["Ref"] == "A.Alias"


@pytest.mark.parametrize("name", ["names", "flowers-v2"])
def test_make_builds_the_function_of_a_model(name: str) -> None:
    """SAM asks the Makefile for a target of the function's name, whatever the model is called."""
    import subprocess

    target = f"build-{model_table.ModelRow(name, {}, None, '').id_part}PredictFunction"
    command = ["make", "--dry-run", target, "ARTIFACTS_DIR=/nowhere"]
    done = subprocess.run(command, cwd=TEMPLATE.parent / "src", capture_output=True, text=True)
    assert (done.returncode, 'cp -R . "/nowhere"' in done.stdout) == (0, True), done.stderr


def project_of(folder: Path) -> Path:
    """A project as `lambda-torch init` makes it, with what the build files need."""
    for part in ("model", "layer"):
        (folder / part).mkdir()
    (folder / "model" / "__init__.py").write_text("")
    wheels = folder / "model" / ".lambda-torch"
    wheels.mkdir()
    (wheels / "lambda_torch-1.whl").write_text("")
    for name, text in build_files.contents(folder, ".lambda-torch/lambda_torch-1.whl").items():
        (folder / name).write_text(text)
    return folder


def test_a_model_with_code_of_its_own_is_built_from_its_folder(folder: Path) -> None:
    """Its package gets a Makefile and the wheel, and both of its functions are built there, with its own packages."""
    project_of(folder)
    (folder / "flowers" / "model").mkdir(parents=True)
    (folder / "flowers" / "model" / "__init__.py").write_text("")
    write(folder, '[models.names]\n[models.flowers]\ncode = "flowers"\n')
    done = models(folder, "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["changed"] == ["flowers/model/Makefile", "template-models.yaml"]
    assert (folder / "flowers" / "model" / ".lambda-torch" / "lambda_torch-1.whl").is_file()
    functions = StackTemplate(folder / "template-models.yaml").of_type("AWS::Serverless::Function")
    assert functions["FlowersPredictFunction"]["CodeUri"] == "flowers/model"
    assert functions["FlowersDeployCheckFunction"]["CodeUri"] == "flowers/model"
    assert functions["NamesPredictFunction"]["CodeUri"] == "src"
    resource = load_template(folder / "template-models.yaml")["Resources"]["FlowersDeployCheckFunction"]
    assert resource["Metadata"]["BuildMethod"] == "makefile"
    # From the folder of the model, the project is found again, and nothing is written beside it.
    assert build_files.refresh(folder / "flowers") == []
    assert not (folder / "flowers" / "layer").exists()
    assert models(folder, "--check").exit_code == 0


def test_code_of_its_own_needs_a_project(folder: Path) -> None:
    """In a folder without the build files of `init` the message says so."""
    (folder / "flowers" / "model").mkdir(parents=True)
    (folder / "flowers" / "model" / "__init__.py").write_text("")
    write(folder, '[models.flowers]\ncode = "flowers"\n')
    done = models(folder)
    assert (done.exit_code, "no project that lambda-torch init has made" in done.stderr) == (1, True)


def test_a_project_can_begin_with_several_models(folder: Path) -> None:
    """Each model has a copy of the release, and `sam build` takes the template of all of them without an option."""
    (folder / "release").mkdir()
    (folder / "release" / "weights.safetensors").write_text("weights")
    shutil.copy(TEMPLATE.parent / "samconfig.toml", folder)
    of_several.add(folder, of_several.names_of("prices, returns"))
    assert (folder / "releases" / "returns" / "weights.safetensors").read_text() == "weights"
    assert (folder / "samconfig.toml").read_text().count('template_file = "template-models.yaml"') == 2
    assert models(folder, "--check").exit_code == 0
    for text in ("", " , ", "Prices"):
        with pytest.raises(ProjectError):
            of_several.names_of(text)
