"""The sample model on ONNX Runtime: the same requests, the same network, the same greedy decoding, and no torch."""

from model.names import Model
from model.schema import Request, Response

__all__ = ["Model", "Request", "Response"]
