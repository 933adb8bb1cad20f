"""Streamed answers on their way through the local Runtime API and the gateway to real clients."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests

from integration.emulator.conftest import MakePool, event, said, wait_until
from lambda_torch.emulator import software
from lambda_torch.emulator.environment import Environment
from lambda_torch.emulator.gateway import Gateway, Handled
from lambda_torch.emulator.payloads import PAYLOADS
from lambda_torch.emulator.pool import Pool
from lambda_torch.emulator.run import listen, serving
from lambda_torch.project import SRC

STREAMER = Path(__file__).with_name("streamer")

Serve = Callable[..., str]


@pytest.fixture
def environments() -> Any:
    """Only the Runtime API of our own streams."""
    return Environment


@pytest.fixture
def handled() -> list[Handled]:
    """What the gateway reported."""
    return []


@pytest.fixture
def make_streamer(make_pool: MakePool) -> Callable[..., Pool]:
    """Makes started pools of the function that streams."""

    def make(**options: Any) -> Pool:
        stock = software.stock()
        found = software.Software(stock.label, (*stock.folders, SRC))
        pool = make_pool(code=STREAMER, software=found, **options)
        pool.start()
        return pool

    return make


@pytest.fixture
def serve(make_streamer: Callable[..., Pool], handled: list[Handled]) -> Iterator[Serve]:
    """Serves the function that streams, and gives the URL; keyword arguments are the pool's."""
    with ExitStack() as stack:

        def start(form: str = "v1", **options: Any) -> str:
            gateway = Gateway(make_streamer(**options), PAYLOADS[form], handled.append, streams=True)
            return stack.enter_context(serving(gateway, stack.enter_context(listen("127.0.0.1", 0))))

        yield start


def ask(url: str, **order: Any) -> requests.Response:
    """Ask for a stream, and give it when it has begun."""
    return requests.post(url, json=order, stream=True, timeout=60)


def diary(path: Path) -> list[str]:
    """What the function has written down so far."""
    return path.read_text().splitlines() if path.exists() else []


class RawClient:
    """A client that reads only what a test wants, with a small window."""

    def __init__(self, url: str, **order: Any) -> None:
        host, port = url.removeprefix("http://").split(":")
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.settimeout(60)
        self._socket.connect((host, int(port)))
        body = json.dumps(order).encode()
        self._socket.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        self.received = bytearray()

    def until(self, text: bytes) -> None:
        """Read until this has come, or to the end of the connection."""
        while text not in self.received[-66_000:] and (data := self._socket.recv(65_536)):
            self.received += data

    def close(self) -> None:
        """Go away."""
        self._socket.close()


@pytest.mark.parametrize("form", ["v1", "v2"])
def test_a_piece_arrives_before_the_next_is_made(
    serve: Serve, handled: list[Handled], form: str, tmp_path: Path
) -> None:
    """The client has status, headers and the first piece while the function still waits with the second."""
    go = tmp_path / "go"
    url = serve(form)
    with ask(url, pieces=2, at=1, act="wait", go=str(go), status=201, headers={"X-Tag": "a"}) as answer:
        lines = answer.iter_lines()
        assert next(lines) == b"0:"
        assert (answer.status_code, answer.headers["X-Tag"]) == (201, "a")
        assert answer.headers["Transfer-Encoding"] == "chunked"
        assert PAYLOADS[form].request_id_header in answer.headers
        go.touch()
        assert list(lines) == [b"1:"]
    assert wait_until(lambda: len(handled) == 1)
    assert (handled[0].status, handled[0].problem) == (201, None)


def test_every_byte_arrives_in_order(serve: Serve) -> None:
    """Pieces of many sizes, together more than all buffers, arrive whole and in their order."""
    url = serve()
    for pieces, size in ((1, 0), (1000, 3), (40, 300_000)):
        expected = b"".join(f"{number}:".encode() + b"x" * size + b"\n" for number in range(pieces))
        assert ask(url, pieces=pieces, size=size).content == expected


def test_plain_answers_and_streams_share_the_environment(serve: Serve) -> None:
    """A client that asks one after the other is served by one process, streamed or not."""
    url = serve()
    processes = {ask(url).headers["X-Process"] for _ in range(5)} | {ask(url, plain=True).text for _ in range(5)}
    assert len(processes) == 1


def test_an_error_in_the_middle_ends_the_connection_visibly(serve: Serve, handled: list[Handled]) -> None:
    """The pieces before it arrive, the last chunk does not, and the one who serves learns the reason from the trailers."""
    client = RawClient(serve(), pieces=5, at=3, act="raise")
    client.until(b"\r\n0\r\n\r\n")  # to the end of the connection
    client.close()
    assert client.received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"2:\n" in client.received
    assert not client.received.endswith(b"0\r\n\r\n")
    assert wait_until(lambda: bool(handled))
    assert handled[0].problem == "the streamed answer broke: Runtime.RuntimeError: the model broke"


@pytest.mark.parametrize(
    ("act", "kind"), [("exit", "Runtime.ExitError"), ("sleep", "Task timed out after 3.00 seconds")]
)
def test_a_process_that_ends_in_the_middle_breaks_its_stream_only(
    serve: Serve, handled: list[Handled], act: str, kind: str
) -> None:
    """If the process exits or takes too long in the middle, the client sees it, and the next is served by a new process."""
    url = serve(timeout_seconds=3)
    with ask(url, pieces=3, at=1, act=act) as answer:
        before = answer.headers["X-Process"]
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            list(answer.iter_lines())
    assert ask(url).headers["X-Process"] != before
    assert any(kind in (each.problem or "") for each in handled)


def test_a_client_that_goes_away_closes_the_generator(serve: Serve, tmp_path: Path) -> None:
    """An endless answer ends soon after its client has gone, and the same process serves the next client."""
    url = serve(concurrency=1)
    book = tmp_path / "diary"
    client = RawClient(url, pieces=10**9, size=100, diary=str(book))
    client.until(b"3:")
    client.close()
    assert wait_until(lambda: diary(book)[-1:] == ["closed client_gone"])
    process = ask(url, plain=True).text
    assert f"X-Process: {process}".encode() in client.received


def test_a_client_that_goes_away_before_the_first_piece_ends_the_answer(serve: Serve, tmp_path: Path) -> None:
    """Who goes while the model still reads the prompt ends the answer at its first pieces, and the process serves on."""
    url = serve(concurrency=1)
    book, go = tmp_path / "diary", tmp_path / "go"
    client = RawClient(url, pieces=10**9, size=100, at=0, act="wait", go=str(go), diary=str(book))
    assert wait_until(lambda: diary(book) == ["waiting"])
    client.close()
    go.touch()
    assert wait_until(lambda: diary(book)[-1:] == ["closed client_gone"])
    assert client.received == b""
    assert ask(url, plain=True).status_code == 200


def test_a_slow_client_holds_the_function(serve: Serve, tmp_path: Path) -> None:
    """While a client does not read, the function makes no more than the buffers take; when it reads, all arrives."""
    url = serve(concurrency=1)
    book = tmp_path / "diary"
    pieces, size = 400, 65_536
    client = RawClient(url, pieces=pieces, size=size, diary=str(book))
    client.until(b"0:")

    def still() -> bool:
        before = len(diary(book))
        return not wait_until(lambda: len(diary(book)) > before, 1)

    assert wait_until(still)
    assert len(diary(book)) < pieces / 2  # 26 MB together; the system's buffers have some
    client.until(b"\r\n0\r\n\r\n")
    client.close()
    assert f"{pieces - 1}:".encode() in client.received
    assert len(client.received) > pieces * size
    assert wait_until(lambda: diary(book)[-1].startswith("closed"))


def test_thirty_two_clients_get_their_own_streams(serve: Serve) -> None:
    """Many clients at a time each get the stream that they asked for, from two processes."""
    url = serve()

    def one(number: int) -> tuple[bytes, str]:
        answer = ask(url, pieces=number + 1, size=number)
        return answer.content, answer.headers["X-Process"]

    with ThreadPoolExecutor(32) as threads:
        answers = list(threads.map(one, range(64)))
    for number, (content, _) in enumerate(answers):
        assert content.count(b"\n") == number + 1
        assert content.startswith(b"0:" + b"x" * number + b"\n")
    assert len({process for _, process in answers}) == 2


def test_an_invocation_gets_the_stream_joined(make_streamer: Callable[..., Pool]) -> None:
    """Who invokes without a gateway gets the bytes of the stream, as Lambda's Invoke gives them, or its error."""
    pool = make_streamer()
    outcome = pool.submit(event(pieces=2)).result()
    prelude, _, body = outcome.payload.partition(bytes(8))
    assert (json.loads(prelude)["statusCode"], body, outcome.failed) == (200, b"0:\n1:\n", False)
    broken = pool.submit(event(pieces=2, at=1, act="raise")).result()
    assert (broken.failed, said(broken)["errorType"]) == (True, "Runtime.RuntimeError")


def test_closing_breaks_a_stream_that_runs(make_streamer: Callable[..., Pool], tmp_path: Path) -> None:
    """When the pool closes, a stream that runs is a failure, and nothing of it is left."""
    before = set(threading.enumerate())  # other tests' pools may run in this process
    pool = make_streamer()
    result = pool.submit(event(pieces=2, at=1, act="wait", go=str(tmp_path / "never"), diary=str(tmp_path / "diary")))
    assert wait_until(lambda: diary(tmp_path / "diary") == ["made 0", "waiting"])
    pool.close()
    assert result.result(60).failed
    left = set(threading.enumerate()) - before
    assert not [thread for thread in left if thread.name in ("pool", "end of environment 1")]


def test_a_prelude_that_no_client_can_get_is_a_failure(serve: Serve, handled: list[Handled]) -> None:
    """A status that is none is told as a malformed answer, and the generator is closed."""
    url = serve()
    answer = ask(url, status=99)
    assert (answer.status_code, answer.json()) == (502, {"message": "Internal server error"})
    assert "statusCode is 99" in (handled[0].problem or "")
    assert ask(url).status_code == 200


def test_head_gets_the_head_of_a_stream(serve: Serve) -> None:
    """HEAD has status and headers of the streamed answer, and no body."""
    answer = requests.head(serve(), timeout=60)
    assert (answer.status_code, answer.content, answer.headers["Content-Type"]) == (200, b"", "text/plain")
