"""What the local run takes for granted is what the template deploys."""

from pathlib import Path

from samcli.yamlhelper import yaml_parse

from lambda_torch import project
from lambda_torch.commands import serve
from lambda_torch.emulator import run, software
from lambda_torch.emulator.function import Function
from lambda_torch.emulator.sandbox_variables import SANDBOX_VARIABLES
from lambda_torch.emulator.software import Software


def test_the_local_function_is_configured_as_in_the_template() -> None:
    """Handler, memory, time limit and the variables of the local run are the template's."""
    template = yaml_parse((project.ROOT / "template.yaml").read_text())
    function = template["Resources"]["PredictFunction"]["Properties"]
    assert function["Handler"] == run.HANDLER
    assert (project.ROOT / function["CodeUri"]).resolve() == project.SRC
    assert template["Parameters"]["MemorySize"]["Default"] == run.MEMORY_MB
    assert template["Parameters"]["Timeout"]["Default"] == run.TIMEOUT_SECONDS
    variables = template["Globals"]["Function"]["Environment"]["Variables"] | function["Environment"]["Variables"]
    assert {"MODEL_BUCKET", "AWS_ENDPOINT_URL_S3"} <= variables.keys()
    assert template["Parameters"]["EphemeralStorage"]["Default"] == run.STORAGE_MB
    # What the template takes from its parameters, the local run takes from its options.
    given = run.variables_of(run.RunOptions(software.stock(), Path("release"), timeout_seconds=7), "http://s3")
    assert (variables["FUNCTION_TIMEOUT"], given["FUNCTION_TIMEOUT"]) == ({"Ref": "Timeout"}, "7")
    assert (variables["EPHEMERAL_STORAGE"], given["EPHEMERAL_STORAGE"]) == (
        {"Ref": "EphemeralStorage"},
        str(run.STORAGE_MB),
    )


def test_a_users_own_variables_come_last() -> None:
    """A variable that the user gives replaces what follows from the options."""
    options = run.RunOptions(software.stock(), Path("release"), variables={"FUNCTION_TIMEOUT": "3"})
    assert run.variables_of(options, "http://s3")["FUNCTION_TIMEOUT"] == "3"


def test_libraries_find_the_same_places_as_on_lambda() -> None:
    """The variables that libraries read are those of the template, with the run's own folder in the place of /tmp."""
    template = yaml_parse((project.ROOT / "template.yaml").read_text())
    deployed = template["Resources"]["PredictFunction"]["Properties"]["Environment"]["Variables"]
    assert all(reason for _, reason in SANDBOX_VARIABLES.values())
    assert {name: value for name, (value, _) in SANDBOX_VARIABLES.items()}.items() <= deployed.items()
    local = Function(Path("/task"), "a.b", Software("none", ()), variables={"HF_HOME": "/mine"}).environment(Path("/s"))
    assert (local["TORCH_HOME"], local["HF_HUB_OFFLINE"], local["HF_HOME"]) == ("/s/torch", "1", "/mine")


def test_the_options_offer_the_same_defaults() -> None:
    """`serve` offers the template's memory and time limit as its defaults."""
    defaults = {parameter.name: parameter.default for parameter in serve.command.params}
    assert (defaults["memory"], defaults["timeout"]) == (run.MEMORY_MB, run.TIMEOUT_SECONDS)
