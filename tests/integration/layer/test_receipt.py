"""`torch_layer.receipt()` in programs that use only the layer."""

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from integration.layer.conftest import Layer

PROGRAM = """
import json, torch_layer
receipts = [torch_layer.receipt()]
import torch
receipts.append(torch_layer.receipt())
torch.export.export
receipts.append(torch_layer.receipt())
print(json.dumps(receipts))
"""


def receipts(layer: "Layer", **variables: str) -> list[dict[str, Any]]:
    """The receipts before `import torch`, after it, and after a touch of what waits."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    }
    environment |= {"PYTHONPATH": str(layer.tree), "PYTHONDONTWRITEBYTECODE": "1", **variables}
    command = [sys.executable, "-S", "-c", PROGRAM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_a_receipt_says_what_waits_and_what_the_import_took(layer: "Layer") -> None:
    """Nothing before the import, what is held after it, and why it ran when it did."""
    before, imported, touched = receipts(layer)
    assert (before["import_ms"], before["torch"], before["threads"]) == (0, None, None)
    assert imported["import_ms"] > 0
    assert imported["torch"]["held"] > 500
    assert not imported["torch"]["complete"]
    assert touched["torch"]["reason"].startswith("torch.export")
    assert touched["torch"]["complete"]
    assert touched["torch"]["ms"] > 0
    assert touched["import_ms"] == imported["import_ms"]


def test_torch_has_a_thread_for_each_whole_vcpu(layer: "Layer") -> None:
    """By the memory size that Lambda says, without a word from the program; a number that is set stays."""
    for variables, threads in (
        ({"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769"}, 1),
        ({"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "3538"}, 2),
        ({"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769", "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}, 2),
    ):
        assert receipts(layer, **variables)[1]["threads"] == threads
