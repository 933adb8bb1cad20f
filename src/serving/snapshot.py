"""SnapStart: Lambda takes a snapshot of a started function and restores it as often as it needs environments.

https://docs.aws.amazon.com/lambda/latest/dg/snapstart-runtime-hooks-python.html. The hooks are registered only where
Lambda says that it starts the function for a snapshot.
"""

import sys
from collections.abc import Callable

# The initialization type that Lambda names for such a start.
KIND = "snap-start"


def register(before: Callable[[], object], after: Callable[[], object]) -> None:
    """Have Lambda call `before` at the end of the start, ahead of the snapshot, and `after` in every restored copy.

    Raises:
        ImportError: this runtime has no hooks (python3.12 and later have them).
    """
    from snapshot_restore_py import register_after_restore, register_before_snapshot

    register_before_snapshot(before)
    register_after_restore(after)


def reseed() -> None:
    """Give every random generator in this process a new state. Without it all copies of a snapshot would draw the same.

    `secrets`, `uuid4`, `os.urandom` and the like ask the system each time; they need nothing.
    """
    import random

    random.seed()
    # Neither is imported here: a generator that nobody has imported has no state.
    numpy_random, torch = sys.modules.get("numpy.random"), sys.modules.get("torch")
    if numpy_random is not None:
        numpy_random.seed()
    if torch is not None:
        torch.seed()
