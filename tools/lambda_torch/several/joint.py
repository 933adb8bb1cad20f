"""The resources that all models of a stack have in common, though something of each model is in them."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lambda_torch.several.model_table import ModelRow
from serving.settings import key_prefix

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
    "Dashboard": _dashboard,
}
