"""The chat example beside llama.cpp, with the very same weights: `make bench-chat`."""
