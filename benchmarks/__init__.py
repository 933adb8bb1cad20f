"""Programs that measure every figure of the documents: `make bench`, or `python -m benchmarks.NAME`."""

from lambda_torch import project

project.use_function_code()
