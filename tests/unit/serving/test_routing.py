"""The table of routes: which function answers, what other methods and paths get, and that the stack has the same table."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from samcli.yamlhelper import yaml_parse

from lambda_torch.project import ROOT
from serving.errors import HttpError
from serving.http import routes
from serving.http.events import HttpRequest
from serving.http.responses import Cors, HttpResponse
from serving.http.routes import ROUTES, dispatch, routes_of
from serving.http.service import Invocation
from serving.telemetry.receipts import Receipt

INVOCATION = Invocation(Receipt(), "7b61c6af")
# By the model's task: services that only know CORS and their model.
SERVICES: dict[str | None, Any] = {
    task: SimpleNamespace(cors=Cors(("*",)), model=SimpleNamespace(TASK=task)) for task in (None, "chat", "embeddings")
}
# Every path that a model has, by its task.
PATHS = [
    (task, path) for task, each in SERVICES.items() for path in sorted({row.path for row in routes_of(each.model)})
]


def ask(method: str, path: str, task: str | None = None) -> HttpResponse:
    """What the table answers for a model of this task."""
    return dispatch(SERVICES[task], HttpRequest(method, path), INVOCATION)


def test_method_and_path_choose_the_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row's function answers its method and path, and gets the service, the request and the invocation."""
    seen: list[Any] = []

    def answer(*arguments: Any) -> HttpResponse:
        seen.append(arguments)
        return HttpResponse(200)

    for route in ROUTES:
        monkeypatch.setitem(routes._ROUTES, (route.method, route.path), route._replace(answer=answer))
        task = route.tasks[0] if route.tasks else None
        assert ask(route.method, route.path, task).status == 200
        assert seen.pop() == (SERVICES[task], HttpRequest(route.method, route.path), INVOCATION)


def test_no_two_rows_are_alike() -> None:
    """A method and path have one row, and so has a name of the document."""
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)
    assert len({route.name for route in ROUTES}) == len(ROUTES)


@pytest.mark.parametrize(("task", "path"), PATHS)
def test_other_methods_are_refused_with_those_that_are_allowed(task: str | None, path: str) -> None:
    """405 names the methods of the path in Allow and in the details; a preflight names the same ones."""
    allowed = [*(route.method for route in ROUTES if route.path == path), "OPTIONS"]
    for method in ("PUT", "DELETE", "", "get"):
        with pytest.raises(HttpError) as caught:
            ask(method, path, task)
        assert (caught.value.status, caught.value.headers) == (405, {"Allow": ", ".join(allowed)})
        assert caught.value.details == {"allowed": allowed}
    preflight = ask("OPTIONS", path, task)
    assert (preflight.status, preflight.body) == (204, "")
    assert preflight.headers["Access-Control-Allow-Methods"] == ", ".join(allowed)


@pytest.mark.parametrize("task", SERVICES)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_an_unknown_path_is_refused_with_the_known_ones(method: str, task: str | None) -> None:
    """404 lists the paths that there are for this model; those of another task's models are unknown."""
    own = {path for each, path in PATHS if each == task}
    for path in ("/nowhere", *({path for _, path in PATHS} - own)):
        with pytest.raises(HttpError) as caught:
            ask(method, path, task)
        assert (caught.value.status, caught.value.code) == (404, "no_such_route")
        assert caught.value.details == {"routes": sorted(own)}


def test_the_stack_has_the_same_routes() -> None:
    """template.yaml sends exactly the table's methods and paths to the function, by each kind of API.

    The REST API also sends the preflights that browsers need. An HTTP API answers them itself.
    """
    resources = json.loads(json.dumps(yaml_parse((ROOT / "template.yaml").read_text())))["Resources"]
    rows = {(route.method, route.path) for route in ROUTES}
    preflights = {("OPTIONS", route.path) for route in ROUTES if route.preflight}
    for api, body, wanted in (("PredictApi", "DefinitionBody", rows | preflights), ("PredictHttpApi", "Body", rows)):
        paths = resources[api]["Properties"][body]["paths"]
        assert {(method.upper(), path) for path, methods in paths.items() for method in methods} == wanted


def test_the_document_has_the_same_routes() -> None:
    """The OpenAPI document has an operation for each row, under the row's name."""
    from model import Request, Response
    from serving.http import openapi

    paths = openapi.document(Request, Response, None, 100, ROUTES)["paths"]
    named = {
        (method.upper(), path): operation["operationId"]
        for path, operations in paths.items()
        for method, operation in operations.items()
        if method != "options"
    }
    assert named == {(route.method, route.path): route.name for route in ROUTES}
