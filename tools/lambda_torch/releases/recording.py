"""Golden examples at publication: recorded answers, how much they may differ, and models that sample."""

import json
from pathlib import Path
from typing import Any

from pydantic import JsonValue, ValidationError

from lambda_torch.errors import BucketError
from serving.contract import ServedModel
from serving.releases import golden
from serving.releases.format import GoldenExample

# How much a number of a recorded response may differ on another processor, absolute or relative: by the coarsest type
# of the release's weights, as safetensors names it. Other kernels add in another order. The error grows with the depth
# of the network and with the type's step (2 ** -23 for F32, 2 ** -10 for F16, 2 ** -7 for BF16).
TOLERANCES = {
    "F64": 1e-4,
    "F32": 1e-4,
    "F16": 0.02,
    "BF16": 0.06,
    "F8_E4M3": 0.25,
    "F8_E5M2": 0.25,
}
DEFAULT_TOLERANCE = TOLERANCES["F32"]


def tolerance_of(folder: Path) -> float:
    """The tolerance for the weights in a release folder. Files that are no safetensors do not count."""
    found = [
        TOLERANCES.get(kind, DEFAULT_TOLERANCE) for path in folder.rglob("*.safetensors") for kind in _types_of(path)
    ]
    return max(found, default=DEFAULT_TOLERANCE)


def _types_of(path: Path) -> set[str]:
    """The types of the tensors in a safetensors file, from its header."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(length))
    return {entry["dtype"] for name, entry in header.items() if name != "__metadata__"}


def golden_examples(model: ServedModel, file: Path | None, tolerance: float = DEFAULT_TOLERANCE) -> list[GoldenExample]:
    """The golden examples of a file, or the model's own example. Missing responses are recorded from the model.

    Args:
        model: the loaded model.
        file: a JSON list of examples. None for the model's own example.
        tolerance: for recorded responses, unless the file has one.

    Raises:
        BucketError: the file is not a list of examples, the model refuses a request or answers it differently each
            time, or a manifest cannot store an example.
    """
    if file is None:
        return _own_example(model, tolerance)
    from model import Request

    try:
        entries = json.loads(file.read_bytes(), parse_constant=_no_constant)
        fields = set(GoldenExample.model_fields)
        if not isinstance(entries, list) or not all(
            isinstance(entry, dict) and "request" in entry and set(entry) <= fields for entry in entries
        ):
            raise ValueError('it is not a list of {"request": ..., "response": ..., "tolerance": ...}')
        for entry in entries:
            Request.model_validate_json(json.dumps(entry["request"]))
        return [
            GoldenExample.model_validate(entry)
            if "response" in entry
            else _recorded(model, entry, tolerance, f"example {number} of {file}")
            for number, entry in enumerate(entries, 1)
        ]
    except ValueError as error:
        raise BucketError(f"{file} has no golden examples for this model: {first_problem(error)}") from error
    except BucketError:
        raise
    except Exception as error:
        # The file cannot be read, or the model's own code raised an exception for a request.
        raise BucketError(f"{file} has no golden examples for this model: {type(error).__name__}: {error}") from error


def _own_example(model: ServedModel, tolerance: float) -> list[GoldenExample]:
    example = getattr(model, "example", None)
    if example is None:
        return []
    request: JsonValue = example().model_dump(mode="json", exclude_unset=True)
    try:
        return [_recorded(model, {"request": request}, tolerance, "Model.example()")]
    except ValueError as error:
        raise BucketError(
            f"The model's own example cannot be a golden example: {first_problem(error)}\n"
            "Next: correct Model.example() or its response, or give your own examples: --golden FILE"
        ) from error


def _recorded(model: ServedModel, entry: dict[str, JsonValue], tolerance: float, what: str) -> GoldenExample:
    """The example with the response that the model gives now, and gives again.

    Raises:
        BucketError: the second response is another one.
    """
    from model import Request

    tolerance = GoldenExample.model_validate(
        {"request": None, "response": None, "tolerance": entry.get("tolerance", tolerance)}
    ).tolerance
    response = golden.answer(model, Request, entry["request"])
    again = golden.answer(model, Request, entry["request"])
    difference = golden.compare(again, response, tolerance)
    if difference is not None:
        raise BucketError(
            f"The model samples: it answers {what} differently each time, so that answer cannot be checked later. "
            f"The second time, {difference}.\n"
            "Next: give Request a seed, and draw with torch.Generator().manual_seed(request.seed), so that the same "
            f"request has the same answer; or publish without golden examples: write [] into {golden_path()}."
        )
    return GoldenExample.model_validate({"request": entry["request"], "response": response, "tolerance": tolerance})


def golden_path() -> Path:
    """Where the golden examples of the model in use are, if there are any: beside its package."""
    import model

    return Path(str(model.__file__)).parents[1] / "golden.json"


def first_problem(error: ValueError) -> str:
    """The first problem of an error, with its place."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
