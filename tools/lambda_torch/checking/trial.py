"""Runs a model in a process of its own, and writes one tick after the other: `python -m lambda_torch.checking.trial`.

A model that ends its process, or takes all memory, then ends this one, and `check` says at which point.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from lambda_torch import project
from lambda_torch.checking import bad_requests
from lambda_torch.checking.defects import told
from lambda_torch.checking.ticks import Tick

TOLERANCE = 1e-4


class _Failed(Exception):  # noqa: N818 (it ends the trial, and is no error of ours)
    def __init__(self, message: str, next_step: str) -> None:
        super().__init__(message)
        self.next_step = next_step


class Trial:
    """One run through the checks. Each method is a check: it returns what was seen, or raises.

    Args:
        folder: the folder with the package `model`.
        release: the release folder.
    """

    def __init__(self, folder: Path, release: Path) -> None:
        self.package = project.model_package(folder)
        self.release = release
        self.module: Any = None
        self.model: Any = None
        self.example: Any = None
        self.answer: Any = None

    def imports(self) -> str:
        """The three names of the package."""
        import inspect
        from importlib import import_module

        from pydantic import BaseModel

        self.module = import_module("model")
        absent = [name for name in ("Model", "Request", "Response") if not hasattr(self.module, name)]
        if absent:
            raise _Failed(f"model/__init__.py has no {' and no '.join(absent)}", "define or import it there")
        for name in ("Request", "Response"):
            kind = getattr(self.module, name)
            if not (inspect.isclass(kind) and issubclass(kind, BaseModel)):
                raise _Failed(f"{name} is no pydantic model", f"write class {name}(pydantic.BaseModel)")
        for name in ("load", "predict"):
            if not callable(getattr(self.module.Model, name, None)):
                raise _Failed(f"Model has no method {name}", "see the page Your own model in the documentation")
        return "Model, Request and Response"

    def screening(self) -> str:
        """The files of the release."""
        from serving.releases import format, screening

        if not self.release.is_dir():
            raise _Failed(
                f"there is no folder {self.release}",
                "put the weights and the other files that Model.load reads there, or name the folder with --release",
            )
        try:
            files = format.describe(self.release)
            screening.check(self.release, files, allow_programs=True)
        except ValueError as error:
            cause, _, following = str(error).partition("Next: ")
            raise _Failed(cause.strip(), following or "take the file out of the release folder") from error
        size = sum(entry.size for entry in files.values())
        programs = [name for name, entry in files.items() if entry.format is not None]
        noted = f"; {', '.join(programs)} runs code: the stack needs AllowPrograms=true" if programs else ""
        return f"{len(files)} file{'s' if len(files) > 1 else ''}, {size / 1e6:.1f} MB{noted}"

    def loads(self) -> str:
        """Model.load."""
        self.model = self.module.Model.load(self.release)
        return f"a {type(self.model).__name__}"

    def answers(self) -> str:
        """The model's own example."""
        make = getattr(self.model, "example", None)
        if make is None:
            raise _Failed(
                "Model has no method example",
                "write example(self) -> Request: it warms the model up before the first client, and the page shows it",
            )
        request = make()
        if not isinstance(request, self.module.Request):
            raise _Failed(f"Model.example() gives a {type(request).__name__}, not a Request", "return a Request there")
        self.example = json.loads(request.model_dump_json(exclude_unset=True))
        self.answer = self._ask([self.example])[0]
        text = json.dumps(self.answer, ensure_ascii=False)
        return text if len(text) <= 80 else f"{text[:77]}..."

    def repeats(self) -> str:
        """The same request once more."""
        from serving.releases import golden

        difference = golden.compare(self._ask([self.example])[0], self.answer, TOLERANCE)
        if difference is not None:
            raise _Failed(
                f"the example has another answer the second time ({difference}): the model samples, or it keeps a state",
                "give Request a seed and use it in example(), so that the answer can be checked before a release serves; "
                "or write golden.json with the content [] beside the package, and no answer is checked",
            )
        return "yes"

    def batches(self) -> str:
        """Two different requests together, if a second one is at hand."""
        from serving.releases import golden

        other = next((each for each in self._good_variants() if each != self.example), self.example)
        alone = [self.answer, self._ask([other])[0]]
        together = self._ask([self.example, other])
        for number, (one, both) in enumerate(zip(alone, together, strict=True), 1):
            if (difference := golden.compare(both, one, TOLERANCE)) is not None:
                raise _Failed(
                    f"in a batch of two, request {number} has another answer than alone ({difference})",
                    "look at what predict computes over the whole batch (padding, normalisation, a shared random state); "
                    "or let predict go through its requests one by one",
                )
        return "yes" if other != self.example else "yes (of the example twice; no second request was at hand)"

    def schema(self) -> str:
        """The API's document, and the page's form."""
        from serving.http import openapi, pages
        from serving.http.routes import ROUTES

        document = openapi.document(self.module.Request, self.module.Response, self.model, 256, ROUTES)
        json.dumps(document, allow_nan=False)
        pages.front()
        properties = self.module.Request.model_json_schema().get("properties", {})
        bare = [name for name, each in properties.items() if "description" not in each and "$ref" not in each]
        noted = f"; no description for {', '.join(bare)}" if bare else ""
        return f"{len(properties)} field{'s' if len(properties) != 1 else ''}{noted}"

    def refusals(self) -> str:
        """Bad requests: each is refused, or has an answer."""
        from serving.errors import HttpError
        from serving.http import validation

        refused, made = 0, bad_requests.texts(self.example)
        for text in made:
            try:
                request = validation.parse(self.module.Request, text)
                validation.check(self.model, request)
                self._predict([request])
            except HttpError as error:
                refused += error.status < 500
            except Exception as error:
                shown = text if len(text) <= 120 else f"{text[:117]}..."
                raise _Failed(
                    f"{shown} gets status 500, not 400:\n{told(error, self.package)}",
                    "give the field a limit in Request (Field(ge=..., max_length=...)), or refuse it in Model.check",
                ) from error
        return f"{refused} of {len(made)} are refused, the others have an answer"

    def memory(self) -> str:
        """What this process has taken at most, for the caller to judge."""
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return str(peak if sys.platform == "darwin" else peak * 1024)

    def _good_variants(self) -> list[Any]:
        from serving.http import validation

        good = []
        for text in bad_requests.texts(self.example):
            try:
                validation.check(self.model, validation.parse(self.module.Request, text))
                self._ask([json.loads(text)])
            except Exception:  # noqa: S112 (the check of refusals looks at them)
                continue
            good.append(json.loads(text))
            if good[-1] != self.example:
                break
        return good

    def _ask(self, requests: list[Any]) -> list[Any]:
        kind = self.module.Request
        return self._predict([kind.model_validate_json(json.dumps(request)) for request in requests])

    def _predict(self, requests: list[Any]) -> list[Any]:
        from serving import response_json

        given = self.model.predict(requests)
        if not isinstance(given, list | tuple) or len(given) != len(requests):
            count = f"{len(given)} responses" if isinstance(given, list | tuple) else f"a {type(given).__name__}"
            raise _Failed(
                f"Model.predict gave {count} to {len(requests)} request{'s' if len(requests) > 1 else ''}",
                "return a list with one Response for each request, in their order",
            )
        return [json.loads(response_json.to_json(each)) for each in given]


def run(trial: Trial, write: Callable[[Tick], None]) -> None:
    """Go through the checks, and write a tick for each. After a failure, what needs its result is skipped."""
    steps: dict[str, tuple[Callable[[], str], str]] = {
        "imports": (trial.imports, ""),
        "release": (trial.screening, ""),
        "loads": (trial.loads, "imports release"),
        "example": (trial.answers, "loads"),
        "repeats": (trial.repeats, "example"),
        "batch": (trial.batches, "example"),
        "schema": (trial.schema, "loads"),
        "refusals": (trial.refusals, "example"),
        "memory": (trial.memory, "example"),
    }
    failed: set[str] = set()
    for name, (step, needed) in steps.items():
        if missing := [each for each in needed.split() if each in failed]:
            failed.add(name)
            write(Tick(name, "skipped", f"{missing[0]} comes first"))
            continue
        try:
            write(Tick(name, "ok", step()))
        except _Failed as error:
            failed.add(name)
            write(Tick(name, "failed", str(error), error.next_step))
        except (Exception, SystemExit) as error:
            failed.add(name)
            write(Tick(name, "failed", told(error, trial.package), "correct this, and run the check again"))


def main() -> NoReturn:
    """Run from the command line of `lambda_torch.checking.running`."""
    parser = argparse.ArgumentParser()
    for name in ("--folder", "--release", "--output"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--packages", type=Path, nargs="*", default=[])
    asked = parser.parse_args()
    from lambda_torch.packages import local

    sys.dont_write_bytecode = True
    project.use_function_code(asked.folder)
    local.use(asked.packages)
    with asked.output.open("w", encoding="utf-8") as output:

        def write(tick: Tick) -> None:
            output.write(json.dumps(tick.facts()) + "\n")
            output.flush()

        run(Trial(asked.folder, asked.release), write)
    sys.exit(0)


if __name__ == "__main__":
    main()
