"""The first answer of the sample function, from the start of its process, on each way to bring PyTorch to Lambda."""

import sys

from lambda_torch import project

# Neither the builder nor the function is an installed package: SAM copies their folders, and so do these programs find them.
sys.path.insert(0, str(project.LAYER_SOURCE))
project.use_function_code()
