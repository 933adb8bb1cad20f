"""The layer without the function: what was built, and publishing it as versions of a Lambda layer."""
