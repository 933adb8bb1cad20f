"""`lambda-torch-client`: write the types of a model, or ask it once, from a shell."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import httpx2

from lambda_torch_client.auth import SigV4
from lambda_torch_client.errors import ApiError, ModelServiceError
from lambda_torch_client.sync_client import Client
from lambda_torch_client.type_module import type_module


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="lambda-torch-client", description="Client of models that lambda-torch serves.")
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    types = commands.add_parser("types", help="write a Python module with the types of a model")
    types.add_argument("source", help="the address of the API, or a file with its OpenAPI document")
    types.add_argument("--output", type=Path, help="the module; default: print it")
    ask = commands.add_parser("predict", help="send one request, and print the answer")
    ask.add_argument("source", metavar="url", help="the address of the API")
    ask.add_argument("request", help="the request as JSON, or - for standard input")
    ask.add_argument("--stream", action="store_true", help="print each piece as a line of JSON")
    for each in (types, ask):
        who = each.add_mutually_exclusive_group()
        who.add_argument("--key", help="an API key")
        who.add_argument("--sigv4", action="store_true", help="sign with the AWS credentials of this shell")
    return made


def main(words: list[str] | None = None) -> int:
    """Run the command; its exit status."""
    options = parser().parse_args(words)
    try:
        (_types if options.command == "types" else _predict)(options)
    except ModelServiceError as error:
        print(f"Error: {error}", file=sys.stderr)  # noqa: T201 -- a command's output
        if isinstance(error, ApiError) and error.details:
            print(json.dumps(error.details, indent=1, ensure_ascii=False), file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _client(options: argparse.Namespace) -> Client:
    auth: httpx2.Auth | None = SigV4() if options.sigv4 else None
    try:
        return Client(options.source, key=options.key, auth=auth)
    except ValueError as error:
        raise ModelServiceError(str(error)) from error


def _types(options: argparse.Namespace) -> None:
    if options.source.startswith(("http://", "https://")):
        with _client(options) as client:
            document: Any = client.openapi()
    else:
        try:
            document = json.loads(Path(options.source).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelServiceError(f"{options.source} cannot be read as JSON: {error}.") from error
    text = type_module(document)
    if options.output is None:
        sys.stdout.write(text)
    else:
        options.output.write_text(text, encoding="utf-8")
        print(f"Wrote {options.output}: TypedClient and TypedAsyncClient know its types.", file=sys.stderr)  # noqa: T201


def _predict(options: argparse.Namespace) -> None:
    text = sys.stdin.read() if options.request == "-" else options.request
    try:
        request = json.loads(text)
    except ValueError as error:
        raise ModelServiceError(f"The request is not JSON: {error}.") from error
    with _client(options) as client:
        if not options.stream:
            print(json.dumps(client.predict(request), ensure_ascii=False))  # noqa: T201
            return
        with client.stream(request) as pieces:
            for piece in pieces:
                print(json.dumps(piece, ensure_ascii=False), flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
