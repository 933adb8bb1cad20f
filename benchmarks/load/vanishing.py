"""A soak of streamed answers: many clients, most of which go away at a random moment. Counts what is left behind."""

import asyncio
import contextlib
import json
import random
import socket
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.load.served import ServeRun, talking

CLIENTS = 16
ENVIRONMENTS = 4
SETTLE_SECONDS = 30.0
# What a client does with its answer, and how often.
ENDS = {"before": 1, "at once": 2, "in the middle": 4, "reset": 2, "slow": 1, "never": 2}


def predict(url: str, **request: Any) -> dict[str, Any]:
    """A whole answer of the model."""
    asked = urllib.request.Request(f"{url}/predict", json.dumps(request).encode())
    with urllib.request.urlopen(asked, timeout=60) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


async def client(url: str, chance: random.Random, counts: Counter[str]) -> None:
    """One client: it connects, asks for pieces, and ends as chance has it."""
    address = urlsplit(url)
    end = chance.choices(list(ENDS), list(ENDS.values()))[0]
    request = {"pieces": chance.randint(1, 200), "every": chance.choice([0, 0.001]), "size": chance.choice([1, 2000])}
    if end == "slow":
        request |= {"pieces": 2000, "size": 20_000}
    body = json.dumps(request).encode()
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        writer.write(
            f"POST /predict HTTP/1.1\r\nHost: {address.netloc}\r\nAccept: text/event-stream\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
        )
        writer.write(body[: len(body) // 2] if end == "before" else body)
        await writer.drain()
        counts[end] += 1
        if end == "before":
            return
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            counts["errors"] += 1
        if end in ("in the middle", "reset"):
            await reader.read(chance.randint(1, 20_000))
        if end == "slow":
            await asyncio.sleep(chance.random())
        if end == "never" and not (await reader.read()).endswith(b"0\r\n\r\n"):
            counts["errors"] += 1
        if end == "reset":
            own = writer.get_extra_info("socket")
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    except (OSError, asyncio.IncompleteReadError):
        counts["errors"] += 1
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def clients(url: str, seconds: float, chance: random.Random) -> Counter[str]:
    """Keep `CLIENTS` clients busy. Gives how many ended in each way, and the errors."""
    counts: Counter[str] = Counter()
    end = time.monotonic() + seconds

    async def loop() -> None:
        while time.monotonic() < end:
            await client(url, chance, counts)

    await asyncio.gather(*(loop() for _ in range(CLIENTS)))
    return counts


def settled(served: ServeRun, before: dict[str, int]) -> dict[str, int]:
    """What it holds when the last streams have ended: no more than before, or what is left after some seconds."""
    end = time.monotonic() + SETTLE_SECONDS
    while True:
        now = served.holds()
        if all(now[name] <= before[name] for name in ("processes", "threads", "files")) or time.monotonic() > end:
            return now
        time.sleep(0.2)


def measure(scratch: Path, seconds: float, seed: int = 1) -> dict[str, Any]:
    """Run the soak. "left" has what the command and the function hold more than after a first, short run.

    Args:
        scratch: a folder for the release.
        seconds: how long.
        seed: of the clients' chance.
    """
    with talking(scratch, "--concurrency", str(ENVIRONMENTS)) as served:
        chance = random.Random(seed)
        # All environments start, and allocators and caches fill.
        asyncio.run(clients(served.url, max(2.0, seconds / 10), chance))
        time.sleep(1.0)
        before = served.holds()
        counts = asyncio.run(clients(served.url, seconds, chance))
        after = settled(served, before)
        # Each environment answers, and none has an open generator.
        still_open = max(predict(served.url, pieces=1)["open"] for _ in range(20 * ENVIRONMENTS))
    errors = counts.pop("errors", 0)
    return {
        "seconds": round(seconds),
        "streams": sum(counts.values()),
        "ends": dict(counts),
        "errors": errors,
        "open_generators": still_open,
        "left": {name: after[name] - before[name] for name in ("processes", "threads", "files")},
        "memory_ratio": round(after["bytes"] / before["bytes"], 4),
    }


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), float(sys.argv[1])), indent=1))
