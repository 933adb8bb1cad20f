"""The files of a project of the user's own, and what is told about its code."""

import json
from pathlib import Path

import pytest

from lambda_torch.checking import bad_requests, defects
from lambda_torch.emulator.log_lines import readable
from lambda_torch.errors import ProjectError
from lambda_torch.packages import local, modules, resolving
from lambda_torch.packages.resolving import ModelWheel
from lambda_torch.scaffold import build_files, existing, making, parameters, stack


def package(folder: Path, code: str) -> Path:
    """A package `model` with this code."""
    (folder / "model").mkdir()
    (folder / "model" / "__init__.py").write_text(code)
    return folder


def test_own_resources_survive_an_upgrade_and_edits_elsewhere_are_noticed() -> None:
    """The part of the user is kept, and any other change of the template is told from what was written."""
    own = "  Table:\n    Type: AWS::DynamoDB::Table\n"
    first = stack.render("1.0.0", own)
    assert stack.own_resources(first) == own
    assert not stack.is_edited(first)
    assert stack.own_resources(stack.render("2.0.0", stack.own_resources(first))) == own
    assert stack.is_edited(first.replace("Default: 3008", "Default: 1024"))
    assert "CodeUri: src" not in first


def test_the_settings_of_a_project_are_read_from_samconfig(tmp_path: Path) -> None:
    """A project of a program allows programs, in each of its stacks."""
    (tmp_path / "samconfig.toml").write_text(making.samconfig("my_model", allow_programs=True))
    assert parameters.of(tmp_path) == parameters.ChosenParameters(allow_programs=True)
    assert (tmp_path / "samconfig.toml").read_text().count("AllowPrograms=true") == 4
    assert 'stack_name = "my-model"' in (tmp_path / "samconfig.toml").read_text()
    assert parameters.of(tmp_path / "nowhere") == parameters.ChosenParameters()


@pytest.mark.parametrize(
    ("natives", "place"), [([], "nothing"), ([False, False], "function"), ([False, True], "layer")]
)
def test_compiled_code_goes_into_the_layer(natives: list[bool], place: str) -> None:
    """One package with compiled code takes all of them along, so that no package is in two places."""
    assert build_files.place_of([ModelWheel(f"p{i}", "1", "", native) for i, native in enumerate(natives)]) == place


def test_what_a_model_imports_is_told_with_the_line_to_add(tmp_path: Path) -> None:
    """Modules of Lambda's function and guarded imports do not count; others are named with file, line and package."""
    code = (
        "import json, torch\nfrom pydantic import BaseModel\nfrom model.other import x\nimport PIL.Image\n"
        "try:\n    import orjson\nexcept ImportError:\n    orjson = None\n"
        "def late():\n    import no_such_module_of_anybody\n"
    )
    folder = package(tmp_path, code)
    found = local.missing(folder, None)
    assert [each.place.module for each in found] == ["PIL", "no_such_module_of_anybody"]
    assert [each.place.line for each in found] == [4, 10]
    assert "add the line pillow" in str(found[0])
    assert "requirements.txt" in str(found[1])


def test_what_lambda_provides_is_what_its_requirements_install() -> None:
    """Each distribution of the layer and of the function has its module in the list, and the list has no other."""
    from importlib.metadata import PackageNotFoundError, packages_distributions

    wanted = resolving.provided() | {"boto3", "botocore", "s3transfer"}
    try:
        found = {
            module
            for module, distributions in packages_distributions().items()
            if {resolving.normalised(each) for each in distributions} & wanted
        }
    except PackageNotFoundError:  # pragma: no cover
        pytest.skip("this environment has no records of its packages")
    named = {module for module in found if module.isidentifier() and not module.startswith("_")}
    assert modules.PROVIDED - named <= {"pkg_resources", "functorch", "torchgen"}
    assert named - modules.PROVIDED <= {"isympy"}


def test_a_defect_is_told_by_the_users_own_lines(tmp_path: Path) -> None:
    """The innermost line of the user's package comes last, and no line of libraries is there."""
    folder = package(tmp_path, "import json\n\n\ndef predict():\n    return json.loads('{')\n")
    scope: dict[str, object] = {}
    file = folder / "model" / "__init__.py"
    exec(compile(file.read_text(), str(file), "exec"), scope)
    with pytest.raises(ValueError, match="Expecting") as caught:
        scope["predict"]()  # type: ignore[operator]
    lines = defects.told(caught.value, folder / "model").splitlines()
    assert lines[1:] == ["  model/__init__.py, line 5, in predict", "    return json.loads('{')"]


def test_the_functions_log_is_readable() -> None:
    """Requests have a line already; a defect is shown by the model's lines; what a model prints stays."""
    trace = (
        'Traceback (most recent call last):\n  File "/run/task/serving/http/routes.py", line 7, in predict\n    x\n'
        '  File "/run/task/model/__init__.py", line 31, in predict\n    return widths["x"]\nKeyError: \'x\'\n'
    )
    assert readable("loading ...") == ["loading ..."]
    assert readable(json.dumps({"level": "INFO", "message": "request", "status": 200})) == []
    lines = readable(json.dumps({"level": "ERROR", "message": "failed", "request_id": "1", "exception": trace}))
    assert lines == [
        "ERROR: failed",
        "KeyError: 'x'",
        "  model/__init__.py, line 31, in predict",
        '    return widths["x"]',
    ]


def test_bad_requests_differ_in_one_place() -> None:
    """There is one with each field missing, one with each wrong type, and text that is no JSON."""
    texts = bad_requests.texts({"name": "x", "rows": [1.0, 2.0]})
    assert '{"rows": [1.0, 2.0]}' in texts
    assert '{"name": null, "rows": [1.0, 2.0]}' in texts
    assert '{"name": "x", "rows": [1.0]}' in texts
    assert "{" in texts


def test_a_source_that_is_none_names_the_next_step(tmp_path: Path) -> None:
    """A missing file, a folder without its prefix and a wrong shape are told, each with what to do."""
    (tmp_path / "config.json").write_text("{}")
    for source, said in ((str(tmp_path / "a.pth"), "is no file"), (str(tmp_path), "--from hf:")):
        with pytest.raises(ProjectError, match=said):
            existing.blueprint(source, existing.Hints(), tmp_path)
    with pytest.raises(ProjectError, match="is no shape"):
        existing.shape_of("3xfour")
    assert existing.shape_of("3,224,224") == (3, 224, 224)


def test_a_folder_with_files_is_left_alone(tmp_path: Path) -> None:
    """`init` writes into a new or empty folder only."""
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ProjectError, match=r"is not empty: it has notes\.txt"):
        making.require_empty(tmp_path)
