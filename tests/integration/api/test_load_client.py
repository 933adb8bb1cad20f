"""The benchmarks' client counts what came back, and nothing else."""

import threading
from itertools import count

from benchmarks.load.client import load
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response


def test_answers_and_errors_are_counted_apart() -> None:
    """Every third answer is an error: it is counted as one, and its time is not."""
    numbers = count()
    bodies: set[bytes] = set()

    @Request.application
    def application(request: Request) -> Response:
        bodies.add(request.get_data())
        return Response("{}", 200 if next(numbers) % 3 else 503)

    server = make_server("127.0.0.1", 0, application, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        figures = load([f"http://127.0.0.1:{server.server_port}"], b'{"a": 1}', 2, 1)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    answered = next(numbers)
    assert bodies == {b'{"a": 1}'}
    assert abs(figures["errors"] - answered / 3) <= 2
    assert figures["rps"] > 0
    assert 0 < figures["p50_ms"] <= figures["p99_ms"]
