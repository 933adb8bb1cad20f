"""Programs in releases: TorchScript and `torch.export` archives, and what keeps a hostile one from running Python.

Both are zip archives that torch reads by itself. What torch 2.13 does with them, read in its sources:

    torch.jit.load     reads the pickles in the archive with a reader in C++ that knows TorchScript's own types: no Python runs.
                       The program itself may call any operator; two of these open files (aten::save and aten::from_file).
    torch.export.load  calls torch.load(weights_only=False) for weights that are marked `use_pickle`, for archives of older
                       versions, and for example inputs that the safe reader refuses; unpickles custom objects; gives sizes
                       and guards, which are text, to Python's eval; and takes any name below `torch` for an operator
                       (torch.os.system).

So an export is let through only if it has no place where one of these could happen: known records, tensors stored as plain
bytes, operators of aten, and names, sizes and guards made of nothing but what they are made of. A program that passes is still a
program: it computes what it likes, as long as it likes, within torch's operators.
"""

import io
import json
import keyword
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile, ZipFile

Kind = Literal["torchscript", "torch.export"]

# torch stores tensors as they are and deflates only the text of a program, which is some hundred kilobytes.
MOST_INFLATED = 16 * 1024 * 1024
MOST_RECORDS = 100_000
LONGEST_SIZE = 2_000

_EXPORT_RECORDS = re.compile(
    r"archive_format|archive_version|byteorder|version|\.data/(version|serialization_id)|models/model\.json"
    r"|data/weights/(weight_\d+|model_weights_config\.json)|data/constants/(tensor_\d+|model_constants_config\.json)"
    r"|data/sample_inputs/model\.pt"
)
_OPERATORS = re.compile(
    r"torch\.ops\.aten\.(?!save\b|from_file\b)[A-Za-z][A-Za-z0-9_]*\.[A-Za-z][A-Za-z0-9_]*"
    r"|torch\.ops\.aten\.(_softmax|_log_softmax|_to_copy|_unsafe_view|_assert_tensor_metadata|_assert_scalar"
    r"|_scaled_dot_product_flash_attention_for_cpu|_native_batch_norm_legit\w*)\.[A-Za-z]\w*"
    r"|_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|neg|pos|eq|ne|lt|le|gt|ge|and_|or_|not_)"
    r"|math\.(ceil|floor|trunc|sqrt)|torch\.sym_(int|float|max|min|not|ite)"
)
# How an argument may be given. What is left out are other programs, Python callables and custom objects.
_ARGUMENTS = {
    *("as_tensor", "as_tensors", "as_optional_tensors", "as_nested_tensors", "as_none", "as_string", "as_strings"),
    *("as_int", "as_ints", "as_int_lists", "as_float", "as_floats", "as_bool", "as_bools", "as_complex"),
    *(
        "as_sym_int",
        "as_sym_ints",
        "as_sym_float",
        "as_sym_floats",
        "as_sym_bool",
        "as_sym_bools",
        "as_expr",
        "as_name",
    ),
    *("as_scalar_type", "as_memory_format", "as_layout", "as_device"),
}
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}")
_WORD = re.compile(r"[A-Za-z0-9_.+\-]{0,512}")
_TREE_TYPES = {None, "builtins.tuple", "builtins.list", "builtins.dict"}

_SYMBOL = re.compile(r"Symbol\('[a-z]{1,4}\d{0,9}'(, (positive|nonnegative|integer|real|finite)=(True|False))*\)")
_SQUARE = re.compile(rf"Pow\({_SYMBOL.pattern}, Integer\([2-8]\)\)")  # no other power: 9**9**9 is never computed
_SIZE = re.compile(
    r"(?:(?:Add|Mul|Integer|Max|Min|Mod|PythonMod|FloorDiv|CeilDiv|CleanDiv|IntTrueDiv|TruncToInt|CeilToInt|FloorToInt|ToFloat"
    r"|Equality|Unequality|StrictLessThan|LessThan|StrictGreaterThan|GreaterThan|And|Or|Not|Eq|Ne|true|false)\b"
    r"|\d{1,19}(?!\d)|[ ,()+\-/%<>=]|(?<!\*)\*(?!\*))*"
)
_GUARD_SUBJECT = re.compile(
    r"L(\['[A-Za-z_][A-Za-z0-9_]*'\]|\[\d{1,9}\])+(\.(size|stride)\(\)\[\d{1,3}\]|\.storage_offset\(\))"
)
_GUARD = re.compile(r"(?:(?:and|or|not|True|False)\b|\d{1,19}(?!\d)|[ ()+\-/%<>=!]|(?<!\*)\*(?!\*))*")

_FILE_OPERATORS = re.compile(rb"\b(save|from_file)\b")
# TorchScript writes getattr(self, "0") for submodules without a name; an escape in the text would spell an operator otherwise.
_GETATTR = re.compile(rb"\bgetattr\b")
_PLAIN_GETATTR = re.compile(rb'\bgetattr\([\w.]+, "\w+"\)')


class ProgramError(ValueError):
    """A program may not be loaded; the message says why, without the path."""


def check(path: Path, kind: Kind) -> None:
    """Look through a program before torch loads it. The archive is read by torch's own reader, so that both see the same.

    Raises:
        ProgramError: it is no such program, or has something in it that is not let through.
    """
    from torch._C import PyTorchFileReader

    try:
        reader = PyTorchFileReader(str(path))
        names = records_of(reader, path.stat().st_size)
        _same_for_python(path, names)
        (_check_export if kind == "torch.export" else _check_torchscript)(reader, names)
    except ProgramError:
        raise
    except (RuntimeError, ValueError, BadZipFile, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise ProgramError(f"is not a whole {kind} archive ({str(error).strip().splitlines()[0][:200]})") from error


def records_of(reader: Any, size: int) -> list[str]:
    """The archive's records.

    Raises:
        ProgramError: unpacked they are far larger than the archive, as in a zip bomb.
    """
    names: list[str] = reader.get_all_records()
    if len(names) > MOST_RECORDS or len(set(names)) != len(names):
        raise ProgramError(f"has {len(names)} records, or some of them twice")
    unpacked = sum(reader.get_record_size(name) for name in names)
    if unpacked > size + MOST_INFLATED:
        raise ProgramError(f"has {size} bytes and would unpack to {unpacked}: a zip bomb")
    return names


def _same_for_python(path: Path, names: list[str]) -> None:
    """torch falls back to Python's zip reader for what its own does not understand: both must see the same archive."""
    with ZipFile(path) as archive:
        seen = archive.namelist()
    folders = {name.partition("/")[0] for name in seen}
    if len(folders) != 1 or sorted(name.partition("/")[2] for name in seen) != sorted(names):
        raise ProgramError("is a zip archive that two readers read in two ways")


def _check_torchscript(reader: Any, names: list[str]) -> None:
    if "constants.pkl" not in names or "data.pkl" not in names:
        raise ProgramError("is not a TorchScript archive")
    for name in names:
        if not (name.startswith("code/") and name.endswith(".py")):
            continue
        code = reader.get_record(name)
        if word := _FILE_OPERATORS.search(code):
            raise ProgramError(f"uses the word {word[0].decode()} in {name}, and programs may not open files")
        if len(_GETATTR.findall(code)) != len(_PLAIN_GETATTR.findall(code)):
            raise ProgramError(f"looks attributes up by a name that is not plain text in {name}")


def _check_export(reader: Any, names: list[str]) -> None:
    if "models/model.json" not in names or reader.get_record("archive_format") != b"pt2":
        raise ProgramError("is not an archive of torch.export.save of torch 2.8 or later")
    if other := next((name for name in names if not _EXPORT_RECORDS.fullmatch(name)), None):
        raise ProgramError(
            f"holds {other}, which may be code: only one program, its tensors and its sizes are let through"
        )
    for folder in ("weights", "constants"):
        for name, entry in json.loads(reader.get_record(f"data/{folder}/model_{folder}_config.json"))["config"].items():
            if entry["use_pickle"] is not False:
                raise ProgramError(f"holds {name} as a pickle")
            if f"data/{folder}/{entry['path_name']}" not in names:
                raise ProgramError(f"names {entry['path_name']} for {name}, which is not there")
    _check_example_inputs(reader.get_record("data/sample_inputs/model.pt"))
    _check_graph(json.loads(reader.get_record("models/model.json")))


def _check_example_inputs(content: bytes) -> None:
    """torch reads them without a restriction when the restricted reader fails: so that must not fail."""
    import torch
    from torch._C import PyTorchFileReader

    if not content:
        return
    records_of(PyTorchFileReader(io.BytesIO(content)), len(content))
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except Exception as error:
        raise ProgramError("holds example inputs that are more than tensors and plain values") from error


def _check_graph(program: Mapping[str, Any]) -> None:
    graph = program["graph_module"]
    if graph["treespec_namedtuple_fields"] or graph["graph"]["custom_obj_values"]:
        raise ProgramError("uses named tuples or custom objects")
    for guard in program["guards_code"]:
        if not _GUARD.fullmatch(_GUARD_SUBJECT.sub("0", guard)):
            raise ProgramError(f"has a guard that is more than a comparison of sizes: {guard[:100]!r}")
    for key, value in _texts({**program, "guards_code": []}):
        rule = _RULES.get(key, _is_word)
        if not rule(value):
            raise ProgramError(f"has {value[:100]!r} as {key}, which is not let through")


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a graph with the key that it stands under, keys included; metadata, which nothing evaluates, left out."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield "key", name
            if name.startswith("as_") and name not in _ARGUMENTS:
                raise ProgramError(f"has an argument of the kind {name}, which is not let through")
            if name != "metadata":
                yield from _texts(each, name)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each, key)
    elif isinstance(value, str):
        yield key, value


def _is_identifier(text: str) -> bool:
    return bool(_IDENTIFIER.fullmatch(text)) and not keyword.iskeyword(text) and not text.startswith("__")


def _is_word(text: str) -> bool:
    return _WORD.fullmatch(text) is not None


def _is_size(text: str) -> bool:
    return len(text) <= LONGEST_SIZE and _SIZE.fullmatch(_SYMBOL.sub("0", _SQUARE.sub("0", text))) is not None


def _is_tree(text: str) -> bool:
    """A tree of tuples, lists and dicts with identifiers as keys, as torch's pytree writes one."""

    def fits(node: Any) -> bool:
        keys = json.loads(node["context"] or "null") or []
        named = isinstance(keys, list) and all(isinstance(key, str) and _is_identifier(key) for key in keys)
        return node["type"] in _TREE_TYPES and named and all(map(fits, node["children_spec"]))

    version, root = json.loads(text)
    return version == 1 and fits(root)


# What a text may be, by the key that it stands under; `_is_word` for all others. Names become variables of generated Python code.
_RULES: Mapping[str, Callable[[str], bool]] = {
    "target": lambda text: _OPERATORS.fullmatch(text) is not None,
    "expr_str": _is_size,
    "in_spec": _is_tree,
    "out_spec": _is_tree,
    "name": lambda text: text == "" or _is_identifier(text) or text in ("self", "from"),
    "as_name": _is_identifier,
    "forward_arg_names": _is_identifier,
    "as_string": lambda text: len(text) <= 512 and text.isprintable(),
    "as_strings": lambda text: len(text) <= 512 and text.isprintable(),
}
