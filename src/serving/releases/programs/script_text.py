"""The text of TorchScript as torch 2.13 writes it into archives, and nothing more.

torch's own parser takes a larger language, runs into the end of the stack on deep nesting, and looks any name up. This
parser takes what torch's printer (torch/csrc/jit/serialization/python_print.cpp) writes: classes of attributes,
functions, assignments, branches, loops and calls. Every name is one of the file's own, or is compared with the tables
of operators.
"""

import keyword
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from serving.releases.programs.pickles import BOUND
from serving.releases.programs.refusal import ProgramError

DEEPEST: Final = 40
MOST_TOKENS: Final = 4_000_000

_TOKEN = re.compile(
    r'("(?:[^"\\\n]|\\[abfnrtv\\\'"?]|\\[0-7]{3}|\\x[0-9a-fA-F]{2})*")|([A-Za-z_][A-Za-z0-9_]*)'
    r"|(\d+(?:\.\d*)?(?:e[+-]?\d+)?j?(?![\w.]))|(->|[()\[\]{}:,.=\-])"
)
KEYWORDS: Final = frozenset(("class", "def", "return", "pass", "if", "else", "for", "in", "while"))
VALUES: Final = frozenset(("None", "True", "False"))
_TYPES: Final = frozenset(("Tensor", "int", "float", "bool", "str", "complex", "NoneType", "Device", "number"))
# Generic types, with the number of their arguments; None for any.
_GENERIC: Final = {"Optional": 1, "List": 1, "Dict": 2, "Tuple": None, "Union": None, "Final": 1}


@dataclass(frozen=True)
class ScriptType:
    """A type as it is written: `Tuple[int, Tensor]` has the name `Tuple` and two arguments."""

    name: str
    arguments: tuple["ScriptType", ...] = ()

    def __str__(self) -> str:
        return f"{self.name}[{', '.join(map(str, self.arguments))}]" if self.arguments else self.name


@dataclass
class ScriptClass:
    """A class: its attributes with their types, what else can be read from it, and its methods."""

    base: str
    attributes: dict[str, ScriptType] = field(default_factory=dict)
    constants: set[str] = field(default_factory=set)
    methods: set[str] = field(default_factory=set)


@dataclass
class ScriptFile:
    """A parsed file.

    Attributes:
        classes: by name.
        functions: names of its functions.
        references: dotted names of other files' classes and functions, `__torch__` first.
        methods: names that are called as methods.
        attributes: names that are read or set as attributes.
        constants: numbers of the constants that it uses.
    """

    classes: dict[str, ScriptClass] = field(default_factory=dict)
    functions: set[str] = field(default_factory=set)
    references: set[str] = field(default_factory=set)
    methods: set[str] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)
    constants: set[int] = field(default_factory=set)


def tokens_of(text: str, name: str) -> Iterator[tuple[str, int]]:
    """Tokens with their lines: `\n` ends a statement, `>` and `<` begin and end a block."""
    indents, depth, count = [0], 0, 0
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.lstrip(" ")
        if not stripped:
            continue
        if '"""' in line or not line.isprintable():
            raise ProgramError(f"has text in {name}, line {number}, that torch does not write")
        if depth == 0:
            width = len(line) - len(stripped)
            if width > indents[-1]:
                indents.append(width)
                yield ">", number
            while width < indents[-1]:
                indents.pop()
                yield "<", number
            if width != indents[-1] or len(indents) > DEEPEST:
                raise ProgramError(f"has another indent in {name}, line {number}, than torch writes")
        at = len(line) - len(stripped)
        while at < len(line):
            if line[at] == " ":
                at += 1
                continue
            found = _TOKEN.match(line, at)
            if found is None:
                raise ProgramError(f"has {line[at : at + 20]!r} in {name}, line {number}, which torch does not write")
            token = found[0]
            if found[2] and keyword.iskeyword(token) and token not in KEYWORDS | VALUES:
                raise ProgramError(f"has the word {token!r} in {name}, line {number}, which is not let through")
            depth += (token in ("(", "[", "{")) - (token in (")", "]", "}"))
            yield token, number
            at = found.end()
            count += 1
        if count > MOST_TOKENS or not 0 <= depth <= DEEPEST:
            raise ProgramError(f"nests too deeply in {name}, line {number}")
        if depth == 0:
            yield "\n", number
    for _ in indents[1:]:
        yield "<", number


class ScriptReader:
    """Takes tokens one after another, and types.

    Attributes:
        tokens: all of them, with their lines.
        at: the place of the next one.
        out: what was found so far.
        callable: local names that stand for functions.
    """

    def __init__(self, tokens: list[tuple[str, int]], name: str) -> None:
        self.tokens = tokens
        self.at = 0
        self._name = name
        self._depth = 0
        self.out = ScriptFile()
        self.callable: set[str] = set()

    def next(self, ahead: int = 0) -> str:
        """A token that comes; empty at the end."""
        place = self.at + ahead
        return self.tokens[place][0] if place < len(self.tokens) else ""

    def take(self, *expected: str) -> str:
        """Take the next token, which must be one of these; any where none is named."""
        token = self.next()
        if not token or (expected and token not in expected):
            raise self.refusal("torch does not write this")
        self.at += 1
        return token

    def refusal(self, why: str) -> ProgramError:
        """The refusal, with the place, to raise."""
        line = self.tokens[min(self.at, len(self.tokens) - 1)][1] if self.tokens else 0
        shown = "".join(f"{word} " for word, place in self.tokens if place == line and word not in "<>\n")
        return ProgramError(f"has {shown.strip()[:100]!r} in {self._name}, line {line}: {why}")

    def identifier(self) -> str:
        """Take a name. Raises ProgramError where something else stands."""
        token = self.take()
        if not token.isidentifier() or token in KEYWORDS | VALUES:
            raise self.refusal("a name belongs there")
        return token

    def plain_text(self) -> str:
        """Take a plain name in quotes, and return the name."""
        token = self.take()
        if not re.fullmatch(r'"\w+"', token, re.ASCII):
            raise self.refusal("a plain name in quotes belongs there")
        return token[1:-1]

    def type(self) -> ScriptType:
        """A type: a plain one, a generic one with its arguments, or a class of the archive."""
        with self.deeper():
            name = self.identifier()
            while self.next() == ".":
                self.take()
                name += f".{self.identifier()}"
            if name in _GENERIC:
                arguments = []
                self.take("[")
                if self.next() == "(":  # Tuple[()]
                    self.take("(")
                    self.take(")")
                while self.next() != "]":
                    arguments.append(self.type())
                    if self.next() != "]":
                        self.take(",")
                self.take("]")
                if _GENERIC[name] not in (None, len(arguments)):
                    raise self.refusal(f"{name} takes another number of types")
                return ScriptType(name, tuple(arguments))
            if name not in _TYPES:
                self.reference(name)
            return ScriptType(name)

    def reference(self, name: str) -> None:
        """A class or function of a file of the archive."""
        if not name.startswith("__torch__.") or f"{name}.".startswith(f"{BOUND}."):
            raise self.refusal(f"{name} is not let through")
        self.out.references.add(name)

    def deeper(self) -> "ScriptReader":
        """For a `with` statement: what is read in it counts as one level deeper."""
        return self

    def __enter__(self) -> None:
        self._depth += 1
        if self._depth > DEEPEST:
            raise self.refusal("it nests too deeply")

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
