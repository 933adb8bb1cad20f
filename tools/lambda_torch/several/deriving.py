"""The template of a stack with several models, derived from that of a stack with one.

Each model gets what the function of one model has, with names that begin with its own. What it shares with the other
models is there once. CloudFormation offers two ways to repeat a part of a template, and neither goes through all the
tools (docs/several-models.md has the reasons): so the whole template is written out.
"""

import re
from collections.abc import Mapping
from typing import Any

from lambda_torch.errors import ProjectError, StackError
from lambda_torch.several import joint
from lambda_torch.several.model_table import ModelRow, ModelTable
from lambda_torch.several.naming import renamed
from lambda_torch.several.parting import Parts
from serving.settings import key_prefix

# "CloudFormation quotas", of one template.
MOST = {"Parameters": 200, "Outputs": 200, "Resources": 500}

# Texts in the parts of one model: pattern, what stands there instead, and why. Each must be found.
TEXTS = (
    (r"\$\{AWS::StackName\}", r"\g<0>_{name}", "names that the template makes up must differ; no stack's name has a _"),
    (r"\$\{ModelBucket(\.Arn)?\}/", r"\g<0>{prefix}", "a role reaches the objects of its own model only"),
    (r"^inbox/", r"{prefix}\g<0>", "a file starts a run of the model under whose prefix it is"),
    (
        r'"Prefix\.\$": "States\.Format\(\'(?=results/)',
        r"\g<0>{prefix}",
        "the report of a run is beside its results; the function itself puts the prefix before its own keys",
    ),
)
# Functions that read the bucket, and know by this variable which part of it is theirs.
NAMED_FUNCTIONS = ("PredictFunction", "DeployCheckFunction")
MODEL_VARIABLE = "MODEL_NAME"


def derive(document: Mapping[str, Any], table: ModelTable) -> dict[str, Any]:
    """The template for several models.

    Args:
        document: the template for one model, functions as mappings.
        table: the models.

    Raises:
        ProjectError: a row sets a parameter that does not exist or that models share, or gives it a wrong value; or there
            are more models than a stack can have.
        StackError: this template is not one of lambda-torch.
    """
    whole = dict(document)
    if missing := [name for name in (*NAMED_FUNCTIONS, *joint.MAKERS) if name not in whole["Resources"]]:
        raise StackError(
            f"The template has no {', '.join(missing)}.\nNext: use the template.yaml of lambda-torch (lambda-torch upgrade)."
        )
    parts = Parts(whole)
    made = {section: _shared(whole, parts, section) for section in ("Parameters", "Conditions", "Rules", "Resources")}
    outputs = {name: each for name, each in whole["Outputs"].items() if name not in parts.outputs}
    found: set[str] = set()
    for row in table.rows:
        names = {name: row.id_part + name for name in parts.referred}
        made["Parameters"] |= _parameters(whole["Parameters"], parts, row, table)
        for section, of_model in (("Conditions", parts.conditions), ("Rules", parts.rules)):
            made[section] |= {row.id_part + name: renamed(whole[section][name], names) for name in of_model}
        for name in parts.rules:
            for assertion in made["Rules"][row.id_part + name]["Assertions"]:
                assertion["AssertDescription"] = f"{row.name} - {assertion['AssertDescription']}"
        for name in parts.resources:
            resource = _with_texts(renamed(whole["Resources"][name], names), row, found)
            made["Resources"][row.id_part + name] = _of_model(name, resource, row)
        outputs |= {row.id_part + name: _output(renamed(whole["Outputs"][name], names), row) for name in parts.outputs}
    if absent := [pattern for pattern, _, _ in TEXTS if pattern not in found]:
        raise StackError(
            f"The template has nothing like {absent[0]}, so this version of lambda-torch cannot derive from it."
        )

    def rename(value: Any, row: ModelRow) -> Any:
        return renamed(value, {name: row.id_part + name for name in parts.referred})

    for name, make in joint.MAKERS.items():
        made["Resources"][name] = make(whole["Resources"][name], table.rows, rename)
    result = {**whole, **made, "Outputs": outputs}
    result["Description"] = f"lambda-torch - {len(table.rows)} models on AWS Lambda: {', '.join(_names(table))}"[:1024]
    result["Metadata"] = _metadata(whole.get("Metadata", {}), parts, table)
    for section, most in MOST.items():
        if len(result[section]) > most:
            raise ProjectError(
                f"{len(table.rows)} models need {len(result[section])} {section.lower()}, and a stack has at most {most}.\n"
                "Next: put some of the models into another stack."
            )
    return result


def _names(table: ModelTable) -> list[str]:
    return [row.name for row in table.rows]


def _shared(document: Mapping[str, Any], parts: Parts, section: str) -> dict[str, Any]:
    own = {*getattr(parts, section.lower())}
    return {name: each for name, each in document.get(section, {}).items() if name not in own}


def _parameters(rules: Mapping[str, Any], parts: Parts, row: ModelRow, table: ModelTable) -> dict[str, Any]:
    """The parameters of one model, with the values of its row as defaults."""
    for name, value in row.parameters.items():
        if name not in parts.parameters:
            shared = "is shared by all models: set it with sam deploy" if name in rules else "does not exist"
            raise ProjectError(
                f"{table.path}: {row.name} sets {name}, which {shared}.\nNext: set code, release, or one of "
                f"{', '.join(parts.parameters)}."
            )
        if problem := _problem(rules[name], value):
            raise ProjectError(f"{table.path}: {name} of {row.name} is {value}, {problem}.\nNext: correct it.")
    made = {}
    for name in parts.parameters:
        rule = {**rules[name], "Description": f"{row.name} - {rules[name]['Description']}"}
        if name in row.parameters:
            value = row.parameters[name]
            rule["Default"] = int(value) if rule["Type"] == "Number" else value
        made[row.id_part + name] = rule
    return made


def _problem(rule: Mapping[str, Any], value: str) -> str | None:
    """What CloudFormation would say to a value; None if it takes it."""
    listed = [str(each) for each in rule.get("AllowedValues", ())]
    if listed and value not in listed:
        return f"and it takes {', '.join(listed)}"
    if rule["Type"] == "Number":
        if not re.fullmatch(r"-?\d+", value):
            return "which is no whole number"
        low, high = rule.get("MinValue"), rule.get("MaxValue")
        if (low is not None and int(value) < low) or (high is not None and int(value) > high):
            return f"and it takes {low}" + (" or more" if high is None else f" to {high}")
    if "AllowedPattern" in rule and not re.fullmatch(rule["AllowedPattern"], value):
        return f"and it {rule.get('ConstraintDescription', 'must be like ' + rule['AllowedPattern'])}"
    return None


def _with_texts(value: Any, row: ModelRow, found: set[str]) -> Any:
    if isinstance(value, list):
        return [_with_texts(each, row, found) for each in value]
    if isinstance(value, dict):
        return {key: _with_texts(each, row, found) for key, each in value.items()}
    if isinstance(value, str):
        for pattern, instead, _ in TEXTS:
            value, count = re.subn(pattern, instead.format(name=row.name, prefix=key_prefix(row.name)), value)
            if count:
                found.add(pattern)
    return value


def _of_model(name: str, resource: dict[str, Any], row: ModelRow) -> dict[str, Any]:
    """What a resource says of its model beyond names."""
    properties = resource["Properties"]
    if name in NAMED_FUNCTIONS:
        properties["Environment"]["Variables"][MODEL_VARIABLE] = row.name
        if row.code is not None:
            properties["CodeUri"] = f"{row.code}/model"
            resource["Metadata"] = {**resource.get("Metadata", {}), "BuildMethod": "makefile"}
    if "AlarmDescription" in properties:
        properties["AlarmDescription"] = f"{row.name} - {properties['AlarmDescription']}"
    return resource


def _output(output: Any, row: ModelRow) -> Any:
    """An output with the model's path, release and name."""
    text = {
        r"/predict$": f"/models/{row.name}/predict",
        r"^lambda-torch publish \S+": f"lambda-torch publish {row.release} --model {row.name}",
        r"^lambda-torch bulk \S+": rf"\g<0> --model {row.name}",
    }

    def changed(value: Any) -> Any:
        if isinstance(value, list):
            return [changed(each) for each in value]
        if isinstance(value, dict):
            return {key: changed(each) for key, each in value.items()}
        for pattern, instead in text.items():
            value = re.sub(pattern, instead, value) if isinstance(value, str) else value
        return value

    return {**output, "Description": f"{row.name} - {output['Description']}", "Value": changed(output["Value"])}


def _metadata(metadata: Mapping[str, Any], parts: Parts, table: ModelTable) -> dict[str, Any]:
    """The groups of parameters that the console shows: those of all models first."""
    interface = "AWS::CloudFormation::Interface"
    groups = []
    for group in metadata.get(interface, {}).get("ParameterGroups", []):
        left = [name for name in group["Parameters"] if name not in parts.parameters]
        groups += [{**group, "Parameters": left}] if left else []
    for row in table.rows:
        own = [row.id_part + name for name in parts.parameters]
        groups.append({"Label": {"default": f"The model {row.name}"}, "Parameters": own})
    return {**metadata, interface: {"ParameterGroups": groups}}
