"""How the process is set up before the libraries are loaded, and while a package's root module runs."""

import gc
import os
import sys
import time
from collections.abc import Callable

# Lambda sets it. "Configuring Lambda function memory": at this many megabytes a function has one vCPU.
MEMORY_VARIABLE = "AWS_LAMBDA_FUNCTION_MEMORY_SIZE"
MEGABYTES_PER_CPU = 1769
# OpenMP and MKL read them when they are loaded, and so does NumPy's OpenBLAS with the first one.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")

# How long `import torch` took; 0 while it has not ended.
import_nanoseconds = 0


def limit_threads() -> None:
    """On Lambda, let the libraries use one thread for each whole vCPU of the function's memory size. What is set stays set.

    Two vCPUs are visible at any memory size up to 3,008 MB. With two threads on a part of one vCPU, each waits for the other.
    """
    memory = os.environ.get(MEMORY_VARIABLE, "")
    if memory.isdigit():
        threads = str(max(1, int(memory) // MEGABYTES_PER_CPU))
        for variable in THREAD_VARIABLES:
            os.environ.setdefault(variable, threads)


def quickly(run: Callable[[], None]) -> None:
    """Call `run`, which imports torch, with settings that make it cheaper. Afterwards they are as they were."""
    global import_nanoseconds
    began = time.perf_counter_ns()
    # The loader looks a function up in the libraries at its first call. All of them at once make the import slower.
    flags = sys.getdlopenflags()
    sys.setdlopenflags(flags & ~os.RTLD_NOW | os.RTLD_LAZY)
    try:
        without_collections(run)
    finally:
        sys.setdlopenflags(flags)
        import_nanoseconds = time.perf_counter_ns() - began


def without_collections(run: Callable[[], None]) -> None:
    """Call `run`, which imports many modules, while the garbage collector rests: what an import makes stays.

    To look for garbage among such objects, again and again, is work for nothing.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        run()
    finally:
        if collects:
            gc.enable()
            # All new objects are young, and the next one would start a search through them. These two calls move them to
            # the oldest generation without a search, unless the program keeps frozen objects of its own.
            if not gc.get_freeze_count():
                gc.freeze()
                gc.unfreeze()
