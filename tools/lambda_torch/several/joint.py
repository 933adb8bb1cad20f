"""The resources that all models of a stack have in common, though something of each model is in them."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lambda_torch.several.model_table import ModelRow
from serving.settings import key_prefix

# Objects that each model has for itself, by the beginnings of their keys.
KINDS_OF_MODELS = ("releases/", "channels/")

Rename = Callable[[Any, ModelRow], Any]
"""Makes a part of the template one of a model, with the names of its resources."""
Maker = Callable[[Mapping[str, Any], Sequence[ModelRow], Rename], dict[str, Any]]
"""Makes a resource of the one in the template for one model."""


def _with(resource: Mapping[str, Any], **properties: Any) -> dict[str, Any]:
    return {**resource, "Properties": {**resource["Properties"], **properties}}


def _routes(document: Mapping[str, Any], rows: Sequence[ModelRow], rename: Rename) -> dict[str, Any]:
    """An OpenAPI document whose routes are below /models/NAME, for each model."""
    paths = {
        f"/models/{row.name}{path.rstrip('/')}": rename(methods, row)
        for row in rows
        for path, methods in document["paths"].items()
    }
    return {**document, "paths": paths}


def _rest_api(resource: Mapping[str, Any], rows: Sequence[ModelRow], rename: Rename) -> dict[str, Any]:
    return _with(resource, DefinitionBody=_routes(resource["Properties"]["DefinitionBody"], rows, rename))


def _http_api(resource: Mapping[str, Any], rows: Sequence[ModelRow], rename: Rename) -> dict[str, Any]:
    return _with(resource, Body=_routes(resource["Properties"]["Body"], rows, rename))


def _bucket(resource: Mapping[str, Any], rows: Sequence[ModelRow], _rename: Rename) -> dict[str, Any]:
    """Rules with a prefix hold for the objects of each model. The others hold for all objects."""
    configuration = resource["Properties"]["LifecycleConfiguration"]
    rules = [rule for rule in configuration["Rules"] if "Prefix" not in rule]
    rules += [
        {**rule, "Id": f"{row.name}-{rule['Id']}", "Prefix": key_prefix(row.name) + rule["Prefix"]}
        for row in rows
        for rule in configuration["Rules"]
        if "Prefix" in rule
    ]
    return _with(resource, LifecycleConfiguration={**configuration, "Rules": rules})


def _bucket_policy(resource: Mapping[str, Any], rows: Sequence[ModelRow], _rename: Rename) -> dict[str, Any]:
    """What names releases or channels names those of each model. The list of regions is one for all."""
    document = resource["Properties"]["PolicyDocument"]

    def of_all(resources: Any) -> list[Any]:
        made: list[Any] = []
        for each in resources:
            text = each.get("Fn::Sub", "") if isinstance(each, dict) else ""
            kind = text.removeprefix("${ModelBucket.Arn}/")
            is_of_models = kind.startswith(KINDS_OF_MODELS) and kind != text
            made += (
                [{"Fn::Sub": text.replace(kind, key_prefix(row.name) + kind)} for row in rows]
                if is_of_models
                else [each]
            )
        return made

    def statement(value: dict[str, Any]) -> dict[str, Any]:
        if "Fn::If" in value:
            condition, yes, no = value["Fn::If"]
            return {"Fn::If": [condition, statement(yes), no]}
        listed = value["Resource"] if isinstance(value["Resource"], list) else [value["Resource"]]
        return {**value, "Resource": of_all(listed)}

    statements = [statement(each) for each in document["Statement"]]
    return _with(resource, PolicyDocument={**document, "Statement": statements})


def _dashboard(resource: Mapping[str, Any], rows: Sequence[ModelRow], rename: Rename) -> dict[str, Any]:
    """For each model a title, and below it all widgets of the dashboard."""
    text = resource["Properties"]["DashboardBody"]["Fn::Sub"]
    height = max(widget["y"] + widget["height"] for widget in json.loads(text)["widgets"])
    made: list[dict[str, Any]] = []
    for number, row in enumerate(rows):
        top = number * (height + 1)
        title = {"type": "text", "x": 0, "y": top, "width": 24, "height": 1}
        made.append({**title, "properties": {"markdown": f"## {row.name}"}})
        for widget in json.loads(rename({"Fn::Sub": text}, row)["Fn::Sub"])["widgets"]:
            made.append({**widget, "y": widget["y"] + top + 1})
    body = '{"widgets": [\n' + ",\n".join(json.dumps(widget) for widget in made) + "\n]}\n"
    return _with(resource, DashboardBody={"Fn::Sub": body})


MAKERS: dict[str, Maker] = {
    "PredictApi": _rest_api,
    "PredictHttpApi": _http_api,
    "ModelBucket": _bucket,
    "ModelBucketPolicy": _bucket_policy,
    "Dashboard": _dashboard,
}
