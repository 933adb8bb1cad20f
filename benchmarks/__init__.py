"""Every figure in the documents, as a program that anyone can run: `make bench`, or `python -m benchmarks.NAME`."""

from lambda_torch import project

project.use_function_code()
