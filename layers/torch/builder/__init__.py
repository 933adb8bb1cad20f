"""Builds the torch layer: all of PyTorch, hot code as it is, cold code compressed beside it (see ../DESIGN.md)."""
