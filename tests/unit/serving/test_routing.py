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
from serving.http.routes import ROUTES, dispatch
from serving.http.service import Invocation
from serving.telemetry.receipts import Receipt

INVOCATION = Invocation(Receipt(), "7b61c6af")
SERVICE: Any = SimpleNamespace(cors=Cors(("*",)))


def ask(method: str, path: str) -> HttpResponse:
    """What the table answers, with a service that only knows CORS."""
    return dispatch(SERVICE, HttpRequest(method, path), INVOCATION)


def test_method_and_path_choose_the_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row's function answers its method and path, and gets the service, the request and the invocation."""
    seen: list[Any] = []

    def answer(*arguments: Any) -> HttpResponse:
        seen.append(arguments)
        return HttpResponse(200)

    for route in ROUTES:
        monkeypatch.setitem(routes._ANSWERS, (route.method, route.path), answer)
        assert ask(route.method, route.path).status == 200
        assert seen.pop() == (SERVICE, HttpRequest(route.method, route.path), INVOCATION)


def test_no_two_rows_are_alike() -> None:
    """A method and path have one row, and so has a name of the document."""
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)
    assert len({route.name for route in ROUTES}) == len(ROUTES)


@pytest.mark.parametrize("path", sorted({route.path for route in ROUTES}))
def test_other_methods_are_refused_with_those_that_are_allowed(path: str) -> None:
    """405 names the methods of the path in Allow and in the details; a preflight names the same ones."""
    allowed = [*(route.method for route in ROUTES if route.path == path), "OPTIONS"]
    for method in ("PUT", "DELETE", "", "get"):
        with pytest.raises(HttpError) as caught:
            ask(method, path)
        assert (caught.value.status, caught.value.headers) == (405, {"Allow": ", ".join(allowed)})
        assert caught.value.details == {"allowed": allowed}
    preflight = ask("OPTIONS", path)
    assert (preflight.status, preflight.body) == (204, "")
    assert preflight.headers["Access-Control-Allow-Methods"] == ", ".join(allowed)


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_an_unknown_path_is_refused_with_the_known_ones(method: str) -> None:
    """404 lists the paths that there are."""
    with pytest.raises(HttpError) as caught:
        ask(method, "/nowhere")
    assert (caught.value.status, caught.value.code) == (404, "no_such_route")
    assert caught.value.details == {"routes": sorted({route.path for route in ROUTES})}


def test_the_stack_has_the_same_routes() -> None:
    """template.yaml sends exactly the table's methods and paths to the function, and the preflights that browsers need."""
    template = json.loads(json.dumps(yaml_parse((ROOT / "template.yaml").read_text())))
    events = template["Resources"]["PredictFunction"]["Properties"]["Events"].values()
    sent = {(each["Properties"]["Method"], each["Properties"]["Path"]) for each in events if each["Type"] == "Api"}
    rows = {(route.method, route.path) for route in ROUTES}
    assert sent == rows | {("OPTIONS", route.path) for route in ROUTES if route.preflight}


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
