"""Clients that other tools make from the API's document: generated, compiled, and run against the running service."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infrastructure.conftest import TOOLS
from integration.client.conftest import READER, reader_url
from lambda_torch.project import ROOT

__all__ = ["reader_url"]

# A model with a file and pieces, one with OpenAI's routes, and the sample model, whose answers are lists: docs has its document.
MODELS = {"reader": READER, "chat": ROOT / "examples" / "chat", "names": None}
SETTINGS = {
    "compilerOptions": {
        "target": "es2022",
        "lib": ["es2022", "dom", "dom.iterable"],
        "module": "node16",
        "strict": True,
        "outDir": "out",
        "types": [],
    },
    "include": ["**/*.ts"],
    "exclude": ["node_modules", "out"],
}
# With the types of openapi-typescript: @ts-expect-error fails where there is no error.
FETCH = """import createClient from "openapi-fetch";
import type { components, paths } from "./reader.js";

const client = createClient<paths>({ baseUrl: process.argv[2] });

async function main() {
  const { data, error, response } = await client.POST("/predict", { body: { words: ["a"], again: 2 } });
  // Text would be an answer in pieces, and a list the answers to a list.
  if (error || !data || typeof data === "string" || Array.isArray(data)) throw new Error(JSON.stringify(error));
  const answer: components["schemas"]["Response"] = data;
  const health = await client.GET("/health");
  const refused = await client.POST("/predict", { body: { words: ["never"] } });
  // @ts-expect-error -- words are texts
  const wrong: components["schemas"]["Request"] = { words: [1] };
  const code = (refused.error as components["schemas"]["Error"]).error.code;
  const same = health.data?.release === response.headers.get("X-Model-Version");
  console.log(JSON.stringify([answer.text, same, code]));
}
main();
"""
GENERATED = """import { Configuration, ModelApi, ResponseError } from "./generated-reader/index";

const api = new ModelApi(new Configuration({ basePath: process.argv[2] }));

async function main() {
  const answer = await api.predict({ predictRequest: { words: ["a", "b"] } });
  const several = await api.predict({ predictRequest: [{ words: ["c"] }] });
  const refused = await api.predict({ predictRequest: { words: ["never"] } }).catch((error: ResponseError) => error);
  if (!("response" in refused)) throw new Error("not refused");
  console.log(JSON.stringify([answer, several, refused.response.status]));
}
main();
"""
GLOBALS = "declare const process: { argv: string[] };\n"


def run(folder: Path, *words: str | Path) -> str:
    """What a command prints; the test fails with all that it said if it fails."""
    done = subprocess.run(list(map(str, words)), cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def folder(installed: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the documents of the models, and what both tools made of them, compiled."""
    made = tmp_path_factory.mktemp("clients")
    if shutil.which("java") is None:
        pytest.skip("openapi-generator needs Java, and there is none")
    (made / "node_modules").symlink_to(TOOLS / "node_modules")
    configurations = []
    tools = TOOLS / "node_modules" / ".bin"
    for name, model in MODELS.items():
        if model is None:
            shutil.copy(ROOT / "docs" / "openapi.json", made / f"{name}.json")
        else:
            command = Path(sys.executable).with_name("lambda-torch")
            run(made, command, "openapi", "--model", model, "--output", f"{name}.json")
        configuration: dict[str, Any] = {"generatorName": "typescript-fetch", "inputSpec": str(made / f"{name}.json")}
        configuration |= {"outputDir": str(made / f"generated-{name}"), "globalProperties": {"skipFormModel": "false"}}
        (made / f"{name}.generate.json").write_text(json.dumps(configuration))
        configurations.append(f"{name}.generate.json")
    options = ["--default-non-nullable", "false", "--output", "reader.d.ts"]
    run(made, tools / "openapi-typescript", "reader.json", *options)
    # One process for all of them: Java takes seconds to start.
    run(made, TOOLS / "bin" / "openapi-generator-cli", "batch", "--fail-fast", "--threads", "2", *configurations)
    for name, text in {"fetch.ts": FETCH, "generated.ts": GENERATED, "globals.d.ts": GLOBALS}.items():
        (made / name).write_text(text)
    (made / "tsconfig.json").write_text(json.dumps(SETTINGS))
    run(made, tools / "tsc", "--project", "tsconfig.json")
    return made


def test_openapi_typescript_with_openapi_fetch(folder: Path, reader_url: str) -> None:
    """The types fit the running API: answers, headers and errors; and a request of the wrong type does not compile."""
    assert json.loads(run(folder, "node", "out/fetch.js", reader_url)) == ["a a", True, "not_said"]


def test_openapi_generator(folder: Path, reader_url: str) -> None:
    """The generated client takes one request and a list of them, and reads what comes."""
    answer, several, status = json.loads(run(folder, "node", "out/generated.js", reader_url))
    assert (answer["text"], several[0]["text"], status) == ("a b", "c", 400)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_a_client(folder: Path, name: str) -> None:
    """The compiler made JavaScript of each generated client, with the model's types among its models."""
    assert (folder / "out" / f"generated-{name}" / "apis" / "ModelApi.js").is_file()
    assert (folder / "out" / f"generated-{name}" / "models" / "Request.js").is_file()
