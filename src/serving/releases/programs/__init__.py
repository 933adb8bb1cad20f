"""Programs in releases, TorchScript and `torch.export` archives: what is in one before torch reads it.

Both are zip archives that torch reads by itself, and both can hold far more than a network: Python pickles, operators
that write files or leave their memory, texts that are evaluated. So what is let through is described here, from the
bytes of the archive (`archive`) to its pickles (`pickles`), texts (`schema`, `expressions`, `script_text`) and
operators (`operators`); all else is refused. Nothing here imports torch. What torch then really read is compared with
the same tables in `seen`, in a process of its own.
"""
