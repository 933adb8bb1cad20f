"""Which function answers a method and a path.

Powertools' event handler has this and much more; its 150 modules take a start as long as pydantic does
(`python -m benchmarks.imports`). `serving.events` brings every kind of event into one form, so what is left is a table.
"""

import contextvars
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Response:
    """What a route answers."""

    status_code: int
    content_type: str = "application/json"
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


Route = Callable[[], Response]
_http: contextvars.ContextVar[dict[str, Any]] = contextvars.ContextVar("http")
_context: contextvars.ContextVar[Any] = contextvars.ContextVar("context")


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
    def http(self) -> dict[str, Any]:
        """The request that is being answered in this thread, in the form of `serving.events.to_http`."""
        return _http.get()

    @property
    def context(self) -> Any:
        """Lambda's context of that request; None outside Lambda."""
        return _context.get()

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

    def resolve(self, http: dict[str, Any], context: Any) -> Response:
        """Let the route of a request answer it. What the route raises goes through."""
        route = self._routes.get((http["requestContext"]["http"]["method"], http["rawPath"]), self._otherwise)
        assert route is not None
        tokens = _http.set(http), _context.set(context)
        try:
            return route()
        finally:
            _http.reset(tokens[0])
            _context.reset(tokens[1])

    def _adding(self, method: str, path: str) -> Callable[[Route], Route]:
        def add(route: Route) -> Route:
            self._routes[method, path] = route
            return route

        return add
