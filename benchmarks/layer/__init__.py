"""The layer beside other ways to bring torch to Lambda, and its parts beside their alternatives."""

import sys

from lambda_torch.project import LAYER_SOURCE

# The builder is no installed package: SAM copies its folder, and so do these programs find it.
sys.path.insert(0, str(LAYER_SOURCE))
