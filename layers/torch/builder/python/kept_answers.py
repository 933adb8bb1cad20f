"""Asks functions of packed packages, on the staged tree, what they find out from their own sources. Rules are data.

A package that looks at its own sources each time it starts gets the answer from the archive instead
(`torch_layer.answers`). A child asks: it runs this file on the staged tree, reads a marshalled list of rows from standard
input, and writes the answers by their keys to standard output.
"""

import marshal
import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from builder import clean, paths
from builder.errors import BuildError
from builder.memo import NOTHING_KEPT, Memo


class KeptAnswer(NamedTuple):
    """Calls of a function of which the answers are kept.

    Attributes:
        package: the packed package that it belongs to.
        module: where it is.
        function: its name there. Its answer depends on the package's sources alone, and `marshal` can write it.
        pattern: below the package; every path that fits is the first argument of one call.
        options: the arguments that follow, by name.
        reason: why.
    """

    package: str
    module: str
    function: str
    pattern: str
    options: tuple[tuple[str, str], ...]
    reason: str


ANSWERS = (
    KeptAnswer(
        "transformers",
        "transformers.utils.import_utils",
        "define_import_structure",
        "models",
        (("prefix", "models"),),
        "importing the package reads some 2,000 sources to learn what they export",
    ),
    KeptAnswer(
        "transformers",
        "transformers.utils.import_utils",
        "define_import_structure",
        "models/**/__init__.py",
        (),
        "and so does importing the package of each model, for its own sources",
    ),
    KeptAnswer(
        "transformers",
        "transformers.utils.import_utils",
        "define_import_structure",
        "decision/__init__.py",
        (),
        "the same",
    ),
)


def ask(tree: Path, packages: Iterable[str], texts: Mapping[str, bytes], memo: Memo = NOTHING_KEPT) -> dict[str, bytes]:
    """Marshalled answers by their keys (`torch_layer.answers.key`).

    Args:
        tree: the tree after strip.
        packages: the packed packages.
        texts: all sources of the tree, by path.
        memo: where answers are kept for the next build.

    Raises:
        BuildError: a function fails.
    """
    rows = [tuple(row) for row in ANSWERS if row.package in packages]
    if not rows:
        return {}
    prefixes = tuple({f"{row[0]}/" for row in rows})
    sources = [part for path in sorted(texts) if path.startswith(prefixes) for part in (path.encode(), texts[path])]
    made_from = [b"answers", sys.version.encode(), repr(rows).encode(), Path(__file__).read_bytes(), *sources]
    answers: dict[str, bytes] = marshal.loads(memo.result(made_from, lambda: _ask(tree, rows)))  # noqa: S302 -- our child's
    return answers


def _ask(tree: Path, rows: list[tuple[Any, ...]]) -> bytes:
    program = "import sys; from builder.python import kept_answers; kept_answers.answer(sys.argv[1])"
    # Sets of equal content are written in the same order with a fixed seed.
    done = clean.run(tree, "-c", program, repr(rows), extra={"PYTHONHASHSEED": "0"}, beside=[paths.RUN_TIME])
    if done.returncode:
        raise BuildError(
            f"{', '.join(sorted({row[0] for row in rows}))} does not say what it exports:\n{done.stderr[-4000:]}",
            "take the rows out of builder/python/kept_answers.py, and let the package stay files "
            "(KEPT_AS_FILES in builder/python/extras.py)",
        )
    return bytes.fromhex(done.stdout.splitlines()[-1])


def answer(given: str) -> None:
    """In the child: print the marshalled answers, in hex."""
    import ast

    from torch_layer import answers

    found: dict[str, bytes] = {}
    for row in ast.literal_eval(given):
        rule = KeptAnswer(*row)
        module = import_module(rule.module)
        folder = Path(str(import_module(rule.package).__file__)).parent
        for path in sorted(folder.glob(rule.pattern)):
            options = dict(rule.options)
            value = getattr(module, rule.function)(path, **options)
            name = f"{rule.module}.{rule.function}"
            found[answers.key(name, str(folder.parent), (path,), options)] = marshal.dumps(_in_order(value), 2)
    sys.stdout.write(f"{marshal.dumps(found, 2).hex()}\n")


def _in_order(value: Any) -> Any:
    """An equal value with its parts in sorted order: what a folder lists first depends on the file system."""
    if isinstance(value, dict):
        return {_in_order(each): _in_order(value[each]) for each in sorted(value, key=_text)}
    if isinstance(value, set | frozenset):
        return type(value)(sorted(value, key=_text))
    return value


def _text(value: Any) -> str:
    return repr(sorted(value)) if isinstance(value, set | frozenset) else repr(value)
