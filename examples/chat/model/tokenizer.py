"""From text to token numbers and back: byte-level BPE in plain Python, as GPT-2 and SmolLM2 are trained.

The `tokenizers` package requires `huggingface_hub`, and with it an HTTP stack: all of that would be in the function's package.
The steps are those of its Digits, ByteLevel and BPE:

    words      GPT-2's pattern; where the vocabulary says so, each digit is a word of its own first
    bytes      a word's UTF-8 bytes, each written as one printable character (that is how vocabularies spell them)
    merges     of all neighbours in the word, those that are first in the list of merges become one; and so on

A special token (such as the one that ends a message) is never found in a text: only a chat template writes one.

Source: Sennrich et al., https://arxiv.org/abs/1508.07909, and https://github.com/openai/gpt-2.
"""

import heapq
import json
import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

# A word's numbers are kept, unless it is so long that keeping it helps nobody.
KEPT_WORDS = 20_000
LONGEST_KEPT = 64


class Vocabulary(BaseModel):
    """The release's `vocabulary.json`.

    Attributes:
        tokens: each token as a vocabulary spells it; its number is its place.
        special: numbers of the special tokens.
        merges: two tokens with a space between, the most frequent pair first.
        digits: each digit is a word of its own.
        named: what a chat template calls some special tokens: bos_token, eos_token.
    """

    # Each text is there once, so a cache of texts finds none again.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, cache_strings="keys")

    tokens: Annotated[list[str], Field(min_length=256, max_length=1_000_000)]
    special: list[int]
    merges: Annotated[list[str], Field(max_length=1_000_000)]
    digits: bool
    named: dict[str, str] = {}


class Tokenizer:
    """A vocabulary, ready to turn text into token numbers. It holds no state between calls but a cache of words.

    A byte that the vocabulary lacks is left out of a text.

    Raises:
        ValueError: the vocabulary is not whole: an ASCII character or a merged token is missing, or a token is there twice.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        tokens = vocabulary.tokens
        self._tokens = tokens
        self._number = dict(zip(tokens, range(len(tokens)), strict=True))
        if len(self._number) != len(tokens):
            raise ValueError("the vocabulary has a token twice")
        # SmolLM2's vocabulary lacks some bytes of control characters, and those that UTF-8 does not have.
        self._byte = [character if character in self._number else "" for character in CHARACTERS]
        if missing := [chr(byte) for byte in range(ord(" "), ord("~") + 1) if not self._byte[byte]]:
            raise ValueError(f"the vocabulary lacks the characters {' '.join(missing[:5])}")
        if beyond := [number for number in vocabulary.special if not 0 <= number < len(tokens)]:
            raise ValueError(f"the special tokens {beyond[:5]} are beyond the vocabulary")
        self._rank = dict(zip(vocabulary.merges, range(len(vocabulary.merges)), strict=True))
        if not _ends_with_merges(vocabulary):
            lacking = next((pair for pair in vocabulary.merges if pair.replace(" ", "", 1) not in self._number), None)
            if lacking is not None:
                raise ValueError(f"the vocabulary lacks the token of the merge {lacking!r}")
        # The longest first, so that none is taken for the beginning of another one.
        self.special = {
            tokens[number]: number for number in sorted(vocabulary.special, key=lambda each: -len(tokens[each]))
        }
        self.named = vocabulary.named
        self._silent = frozenset(vocabulary.special)
        self._pattern = _WITH_DIGITS if vocabulary.digits else _GPT2
        self._kept = lru_cache(maxsize=KEPT_WORDS)(self._merged)

    @classmethod
    def read(cls, path: Path) -> "Tokenizer":
        """Read `vocabulary.json`.

        Raises:
            ValueError: the file is missing or is no vocabulary.
        """
        try:
            return cls(Vocabulary.model_validate_json(path.read_bytes()))
        except OSError as error:
            raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, problem["loc"])) or "the file"
            raise ValueError(f"{path}: {where}: {problem['msg']}") from None
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def __len__(self) -> int:
        return len(self._tokens)

    def encode(self, text: str) -> list[int]:
        """The numbers of a text; special tokens that it spells out are text."""
        numbers: list[int] = []
        for word in self.words(text):
            numbers += self._kept(word) if len(word) <= LONGEST_KEPT else self._merged(word)
        return numbers

    def bytes_of(self, number: int) -> bytes:
        """What a token adds to a text, in UTF-8; it may end within a character. Nothing for a special token."""
        if number in self._silent:
            return b""
        return bytes(_BYTES[character] for character in self._tokens[number] if character in _BYTES)

    def words(self, text: str) -> Iterator[str]:
        """The words of a text; joined, they are the text."""
        kinds = text if text.isascii() else "".join(map(_kind, text))
        for found in self._pattern.finditer(kinds):
            yield text[found.start() : found.end()]

    def _merged(self, word: str) -> tuple[int, ...]:
        parts: list[str | None] = [part for byte in word.encode("utf-8", "replace") if (part := self._byte[byte])]
        rank = self._rank
        count = len(parts)
        after, before = list(range(1, count + 1)), list(range(-1, count - 1))
        # The merges that are possible now, first in the list first; some of them are gone when it is their turn.
        possible = [
            (found, place)
            for place in range(count - 1)
            if (found := rank.get(f"{parts[place]} {parts[place + 1]}")) is not None
        ]
        heapq.heapify(possible)
        while possible:
            found, place = heapq.heappop(possible)
            other = after[place]
            if parts[place] is None or other >= count or rank.get(f"{parts[place]} {parts[other]}") != found:
                continue
            parts[place] = f"{parts[place]}{parts[other]}"
            parts[other] = None
            after[place] = after[other]
            if after[place] < count:
                before[after[place]] = place
            for left, right in ((before[place], place), (place, after[place])):
                if left >= 0 and right < count:
                    pair = rank.get(f"{parts[left]} {parts[right]}")
                    if pair is not None:
                        heapq.heappush(possible, (pair, left))
        return tuple(self._number[part] for part in parts if part is not None)


def _ends_with_merges(vocabulary: Vocabulary) -> bool:
    """Whether the last tokens are those of the merges, in the same order, as training leaves them. False says nothing.

    Three operations on long texts take a third of the time of 48,000 on short ones, which a cold start would wait for.
    """
    merges = "\n".join(vocabulary.merges)
    last = vocabulary.tokens[-len(vocabulary.merges) :] if vocabulary.merges else []
    # No line has a line break in it, so equal texts have equal lines.
    return merges.count("\n") == len(last) - 1 and merges.replace(" ", "") == "\n".join(last)


def _byte_characters() -> list[str]:
    """The character that spells each byte: the printable ones themselves, the others from U+0100 on, in order."""
    printable = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


CHARACTERS = _byte_characters()
_BYTES = {character: byte for byte, character in enumerate(CHARACTERS)}

# GPT-2's pattern, on a text in which each character that is not ASCII is replaced by one of its kind: Python's own \w and \s are
# other sets than the pattern's letters (Unicode's L), numbers (N) and white space.
_SPACE = r"\t-\r "
_GPT2 = re.compile(
    rf"'(?:[stmd]|re|ve|ll)| ?[A-Za-z]+| ?[0-9]+| ?[^{_SPACE}A-Za-z0-9]+|[{_SPACE}]+(?![^{_SPACE}])|[{_SPACE}]+"
)
# A digit ends the part of the text before it, so white space before a digit is like that at the end.
_WITH_DIGITS = re.compile(
    rf"[0-9]|'(?:[stmd]|re|ve|ll)| ?[A-Za-z]+| ?[^{_SPACE}A-Za-z0-9]+|[{_SPACE}]+(?![^{_SPACE}0-9])|[{_SPACE}]+"
)


@lru_cache(maxsize=10_000)
def _kind(character: str) -> str:
    """The character itself if it is ASCII; else one ASCII character of its kind."""
    if character.isascii():
        return character
    category = unicodedata.category(character)
    if category[0] in "LN":
        return "a" if category[0] == "L" else "0"
    return "\t" if category[0] == "Z" or character == "\x85" else "!"


def write_vocabulary(vocabulary: Vocabulary, path: Path) -> None:
    """Write a release's `vocabulary.json`."""
    path.write_text(json.dumps(vocabulary.model_dump(), ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
