"""Which function answers a method and a path.

Powertools' event handler has this and much more; its 150 modules take a start as long as pydantic does
(`python -m benchmarks.imports`). `serving.http.events` brings every kind of event into one form, so what is left is a table.
"""

import contextvars
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from serving.http.events import Http

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Response(NamedTuple):
    """What a route answers."""

    status_code: int
    content_type: str = "application/json"
    body: str = ""
    headers: Mapping[str, str] = _NO_HEADERS


Route = Callable[[], Response]
_answering: contextvars.ContextVar[tuple[Http, Any]] = contextvars.ContextVar("answering")


class Router:
    """Routes, by method and path.

    Example:
        router = Router()

        @router.get("/health")
        def health() -> Response:
            return Response(200, body="{}")
    """

    def __init__(self) -> None:
        self._routes: dict[tuple[str, str], Route] = {}
        self._otherwise: Route | None = None

    @property
    def http(self) -> Http:
        """The request that is being answered in this thread."""
        return _answering.get()[0]

    @property
    def context(self) -> Any:
        """Lambda's context of that request; None outside Lambda."""
        return _answering.get()[1]

    def get(self, path: str) -> Callable[[Route], Route]:
        """Decorates what answers GET."""
        return self._adding("GET", path)

    def post(self, path: str) -> Callable[[Route], Route]:
        """Decorates what answers POST."""
        return self._adding("POST", path)

    def otherwise(self, route: Route) -> Route:
        """Decorates what answers everything else."""
        self._otherwise = route
        return route

    def resolve(self, http: Http, context: Any) -> Response:
        """Let the route of a request answer it. What the route raises goes through."""
        route = self._routes.get((http.method, http.path), self._otherwise)
        assert route is not None
        token = _answering.set((http, context))
        try:
            return route()
        finally:
            _answering.reset(token)

    def _adding(self, method: str, path: str) -> Callable[[Route], Route]:
        def add(route: Route) -> Route:
            self._routes[method, path] = route
            return route

        return add
