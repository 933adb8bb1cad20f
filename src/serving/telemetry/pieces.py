"""What an answer in pieces adds to a request's receipt: how many pieces there were, and when they came."""

from typing import Any


class PieceCounts:
    """Counts the pieces of one answer.

    Attributes:
        pieces: how many there were.
        first_ms: milliseconds from the start of the request until the first piece was ready; 0 without one.
        slowest: the longest time that the model took for one piece after the first, in seconds.
        later_ns: the time that the model took for all pieces after the first, in nanoseconds.
    """

    def __init__(self) -> None:
        self.pieces = 0
        self.first_ms = self.slowest = 0.0
        self.later_ns = 0
        self._last_ms = 0.0

    def add(self, so_far_ms: float) -> None:
        """One more piece is ready, so many milliseconds after the start of the request."""
        if not self.pieces:
            self.first_ms = so_far_ms
        self._last_ms = so_far_ms
        self.pieces += 1

    def took(self, nanoseconds: int) -> None:
        """The model took so long for a piece after the first, or to say that there is none."""
        self.later_ns += nanoseconds
        self.slowest = max(self.slowest, nanoseconds / 1e9)

    @property
    def per_second(self) -> float:
        """Pieces per second after the first one; 0 with fewer than two."""
        seconds = (self._last_ms - self.first_ms) / 1000
        return (self.pieces - 1) / seconds if seconds > 0 else 0.0

    def summary(self) -> dict[str, Any]:
        """For the log and the client."""
        return {
            "pieces": self.pieces,
            "first_piece_ms": round(self.first_ms, 3),
            "pieces_per_second": round(self.per_second, 3),
        }
