"""How the process is set up while a package's root module runs."""

import gc
import os
import sys
from collections.abc import Callable


def quickly(run: Callable[[], None]) -> None:
    """Call `run`, which imports torch, with settings that make it cheaper. Afterwards they are as they were."""
    # The loader looks a function up in the libraries at its first call. All of them at once make the import slower.
    flags = sys.getdlopenflags()
    sys.setdlopenflags(flags & ~os.RTLD_NOW | os.RTLD_LAZY)
    # An import makes objects that stay. To look for garbage among them, again and again, is work for nothing.
    collects = gc.isenabled()
    gc.disable()
    try:
        run()
    finally:
        sys.setdlopenflags(flags)
        if collects:
            gc.enable()
            # All new objects are young, and the next one would start a search through them. These two calls move them to
            # the oldest generation without a search, unless the program keeps frozen objects of its own.
            if not gc.get_freeze_count():
                gc.freeze()
                gc.unfreeze()
