"""The two small languages in an exported program: sizes (`srepr` of sympy) and guards (Python).

torch gives sizes to `sympy.sympify` and guards to `exec`, and both evaluate Python. So neither sees a text that did not
go through one of these parsers first. They know integers, symbols of sizes, a fixed list of functions, comparisons and
arithmetic; nothing else can be spelt in them, and nothing in them can grow beyond the length of the text (no shifts, no
powers of powers).
"""

import re
from collections.abc import Iterator
from typing import Final

from serving.releases.programs.refusal import ProgramError

LONGEST: Final = 4_000
DEEPEST: Final = 40
_MANY = 10_000

# Functions of sizes, each with the least and the greatest number of arguments. Those that torch 2.13 knows and that are
# missing here take floating-point numbers, shift, or raise to powers: LShift, RShift, PowByNatural, FloatPow,
# RoundDecimal and others.
_FUNCTIONS: Final = {
    **dict.fromkeys(("Add", "Mul", "Max", "Min", "And", "Or"), (0, _MANY)),
    **dict.fromkeys(("Not", "CeilToInt", "FloorToInt", "TruncToInt", "ToFloat", "Identity"), (1, 1)),
    **dict.fromkeys(("Mod", "PythonMod", "FloorDiv", "CeilDiv", "CleanDiv", "IntTrueDiv"), (2, 2)),
    **dict.fromkeys(("ModularIndexing", "Where"), (3, 3)),
    **dict.fromkeys(("Equality", "Unequality", "Eq", "Ne"), (2, 2)),
    **dict.fromkeys(("StrictLessThan", "LessThan", "StrictGreaterThan", "GreaterThan"), (2, 2)),
}
_ASSUMPTIONS: Final = ("positive", "nonnegative", "nonzero", "integer", "real", "finite")
# torch counts up to the number of a symbol, one by one.
SYMBOL: Final = re.compile(r"[suzf]{1,4}\d{1,6}")
# What a range is given for: a symbol, or a sum or product with one.
RANGED: Final = re.compile(r"[suzf]{1,4}\d{1,6}|[\d(][suzf\d *+\-()/]{0,200}")

_SIZE_TOKEN = re.compile(r"'([a-z]{1,4}\d{1,9})'|([A-Za-z]+)|(-?\d{1,19})(?![\d.])|([(),=])")
_GUARD_TOKEN = re.compile(
    r"(L(?:\['[A-Za-z_][A-Za-z0-9_]*'\]|\[\d{1,9}\])+(?:\.(?:size|stride)\(\)\[\d{1,3}\]|\.storage_offset\(\))?)"
    r"|(and|or|not|True|False|max|min)\b|(\d{1,19})(?![\d.\w])|(<=|>=|==|!=|//|[<>+\-*%(),])"
)


class _Tokens:
    """Tokens one after another, with a bound on how deep their reader may nest."""

    def __init__(self, text: str, token: re.Pattern[str], what: str) -> None:
        self._what = f"has a {what} that is not one of torch's: {text[:100]!r}"
        if len(text) > LONGEST:
            raise ProgramError(f"has a {what} of {len(text)} characters, and at most {LONGEST} are read")
        self._left = list(self._split(text, token))[::-1]
        self._depth = 0

    def _split(self, text: str, token: re.Pattern[str]) -> Iterator[str]:
        at = 0
        while at < len(text):
            if text[at] == " ":
                at += 1
                continue
            found = token.match(text, at)
            if found is None:
                raise self.problem()
            yield found[0]
            at = found.end()

    def problem(self) -> ProgramError:
        """The refusal, to raise."""
        return ProgramError(self._what)

    def next(self) -> str:
        """The next token; an empty one at the end."""
        return self._left[-1] if self._left else ""

    def take(self, *expected: str) -> str:
        """Take the next token, which must be one of those expected; any where none is named."""
        token = self._left.pop() if self._left else ""
        if not token or (expected and token not in expected):
            raise self.problem()
        return token

    def finish(self) -> None:
        """Nothing may be left."""
        if self._left:
            raise self.problem()

    def __enter__(self) -> None:
        self._depth += 1
        if self._depth > DEEPEST:
            raise self.problem()

    def __exit__(self, *_: object) -> None:
        self._depth -= 1


def check_size(text: str) -> None:
    """A size as torch writes it: `Mul(Integer(2), Symbol('s77', positive=True, integer=True))`.

    Raises:
        ProgramError: it is anything else.
    """
    tokens = _Tokens(text, _SIZE_TOKEN, "size")
    _size(tokens)
    tokens.finish()


def _size(tokens: _Tokens) -> bool:
    """Read one expression; whether it has a power in it."""
    with tokens:
        name = tokens.take()
        if name in ("true", "false"):
            return False
        if name == "Symbol":
            _symbol(tokens)
            return False
        tokens.take("(")
        if name == "Integer":
            _integer(tokens)
            tokens.take(")")
            return False
        if name == "Rational":
            _integer(tokens)
            tokens.take(",")
            if _integer(tokens) == 0:
                raise tokens.problem()
            tokens.take(")")
            return False
        if name == "Pow":
            if _size(tokens):
                raise tokens.problem()
            tokens.take(",")
            tokens.take("Integer")
            tokens.take("(")
            if not -1 <= _integer(tokens) <= 8:
                raise tokens.problem()
            tokens.take(")")
            tokens.take(")")
            return True
        return _call(tokens, name)


def _call(tokens: _Tokens, name: str) -> bool:
    least, most = _FUNCTIONS.get(name, (1, 0))
    if least > most:
        raise tokens.problem()
    powers = []
    while tokens.next() != ")":
        powers.append(_size(tokens))
        if tokens.next() == ",":
            tokens.take(",")
            if tokens.next() == ")":
                raise tokens.problem()
        elif tokens.next() != ")":
            raise tokens.problem()
    tokens.take(")")
    if not least <= len(powers) <= most:
        raise tokens.problem()
    return any(powers)


def _symbol(tokens: _Tokens) -> None:
    tokens.take("(")
    name = tokens.take()
    if not name.startswith("'") or not SYMBOL.fullmatch(name.strip("'")):
        raise tokens.problem()
    while tokens.take(",", ")") == ",":
        tokens.take(*_ASSUMPTIONS)
        tokens.take("=")
        tokens.take("True", "False")


def _integer(tokens: _Tokens) -> int:
    token = tokens.take()
    if not token.lstrip("-").isdigit():
        raise tokens.problem()
    return int(token)


_COMPARISONS: Final = ("<", ">", "<=", ">=", "==", "!=")


def check_guard(text: str) -> None:
    """A guard as torch writes it: `L['x'].size()[0] <= 64`; comparisons and sums of sizes, and no other names.

    Raises:
        ProgramError: it is anything else.
    """
    tokens = _Tokens(text, _GUARD_TOKEN, "guard")
    _guard(tokens)
    tokens.finish()


def _guard(tokens: _Tokens) -> None:
    with tokens:
        while True:
            while tokens.next() == "not":
                tokens.take("not")
                if tokens.next() == "not":
                    raise tokens.problem()
            _sum(tokens)
            while tokens.next() in _COMPARISONS:
                tokens.take()
                _sum(tokens)
            if tokens.next() not in ("and", "or"):
                return
            tokens.take()


def _sum(tokens: _Tokens) -> None:
    while True:
        if tokens.next() == "-":
            tokens.take("-")
        _operand(tokens)
        if tokens.next() not in ("+", "-", "*", "//", "%"):
            return
        tokens.take()


def _operand(tokens: _Tokens) -> None:
    first = tokens.take()
    if first == "(":
        _guard(tokens)
        tokens.take(")")
    elif first in ("max", "min"):
        tokens.take("(")
        _guard(tokens)
        while tokens.take(",", ")") == ",":
            _guard(tokens)
    elif not (first.startswith("L[") or first.isdigit() or first in ("True", "False")):
        raise tokens.problem()
