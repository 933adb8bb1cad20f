"""A second model to serve: sentence embeddings (all-MiniLM-L6-v2) from plain torch modules, with no hub and no transformers.

`serving` uses four names of it and nothing else: `Model`, `Request`, `Response`, and `TASK`, which gives it the routes for
OpenAI's clients. It knows torch, and nothing of AWS. Its
modules import each other relatively, so the folder works as `model` in the function and under its full name in the tests.
"""

from .schema import Request, Response
from .sentences import Model

__all__ = ["TASK", "Model", "Request", "Response"]

TASK = "embeddings"
