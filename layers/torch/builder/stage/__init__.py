"""The tree of installed wheels: what goes in, what is left out, what is stripped."""
