"""The sample model: a character-level RNN that writes names.

This is the one folder to replace with a model of your own.

`serving` uses three names of it and nothing else: `Model`, `Request` and `Response`. It knows torch, but not
AWS.
"""

from model.names import Model
from model.schema import Request, Response

__all__ = ["Model", "Request", "Response"]
