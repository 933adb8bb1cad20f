"""Names that are made of the stack's name, against the lengths that AWS allows."""

import tomllib

import pytest
from click.testing import CliRunner

from lambda_torch.cli import main
from lambda_torch.errors import StackError
from lambda_torch.project import ROOT, TEMPLATE
from lambda_torch.stacks.name_limits import check_name, given_names
from lambda_torch.stacks.template import StackTemplate
from stack.kit import PSEUDO, Stack

LONGEST = 49


def of(name: str) -> StackTemplate:
    """The project's template, for a stack of this name."""
    return StackTemplate(TEMPLATE, stack_name=name)


def test_the_longest_name_that_fits() -> None:
    """A stack's name may have 49 characters: the check of deploys is a function called CodeDeployHook_NAME, of at most 64."""
    name = "a" * LONGEST
    assert max(given.over for given in check_name(name, of(name))) == 0
    with pytest.raises(StackError, match=f"Next: take a name of at most {LONGEST} characters") as refused:
        check_name(name + "a", of(name + "a"))
    assert f"DeployCheckFunction: CodeDeployHook_{name}a has 65 characters, and AWS allows 64." in str(refused.value)


@pytest.mark.parametrize("name", ["", "1st", "my_stack", "a" * 129, "naïve", "a\n"])
def test_what_cloudformation_takes_for_no_name_is_refused(name: str) -> None:
    """Characters and lengths that CloudFormation does not allow."""
    with pytest.raises(StackError, match="is not the name of a stack"):
        check_name(name, of("x"))


def test_every_name_of_the_template_is_looked_at() -> None:
    """No resource of the transformed template has a name with the stack's name in it that the check does not know."""
    made = {
        logical_id
        for logical_id, resource in Stack().resources.items()
        for key, value in resource.get("Properties", {}).items()
        if key.endswith("Name") and isinstance(value, str) and PSEUDO["AWS::StackName"] in value
    }
    assert made == {given.resource for given in given_names(of(PSEUDO["AWS::StackName"]))}
    assert "DeployCheckFunction" in made


def test_the_names_in_samconfig_fit() -> None:
    """Every stack that samconfig.toml names can be deployed."""
    config = tomllib.loads((ROOT / "samconfig.toml").read_text())
    names = [each["global"]["parameters"]["stack_name"] for each in config.values() if isinstance(each, dict)]
    assert len(names) == 3
    for name in names:
        check_name(name, of(name))


def test_the_command_lists_the_names_or_says_which_is_too_long() -> None:
    """Exit status 0 with the names and their lengths, or 1 with what to do."""
    done = CliRunner().invoke(main, ["check-name", "models"])
    assert done.exit_code == 0
    assert done.output.startswith("DeployCheckFunction: CodeDeployHook_models (21 of 64 characters)\n")
    refused = CliRunner().invoke(main, ["check-name", "m" * 60])
    assert refused.exit_code == 1
    assert "take a name of at most 49 characters" in refused.output
