"""Measures the function under load, beside the bare model, FastAPI and the local pool, and for ten minutes."""
