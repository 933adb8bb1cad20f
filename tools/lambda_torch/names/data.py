"""Names to learn, spelt in the model's alphabet: from Faker, or from a folder in the tutorial's layout."""

import string
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from anyascii import anyascii

from lambda_torch.names.sources import faker_names

# The tutorial's alphabet.
LETTERS = string.ascii_letters + " .,;'-"
# A start letter and at least one more. Otherwise there is nothing to learn.
SHORTEST = 2
# At least one name of each category is learned, and one is held out.
FEWEST = 2


@dataclass(frozen=True)
class Data:
    """The names of each category. Each name is there once, in a fixed order.

    Attributes:
        source: where they come from, for the figures in the release.
        names: category to names, both sorted.
        skipped: how many were left out, because they are too short or too long in this alphabet.
    """

    source: str
    names: dict[str, list[str]]
    skipped: int

    @property
    def total(self) -> int:
        """The number of all names."""
        return sum(map(len, self.names.values()))


def spell(name: str) -> str:
    """The name in the model's alphabet: without accents, other scripts transliterated, everything else left out.

    >>> spell("Ślusàrski"), spell("Παπαδόπουλος"), spell("Щербаков (1)"), spell("諸葛")
    ('Slusarski', 'Papadopoulos', 'Shcherbakov', 'Zhuge')
    """
    plain = "".join(c for c in unicodedata.normalize("NFD", name) if not unicodedata.combining(c))
    # In Greek, these two letters are one sound. anyascii replaces letter by letter and would write "oy".
    plain = unicodedata.normalize("NFC", plain).replace("ου", "ou").replace("Ου", "Ou")
    ascii_name = anyascii(plain)
    if not plain.isascii() and plain.lower() == plain.upper():
        # For scripts without capitals, anyascii writes a capital at each syllable ("ZhuGe").
        ascii_name = ascii_name.title()
    return " ".join("".join(c for c in ascii_name if c in LETTERS).split())


def from_faker(max_length: int) -> Data:
    """The names of the Faker package, spelt in LETTERS, with at most max_length letters after the first."""
    return _collect(f"Faker {version('faker')}", faker_names(), max_length)


def from_folder(folder: Path, max_length: int) -> Data:
    """The names of a folder in the tutorial's layout: `Category.txt` for each category, one name in each line, UTF-8.

    Raises:
        ValueError: the folder has no such file, or a file is not UTF-8 or has fewer than two usable names.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; it should hold one Category.txt for each category")
    files = sorted(folder.glob("*.txt"))
    if not files:
        raise ValueError(f"{folder} holds no .txt file; it should hold one Category.txt for each category")
    pairs = []
    for file in files:
        try:
            text = file.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            raise ValueError(
                f"{file}, line {line}: not UTF-8. Convert it, for example with: iconv -f latin1 -t utf-8"
            ) from error
        except OSError as error:
            raise ValueError(f"{file} cannot be read: {error.strerror}") from error
        pairs += [(file.stem, line) for line in text.splitlines() if line.strip()] or [(file.stem, "")]
    return _collect(f"folder {folder.resolve().name}", pairs, max_length)


def _collect(source: str, pairs: Iterable[tuple[str, str]], max_length: int) -> Data:
    names: dict[str, set[str]] = {}
    skipped = 0
    for category, name in pairs:
        spelt = spell(name)
        usable = SHORTEST <= len(spelt) <= max_length + 1
        skipped += not usable
        names.setdefault(category, set()).update([spelt] if usable else [])
    for category, found in names.items():
        if len(found) < FEWEST:
            raise ValueError(
                f"{category}: {len(found)} different names of {SHORTEST} to {max_length + 1} letters, and at least "
                f"{FEWEST} are needed. Add names to {category}.txt, or remove it"
            )
    return Data(source, {category: sorted(names[category]) for category in sorted(names)}, skipped)
