"""The text of an answer as its tokens come: whole characters, and nothing of a stop text."""

import codecs


class AnswerText:
    """Joins tokens' bytes to text that can be sent.

    It keeps back what cannot be sent yet: the first bytes of a character, and an end that may become a stop text.

    Args:
        stops: texts before which the answer ends.

    Attributes:
        stopped: a stop text was found; nothing comes any more.
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._kept = ""
        self.stopped = False

    def add(self, data: bytes, last: bool = False) -> str:
        """The text that can be sent after these bytes; with `last`, all that is left."""
        if self.stopped:
            return ""
        text = self._kept + self._decoder.decode(data, last)
        found = [place for place in map(text.find, self._stops) if place >= 0]
        if found:
            self.stopped, self._kept = True, ""
            return text[: min(found)]
        keep = 0 if last else max((_overlap(text, stop) for stop in self._stops), default=0)
        self._kept = text[len(text) - keep :]
        return text[: len(text) - keep]


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of the text are the beginning of the stop text."""
    return next((size for size in range(min(len(stop), len(text)), 0, -1) if text.endswith(stop[:size])), 0)
