"""The template over every pair of its parameters' values."""

import json
import logging
from typing import Any

import pytest
from cfnlint.api import ManualArgs, lint

from stack.chosen import Chosen
from stack.combinations import combinations, missing_pairs, values
from stack.kit import Stack, refusals, template, transformed

# "CloudFormation quotas".
MOST_PARAMETERS, MOST_RESOURCES, MOST_OUTPUTS, MOST_BYTES = 200, 500, 200, 1_000_000


@pytest.fixture(autouse=True)
def quiet() -> Any:
    """SAM warns about features of its own service at each transform."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def test_every_pair_that_goes_together_is_in_a_combination() -> None:
    """The first combination has all defaults, no pair is missing, and the rules refuse none of them."""
    assert combinations()[0].items() >= {name: choices[0] for name, choices in values().items()}.items()
    assert list(missing_pairs(combinations())) == []
    assert [refusals(each) for each in combinations() if refusals(each)] == []


def test_every_combination_is_a_stack() -> None:
    """SAM transforms each; what it refers to is there, in a template within CloudFormation's limits."""
    assert len(template()["Parameters"]) <= MOST_PARAMETERS
    for each in combinations():
        document = transformed(**each)
        assert len(json.dumps(document)) < MOST_BYTES
        chosen = Chosen(document, each).document
        assert len(chosen["Resources"]) <= MOST_RESOURCES
        assert len(chosen["Outputs"]) <= MOST_OUTPUTS
        assert referred(chosen) <= chosen["Resources"].keys(), each
        # With everything resolved, no condition and no parameter is left.
        assert "Fn::" not in json.dumps(Stack(**each).resources)


def referred(value: Any) -> set[str]:
    """The resources that a template refers to."""
    if isinstance(value, list):
        return set().union(*map(referred, value))
    if not isinstance(value, dict):
        return set()
    found = set().union(*map(referred, value.values()))
    if isinstance(value.get("Ref"), str) and not value["Ref"].startswith("AWS::"):
        found.add(value["Ref"])
    if "Fn::GetAtt" in value:
        found.add(value["Fn::GetAtt"][0])
    return found


@pytest.mark.parametrize("kind", ["rest", "http", "private", "none"])
def test_the_largest_stack_of_each_kind_has_no_lint(kind: str) -> None:
    """cfn-lint has nothing to say to the combination with the most resources of each kind of API, transformed by SAM."""
    stacks = [
        (len(Stack(**each).resources), number) for number, each in enumerate(combinations()) if each["ApiType"] == kind
    ]
    largest = combinations()[max(stacks)[1]]
    document = Chosen(transformed(**largest), largest).document
    assert lint(json.dumps(document), config=ManualArgs(regions=["us-east-1"])) == []
