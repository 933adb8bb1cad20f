"""From text to token numbers, as BERT's uncased models are trained: WordPiece in plain Python.

The `tokenizers` package would bring a hub client and its HTTP stack into the function's package, for a step that takes a small
part of the time that the encoder takes. The rules are those of BERT's own tokenizer and of `tokenizers`' BertNormalizer,
BertPreTokenizer and WordPiece:

    text       special tokens that are spelt out in it ([SEP]) stand for themselves
    characters control characters go, white space becomes a space, Chinese characters stand alone, accents go, lower case
    words      split at white space; each punctuation mark is a word
    pieces     the longest piece of the vocabulary that a word begins with, then the longest "##" piece of the rest, and so on;
               a word that cannot be made of pieces, or is longer than 100 characters, is [UNK]

Source: Devlin et al., https://arxiv.org/abs/1810.04805, and its code, https://github.com/google-research/bert (tokenization.py).
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LONGEST_WORD = 100

# The blocks of "CJK Unified Ideographs" and their compatibility forms, as `tokenizers` lists them (extension E is not whole
# there, nor here); Hangul and Kana are not among them.
_CHINESE = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)
_SPELT_OUT = re.compile("(" + "|".join(map(re.escape, SPECIAL)) + ")")


class WordPiece:
    """A vocabulary, ready to turn texts into token numbers. It holds no state between calls but a cache.

    Args:
        pieces: the word pieces; a piece's number is its place.

    Raises:
        ValueError: a special token is missing, or a piece is there twice.
    """

    def __init__(self, pieces: list[str]) -> None:
        self._number = {piece: number for number, piece in enumerate(pieces)}
        if len(self._number) != len(pieces):
            raise ValueError("the vocabulary has a piece twice")
        if missing := [token for token in SPECIAL if token not in self._number]:
            raise ValueError(f"the vocabulary lacks {', '.join(missing)}")
        self.padding, self._unknown, self._first, self._last, _ = (self._number[token] for token in SPECIAL)
        self._pieces_of = lru_cache(maxsize=10_000)(self._split)

    @classmethod
    def read(cls, path: Path) -> "WordPiece":
        """Read a vocabulary: UTF-8, one piece a line.

        Raises:
            ValueError: the file is missing or is no vocabulary.
        """
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
        except OSError as error:
            raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
        try:
            return cls(lines[:-1] if lines[-1] == "" else lines)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def __len__(self) -> int:
        return len(self._number)

    def encode(self, text: str, limit: int) -> list[int]:
        """The numbers of [CLS], the text's pieces and [SEP]; pieces that make it more than `limit` are left out."""
        numbers = [self._first]
        for part in self._parts(text):
            numbers += part
            if len(numbers) >= limit:
                break
        return [*numbers[: limit - 1], self._last]

    def _parts(self, text: str) -> Iterator[tuple[int, ...]]:
        for place, part in enumerate(_SPELT_OUT.split(text)):
            if place % 2:
                yield (self._number[part],)
            else:
                yield from map(self._pieces_of, words(part))

    def _split(self, word: str) -> tuple[int, ...]:
        if len(word) > LONGEST_WORD:
            return (self._unknown,)
        numbers, start = [], 0
        while start < len(word):
            prefix = "##" if start else ""
            for end in range(len(word), start, -1):
                number = self._number.get(prefix + word[start:end])
                if number is not None:
                    numbers.append(number)
                    start = end
                    break
            else:
                return (self._unknown,)
        return tuple(numbers)


def words(text: str) -> list[str]:
    """The normalised words of a text; a punctuation mark is a word."""
    spaced = "".join(map(_cleaned, text))
    unaccented = "".join(each for each in unicodedata.normalize("NFD", spaced) if unicodedata.category(each) != "Mn")
    # Letter by letter: str.lower() of a word would write a Greek sigma at its end in another way.
    return "".join(map(_separated, unaccented)).split()


@lru_cache(maxsize=10_000)
def _cleaned(character: str) -> str:
    if character in "\t\n\r" or unicodedata.category(character) in ("Zs", "Zl", "Zp"):
        return " "
    # Not "Cn": what no version of Unicode has assigned yet is an unknown word, not nothing.
    if character == "\ufffd" or unicodedata.category(character) in ("Cc", "Cf", "Co"):
        return ""
    if any(first <= ord(character) <= last for first, last in _CHINESE):
        return f" {character} "
    return character


@lru_cache(maxsize=10_000)
def _separated(character: str) -> str:
    # All ASCII symbols count as punctuation ($ and ^ too, which Unicode calls symbols).
    ascii_mark = character.isascii() and not character.isalnum() and character != " "
    if ascii_mark or unicodedata.category(character).startswith("P"):
        return f" {character} "
    return character.lower()
