"""The pages of libraries that a workload touches. The splitter keeps these as they are.

The number of a page is its virtual address in the library, divided by `PAGE_BYTES`. The name of a library is its path
relative to the layer's Python folder (`torch/lib/libtorch_cpu.so`).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from builder.errors import ProfileError

PAGE_BYTES = 4096


def runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Sorted, disjoint, maximal half-open ranges `(start, end)` that hold exactly these numbers."""
    start = end = None
    for number in sorted(set(numbers)):
        if start is None or end is None:
            start, end = number, number + 1
        elif number == end:
            end += 1
        else:
            yield start, end
            start, end = number, number + 1
    if start is not None and end is not None:
        yield start, end


@dataclass(frozen=True)
class PageSet:
    """An immutable set of pages for each library.

    Example:
        >>> a = PageSet({"libx.so": frozenset({1, 2, 3})})
        >>> (a | PageSet({"libx.so": frozenset({9})})).to_json()["libraries"]
        {'libx.so': '1-3 9'}
    """

    pages: Mapping[str, frozenset[int]] = field(default_factory=dict)

    def of(self, library: str) -> frozenset[int]:
        """The page numbers of one library; empty if none was touched."""
        return self.pages.get(library, frozenset())

    def union(self, *others: "PageSet") -> "PageSet":
        """Every page that is in any of the sets."""
        merged: dict[str, frozenset[int]] = dict(self.pages)
        for other in others:
            for library, numbers in other.pages.items():
                merged[library] = merged.get(library, frozenset()) | numbers
        return PageSet(merged)

    __or__ = union

    def only(self, libraries: Iterable[str]) -> "PageSet":
        """The pages of these libraries alone."""
        return PageSet({name: self.pages[name] for name in libraries if name in self.pages})

    def count(self) -> int:
        """How many pages there are in all."""
        return sum(len(numbers) for numbers in self.pages.values())

    def to_json(self) -> dict[str, Any]:
        """A JSON value that is small enough to commit: for each library, inclusive ranges of page numbers in hexadecimal."""
        return {
            "page_bytes": PAGE_BYTES,
            "libraries": {
                library: " ".join(
                    f"{start:x}-{end - 1:x}" if end - start > 1 else f"{start:x}" for start, end in runs(numbers)
                )
                for library, numbers in sorted(self.pages.items())
            },
        }

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """The set that `to_json` wrote.

        Raises:
            ProfileError: The value is not such a set.
        """
        try:
            if value["page_bytes"] != PAGE_BYTES:
                raise ProfileError(
                    f"the recorded pages have {value['page_bytes']} bytes, this builder's {PAGE_BYTES}",
                    "record the workload again with this builder",
                )
            return cls({library: frozenset(_numbers(text)) for library, text in value["libraries"].items()})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ProfileError(
                f"this is not a set of recorded pages: {error!r}", "record the workload again with this builder"
            ) from error

    @classmethod
    def from_record(cls, path: Path) -> Self:
        """The pages in a file that the recording pager wrote: lines `library<TAB>virtual address<TAB>bytes`, hexadecimal.

        Raises:
            ProfileError: The file is missing or has a line of another form.
        """
        touched: dict[str, set[int]] = {}
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise ProfileError(
                f"{path} cannot be read: {error.strerror}", "run the workload on a recording tree"
            ) from error
        for position, line in enumerate(lines, 1):
            try:
                library, address, size = line.split("\t")
                start, end = int(address, 16), int(address, 16) + int(size, 16)
            except ValueError as error:
                raise ProfileError(
                    f"{path}, line {position} is not a record of touched pages: {line[:80]!r}",
                    "delete the file and record again",
                ) from error
            touched.setdefault(library, set()).update(range(start // PAGE_BYTES, -(-end // PAGE_BYTES)))
        return cls({library: frozenset(numbers) for library, numbers in touched.items()})


def _numbers(text: str) -> Iterator[int]:
    for part in text.split():
        start, _, end = part.partition("-")
        yield from range(int(start, 16), int(end or start, 16) + 1)
