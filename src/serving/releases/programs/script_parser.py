"""The grammar of TorchScript's text: one method for each rule."""

import re
from typing import Final

from serving.releases.programs import operators
from serving.releases.programs.refusal import ProgramError
from serving.releases.programs.script_text import (
    VALUES,
    ScriptClass,
    ScriptFile,
    ScriptReader,
    ScriptType,
    tokens_of,
)

MOST_TRAILING: Final = 500

_TYPED_CALLS: Final = frozenset(("annotate", "unchecked_cast", "uninitialized"))
# What else a program may call by a bare name: conversions, and loops over numbers.
_CALLS: Final = frozenset(("int", "float", "bool", "str", "complex", "range"))
_METHODS: Final = frozenset(("__len__", "__contains__"))
_LISTS: Final = frozenset(("__parameters__", "__buffers__", "__annotations__"))


def parse(content: bytes, name: str) -> ScriptFile:
    """Parse a file.

    Raises:
        ProgramError: it has anything that torch's printer does not write, or calls what is not let through; the message
        names the
            line.
    """
    try:
        text = content.decode("ascii")
    except UnicodeDecodeError as error:
        raise ProgramError(f"has more than plain letters in {name}") from error
    parser = _Parser(list(tokens_of(text, name)), name)
    return parser.file()


def parse_type(text: str) -> ScriptType:
    """A type alone.

    Raises:
        ProgramError: it is none.
    """
    parser = _Parser(list(tokens_of(text, "a type")), "a type")
    parsed = parser.type()
    parser.take("\n")
    return parsed


class _Values(ScriptReader):
    """Values: constants, lists, names, calls."""

    def _values(self) -> None:
        """One value or several with commas; a comma may be last."""
        self._value()
        while self.next() == ",":
            self.take()
            if self.next() not in ("\n", "="):
                self._value()

    def _value(self) -> None:
        with self.deeper():
            if self.next() == "-":
                self.take()
                if not (self.next()[:1].isdigit() or self.next() in ("inf", "nan", "infj", "nanj")):
                    raise self.refusal("a number belongs there")
            token = self.next()
            if token in ("(", "[", "{"):
                self.take()
                self._until({"(": ")", "[": "]", "{": "}"}[token])
                self._trailers()
            elif token[:1].isdigit() or token[:1] == '"' or token in VALUES:
                self.take()
            else:
                self._named()

    def _until(self, end: str) -> None:
        """Values up to the closing bracket; pairs in braces, words with values in calls."""
        while self.next() != end:
            if end == ")" and self.next(1) == "=" and self.next().isidentifier():
                word = self.identifier()
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
        first = self.identifier()
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
            self.out.attributes.add(self.plain_text())
            self.take(")")
        elif first in ("torch", "ops"):
            self._operator(first)
        elif first == "__torch__":
            name = first
            while self.next() == ".":
                self.take()
                name += f".{self.identifier()}"
            self.reference(name)
            if self.next() == "(":
                self.take()
                self._until(")")
        elif first == "CONSTANTS":
            self.take(".")
            constant = self.identifier()
            if not re.fullmatch(r"c\d{1,9}", constant):
                raise self.refusal("a constant's number belongs there")
            self.out.constants.add(int(constant[1:]))
            return
        elif self.next() == "(":
            if first not in _CALLS | self.callable:
                raise self.refusal(f"{first} is not let through")
            self.take()
            self._until(")")
        self._trailers()

    def _operator(self, first: str) -> None:
        self.take(".")
        name, why = self.identifier(), ""
        if first == "torch" and name in ("device", "inf", "nan"):
            allowed = True
        elif first == "ops":
            space = name
            self.take(".")
            name = self.identifier()
            allowed = {"aten": operators.is_allowed, "prim": operators.is_allowed_prim}.get(space, _never)(name)
            why = f": {operators.WHY_NOT[space]}" if space in operators.WHY_NOT else ""
        else:
            allowed = operators.is_allowed(name)
        if not allowed:
            raise self.refusal(f"the operator {name} is not let through{why}")
        if name in ("inf", "nan"):
            return
        self.take("(")
        self._until(")")

    def _trailers(self) -> None:
        begin = self.at
        while self.next() in (".", "["):
            # torch's compiler goes down one call for each of them.
            if self.at - begin > MOST_TRAILING:
                raise self.refusal("it goes on for too long")
            if self.take() == "[":
                self._value()
                self.take("]")
                continue
            name = self.identifier()
            if self.next() == "(":
                self.out.methods.add(name)
                self.take()
                self._until(")")
            else:
                self.out.attributes.add(name)


class _Parser(_Values):
    """Classes, functions and statements."""

    def file(self) -> ScriptFile:
        while self.next():
            if self.next() == "class":
                self._class()
            else:
                self.out.functions.add(self._function())
        return self.out

    def _class(self) -> None:
        self.take("class")
        name = self.identifier()
        self.take("(")
        made = ScriptClass(self.take("Module", "NamedTuple"))
        if name in self.out.classes:
            raise self.refusal("the class is there twice")
        self.out.classes[name] = made
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
        name = self.identifier()
        if name == "__annotations__" and self.next() == "[":
            self.take("[")
            name = self.plain_text()
            self.take("]")
            self.take("=")
            self._attribute(made, name, self.type())
        elif name in _LISTS:
            self.take("=")
            self.take("[")
            while self.next() != "]":
                self.plain_text()
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

    def _function(self) -> str:
        self.take("def")
        name = self.identifier()
        self.callable = set()
        self.take("(")
        while self.next() != ")":
            self.identifier()
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
                self.identifier()
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
        begin = self.at
        if self.next(1) == ":" and self.next().isidentifier():
            self.identifier()
            self.take(":")
            self.type()
            self.take("=")
            self._values()
            return
        self._values()
        if self.next() != "=":
            return
        written = [token for token, _ in self.tokens[begin : self.at]]
        self._check_targets(written)
        self.take("=")
        value = self.at
        self._values()
        # A function that a local name stands for: `_57 = __torch__.torch.nn.functional.relu`.
        given = [token for token, _ in self.tokens[value : self.at]]
        if len(written) == 1:
            only_name = given[0] == "__torch__" and all(each == "." or each.isidentifier() for each in given)
            (self.callable.add if only_name else self.callable.discard)(written[0])

    def _check_targets(self, written: list[str]) -> None:
        text = "".join(written)
        if not re.fullmatch(r"([A-Za-z_]\w*(\.[A-Za-z_]\w*)*,)*([A-Za-z_]\w*(\.[A-Za-z_]\w*)*)?", text, re.ASCII):
            raise self.refusal("this cannot be assigned to")
        if any(token.startswith("__") or token in ("torch", "ops", "CONSTANTS", *_CALLS) for token in written):
            raise self.refusal("this name is not assigned to")


def _never(_: str) -> bool:
    return False
