"""The layer's Python half: modules in one compressed archive, and which of them are deferred."""
