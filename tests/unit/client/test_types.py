"""The module of types that a client gets: from documents of real models, and checked by mypy."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lambda_torch.project import ROOT
from lambda_torch_client import ModelServiceError
from lambda_torch_client.__main__ import main
from lambda_torch_client.type_module import type_module

NAMES = ROOT / "docs" / "openapi.json"
PROGRAM = """from lambda_torch_client import ApiError
from names_api import Request, TypedAsyncClient, TypedClient

client = TypedClient("http://127.0.0.1:3000")
reveal_type(client.predict({"category": "Russian", "start_letters": "RUS"}))
reveal_type(client.predict_many([Request(category="Russian", start_letters="R")]))
client.predict({"category": "Russian"})
client.predict({"category": "Russian", "start_letters": "R", "temprature": 1.0})
client.predict({"category": "Russian", "start_letters": 3})

async def ask(tasks: TypedAsyncClient) -> list[str]:
    return await tasks.predict({"category": "Russian", "start_letters": "RUS"})
"""


def test_mypy_knows_requests_and_answers(tmp_path: Path) -> None:
    """A missing field, a misspelt one and a wrong type are found before the program runs; answers have their types."""
    (tmp_path / "names_api.py").write_text(type_module(json.loads(NAMES.read_text())))
    (tmp_path / "program.py").write_text(PROGRAM)
    words = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", str(tmp_path), "program.py"]
    variables = {**os.environ, "MYPYPATH": str(ROOT / "clients" / "python")}
    said = subprocess.run(words, cwd=tmp_path, env=variables, capture_output=True, text=True).stdout.splitlines()
    found = [line.partition("program.py:")[2] for line in said if line.startswith("program.py:")]
    assert [line.partition(":")[0] for line in found] == ["5", "6", "7", "8", "9"]
    assert 'Revealed type is "list[str]"' in found[0].replace("builtins.", "")
    assert "ApiError" in found[1]
    assert all("error" in line for line in found[2:])


def described(request: Any, response: Any, piece: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    """A document with these three schemas."""
    answers: dict[str, Any] = {"application/json": {"schema": {"anyOf": [response, {"type": "array"}]}}}
    if piece is not None:
        answers["text/event-stream"] = {"schema": {"type": "string", "contentSchema": piece}}
    body = {"required": True, "content": {"application/json": {"schema": request}}}
    operation = {"requestBody": body, "responses": {"200": {"content": answers}}}
    return {
        "info": {"title": 'a "\\"""'},
        "paths": {"/predict": {"post": operation}},
        "components": {"schemas": schemas},
    }


def ref(name: str) -> dict[str, str]:
    """A reference to a schema."""
    return {"$ref": f"#/components/schemas/{name}"}


OBJECT = {"type": "object", "properties": {"a": {"type": "integer"}, "class": {"type": "string"}}, "required": ["a"]}


@pytest.mark.parametrize(
    ("piece", "types"),
    [
        (None, "Request, Response, Any"),
        ({"anyOf": [ref("Word"), {"type": "string"}]}, "Request, Response, Word | str"),
    ],
)
def test_the_module_runs(piece: Any, types: str) -> None:
    """A class or text, and no pieces at all: the clients have the types; other schemas stay out."""
    schemas = {"Request": OBJECT, "Response": {"type": "array", "items": ref("Part")}, "Part": OBJECT}
    schemas |= {"Word": OBJECT, "Health": OBJECT}
    text = type_module(described(ref("Request"), ref("Response"), piece, schemas))
    names: dict[str, Any] = {"__name__": "made"}
    exec(compile(text, "made.py", "exec"), names)
    assert f"Client[{types}]" in text
    assert {"Request", "Response", "Part", "TypedClient"} <= names.keys()
    assert "Health" not in names
    assert ("Word" in names) is ("Word" in types)


@pytest.mark.parametrize(
    "document", [{}, [], {"paths": {"/predict": {"post": None}}}, described(ref("X"), {}, None, {})]
)
def test_other_documents_are_refused(document: Any) -> None:
    """What is no such document, or names a schema that it does not have, is one message."""
    with pytest.raises(ModelServiceError, match="Next: "):
        type_module(document)


def test_a_file_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command says which file, and ends with status 1."""
    assert main(["types", str(tmp_path / "none.json")]) == 1
    assert "none.json cannot be read" in capsys.readouterr().err
    assert main(["predict", "ftp://x", "{}"]) == 1
    assert "begin it with https://" in capsys.readouterr().err
