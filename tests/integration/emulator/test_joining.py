"""Requests that are joined, with real clients over HTTP and a real function behind the gateway."""

import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests

from integration.emulator.conftest import MakePool, wait_until
from integration.emulator.test_serve import COMMAND, start, stop
from lambda_torch.emulator import joining
from lambda_torch.emulator.environment import Environment
from lambda_torch.emulator.gateway import Gateway, Handled
from lambda_torch.emulator.joining import Joiner, JoiningLimits, limits_of
from lambda_torch.emulator.payloads import PAYLOADS
from lambda_torch.emulator.run import listen, serving
from lambda_torch.errors import EmulatorError
from serving.settings import Settings

LISTER = Path(__file__).with_name("lister")
HOUR = 3600.0

Ask = Callable[..., "Future[requests.Response]"]
Serve = Callable[..., None]


@pytest.fixture
def environments() -> Any:
    """The environments of the pool."""
    return Environment


class Clients:
    """Clients of a gateway that joins. Each request has a thread."""

    def __init__(self, url: str, joiner: Joiner, gate: Path, threads: ThreadPoolExecutor) -> None:
        self.url, self.joiner, self.gate, self._threads = url, joiner, gate, threads
        self.handled: list[Handled] = []

    def ask(self, text: str, path: str = "/predict", **options: Any) -> "Future[requests.Response]":
        """Send a request with this text."""
        body = {"text": text, **options.pop("more", {})}
        return self._threads.submit(requests.post, self.url + path, json=body, timeout=60, **options)

    def waiting(self) -> int:
        """How many requests wait in open lists."""
        return sum(len(group.waiting()) for group in list(self.joiner._open.values()))

    def running(self) -> int:
        """How many lists the function has."""
        return len(self.joiner._running)

    def hold(self) -> "Future[requests.Response]":
        """Make the function busy until `release`."""
        busy = self.ask("busy", more={"wait": str(self.gate)})
        assert wait_until(lambda: self.running() == 1)
        return busy

    def release(self) -> None:
        """Let the function go on."""
        self.gate.touch()


@pytest.fixture
def serve(make_pool: MakePool, tmp_path: Path) -> Iterator[Callable[..., Clients]]:
    """Serves the lister with one environment. Arguments: the limits, the payload format, the gateway's options."""
    with ExitStack() as stack:

        def start_it(size: int = 8, seconds: float = 0, form: str = "v1", **options: Any) -> Clients:
            timeout = options.pop("function_seconds", 30)
            pool = make_pool(concurrency=1, code=LISTER, timeout_seconds=timeout)
            pool.start()
            joiner = Joiner(pool, PAYLOADS[form], JoiningLimits(size, seconds, options.pop("most_bytes", 10_000)), 1)
            handled: list[Handled] = []
            gateway = Gateway(pool, PAYLOADS[form], handled.append, streams=True, joiner=joiner, **options)
            url = stack.enter_context(serving(gateway, stack.enter_context(listen("127.0.0.1", 0))))
            clients = Clients(url, joiner, tmp_path / "gate", stack.enter_context(ThreadPoolExecutor(32)))
            clients.handled = handled
            return clients

        yield start_it


def told(futures: "list[Future[requests.Response]]") -> list[Any]:
    """The answers' statuses and bodies."""
    return [(each.result(60).status_code, each.result(60).json()) for each in futures]


@pytest.mark.parametrize("form", ["v1", "v2"])
def test_what_waits_for_the_function_is_answered_as_one_list(serve: Callable[..., Clients], form: str) -> None:
    """Requests that come while the function is busy are one call of it, and each client gets its own part."""
    clients = serve(size=8, form=form)
    busy = clients.hold()
    several = [clients.ask(f"number {number}") for number in range(5)]
    assert wait_until(lambda: clients.waiting() == 5)
    clients.release()
    assert busy.result(60).json()["together"] == 1
    for number, (status, body) in enumerate(told(several)):
        assert (status, body["said"], body["together"]) == (200, f"number {number}", 5)
    name = PAYLOADS[form].request_id_header
    assert len({each.result().headers[name] for each in several}) == 5
    assert {each.result().headers["X-Streams"] for each in several} == {"None"}


def test_a_full_list_does_not_wait_any_longer(serve: Callable[..., Clients]) -> None:
    """As soon as as many requests are there as a list may have, the function gets them."""
    clients = serve(size=4, seconds=HOUR)
    answers = told([clients.ask(str(number)) for number in range(8)])
    assert [body["together"] for _, body in answers] == [4] * 8
    assert sorted(body["said"] for _, body in answers) == sorted(map(str, range(8)))


def test_a_list_has_no_more_bytes_than_allowed(serve: Callable[..., Clients]) -> None:
    """Bodies that are too long for one list go to the function in two, and a very long one goes alone at once."""
    clients = serve(size=8, seconds=0, most_bytes=500)
    busy = clients.hold()
    several = [clients.ask(str(number) * 200) for number in range(4)]
    assert wait_until(lambda: clients.waiting() + clients.running() >= 2)
    clients.release()
    assert all(body["together"] <= 2 for _, body in told(several))
    assert busy.result(60).status_code == 200
    assert told([clients.ask("x" * 400)])[0][1]["together"] == 1


def test_a_refused_request_does_not_refuse_the_others(serve: Callable[..., Clients]) -> None:
    """The client of a request that the function refuses gets the function's own status, and the others their answers."""
    clients = serve(size=3, seconds=HOUR)
    answers = told([clients.ask(text) for text in ("one", "refuse", "two")])
    assert [status for status, _ in answers] == [200, 422, 200]
    assert answers[1][1]["error"]["code"] == "refused"
    assert [answers[index][1]["together"] for index in (0, 2)] == [3, 3]


@pytest.mark.parametrize("text", ["exit", "short"])
def test_a_list_that_fails_is_asked_one_by_one(serve: Callable[..., Clients], text: str) -> None:
    """Where a list ends the process, or is answered with too few items, each client is answered as if it had come alone."""
    clients = serve(size=3, seconds=HOUR)
    answers = told([clients.ask(each) for each in ("one", text, "two")])
    assert [(status, body["said"], body["together"]) for status, body in answers] == [
        (200, "one", 1),
        (200, text, 1),
        (200, "two", 1),
    ]


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("/predict", {"headers": {"Accept": "text/event-stream"}}),
        ("/predict", {"headers": {"Content-Type": "application/octet-stream"}}),
        ("/predict", {"more": {"stream": True}}),
        ("/other", {}),
    ],
)
def test_what_is_no_plain_question_to_the_model_is_an_event_of_its_own(
    serve: Callable[..., Clients], path: str, options: dict[str, Any]
) -> None:
    """Requests for pieces, of other types or for other routes wait for no others."""
    clients = serve(size=8, seconds=HOUR)
    assert told([clients.ask("alone", path, **options)])[0][1]["together"] == 1


def test_requests_with_other_headers_are_not_joined(serve: Callable[..., Clients]) -> None:
    """A header that the function may read, such as the canary's key, is the same for all requests of a list."""
    clients = serve(size=8)
    clients.hold()
    several = [clients.ask(key, headers={"X-Canary-Key": key}) for key in ("a", "b", "a", "b", "a")]
    assert wait_until(lambda: clients.waiting() == 5)
    clients.release()
    assert [body["together"] for _, body in told(several)] == [3, 2, 3, 2, 3]


def test_a_late_list_is_given_up_by_each_client(serve: Callable[..., Clients]) -> None:
    """The gateway waits for a joined request as long as for any other, from its own arrival on."""
    clients = serve(size=2, seconds=HOUR, timeout_seconds=1.0)
    late = [clients.ask("late", more={"wait": str(clients.gate)}) for _ in range(2)]
    assert [each.result(60).status_code for each in late] == [504, 504]
    clients.release()


def test_a_request_that_waits_for_others_has_its_time(serve: Callable[..., Clients]) -> None:
    """A request whose time is over while it waits for a list is given up, and is no part of the list."""
    clients = serve(size=2, seconds=HOUR, timeout_seconds=1.0)
    assert clients.ask("lonely").result(60).status_code == 504
    assert wait_until(lambda: clients.waiting() == 0)
    answers = told([clients.ask(text) for text in ("one",)])
    assert answers[0][1] == {"said": "one", "together": 1, "pid": answers[0][1]["pid"]}


def test_clients_that_go_away_leave_nothing(serve: Callable[..., Clients]) -> None:
    """A list whose clients have all gone is not sent to the function, and the next ones are served."""
    clients = serve(size=8)
    busy = clients.hold()
    for text in ("gone", "gone too"):
        with pytest.raises(requests.Timeout):
            requests.post(f"{clients.url}/predict", json={"text": text}, timeout=0.5)
    assert wait_until(lambda: clients.waiting() == 0)
    clients.release()
    assert busy.result(60).status_code == 200
    assert told([clients.ask("next")])[0][1]["together"] == 1
    assert wait_until(lambda: len(clients.handled) == 4 and clients.running() == 0)


@pytest.mark.parametrize(
    ("size", "variables", "expected"),
    [
        (1, {}, None),
        (16, {}, JoiningLimits(16, 0.005)),
        (100, {"MAX_BODY_BYTES": "1000"}, JoiningLimits(100, 0.005, 1000)),
        (200, {"MAX_BATCH_ITEMS": "200"}, JoiningLimits(200, 0.005)),
    ],
)
def test_the_limits_follow_from_options_and_variables(
    size: int, variables: dict[str, str], expected: JoiningLimits | None
) -> None:
    """One request in a list means that none are joined, and no list is larger than the function takes."""
    assert limits_of(size, 5, variables) == expected


def test_more_than_the_function_takes_is_refused_before_the_start() -> None:
    """The message names the function's own limit and how to change it."""
    with pytest.raises(EmulatorError, match=r"takes 20 in a list.*Next: --batch 20, or --env MAX_BATCH_ITEMS=30"):
        limits_of(30, 5, {"MAX_BATCH_ITEMS": "20"})
    assert Settings.model_fields["max_batch_items"].default == joining.MOST_ITEMS


def test_the_served_model_answers_joined_requests_as_alone(release: Path, tmp_path: Path) -> None:
    """With `serve --batch`, clients that come at once get the same names, and the same refusal, as one client alone."""
    served = start(
        tmp_path / "log", "--layer", "stock", "--release", str(release), "--concurrency", "1", "--batch", "8"
    )
    try:
        bodies = [{"category": "Russian", "start_letters": letters} for letters in ("RUS", "A", "BC")]
        bodies += [{"category": "Martian", "start_letters": "A"}, {"category": "Russian"}]

        def ask(body: dict[str, str]) -> tuple[int, Any]:
            answer = requests.post(f"{served.url}/predict", json=body, timeout=60)
            return answer.status_code, answer.json()

        alone = [ask(body) for body in bodies]
        assert [status for status, _ in alone] == [200, 200, 200, 400, 400]
        with ThreadPoolExecutor(20) as threads:
            assert list(threads.map(ask, bodies * 8)) == alone * 8
    finally:
        stop(served, signal.SIGTERM)


def test_a_list_that_is_too_long_is_refused_by_the_command() -> None:
    """`serve` refuses more requests than the function takes before it starts anything."""
    done = subprocess.run([COMMAND, "serve", "--batch", "200"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Next: --batch 100, or --env MAX_BATCH_ITEMS=200." in " ".join(done.stderr.split())


LISTS = """
from pathlib import Path
from pydantic import BaseModel, RootModel


class Request(RootModel[list[int]]):
    pass


class Response(BaseModel):
    total: int


class Model:
    @classmethod
    def load(cls, release: Path):
        return cls()

    def predict(self, requests):
        return [Response(total=sum(request.root)) for request in requests]

    def example(self):
        return Request([1, 2])
"""


def test_requests_that_are_lists_are_not_joined(tmp_path: Path) -> None:
    """Where a list is one request of the model, `serve --batch` says that it cannot join requests, and ends."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "__init__.py").write_text(LISTS)
    (tmp_path / "release").mkdir()
    (tmp_path / "release" / "model.json").write_text("{}")
    words = ["serve", "--port", "0", "--layer", "stock", "--model", str(tmp_path), "--batch", "2"]
    done = subprocess.run([COMMAND, *words], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert "Next: leave --batch out." in " ".join(done.stderr.split())
