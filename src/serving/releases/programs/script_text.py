"""The text of TorchScript as torch 2.13 writes it into archives, and nothing more.

torch's own parser takes a larger language, runs into the end of the stack on deep nesting, and looks any name up. This parser takes
what torch's printer (torch/csrc/jit/serialization/python_print.cpp) writes: classes of attributes, functions, assignments, branches,
loops and calls. Every name is one of the file's own, or is compared with the tables of operators.
"""

import keyword
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from serving.releases.programs import operators
from serving.releases.programs.errors import ProgramError
from serving.releases.programs.pickles import BOUND

DEEPEST: Final = 40
MOST_TOKENS: Final = 4_000_000
MOST_TRAILING: Final = 500

_TOKEN = re.compile(
    r'("(?:[^"\\\n]|\\[abfnrtv\\\'"?]|\\[0-7]{3}|\\x[0-9a-fA-F]{2})*")|([A-Za-z_][A-Za-z0-9_]*)'
    r"|(\d+(?:\.\d*)?(?:e[+-]?\d+)?j?(?![\w.]))|(->|[()\[\]{}:,.=\-])"
)
_KEYWORDS: Final = frozenset(("class", "def", "return", "pass", "if", "else", "for", "in", "while"))
_VALUES: Final = frozenset(("None", "True", "False"))
_TYPES: Final = frozenset(("Tensor", "int", "float", "bool", "str", "complex", "NoneType", "Device", "number"))
# Generic types, with the number of their arguments; None for any.
_GENERIC: Final = {"Optional": 1, "List": 1, "Dict": 2, "Tuple": None, "Union": None, "Final": 1}
_TYPED_CALLS: Final = frozenset(("annotate", "unchecked_cast", "uninitialized"))
# What else a program may call by a bare name: conversions, and loops over numbers.
_CALLS: Final = frozenset(("int", "float", "bool", "str", "complex", "range"))
_METHODS: Final = frozenset(("__len__", "__contains__"))
_LISTS: Final = frozenset(("__parameters__", "__buffers__", "__annotations__"))


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


def parse(content: bytes, name: str) -> ScriptFile:
    """Parse a file.

    Raises:
        ProgramError: it has anything that torch's printer does not write, or calls what is not let through; the message names the
            line.
    """
    try:
        text = content.decode("ascii")
    except UnicodeDecodeError as error:
        raise ProgramError(f"has more than plain letters in {name}") from error
    parser = _Parser(list(_tokens(text, name)), name)
    return parser.file()


def parse_type(text: str) -> ScriptType:
    """A type alone.

    Raises:
        ProgramError: it is none.
    """
    parser = _Parser(list(_tokens(text, "a type")), "a type")
    parsed = parser.type()
    parser.take("\n")
    return parsed


def _tokens(text: str, name: str) -> Iterator[tuple[str, int]]:
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
            if found[2] and keyword.iskeyword(token) and token not in _KEYWORDS | _VALUES:
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


class _Parser:
    """One method for each rule of the grammar."""

    def __init__(self, tokens: list[tuple[str, int]], name: str) -> None:
        self._tokens = tokens
        self._at = 0
        self._name = name
        self._depth = 0
        self._out = ScriptFile()
        self._callable: set[str] = set()

    def next(self, ahead: int = 0) -> str:
        """A token that comes; empty at the end."""
        place = self._at + ahead
        return self._tokens[place][0] if place < len(self._tokens) else ""

    def take(self, *expected: str) -> str:
        """Take the next token, which must be one of these; any where none is named."""
        token = self.next()
        if not token or (expected and token not in expected):
            raise self.refusal("torch does not write this")
        self._at += 1
        return token

    def refusal(self, why: str) -> ProgramError:
        """The refusal, with the place, to raise."""
        line = self._tokens[min(self._at, len(self._tokens) - 1)][1] if self._tokens else 0
        shown = "".join(f"{token} " for token, each in self._tokens if each == line and token not in "<>\n")
        return ProgramError(f"has {shown.strip()[:100]!r} in {self._name}, line {line}: {why}")

    def _identifier(self) -> str:
        token = self.take()
        if not token.isidentifier() or token in _KEYWORDS | _VALUES:
            raise self.refusal("a name belongs there")
        return token

    def file(self) -> ScriptFile:
        while self.next():
            if self.next() == "class":
                self._class()
            else:
                self._out.functions.add(self._function())
        return self._out

    def _class(self) -> None:
        self.take("class")
        name = self._identifier()
        self.take("(")
        made = ScriptClass(self.take("Module", "NamedTuple"))
        if name in self._out.classes:
            raise self.refusal("the class is there twice")
        self._out.classes[name] = made
        for token in (")", ":", "\n", ">"):
            self.take(token)
        while self.next() != "<":
            self._member(made)
        self.take("<")

    def _member(self, made: ScriptClass) -> None:
        if self.next() == "pass":
            self.take()
            self.take("\n")
            return
        if self.next() == "def":
            method = self._function()
            if method in made.methods or (method.startswith("__") and method not in _METHODS):
                raise self.refusal("a method of this name is not let through, or is there twice")
            made.methods.add(method)
            return
        name = self._identifier()
        if name == "__annotations__" and self.next() == "[":
            self.take("[")
            name = self._plain_text()
            self.take("]")
            self.take("=")
            self._attribute(made, name, self.type())
        elif name in _LISTS:
            self.take("=")
            self.take("[")
            while self.next() != "]":
                self._plain_text()
                if self.next() != "]":
                    self.take(",")
            self.take("]")
        else:
            self.take(":")
            kind = self.type()
            if kind.name == "Final":
                self.take("=")
                self._values()
                made.constants.add(name)
            else:
                self._attribute(made, name, kind)
        self.take("\n")

    def _attribute(self, made: ScriptClass, name: str, kind: ScriptType) -> None:
        if name in made.attributes:
            raise self.refusal("the attribute is there twice")
        made.attributes[name] = kind

    def _plain_text(self) -> str:
        token = self.take()
        if not re.fullmatch(r'"\w+"', token, re.ASCII):
            raise self.refusal("a plain name in quotes belongs there")
        return token[1:-1]

    def _function(self) -> str:
        self.take("def")
        name = self._identifier()
        self._callable = set()
        self.take("(")
        while self.next() != ")":
            self._identifier()
            if self.next() == ":":
                self.take()
                self.type()
            if self.next() == "=":
                self.take()
                self._value()
            if self.next() != ")":
                self.take(",")
        for token in (")", "->"):
            self.take(token)
        self.type()
        self._block()
        return name

    def type(self) -> ScriptType:
        """A type: a plain one, a generic one with its arguments, or a class of the archive."""
        with self._deeper():
            name = self._identifier()
            while self.next() == ".":
                self.take()
                name += f".{self._identifier()}"
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
                self._reference(name)
            return ScriptType(name)

    def _reference(self, name: str) -> None:
        """A class or function of a file of the archive."""
        if not name.startswith("__torch__.") or f"{name}.".startswith(f"{BOUND}."):
            raise self.refusal(f"{name} is not let through")
        self._out.references.add(name)

    def _deeper(self) -> "_Parser":
        return self

    def __enter__(self) -> None:
        self._depth += 1
        if self._depth > DEEPEST:
            raise self.refusal("it nests too deeply")

    def __exit__(self, *_: object) -> None:
        self._depth -= 1

    def _block(self) -> None:
        for token in (":", "\n", ">"):
            self.take(token)
        while self.next() != "<":
            self._statement()
        self.take("<")

    def _statement(self) -> None:
        word = self.next()
        if word == "if":
            self.take()
            self._value()
            self._block()
            if self.next() == "else":
                self.take()
                self._block()
            return
        if word in ("for", "while"):
            self.take()
            if word == "for":
                self._identifier()
                self.take("in")
            self._value()
            self._block()
            return
        if word == "pass":
            self.take()
        elif word == "return":
            self.take()
            self._values()
        else:
            self._assignment()
        self.take("\n")

    def _assignment(self) -> None:
        """`x = ...`, `x : T = ...`, `a, b, = ...`, `self.x = ...`, or a call alone."""
        begin = self._at
        if self.next(1) == ":" and self.next().isidentifier():
            self._identifier()
            self.take(":")
            self.type()
            self.take("=")
            self._values()
            return
        self._values()
        if self.next() != "=":
            return
        written = [token for token, _ in self._tokens[begin : self._at]]
        self._check_targets(written)
        self.take("=")
        value = self._at
        self._values()
        # A function that a local name stands for: `_57 = __torch__.torch.nn.functional.relu`.
        given = [token for token, _ in self._tokens[value : self._at]]
        if len(written) == 1:
            only_name = given[0] == "__torch__" and all(token == "." or token.isidentifier() for token in given)
            (self._callable.add if only_name else self._callable.discard)(written[0])

    def _check_targets(self, written: list[str]) -> None:
        text = "".join(written)
        if not re.fullmatch(r"([A-Za-z_]\w*(\.[A-Za-z_]\w*)*,)*([A-Za-z_]\w*(\.[A-Za-z_]\w*)*)?", text, re.ASCII):
            raise self.refusal("this cannot be assigned to")
        if any(token.startswith("__") or token in ("torch", "ops", "CONSTANTS", *_CALLS) for token in written):
            raise self.refusal("this name is not assigned to")

    def _values(self) -> None:
        """One value or several with commas; a comma may be last."""
        self._value()
        while self.next() == ",":
            self.take()
            if self.next() not in ("\n", "="):
                self._value()

    def _value(self) -> None:
        with self._deeper():
            if self.next() == "-":
                self.take()
                if not (self.next()[:1].isdigit() or self.next() in ("inf", "nan", "infj", "nanj")):
                    raise self.refusal("a number belongs there")
            token = self.next()
            if token in ("(", "[", "{"):
                self.take()
                self._until({"(": ")", "[": "]", "{": "}"}[token])
                self._trailers()
            elif token[:1].isdigit() or token[:1] == '"' or token in _VALUES:
                self.take()
            else:
                self._named()

    def _until(self, end: str) -> None:
        """Values up to the closing bracket; pairs in braces, words with values in calls."""
        while self.next() != end:
            if end == ")" and self.next(1) == "=" and self.next().isidentifier():
                word = self._identifier()
                self.take("=")
                if word == "out":
                    raise self.refusal("operators may not write into tensors that they are given")
            self._value()
            if end == "}":
                self.take(":")
                self._value()
            if self.next() != end:
                self.take(",")
        self.take(end)

    def _named(self) -> None:
        """A value that begins with a name: an operator, a function, a constant, or a variable."""
        first = self._identifier()
        if first in _TYPED_CALLS:
            self.take("(")
            self.type()
            if first != "uninitialized":
                self.take(",")
                self._value()
            self.take(")")
        elif first == "getattr":
            self.take("(")
            self._value()
            self.take(",")
            self._out.attributes.add(self._plain_text())
            self.take(")")
        elif first in ("torch", "ops"):
            self._operator(first)
        elif first == "__torch__":
            name = first
            while self.next() == ".":
                self.take()
                name += f".{self._identifier()}"
            self._reference(name)
            if self.next() == "(":
                self.take()
                self._until(")")
        elif first == "CONSTANTS":
            self.take(".")
            constant = self._identifier()
            if not re.fullmatch(r"c\d{1,9}", constant):
                raise self.refusal("a constant's number belongs there")
            self._out.constants.add(int(constant[1:]))
            return
        elif self.next() == "(":
            if first not in _CALLS | self._callable:
                raise self.refusal(f"{first} is not let through")
            self.take()
            self._until(")")
        self._trailers()

    def _operator(self, first: str) -> None:
        self.take(".")
        name = self._identifier()
        if first == "torch" and name in ("device", "inf", "nan"):
            allowed = True
        elif first == "ops":
            space = name
            self.take(".")
            name = self._identifier()
            allowed = {"aten": operators.is_allowed, "prim": operators.is_allowed_prim}.get(space, _never)(name)
        else:
            allowed = operators.is_allowed(name)
        if not allowed:
            raise self.refusal(f"the operator {name} is not let through")
        if name in ("inf", "nan"):
            return
        self.take("(")
        self._until(")")

    def _trailers(self) -> None:
        begin = self._at
        while self.next() in (".", "["):
            # torch's compiler goes down one call for each of them.
            if self._at - begin > MOST_TRAILING:
                raise self.refusal("it goes on for too long")
            if self.take() == "[":
                self._value()
                self.take("]")
                continue
            name = self._identifier()
            if self.next() == "(":
                self._out.methods.add(name)
                self.take()
                self._until(")")
            else:
                self._out.attributes.add(name)


def _never(name: str) -> bool:
    return False
