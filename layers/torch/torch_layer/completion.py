"""Whether the held modules of a package have run, which thread runs them now, and what they were needed for.

There are two states that last: "ordinary inference works" and "everything is as in the stock package". The first touch of a
held module leads from one to the other: all held modules run, in stock order. One thread runs them, and others wait for it.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import NamedTuple

from torch_layer.start import without_collections

VARIABLE = "TORCH_LAYER_IMPORTS"


class ImportStats(NamedTuple):
    """What became of the held modules of one package so far, in this process.

    Attributes:
        held: how many modules the layer holds back.
        complete: whether all of them have run.
        reason: what completed the import: `torch.export.export`, `asked for`, ...; empty if nothing did.
        microseconds: how long that took.
    """

    held: int
    complete: bool
    reason: str
    microseconds: int


class Completion:
    """The state of one package's import.

    Args:
        package: `torch` or `numpy`.
        held: how many modules wait; none if the import is complete from the start.
        before: the completion of another package, which comes first.
        at_fork: modules to import before anything waits: held modules import them, and they register handlers for forks.

    Attributes:
        ready: whether everything has run.
        lock: a thread has it while it completes the import, runs a deferred statement, or forks.
        steps: what completing does, in this order. After an error the next attempt calls all of them again.
        undo: called once, when everything has run: each takes a tripwire or a placeholder away.
        on_touch: a hook for programs that find out what is touched, such as the builder's trials. It is called with the
            module that is touched and the name that is wanted of it (empty if it is no name), before the touch completes the
            import. If it returns True, the touch completes nothing: the caller goes on with the module as it is then.
    """

    def __init__(
        self, package: str, held: int, before: "Completion | None" = None, at_fork: Iterable[str] = ()
    ) -> None:
        self.ready = not held
        self.steps: list[Callable[[], None]] = []
        self.undo: list[Callable[[], None]] = []
        self.on_touch: Callable[[str, str], bool] | None = None
        self._package, self._held, self._before = package, held, before
        self.lock = threading.RLock()
        self._owner: int | None = None  # the thread that completes the import
        self._reason = ""
        self._microseconds = 0
        self._at_fork = at_fork
        self._guards_forks = False

    def touched(self, module: str, name: str = "") -> None:
        """Something uses what is not there before the import is complete.

        Args:
            module: what is touched.
            name: what is wanted of it.

        Raises:
            ImportError: a held module failed.
        """
        if self.ready or self.is_completing():
            return
        if self.on_touch is None or not self.on_touch(module, name):
            self.complete(f"{module}.{name}" if name else module)

    def complete(self, reason: str = "asked for") -> None:
        """Run every held module, if that was not done. Other threads that touch one meanwhile wait.

        Raises:
            ImportError: a module failed; the next touch tries again.
        """
        if self.ready or self._owner == threading.get_ident():
            return
        self.guard_forks()
        for name in self._at_fork:
            # A fork that waits for this thread would call those of a module's handlers that come after the fork, and only those.
            import_module(name)
        with self.lock:
            if self.ready:
                return
            started = time.perf_counter()
            self._reason = self._reason or reason
            if self._before is not None:
                self._before.complete(reason)
            self._owner = threading.get_ident()
            try:
                without_collections(self._take_steps)
            except BaseException as error:
                raise ImportError(
                    f"the rest of {self._package} could not be imported, which {reason} needs: "
                    f"{type(error).__name__}: {error}.\n"
                    f"Next: {VARIABLE}=eager runs everything when torch is imported, and shows whether the layer is at fault"
                ) from error
            finally:
                self._owner = None
            self.ready = True
            for undo in self.undo:
                undo()
            self.undo.clear()
            self._microseconds = round((time.perf_counter() - started) * 1e6)

    def _take_steps(self) -> None:
        for step in self.steps:
            step()

    def guard_forks(self) -> None:
        """Let every later fork wait until no thread has the lock, as CPython does it with locks of its own.

        A child lacks the thread that was running held modules, and the import locks of modules that it had begun would stay
        locked for ever. Handlers that were registered last take their locks first. So this comes when torch has been imported,
        and `logging` with it: held modules take the lock of `logging`, and a fork must not have that one before this one.
        """
        if not self._guards_forks:
            self._guards_forks = True
            os.register_at_fork(
                before=self.lock.acquire, after_in_parent=self.lock.release, after_in_child=self.lock.release
            )

    def is_completing(self) -> bool:
        """Whether this very thread runs the held modules at the moment."""
        return self._owner == threading.get_ident()

    def is_idle(self) -> bool:
        """Whether modules are held, and no thread is running them."""
        return not self.ready and self._owner is None

    def was_asked(self) -> bool:
        """Whether something has completed the import, or has tried to."""
        return bool(self._reason)

    def stats(self) -> ImportStats:
        """What became of the held modules so far."""
        return ImportStats(self._held, self.ready, self._reason, self._microseconds)


def is_eager(environment: "os._Environ[str]" = os.environ) -> bool:
    """Whether the user asked for everything at once. Raises ImportError if the variable has a value that is not known."""
    value = environment.get(VARIABLE, "")
    if value in ("", "held"):
        return False
    if value == "eager":
        return True
    raise ImportError(f'{VARIABLE} is "{value}", and can be "held" (the default) or "eager".\nNext: unset it')
