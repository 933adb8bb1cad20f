"""Clients that each send one request after the other (closed loops), over HTTP/1.1. One thread runs them all."""

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Sent:
    """The answers: seconds of each answer with status 200, and the number of all others."""

    took: list[float] = field(default_factory=list)
    errors: int = 0


def figures(sent: Sent, seconds: float) -> dict[str, float | int]:
    """Requests per second, median and 99th percentile in ms, and errors."""
    cuts = statistics.quantiles(sent.took, n=100)
    return {
        "rps": round(len(sent.took) / seconds, 1),
        "p50_ms": round(cuts[49] * 1e3, 3),
        "p99_ms": round(cuts[98] * 1e3, 3),
        "errors": sent.errors,
    }


def load(urls: Sequence[str], body: bytes, clients: int, seconds: float) -> dict[str, float | int]:
    """Run `clients` closed loops of `POST /predict` for this many seconds, spread evenly over the addresses."""
    sent = Sent()
    began = time.perf_counter()
    asyncio.run(_all([urls[number % len(urls)] for number in range(clients)], body, sent, began + seconds))
    return figures(sent, time.perf_counter() - began)


async def _all(urls: Sequence[str], body: bytes, sent: Sent, end: float) -> None:
    await asyncio.gather(*(_loop(url, body, sent, end) for url in urls))


async def _loop(url: str, body: bytes, sent: Sent, end: float) -> None:
    """One client. If the server closes the connection, the client connects again, within the time of the request."""
    address = urlsplit(url)
    host, port = address.hostname, address.port
    head = f"POST /predict HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    streams = None
    while time.perf_counter() < end:
        began = time.perf_counter()
        streams = streams or await asyncio.open_connection(host, port)
        reader, writer = streams
        try:
            writer.write(request)
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = answer.partition(b"content-length:")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
        except (OSError, ValueError, asyncio.IncompleteReadError):
            sent.errors += 1
            writer.close()
            streams = None
            continue
        if answer.split(b" ", 2)[1] == b"200":
            sent.took.append(time.perf_counter() - began)
        else:
            sent.errors += 1
        if b"\r\nconnection: close" in answer:
            writer.close()
            streams = None
    if streams is not None:
        streams[1].close()
