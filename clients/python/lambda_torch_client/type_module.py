"""Writes a module with a model's types, from the OpenAPI document of its API. Needs `lambda-torch-client[types]`.

The types are `TypedDict`s, so requests stay plain dictionaries, and nothing is checked twice when the program runs. They
come from datamodel-code-generator.
"""

import ast
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lambda_torch_client.errors import ModelServiceError

OPTIONS = (
    *("--input-file-type", "openapi", "--output-model-type", "typing.TypedDict", "--target-python-version", "3.11"),
    *(
        "--formatters",
        "builtin",
        "--enum-field-as-literal",
        "all",
        "--use-union-operator",
        "--use-standard-collections",
    ),
    *("--disable-timestamp", "--use-schema-description", "--no-use-closed-typed-dict"),
)
HEAD = '''"""The types of {title}, written by `lambda-torch-client types`. Write it again when the model changes."""
'''
TAIL = """
TypedClient: TypeAlias = Client[{types}]
TypedAsyncClient: TypeAlias = AsyncClient[{types}]
"""


def type_module(document: Mapping[str, Any]) -> str:
    """The source of the module.

    Args:
        document: what `GET /openapi.json` answers, or `lambda-torch openapi` prints.

    Raises:
        ModelServiceError: the document is not that of such an API, or the generator is not installed.
    """
    request, response, piece = _schemas(document)
    schemas = document["components"]["schemas"]
    used = {name: schemas[name] for name in sorted(_closure(schemas, _names((request, response, piece))))}
    code = _generated(used)
    types = [_expression(each) for each in (request, response, piece)]
    defined = _defined(code)
    if missing := {name for each in types for name in each.split(" | ")} - defined - {"str", "Any"}:
        raise ModelServiceError(
            f"The generator has no type for {', '.join(sorted(missing))}.", "give the classes of the model plain names"
        )
    return _joined(code, ", ".join(types), str(document.get("info", {}).get("title", "a model")))


def _schemas(document: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """The schemas of a request, a response and a piece; the last one is empty for a model without `stream`."""
    try:
        operation = document["paths"]["/predict"]["post"]
        body = operation["requestBody"]["content"]["application/json"]["schema"]
        answers = operation["responses"]["200"]["content"]
        whole = answers["application/json"]["schema"]
        pieces = answers.get("text/event-stream", {}).get("schema", {}).get("contentSchema", {})
        # Where lists are taken too, the first of the two is for one request.
        return _first(body), _first(whole), pieces
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ModelServiceError(
            "This is not the OpenAPI document of a lambda-torch API.", "name its /openapi.json"
        ) from error


def _first(schema: Any) -> Any:
    for kind in ("oneOf", "anyOf"):
        schema = schema.get(kind, [schema])[0]
    return schema


def _names(schema: Any) -> Iterator[str]:
    """The schemas of the document that one refers to."""
    if isinstance(schema, Mapping):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"].removeprefix("#/components/schemas/")
        schema = list(schema.values())
    if isinstance(schema, list | tuple):
        for each in schema:
            yield from _names(each)


def _closure(schemas: Mapping[str, Any], names: Iterator[str]) -> set[str]:
    found: set[str] = set()
    waiting = set(names)
    while waiting:
        name = waiting.pop()
        if name not in schemas:
            raise ModelServiceError(f"The document has no schema {name!r}.", "read the document again")
        found.add(name)
        waiting |= set(_names(schemas[name])) - found
    return found


def _expression(schema: Any) -> str:
    """The Python type of a request, a response or a piece."""
    if not schema:
        return "Any"
    if "anyOf" in schema:
        return " | ".join(map(_expression, schema["anyOf"]))
    return "str" if schema.get("type") == "string" else next(_names(schema), "Any")


def _generated(schemas: Mapping[str, Any]) -> str:
    if importlib.util.find_spec("datamodel_code_generator") is None:
        raise ModelServiceError(
            "This needs the package datamodel-code-generator, which is not installed.",
            "pip install 'lambda-torch-client[types]'",
        )
    document = {
        "openapi": "3.1.0",
        "info": {"title": "types", "version": "1"},
        "paths": {},
        "components": {"schemas": schemas},
    }
    with tempfile.TemporaryDirectory() as name:
        # In an empty folder: a pyproject.toml around it would configure the generator.
        source, output = Path(name, "openapi.json"), Path(name, "types.py")
        source.write_text(json.dumps(document), encoding="utf-8")
        program = (sys.executable, "-P", "-m", "datamodel_code_generator")
        words = [*program, "--input", str(source), "--output", str(output), *OPTIONS]
        done = subprocess.run(words, cwd=name, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ModelServiceError(f"The generator failed: {done.stderr.strip().splitlines()[-1:]}.")
        return output.read_text(encoding="utf-8")


def _defined(code: str) -> set[str]:
    found = set()
    for node in ast.parse(code).body:
        if isinstance(node, ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


def _joined(code: str, types: str, title: str) -> str:
    """One module: the generator's imports and ours, its types, and the clients of these types."""
    code = re.sub(r"\A(#.*\n)+\n*", "", code)
    wanted = {"TypeAlias"} | ({"Any"} if "Any" in types.split(", ") else set())
    found = re.search(r"^from typing import (.+)\n", code, re.MULTILINE)
    names = wanted | (set(found[1].split(", ")) if found else set())
    typing = f"from typing import {', '.join(sorted(names))}\n"
    code = code.replace(found[0], typing) if found else code.replace("annotations\n", f"annotations\n\n{typing}", 1)
    head, last, rest = code.rpartition("import TypedDict\n")
    ours = "\nfrom lambda_torch_client import AsyncClient, Client\n"
    if not last:  # a model whose types are no objects at all
        head, last, rest = code.partition(typing)
    safe = " ".join(title.replace("\\", "").replace('"', "'").split())
    return HEAD.format(title=safe) + "\n" + head + last + ours + rest.rstrip("\n") + "\n\n" + TAIL.format(types=types)
