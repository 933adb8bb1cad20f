"""The function of examples/layer-only under Lambda's limits, with nothing but the layer."""

import json

import pytest

from lambda_torch import project
from lambda_torch.testbox import Box, Rootfs

FUNCTION = project.ROOT / "examples" / "layer-only" / "function"


@pytest.mark.parametrize("memory_mb", [512, 1769])
def test_a_function_with_only_the_layer_answers(boxes: None, memory_mb: int) -> None:
    """Read-only code, /opt from the layer, no environment of ours: the handler answers within its memory."""
    if not (project.LAYER / "python" / "torch").is_dir():
        pytest.skip("there is no layer in build/layer. Next: make layer")
    with Rootfs(FUNCTION, project.LAYER) as files, Box(files, "app.handler", memory_mb=memory_mb) as box:
        outcome = box.invoke(json.dumps({"values": [0, 3, 0, 0]}).encode())
        assert not outcome.failed, box.log()
        assert json.loads(outcome.payload)["sum"] == pytest.approx(1)
        assert box.limits.peak_bytes() < memory_mb * 1024 * 1024
