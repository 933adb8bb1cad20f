"""Variables with which libraries work in Lambda's sandbox: only /tmp can be written, and no hub is asked.

template.yaml sets the same for the deployed function; a test compares the two. A user's own value (--env, or the
template) wins.
"""

# name -> (value, reason)
SANDBOX_VARIABLES = {
    "HF_HUB_OFFLINE": ("1", "huggingface_hub asks the hub again and again before it fails, for longer than a timeout"),
    "HF_HOME": ("/tmp/huggingface", "huggingface_hub and transformers write below HOME otherwise"),  # noqa: S108
    "TORCH_HOME": ("/tmp/torch", "torch.hub and torchvision write below HOME otherwise"),  # noqa: S108
    "TORCHINDUCTOR_CACHE_DIR": ("/tmp/inductor", "torch.compile asks for the user's name otherwise"),  # noqa: S108
    "MPLCONFIGDIR": ("/tmp/matplotlib", "matplotlib warns, and makes a new folder at each start otherwise"),  # noqa: S108
    "NUMBA_CACHE_DIR": ("/tmp/numba", "numba cannot cache beside its sources, and raises an error"),  # noqa: S108
    "XDG_CACHE_HOME": ("/tmp/cache", "what follows the freedesktop rules writes below HOME otherwise"),  # noqa: S108
    "JOBLIB_MULTIPROCESSING": ("0", "joblib makes no process pools, which need /dev/shm; it uses one process"),
}


def variables(scratch: str) -> dict[str, str]:
    """The variables, with `scratch` in the place of /tmp."""
    return {
        name: value.replace("/tmp", scratch, 1) if value.startswith("/tmp") else value  # noqa: S108
        for name, (value, _) in SANDBOX_VARIABLES.items()
    }
