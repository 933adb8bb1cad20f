"""Opens an exported network. This file is copied into the package `model` of each candidate with ONNX Runtime."""

from pathlib import Path
from typing import Any

import onnxruntime

NETWORK_FILE = "network.onnx"
# Optimising the graph is the longest part of a start. One answer gains nothing from more than the basic level.
OPTIMISED = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC


def open_session(release: Path) -> Any:
    """The network of a release folder, for one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = OPTIMISED
    return onnxruntime.InferenceSession(str(release / NETWORK_FILE), options, providers=["CPUExecutionProvider"])
