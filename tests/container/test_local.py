import base64
import json
import subprocess
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from container.conftest import Project, SamResult
from integration.serving.test_handler import STATUS
from lambda_torch.project import EVENTS
from lambda_torch.sam.start_api import Api, Variables
from model import Model, Request

RUS = {"category": "Russian", "start_letters": "RUS"}


@pytest.fixture(scope="session")
def invocations(built: Project, variables: Variables) -> dict[str, SamResult]:
    """`sam local invoke` with every file of events/, two at a time."""

    def invoke(name: str) -> SamResult:
        event = str(EVENTS / f"{name}.json")
        return built.sam("local", "invoke", "--event", event, "--env-vars", str(variables.path))

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(sorted(STATUS), pool.map(invoke, sorted(STATUS)), strict=True))


@pytest.fixture(scope="session")
def model(release: Path) -> Model:
    """The release's model, here."""
    return Model.load(release)


@pytest.mark.parametrize("name", sorted(STATUS))
def test_sam_local_invoke_answers_every_event_as_documented(name: str, invocations: dict[str, SamResult]) -> None:
    """In AWS's container each sample event gets its status; the payload tells, since SAM's exit status does not."""
    done = invocations[name]
    answer = json.loads(done.stdout)
    assert answer["statusCode"] == STATUS[name], done.said
    assert answer["headers"]["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("name", ["api-v1", "api-v1-base64", "api-v1-root", "api-v1-sampled", "api-v2", "bare"])
def test_the_names_from_the_container_are_the_models(
    name: str, invocations: dict[str, SamResult], model: Model
) -> None:
    """What comes out of AWS's container, the layer and S3 is what the model of the same release says here."""
    event = json.loads((EVENTS / f"{name}.json").read_text())
    body = event.get("body", json.dumps(event))
    request = Request.model_validate_json(base64.b64decode(body) if event.get("isBase64Encoded") else body)
    (expected,) = model.predict([request])
    assert json.loads(json.loads(invocations[name].stdout)["body"]) == expected.model_dump()


class HttpAnswer(NamedTuple):
    """An HTTP answer."""

    status: int
    headers: Any
    body: bytes


def call(url: str, body: Any = None, method: str | None = None, **headers: str) -> HttpAnswer:
    """Send a request; a body that is not bytes goes as JSON."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:
            return HttpAnswer(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return HttpAnswer(error.code, error.headers, error.read())


def test_post_gets_names_from_the_release_in_s3(api: Api) -> None:
    """One name a start letter, made by the model that the container fetched from S3 on this machine."""
    answer = call(f"{api.url}/predict", RUS)
    assert answer.status == 200
    assert [name[0] for name in json.loads(answer.body)] == ["R", "U", "S"]
    assert len(answer.headers["X-Model-Version"]) == 64
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_curl_as_the_readme_has_it_gets_names(api: Api) -> None:
    """curl's own defaults (a form's content type) get names, too."""
    line = ["curl", "--silent", "--show-error", "--data", json.dumps(RUS), f"{api.url}/predict"]
    done = subprocess.run(line, capture_output=True, text=True, check=True, timeout=300)
    assert [name[0] for name in json.loads(done.stdout)] == ["R", "U", "S"]


def test_health_names_the_release(api: Api) -> None:
    """`GET /health` answers from the container."""
    assert json.loads(call(f"{api.url}/health").body)["status"] == "ok"


def test_preflight_is_allowed(api: Api) -> None:
    """A browser's preflight gets the methods and the origin."""
    asks = {"Origin": "https://a.example", "Access_Control_Request_Method": "POST"}
    answer = call(f"{api.url}/predict", method="OPTIONS", **asks)
    assert answer.status in (200, 204)
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.body == b""


@pytest.mark.parametrize(
    ("body", "code"),
    [(b"{bad", "invalid_json"), ({"category": "Klingon", "start_letters": "Q"}, "unknown_category")],
)
def test_the_functions_errors_carry_cors_headers(api: Api, body: Any, code: str) -> None:
    """A browser can read what was wrong with its request."""
    answer = call(f"{api.url}/predict", body)
    assert answer.status == 400
    assert json.loads(answer.body)["error"]["code"] == code
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_a_route_that_the_template_does_not_have_is_refused_by_the_api(api: Api) -> None:
    """SAM's API, like API Gateway, answers 403 itself for a path that is not in the template."""
    assert call(f"{api.url}/nowhere", RUS).status == 403


def test_containers_stay_warm(api: Api) -> None:
    """Many requests, one after the other, are answered by the container that was started for the first, and there is no other."""
    from lambda_torch.sam.network import containers

    assert call(f"{api.url}/predict", RUS).status == 200
    before = containers(api.network)
    for _ in range(5):
        assert call(f"{api.url}/predict", RUS).status == 200
    assert containers(api.network) == before
    assert len(before) == 1


def test_two_requests_at_once_are_both_answered(api: Api) -> None:
    """Parallel requests get their own answers."""
    letters = ["RU", "SA", "AB", "CD"]
    with ThreadPoolExecutor(2) as pool:
        answers = pool.map(lambda text: call(f"{api.url}/predict", {**RUS, "start_letters": text}), letters)
    assert [[name[0] for name in json.loads(answer.body)] for answer in answers] == [list(text) for text in letters]
