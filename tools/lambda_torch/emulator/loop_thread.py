"""An asyncio event loop in a thread of its own, for programs whose main thread waits for something else."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
Ending = Callable[[], Coroutine[Any, Any, None]]


class LoopThread:
    """A running event loop. `close` ends it."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._endings: list[Ending] = []
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and wait for its result. Not for the loop's own thread."""
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def soon(self, function: Callable[..., object], *arguments: object) -> None:
        """Call a function on the loop soon. After the end of the loop it is not called."""
        try:
            self.loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            if not self.loop.is_closed():
                raise

    def at_end(self, ending: Ending) -> Callable[[], None]:
        """Run this before the loop ends. Returns what runs it earlier; then it does not run again."""
        self._endings.append(ending)

        def earlier() -> None:
            if ending in self._endings:
                self._endings.remove(ending)
                self.wait_for(ending())

        return earlier

    def close(self) -> None:
        """Run the endings, cancel what still runs on the loop, and end its thread. A second call does nothing."""
        if self.loop.is_closed():
            return
        while self._endings:
            self.wait_for(self._endings.pop()())
        self.wait_for(_cancel_others())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    loop = asyncio.get_running_loop()
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()
    # A transport that was closed learns it in the next turn of the loop, and closes its socket there.
    for _ in range(3):
        await asyncio.sleep(0)
