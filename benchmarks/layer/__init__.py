"""Compares the layer with other ways to bring torch to Lambda, and its parts with their alternatives."""

import sys

from lambda_torch.project import LAYER_SOURCE

# The builder is no installed package, because SAM copies its folder. So it is put on the path.
sys.path.insert(0, str(LAYER_SOURCE))
