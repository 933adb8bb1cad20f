import threading

import pytest

from serving.http.events import Http
from serving.http.routes import Response, Router


def router() -> Router:
    """One with a route for each method, and one for the rest."""
    made = Router()

    @made.post("/a")
    @made.post("/")
    def post() -> Response:
        return Response(200, body=f"post {made.http.path}")

    @made.get("/a")
    def get() -> Response:
        return Response(200, body=f"get {made.context}")

    @made.otherwise
    def rest() -> Response:
        return Response(404)

    return made


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("POST", "/a", 200, "post /a"),
        ("POST", "/", 200, "post /"),
        ("GET", "/a", 200, "get context"),
        ("GET", "/", 404, ""),
        ("PUT", "/a", 404, ""),
        ("GET", "/b", 404, ""),
    ],
)
def test_method_and_path_choose_the_route(method: str, path: str, status: int, body: str) -> None:
    """A route answers its own method and path, and sees the request and its context; one answers all others."""
    answer = router().resolve(Http(method, path), "context")
    assert (answer.status_code, answer.body) == (status, body)


def test_what_a_route_raises_goes_through() -> None:
    """Errors are the handler's to turn into answers."""
    made = Router()

    @made.get("/")
    def broken() -> Response:
        raise KeyError("x")

    with pytest.raises(KeyError):
        made.resolve(Http("GET", "/"), None)
    with pytest.raises(LookupError):
        _ = made.http


def test_threads_see_their_own_request() -> None:
    """Requests that are answered at a time do not see each other's."""
    made, barrier, seen = Router(), threading.Barrier(2), {}

    @made.get("/1")
    @made.get("/2")
    def slow() -> Response:
        barrier.wait(10)
        return Response(200, body=made.http.path)

    def ask(path: str) -> None:
        seen[path] = made.resolve(Http("GET", path), None).body

    threads = [threading.Thread(target=ask, args=(path,)) for path in ("/1", "/2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {"/1": "/1", "/2": "/2"}
