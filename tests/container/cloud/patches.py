"""Applies all additions to moto, in this process."""

from importlib.metadata import version

# The version whose functions the additions replace.
MOTO = "5.2.5"


def apply() -> None:
    """Replace what the modules of this package replace.

    Raises:
        RuntimeError: moto is another version than the one they were written for.
    """
    if version("moto") != MOTO:
        raise RuntimeError(
            f"tests/container/cloud was written for moto {MOTO}, and this is {version('moto')}. "
            "Next: run its tests with the new version, adapt what fails, and change MOTO in patches.py."
        )
    from container.cloud import (
        conditions,
        deleted,
        functions,
        gateway,
        http_apis,
        no_value,
        transform,
        verdicts,
        versions,
    )

    transform.apply()
    no_value.apply()
    conditions.apply()
    deleted.apply()
    gateway.apply()
    http_apis.apply()
    functions.apply()
    versions.apply()
    verdicts.apply()
