"""Requests and answers that hold files, through the whole function, with an S3 server for uploads."""

import base64
import io
import json
import sys
import types
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any

import boto3
import numpy as np
import pytest
import requests
from click.testing import CliRunner
from openapi_spec_validator import validate
from PIL import Image as Pillow
from pydantic import BaseModel, ConfigDict, Field

from lambda_torch.cli import main
from lambda_torch.emulator.payloads import PAYLOADS, GatewayRequest
from lambda_torch.releases.bucket import Bucket
from lambda_torch.releases.publishing import publish
from serving import uploads
from serving.types import ArrayRules, File, FiniteOrNull, Image, ImageRules

if TYPE_CHECKING:
    from integration.conftest import StartFunction

CONTEXT = SimpleNamespace(aws_request_id="7b61c6af-0000-4000-8000-000000000000")


class Request(BaseModel):
    """Look at an image."""

    model_config = ConfigDict(extra="forbid", strict=True)

    image: Annotated[Image, ImageRules(max_bytes=1_000_000)]
    threshold: float = Field(0.5, ge=0, le=1)
    label: str | None = None
    tags: list[str] = []
    rows: Annotated[np.ndarray, ArrayRules("float32", (None, 6))] | None = None


class Seen(BaseModel):
    """What the model saw."""

    size: list[int]
    threshold: float
    label: str | None
    tags: list[str]
    rows: int | None
    spread: Any


class Turned(BaseModel):
    """The image, turned upside down."""

    image: Image


def look(request: Request) -> BaseModel:
    """Describe a request, with NumPy's own numbers."""
    if request.label == "nan":
        return Seen(size=[1, 1], threshold=float("nan"), label=None, tags=[], rows=None, spread=None)
    return Seen(
        size=np.array(request.image.size),
        threshold=np.float32(request.threshold),
        label=request.label,
        tags=request.tags,
        rows=None if request.rows is None else len(request.rows),
        spread={"mean": np.asarray(request.image).mean(axis=(0, 1)), "max": np.float32(7)},
    )


def png(size: tuple[int, int] = (4, 3), colour: str = "red") -> bytes:
    """A PNG."""
    into = io.BytesIO()
    Pillow.new("RGB", size, colour).save(into, "PNG")
    return into.getvalue()


CAT = png()
IMAGE = base64.b64encode(CAT).decode()


def package(request: type[BaseModel], response: type[BaseModel], answer: Callable[[Any], Any]) -> ModuleType:
    """A package `model` with these names."""

    class Model:
        @classmethod
        def load(cls, release: Path) -> "Model":
            return cls()

        def predict(self, requests: list[Any]) -> list[Any]:
            return [answer(each) for each in requests]

    made: Any = types.ModuleType("model")
    made.Model, made.Request, made.Response = Model, request, response
    return made  # type: ignore[no-any-return]


Serve = Callable[..., Any]


@pytest.fixture
def serve(
    start_function: "StartFunction",
    bucket: Bucket,
    aws: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Serve]:
    """Starts the function with a model of the test's own."""
    for name, value in aws.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    folder = tmp_path / "release"
    folder.mkdir()
    (folder / "labels.json").write_text("[]")

    def start(made: ModuleType, **environment: str) -> ModuleType:
        for name in [each for each in sys.modules if each == "model" or each.startswith("model.")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "model", made)
        publish(folder, bucket)
        return start_function(MODEL_BUCKET=bucket.name, **environment)

    yield start
    for cached in (uploads._objects, uploads._client):
        cached.cache_clear()


@pytest.fixture
def looking(serve: Serve) -> Any:
    """The function with the model that looks at images."""
    return serve(package(Request, Seen, look))


def send(app: Any, request: GatewayRequest, payload: str = "v1") -> tuple[int, Any]:
    """Status and JSON of an answer, by one of API Gateway's payload formats."""
    answer = app.lambda_handler(PAYLOADS[payload].event(request), CONTEXT)
    http = PAYLOADS[payload].answer(json.dumps(answer).encode())
    return http.status, json.loads(http.body)


def post(
    app: Any, body: bytes | str, kind: str = "application/json", query: str = "", payload: str = "v1"
) -> tuple[int, Any]:
    """Status and JSON of `POST /predict`."""
    data = body if isinstance(body, bytes) else body.encode()
    return send(app, GatewayRequest("POST", "/predict", query, [("Content-Type", kind)], data), payload)


def form(*parts: tuple[str, str | None, bytes], boundary: str = "xyz") -> tuple[bytes, str]:
    """A form as curl -F makes it, and its Content-Type."""
    body = b""
    for name, filename, content in parts:
        file = "" if filename is None else f'; filename="{filename}"\r\nContent-Type: application/octet-stream'
        body += (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + content + b"\r\n"
        )
    return body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


@pytest.mark.parametrize("payload", ["v1", "v2"])
def test_an_image_comes_in_each_way(payload: str, looking: Any) -> None:
    """As base64 in JSON, as the body itself, and in a form, through both payload formats: the same answer."""
    as_json = json.dumps({"image": IMAGE, "threshold": 0.25, "label": "7", "tags": ["a", "b"]})
    body, kind = form(
        ("image", "cat.png", CAT),
        ("threshold", None, b"0.25"),
        ("label", None, b"7"),
        ("tags", None, b"a"),
        ("tags", None, b"b"),
    )
    renamed, _ = form(
        ("file", "cat.png", CAT), ("threshold", None, b"0.25"), ("label", None, b"7"), ("tags", None, b'["a", "b"]')
    )
    ways = [
        post(looking, as_json, payload=payload),
        post(looking, CAT, "image/png", "threshold=0.25&label=7&tags=a&tags=b", payload=payload),
        post(looking, body, kind, payload=payload),
        post(looking, renamed, kind, payload=payload),
    ]
    wanted = {
        "size": [4, 3],
        "threshold": 0.25,
        "label": "7",
        "tags": ["a", "b"],
        "rows": None,
        "spread": {"mean": [255.0, 0.0, 0.0], "max": 7.0},
    }
    if payload == "v2":
        # A function URL joins the values of a name in `queryStringParameters`; the query string itself keeps them.
        assert ways[1][0] == 200
    assert ways == [(200, wanted)] * 4


def test_a_list_may_hold_images(looking: Any) -> None:
    """Each item of a batch is decoded or refused on its own."""
    status, answers = post(looking, json.dumps([{"image": IMAGE}, {"image": "aGVsbG8="}]))
    assert status == 200
    assert answers[0]["size"] == [4, 3]
    assert answers[1]["error"]["details"]["problems"][0] == {
        "field": "image",
        "code": "image_invalid",
        "message": "this is no image of a format that is taken: PNG, JPEG, WEBP, GIF",
    }


def test_another_type_is_refused_with_those_that_are_taken(looking: Any) -> None:
    """415 names the types in its message, its details and the header Accept."""
    event = PAYLOADS["v1"].event(GatewayRequest("POST", "/predict", "", [("Content-Type", "image/bmp")], b"BM"))
    answer = looking.lambda_handler(event, CONTEXT)
    error = json.loads(answer["body"])["error"]
    assert (answer["statusCode"], error["code"]) == (415, "unsupported_media_type")
    taken = [
        "application/json",
        "multipart/form-data",
        "image/png",
        "image/jpeg",
        "image/webp",
        "image/gif",
        "application/octet-stream",
    ]
    assert error["details"] == {"taken": taken}
    assert answer["headers"]["Accept"] == ", ".join(taken)
    assert "image/png" in error["message"]


WRONG: dict[str, tuple[bytes | str, str, str]] = {
    "a row of five": (json.dumps({"image": IMAGE, "rows": [[1, 2, 3, 4, 5]]}), "application/json", "invalid_request"),
    "no image": (json.dumps({"image": "aGVsbG8="}), "application/json", "invalid_request"),
    "no base64": (json.dumps({"image": "!"}), "application/json", "invalid_request"),
    "a truncated image": (CAT[:50], "image/png", "invalid_request"),
    "an empty body": (b"", "image/png", "invalid_request"),
    "NaN": (f'{{"image": "{IMAGE}", "threshold": NaN}}', "application/json", "invalid_request"),
    "NaN in an array": (f'{{"image": "{IMAGE}", "rows": [[1,2,3,4,5,NaN]]}}', "application/json", "invalid_request"),
    "binary without a type": (CAT, "application/x-www-form-urlencoded", "invalid_encoding"),
    "a form that breaks off": (
        form(("image", "a.png", CAT))[0][:60],
        "multipart/form-data; boundary=xyz",
        "invalid_form",
    ),
    "a form without a boundary": (b"x", "multipart/form-data", "invalid_form"),
    "a form of another boundary": (form(("image", "a", CAT))[0], "multipart/form-data; boundary=q", "invalid_form"),
    "a form with a strange charset": (
        b'--x\r\nContent-Disposition: form-data; name="label"\r\nContent-Type: text/plain; charset=nope\r\n\r\na\r\n--x--\r\n',
        "multipart/form-data; boundary=x",
        "invalid_form",
    ),
    "a file for a number": (form(("image", "a", CAT), ("threshold", "b", b"1"))[0], form()[1], "invalid_request"),
    "two files": (form(("image", "a", CAT), ("other", "b", CAT))[0], form()[1], "invalid_form"),
    "a number that is none": (form(("image", "a", CAT), ("threshold", None, b"high"))[0], form()[1], "invalid_request"),
    "somebody else's upload": (json.dumps({"image": {"upload": "0" * 32}}), "application/json", "invalid_request"),
    "a path as an upload": (
        json.dumps({"image": {"upload": "../channels/live.json"}}),
        "application/json",
        "invalid_request",
    ),
    "a part without a form": (json.dumps({"image": {"part": "image"}}), "application/json", "invalid_request"),
}


@pytest.mark.parametrize("case", sorted(WRONG))
def test_wrong_values_are_the_clients_mistakes(case: str, looking: Any) -> None:
    """Status 400 with a code and a message, and never a defect."""
    body, kind, code = WRONG[case]
    status, answer = post(looking, body, kind)
    assert (status, answer["error"]["code"]) == (400, code)
    assert answer["error"]["message"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 400 + ".0"])
def test_numbers_that_json_does_not_have_are_refused(number: str, serve: Serve) -> None:
    """A plain number field takes no NaN and no infinity; the same characters in a text are fine."""

    class Number(BaseModel):
        number: float
        note: str = ""

    class Same(BaseModel):
        number: float

    app = serve(package(Number, Same, lambda request: Same(number=request.number)))
    assert post(app, f'{{"number": {number}}}')[0] == 400
    assert post(app, json.dumps({"number": 1, "note": f"{number} 1e999 NaN"})) == (200, {"number": 1})
    assert post(app, b"\x89PNG", "image/png")[0] == 415


def test_a_number_that_is_not_finite_is_a_defect(looking: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """The client gets 500 and no null; the log names the field and what to change."""
    status, answer = post(looking, json.dumps({"image": IMAGE, "label": "nan"}))
    assert (status, answer["error"]["code"]) == (500, "internal_error")
    assert "response.threshold is nan" in capfd.readouterr().out
    status, answers = post(looking, json.dumps([{"image": IMAGE, "label": "nan"}, {"image": IMAGE}]))
    assert (status, answers[0]["error"]["code"], answers[1]["size"]) == (200, "internal_error", [4, 3])


def test_where_the_schema_allows_it_null_stands_for_it(serve: Serve) -> None:
    """FiniteOrNull makes null of NaN."""

    class Empty(BaseModel):
        pass

    class Score(BaseModel):
        score: FiniteOrNull

    app = serve(package(Empty, Score, lambda _: Score(score=float("nan"))))
    assert post(app, "{}") == (200, {"score": None})


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("image/png", "image/png"),
        ("image/avif,image/webp,image/*;q=0.8,*/*;q=0.5", "image/png"),
        ("image/png;q=0.5, application/json", "application/json"),
        ("application/json", "application/json"),
        ("*/*", "application/json"),
        ("image/jpeg", "application/json"),
    ],
)
def test_an_image_is_answered_as_the_client_accepts_it(accept: str, kind: str, serve: Serve) -> None:
    """The file itself for a client that asks for its type; JSON with a data: URL for all others."""

    class Picture(BaseModel):
        image: Image

    app = serve(package(Picture, Turned, lambda request: Turned(image=request.image.rotate(180))))
    headers = [("Content-Type", "image/png"), ("Accept", accept)]
    event = PAYLOADS["v1"].event(GatewayRequest("POST", "/predict", "", headers, CAT))
    answer = app.lambda_handler(event, CONTEXT)
    http = PAYLOADS["v1"].answer(json.dumps(answer).encode())
    assert dict(http.headers)["Content-Type"] == kind
    assert answer["headers"]["X-Model-Version"]
    assert answer["isBase64Encoded"] is (kind == "image/png")
    body = http.body
    if kind == "application/json":
        body = base64.b64decode(json.loads(http.body)["image"].removeprefix("data:image/png;base64,"))
    assert Pillow.open(io.BytesIO(body)).size == (4, 3)


def test_a_file_keeps_its_name(serve: Serve) -> None:
    """A file of an answer is an attachment with its name, also where the name has letters of another script."""

    class Paper(BaseModel):
        paper: File

    app = serve(package(Paper, Paper, lambda request: request))
    body, kind = form(("paper", "наброски 1.txt", b"abc"))
    event = PAYLOADS["v1"].event(
        GatewayRequest("POST", "/predict", "", [("Content-Type", kind), ("Accept", "application/*, text/plain")], body)
    )
    answer = app.lambda_handler(event, CONTEXT)
    assert answer["statusCode"] == 200
    assert base64.b64decode(answer["body"]) == b"abc"
    disposition = answer["headers"]["Content-Disposition"]
    assert urllib.parse.unquote(disposition.rpartition("''")[2]) == "наброски 1.txt"


def test_an_upload_is_named_by_a_request(looking: Any, bucket: Bucket) -> None:
    """POST /uploads gives a form; S3 takes the file; the request names it, also one that is too large for a body."""
    status, room = send(looking, GatewayRequest("POST", "/uploads"))
    assert status == 200
    assert room["max_bytes"] == 33_554_432
    assert requests.post(room["url"], room["fields"], files={"file": CAT}, timeout=20).status_code == 204
    status, answer = post(looking, json.dumps({"image": {"upload": room["upload"]}}))
    assert (status, answer["size"]) == (200, [4, 3])
    policy = json.loads(base64.b64decode(room["fields"]["policy"]))
    assert ["content-length-range", 1, 33_554_432] in policy["conditions"]
    assert {"key": f"uploads/{room['upload']}"} in policy["conditions"]
    assert room["fields"]["x-amz-algorithm"] == "AWS4-HMAC-SHA256"


def test_a_body_that_is_too_large_has_another_way(looking: Any) -> None:
    """413 says that a file may come by an upload."""
    status, answer = post(looking, b"x" * 4_194_305, "image/png")
    assert (status, answer["error"]["code"]) == (413, "body_too_large")
    assert "POST /uploads" in answer["error"]["message"]


def test_an_upload_has_limits(looking: Any, bucket: Bucket) -> None:
    """An upload with more bytes than its field takes is refused before it is read; one that never came is unknown."""
    status, room = send(looking, GatewayRequest("POST", "/uploads"))
    assert status == 200
    request = json.dumps({"image": {"upload": room["upload"]}})
    status, answer = post(looking, request)
    assert (status, answer["error"]["details"]["problems"][0]["code"]) == (400, "upload_unknown")
    assert requests.post(room["url"], room["fields"], files={"file": b"x" * 1_000_001}, timeout=20).ok
    status, answer = post(looking, request)
    assert (status, answer["error"]["details"]["problems"][0]["code"]) == (400, "file_too_large")


@pytest.mark.parametrize("payload", ["v1", "v2"])
def test_the_command_makes_an_event_of_a_file(payload: str, looking: Any, tmp_path: Path) -> None:
    """`lambda-torch event` writes what API Gateway would send, and the function answers it."""
    (tmp_path / "cat.png").write_bytes(CAT)
    (tmp_path / "request.json").write_text(json.dumps({"image": IMAGE, "label": "a = b"}))
    for name, fields in (("cat.png", ["--field", "label=a = b"]), ("request.json", [])):
        written = tmp_path / "event.json"
        words = ["event", str(tmp_path / name), *fields, "--payload", payload, "--output", str(written)]
        done = CliRunner().invoke(main, words)
        assert (done.exit_code, done.output) == (0, f"Next: lambda-torch invoke {written}\n")
        answer = looking.lambda_handler(json.loads(written.read_text()), CONTEXT)
        assert json.loads(answer["body"])["label"] == "a = b"
    done = CliRunner().invoke(main, ["event", str(tmp_path / "cat.png"), "--field", "label"])
    assert done.exit_code == 2
    assert "NAME=VALUE" in done.output


def test_a_model_without_files_takes_no_uploads(app: ModuleType) -> None:
    """Nobody gets room in the bucket that no request could use."""
    status, answer = send(app, GatewayRequest("POST", "/uploads"))
    assert (status, answer["error"]["code"]) == (404, "no_uploads")


def test_the_document_has_every_way(looking: Any) -> None:
    """The OpenAPI document is valid, and lists the types of bodies and answers."""
    status, document = send(looking, GatewayRequest("GET", "/openapi.json"))
    assert status == 200
    validate(document)
    content = document["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert list(content)[:3] == ["application/json", "multipart/form-data", "image/png"]
    assert content["image/png"] == {}
    # A form is named, so that generated clients have one type for it.
    assert content["multipart/form-data"]["schema"] == {"$ref": "#/components/schemas/RequestForm"}
    form = document["components"]["schemas"]["RequestForm"]
    assert form["properties"]["image"] == {"contentMediaType": "image/png"}
    assert "415" in document["paths"]["/predict"]["post"]["responses"]
    assert document["paths"]["/uploads"]["post"]["operationId"] == "upload"
