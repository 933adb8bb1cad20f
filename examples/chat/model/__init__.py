"""A language model to serve: a chat model of the llama family (SmolLM2-135M-Instruct) from plain torch modules.

`serving` uses four names of it and nothing else: `Model`, `Request`, `Response`, and `TASK`, which gives it the routes for
OpenAI's clients. It knows torch, and nothing of AWS. Its
modules import each other relatively, so the folder works as `model` in the function and under its full name in the tests.
"""

from .chat import Model
from .schema import Message, Piece, Request, Response, Usage

__all__ = ["TASK", "Message", "Model", "Piece", "Request", "Response", "Usage"]

TASK = "chat"
