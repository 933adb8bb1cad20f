"""Measures the sample function's first answer, from process start, for each way to bring PyTorch to Lambda."""

import sys

from lambda_torch import project

# The builder and the function are no installed packages, because SAM copies their folders. So they are put on the path.
sys.path.insert(0, str(project.LAYER_SOURCE))
project.use_function_code()
