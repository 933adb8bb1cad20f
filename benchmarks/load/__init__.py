"""The function under load: beside the bare model, beside FastAPI, through the local pool, and for ten minutes on end."""
