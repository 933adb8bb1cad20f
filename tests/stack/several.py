"""A stack with two models as CloudFormation would make it, from the template that `lambda-torch models` derives."""

import copy
import functools
import re
from pathlib import Path
from typing import Any

from lambda_torch.several.deriving import derive
from lambda_torch.several.model_table import ModelRow, ModelTable
from lambda_torch.several.parting import OWN_PARAMETERS
from stack.combinations import combinations
from stack.kit import REGION_AND_ACCOUNT, Stack, as_sam_transforms, template

NAMES = ModelRow("names", {"MemorySize": "1769"}, None, "releases/names")
FLOWERS = ModelRow("flowers-v2", {"Timeout": "60", "LatencyAlarmMilliseconds": "2000"}, None, "releases/flowers-v2")
MODELS = (NAMES, FLOWERS)


def derived(rows: tuple[ModelRow, ...] = MODELS) -> dict[str, Any]:
    """A copy of the template for these models."""
    return copy.deepcopy(_derived(rows))


@functools.cache
def _derived(rows: tuple[ModelRow, ...]) -> dict[str, Any]:
    return derive(template(), table(rows))


def table(rows: tuple[ModelRow, ...] = MODELS) -> ModelTable:
    """Their table."""
    return ModelTable(Path("models.toml"), rows)


def combinations_of_models() -> tuple[dict[str, str], ...]:
    """Parameters for two models: those of each combination for the first, and those of the next one for the second."""
    rows = combinations()
    return tuple(
        {
            **{name: value for name, value in row.items() if name not in OWN_PARAMETERS},
            **{NAMES.id_part + name: row[name] for name in OWN_PARAMETERS},
            **{FLOWERS.id_part + name: rows[(number + 1) % len(rows)][name] for name in OWN_PARAMETERS},
        }
        for number, row in enumerate(rows)
    )


class StackOfModels(Stack):
    """A deployed stack with several models, with everything resolved. Keyword arguments are the stack's parameters."""

    def __init__(self, rows: tuple[ModelRow, ...] = MODELS, /, **choices: str) -> None:
        self._models = {row.id_part: row.name for row in rows}
        self._make(as_sam_transforms(derived(rows), choices), choices)

    def _arn(self, name: str) -> str:
        machine = re.fullmatch(r"(\w+)BulkMachine", name)
        if machine:
            return f"arn:aws:states:{REGION_AND_ACCOUNT}:stateMachine:models_{self._models[machine[1]]}-bulk"
        of_function = re.fullmatch(r"(\w+Function)(Alias(live)|Version[0-9a-f]+)", name)
        if of_function:
            return f"arn:aws:lambda:{REGION_AND_ACCOUNT}:function:{of_function[1]}:{of_function[3] or 7}"
        return super()._arn(name)
