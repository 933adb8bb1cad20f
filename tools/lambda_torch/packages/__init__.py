"""The packages of the user's own model: which it needs, where they go, and how they get onto this machine."""
