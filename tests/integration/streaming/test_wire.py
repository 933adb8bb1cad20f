import base64
import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

from integration.emulator.conftest import wait_until
from integration.streaming.conftest import event
from integration.streaming.runtime_api import RuntimeApi, parse, pieces_of

if TYPE_CHECKING:
    from integration.streaming.conftest import StartTalker

HEADERS = [
    "Content-Type: application/vnd.awslambda.http-integration-response",
    "Lambda-Runtime-Function-Response-Mode: streaming",
    "Transfer-Encoding: chunked",
    "Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body",
    "Connection: close",
]


def test_every_byte_of_a_stream_is_as_lambda_wants_it(api: RuntimeApi, start_talker: "StartTalker") -> None:
    """A request's line, headers, chunks, prelude, eight NUL bytes, payload, last chunk, and a closed connection."""
    function = start_talker(api)
    request_id = api.send(event({"words": ["one", "two"]}))
    post = api.post()
    assert post.path == f"/2018-06-01/runtime/invocation/{request_id}/response"
    assert post.headers == [f"Host: {api.address}", *HEADERS]
    stream = parse(post.until(b"\r\n0\r\n\r\n"))
    post.accept()
    assert post.gone()
    assert stream.trailers == []
    # The prelude is a chunk of its own, then each piece is one.
    assert stream.chunks[0].endswith(b"}" + bytes(8))
    assert stream.chunks[1] == b'data: {"text":"one","finish_reason":null}\n\n'
    assert stream.chunks[2] == b'data: {"text":"two","finish_reason":null}\n\n'
    assert stream.chunks[3].startswith(b'event: end\ndata: {"finish_reason":"stop","pieces":2,')
    assert len(stream.chunks) == 4
    headers = stream.prelude["headers"]
    assert (stream.prelude["statusCode"], stream.prelude["cookies"]) == (200, [])
    assert headers["Content-Type"] == "text/event-stream"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert "predict;dur=" in headers["Server-Timing"]
    assert len(headers["X-Model-Version"]) == 64
    # AWS's loop goes on.
    api.send(event({"words": ["again"]}, mark=None, accept="*/*"))
    answer = json.loads(api.post().body())
    assert (answer["statusCode"], json.loads(answer["body"])) == (200, {"text": "again"})
    assert api.calls[0] == "GET /2018-06-01/runtime/invocation/next"
    function.stop()
    line, _ = function.said("request")
    assert (line["pieces"], line["ended"], line["request_id"]) == (2, "stop", request_id)
    assert line["FirstPieceMilliseconds"] == line["first_piece_ms"] > 0
    assert line["PiecesPerSecond"] == line["pieces_per_second"] > 0
    assert line["phases"]["total"] >= line["phases"]["predict"] > 0


def test_a_piece_is_made_after_the_one_before_was_sent(
    api: RuntimeApi, start_talker: "StartTalker", tmp_path: Path
) -> None:
    """The second piece waits until the first has arrived, so nothing on the way collects them."""
    start_talker(api)
    diary = tmp_path / "diary"
    api.send(event({"words": ["one", "two"], "act": "wait", "at": 1, "diary": str(diary)}))
    post = api.post()
    post.until(b'"one"')
    assert diary.read_text().split("\n")[1:-1] == ["made 0"]
    assert b"two" not in post.received
    diary.with_suffix(".go").touch()
    assert [data["text"] for name, data in pieces_of(parse(post.until(b"\r\n0\r\n\r\n")).payload) if not name] == [
        "one",
        "two",
    ]
    post.accept()


def test_whole_answers_are_streams_where_the_api_takes_nothing_else(
    api: RuntimeApi, start_talker: "StartTalker"
) -> None:
    """Errors, joined answers and empty bodies reach a streaming API in its form, with their status."""
    start_talker(api)
    cases: list[tuple[dict[str, Any], int, str]] = [
        (event({"words": ["a", "b"]}, accept="*/*"), 200, '{"text":"a b"}'),
        (event({"words": ["never"]}), 400, "not_said"),
        (event({"words": 7}), 400, "invalid_request"),
        (event({"words": ["a"], "act": "raise"}), 500, "internal_error"),
        (event({"words": ["a"], "act": "mistype"}), 500, "internal_error"),
        (event(None, httpMethod="OPTIONS"), 204, ""),
    ]
    for sent, status, said in cases:
        api.send(sent)
        post = api.post()
        stream = parse(post.until(b"\r\n0\r\n\r\n"))
        post.accept()
        assert (stream.prelude["statusCode"], stream.trailers) == (status, [])
        assert said in stream.payload.decode()
        assert bool(stream.payload) == bool(said)


def test_the_events_caller_decides_how_it_is_answered(api: RuntimeApi, start_talker: "StartTalker") -> None:
    """A direct invocation gets JSON, even with an API's event; a function URL gets streams; `pieces` takes both."""
    start_talker(api)
    url = {"http": {"method": "POST", "path": "/predict"}, "domainName": "abc.lambda-url.us-east-1.on.aws"}
    shape = {"version": "2.0", "rawPath": "/predict", "headers": {}, "requestContext": url, "body": '{"words":["a"]}'}
    for sent, streamed in [
        (event({"words": ["a"]}, mark=None), False),
        ({"words": ["a"]}, False),
        (event({"words": ["a"]}, mark="pieces"), True),
        (event({"words": ["a"]}, mark="pieces", accept="*/*"), False),
        (event({"words": ["a"], "stream": True}, mark="pieces", accept="application/json"), True),
        (shape, True),
    ]:
        api.send(sent)
        post = api.post()
        assert post.is_stream == streamed, sent
        if streamed:
            post.until(b"\r\n0\r\n\r\n")
            post.accept()


def test_an_error_in_the_middle_is_the_last_event(api: RuntimeApi, start_talker: "StartTalker", tmp_path: Path) -> None:
    """What the model raises at its third piece is an event `error`; the stream ends as any other, and the log has the cause."""
    function = start_talker(api)
    for act, code in [("raise", "internal_error"), ("refuse", "too_long"), ("mistype", "internal_error")]:
        diary = tmp_path / act
        api.send(event({"words": ["a", "b", "c", "d"], "act": act, "at": 2, "diary": str(diary)}))
        post = api.post()
        stream = parse(post.until(b"\r\n0\r\n\r\n"))
        post.accept()
        *pieces, (name, error) = pieces_of(stream.payload)
        assert [data["text"] for _, data in pieces] == ["a", "b"]
        assert (name, error["error"]["code"], stream.trailers) == ("error", code, [])
        assert diary.read_text().endswith("finally\n")
    api.send(event({"words": ["after"]}))
    assert b"after" in api.post().until(b"\r\n0\r\n\r\n")
    causes = [each["exception"] for each in function.wait_for("stream failed", 2)]
    assert "RuntimeError: the model broke" in causes[0]
    assert "a piece of type dict; a piece is a pydantic model or a str" in causes[1]
    codes = [each["code"] for each in function.wait_for("request", 4) if "code" in each]
    assert codes == ["internal_error", "too_long", "internal_error"]


def test_a_model_that_ends_the_process_leaves_trailers(api: RuntimeApi, start_talker: "StartTalker") -> None:
    """What is no error of a request, such as SystemExit, is in the trailers, and the process ends as without a stream."""
    function = start_talker(api)
    api.send(event({"words": ["a", "b"], "act": "exit", "at": 1}))
    post = api.post()
    post.until(b"Lambda-Runtime-Function-Error-Body: ")
    kind, body = post.stream(b"\r\n\r\n").trailers
    assert kind == "Lambda-Runtime-Function-Error-Type: Runtime.SystemExit"
    told = json.loads(base64.b64decode(body.removeprefix("Lambda-Runtime-Function-Error-Body: ")))
    assert (told["errorType"], told["errorMessage"]) == ("SystemExit", "the model left")
    assert any("sys.exit" in line for line in told["stackTrace"])
    assert post.gone()
    assert function.ended() == 1


def test_a_client_that_has_gone_closes_the_generator(
    api: RuntimeApi, start_talker: "StartTalker", tmp_path: Path
) -> None:
    """Where the connection is closed in the middle, the generator gets GeneratorExit, and the environment goes on."""
    function = start_talker(api)
    diary = tmp_path / "diary"
    request_id = api.send(event({"words": ["a"], "act": "endless", "every": 0.01, "diary": str(diary)}))
    post = api.post()
    post.until(b'"a"')
    post.close()
    assert wait_until(lambda: diary.read_text().endswith("closed\nfinally\n"))
    api.send(event({"words": ["after"]}))
    after = api.post()
    assert b"after" in after.until(b"\r\n0\r\n\r\n")
    after.accept()
    assert [line["ended"] for line in function.wait_for("request", 2)] == ["client_gone", "stop"]
    (told,) = function.wait_for("stream not read to its end")
    assert (told["request_id"], told["reason"]) == (request_id, "client_gone")


def test_a_client_that_hardly_reads_holds_the_model_back_until_the_deadline(
    start_talker: "StartTalker", tmp_path: Path
) -> None:
    """The model makes no more than fits on the way, ends when time is up, and the environment goes on."""
    diary = tmp_path / "diary"
    with RuntimeApi(buffer=4096) as api:
        function = start_talker(api)
        api.send(event({"words": ["a"], "act": "endless", "size": 100_000, "diary": str(diary)}), seconds=4)
        post = api.post()
        assert wait_until(lambda: diary.exists() and diary.read_text().endswith("closed\nfinally\n"))
        assert diary.read_text().count("made") < 200
        assert len(post.received) == 0
        post.close()
        api.send(event({"words": ["after"]}))
        after = api.post()
        assert b"after" in after.until(b"\r\n0\r\n\r\n")
        after.accept()
        assert [line["ended"] for line in function.wait_for("request", 2)] == ["client_slow", "stop"]


def test_an_answer_without_an_end_is_ended_in_time(
    api: RuntimeApi, start_talker: "StartTalker", tmp_path: Path
) -> None:
    """Shortly before Lambda's deadline the function closes the generator, and says so to the client."""
    function = start_talker(api)
    diary = tmp_path / "diary"
    api.send(event({"words": ["a"], "act": "endless", "every": 0.05, "diary": str(diary)}), seconds=3)
    post = api.post()
    stream = parse(post.until(b"\r\n0\r\n\r\n"))
    post.accept()
    *_, (name, told) = pieces_of(stream.payload)
    assert (name, told["finish_reason"]) == ("end", "deadline")
    assert told["pieces"] == diary.read_text().count("made") > 1
    assert diary.read_text().endswith("closed\nfinally\n")
    assert function.wait_for("request")[0]["ended"] == "deadline"


def test_an_answer_that_the_runtime_api_refuses_ends_nothing_else(api: RuntimeApi, start_talker: "StartTalker") -> None:
    """Its status and text are in the log, and the next event is answered."""
    function = start_talker(api)
    request_id = api.send(event({"words": ["a"]}))
    post = api.post()
    post.until(b"\r\n0\r\n\r\n")
    post.accept("413 Too Large", b"too much")
    api.send(event({"words": ["after"]}))
    assert b"after" in api.post().until(b"\r\n0\r\n\r\n")
    (told,) = function.wait_for("stream not taken")
    assert told["request_id"] == request_id
    assert told["reason"] == "the Runtime API answered 413: too much"


def test_snapstarts_hooks_run_around_a_stream(api: RuntimeApi, start_talker: "StartTalker") -> None:
    """With SnapStart the loop runs the hooks, asks for the restore, and streams after it."""
    function = start_talker(api, AWS_LAMBDA_INITIALIZATION_TYPE="snap-start")
    api.send(event({"words": ["a"]}))
    post = api.post()
    assert b'"a"' in post.until(b"\r\n0\r\n\r\n")
    post.accept()
    assert api.calls[:2] == ["GET /2018-06-01/runtime/restore/next", "GET /2018-06-01/runtime/invocation/next"]
    assert function.wait_for("request")[0]["start"]["kind"] == "snap-start"


def test_what_an_invocation_has_to_give_back_it_gives_back(api: RuntimeApi, start_talker: "StartTalker") -> None:
    """The id of an invocation that the Runtime API gave stands in the headers of the stream, as in whole answers."""
    start_talker(api)
    api.send(event({"words": ["a"]}), headers={"Lambda-Runtime-Invocation-Id": "one-of-many"})
    post = api.post()
    assert "Lambda-Runtime-Invocation-Id: one-of-many" in post.headers
    post.until(b"\r\n0\r\n\r\n")
    post.accept()


def test_where_streams_cannot_be_sent_they_are_collected(api: RuntimeApi, start_talker: "StartTalker") -> None:
    """Under SAM's emulator the log says why, and a client that asked gets all pieces at the end, in the same form."""
    function = start_talker(api, AWS_SAM_LOCAL="true")
    api.send(event({"words": ["a", "b"]}))
    post = api.post()
    assert not post.is_stream
    answer = json.loads(post.body())
    assert answer["headers"]["Content-Type"] == "text/event-stream"
    *pieces, (name, told) = pieces_of(answer["body"].encode())
    assert [data["text"] for _, data in pieces] == ["a", "b"]
    assert (name, told["finish_reason"]) == ("end", "stop")
    (line,) = function.wait_for("answers are not streamed")
    assert line["reason"] == "SAM's emulator cannot stream"


def resources(process: int) -> tuple[int, int, int]:
    """The sockets, the threads and the resident kilobytes of a process (proc(5))."""
    folder = Path(f"/proc/{process}")
    links = [str(each.readlink()) for each in (folder / "fd").iterdir()]
    status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line)
    sockets = sum(link.startswith("socket:") for link in links)
    return sockets, int(status["Threads"]), int(status["VmRSS"].split()[0])


def test_clients_that_vanish_leave_nothing_behind(api: RuntimeApi, start_talker: "StartTalker") -> None:
    """After hundreds of streams, most of them left in the middle or broken, there are no more sockets, threads or megabytes."""
    function = start_talker(api, LOG_LEVEL="ERROR")
    draw = random.Random(7)

    def stream(act: str) -> None:
        api.send(event({"words": ["a", "b", "c"], "act": act, "at": 1, "size": 50_000, "every": 0.001}))
        post = api.post()
        post.until(b"\r\n0\r\n\r\n" if act != "endless" else b'"a')
        if act == "endless":
            for _ in range(draw.randrange(3)):
                post.connection.recv(65536)
            post.close()
        else:
            post.accept()
            assert post.gone()

    def settled() -> tuple[int, int, int]:
        stream("")  # once it is answered, those before it are done with
        assert wait_until(lambda: api.calls[-1].startswith("GET"))
        return resources(function.process.pid)

    for _ in range(30):
        stream("endless")
    before = settled()
    for _ in range(300):
        stream(draw.choice(["", "raise", "mistype", "endless", "endless", "endless"]))
    after = settled()
    assert after[:2] == before[:2]
    assert after[2] - before[2] < 8 * 1024
