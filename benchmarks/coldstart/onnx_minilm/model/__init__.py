"""Sentence embeddings on ONNX Runtime: the example's requests, its tokenizer and its network, exported. No torch."""

from .schema import Request, Response
from .sentences import Model

__all__ = ["Model", "Request", "Response"]
