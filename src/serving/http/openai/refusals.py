"""Errors in OpenAI's form: `{"error": {"message", "type", "param", "code"}}`, by which its clients choose an exception."""

import re

from serving.errors import HttpError
from serving.http.responses import HttpResponse, json_text

# From this status on the cause is not the request.
SERVER_ERROR = 500


def failure(error: HttpError) -> HttpResponse:
    """The answer that an error stands for. Its status and code are those of every route."""
    return HttpResponse(error.status, json_text(body_of(error)), error.headers)


def body_of(error: HttpError) -> dict[str, object]:
    """The body of that answer, which is also what a stream says if it fails."""
    kind = "server_error" if error.status >= SERVER_ERROR else "invalid_request_error"
    problems = error.details.get("problems")
    field = problems[0]["field"] if problems else error.details.get("param")
    return {"error": {"message": error.message, "type": kind, "param": field or None, "code": error.code}}


def unsupported(parameter: str, reason: str) -> HttpError:
    """The refusal of a parameter that this function cannot do what it asks for."""
    return HttpError(400, "unsupported_parameter", f"{parameter}: {reason}", {"param": parameter})


def check_name(asked: str, name: str) -> None:
    """Refuse a name that is not this function's model.

    Raises:
        HttpError: 404 `model_not_found`.
    """
    if asked != name:
        message = f"There is no model {asked[:100]!r} here. Next: ask for {name!r}, which GET /v1/models lists."
        raise HttpError(404, "model_not_found", message, {"param": "model"})


def renamed(error: HttpError, names: dict[str, str]) -> HttpError:
    """The same refusal by the names that the client used.

    Args:
        error: a refusal of the model's own request.
        names: the name of a field of the model's request, to the name of the parameter that filled it.
    """
    problems = error.details.get("problems")
    if not problems:
        return error
    changed = []
    for problem in problems:
        first, _, rest = problem["field"].partition(".")
        path = ".".join(filter(None, (names.get(first, first), rest)))
        # As OpenAI writes it: messages[0].content.
        changed.append(problem | {"field": re.sub(r"\.(\d+)", r"[\1]", path)})
    message = f"{changed[0]['field'] or 'The body'}: {changed[0]['message']}"
    return HttpError(error.status, error.code, message, {**error.details, "problems": changed}, error.headers)
