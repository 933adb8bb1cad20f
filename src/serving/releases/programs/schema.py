"""The JSON of an exported program, field by field: what each may hold.

The fields are those of `torch/_export/serde/schema.py` of torch 2.13, which a test compares with this table. torch itself ignores
fields that it does not know, looks operators up by name in its own modules, evaluates sizes and guards as Python, and makes Python code
with the names in it. So each field has the kind of text that torch writes into it, and what stands in no field is refused. Kinds of
arguments that carry other programs, Python callables or custom objects are left out.
"""

import json
import keyword
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from serving.releases.programs import expressions, operators
from serving.releases.programs.errors import ProgramError

Check = Callable[[Any], None]
"""Looks at one JSON value. Raises ProgramError."""

MOST_ITEMS: Final = 1_000_000
DEEPEST_TREE: Final = 30


def read_json(content: bytes, what: str) -> Any:
    """JSON without doubled keys and without numbers that are none.

    Raises:
        ProgramError: it is not such JSON, or nests too deeply.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            raise ProgramError(f"has a key twice in {what}")
        return value

    def constant(name: str) -> None:
        raise ProgramError(f"has {name} in {what}, which is not JSON")

    try:
        return json.loads(content.decode(), object_pairs_hook=once, parse_constant=constant)
    except ProgramError:
        raise
    except (ValueError, RecursionError) as error:
        raise ProgramError(f"has a damaged {what} ({str(error)[:100]})") from error


# The kinds of values.


def text(kind: str, fits: Callable[[str], Any]) -> Check:
    """A text of a kind, such as "a name"."""

    def check(value: Any) -> None:
        if type(value) is not str or not fits(value):
            raise ProgramError(f"has {str(value)[:100]!r} where {kind} belongs")

    return check


def pattern(kind: str, expression: str) -> Check:
    """A text that a regular expression describes as a whole."""
    return text(kind, re.compile(expression, re.ASCII).fullmatch)


def optional(check: Check) -> Check:
    """The value, or null."""
    return lambda value: None if value is None else check(value)


def listed(check: Check) -> Check:
    """A list of such values."""

    def each(values: Any) -> None:
        if type(values) is not list or len(values) > MOST_ITEMS:
            raise ProgramError("has something else where a list belongs")
        for value in values:
            check(value)

    return each


def mapped(key: Check, check: Check) -> Check:
    """An object whose keys the program chooses."""

    def each(values: Any) -> None:
        if type(values) is not dict or len(values) > MOST_ITEMS:
            raise ProgramError("has something else where an object belongs")
        for name, value in values.items():
            key(name)
            check(value)

    return each


def nothing(what: str) -> Check:
    """An empty list or object: what could be in it is not let through."""

    def check(value: Any) -> None:
        if value not in ([], {}):
            raise ProgramError(f"uses {what}")

    return check


def integer(value: Any) -> None:
    """A whole number of 64 bits."""
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise ProgramError(f"has {str(value)[:60]!r} where a whole number belongs")


def truth(value: Any) -> None:
    """True or false."""
    if type(value) is not bool:
        raise ProgramError(f"has {str(value)[:60]!r} where true or false belongs")


def real(value: Any) -> None:
    """A number; torch writes those that JSON has not as texts."""
    number = type(value) in (int, float) and math.isfinite(value)
    if not number and value not in ("Infinity", "-Infinity", "NaN"):
        raise ProgramError(f"has {str(value)[:60]!r} where a number belongs")


class Record:
    """An object with these fields: those with a default may be missing, others may not be there."""

    def __init__(self, required: Mapping[str, Check], defaulted: Mapping[str, Check] | None = None) -> None:
        self.required = required
        self.fields = {**required, **(defaulted or {})}

    def __call__(self, value: Any) -> None:
        if type(value) is not dict:
            raise ProgramError("has something else where an object belongs")
        if unknown := sorted(set(value) - set(self.fields)):
            raise ProgramError(f"has a field {unknown[0][:60]!r}, which torch does not write there")
        if missing := sorted(set(self.required) - set(value)):
            raise ProgramError(f"lacks the field {missing[0]!r}")
        for name, each in value.items():
            self.fields[name](each)


class Choice:
    """An object with one of these fields. `refused` are fields that torch knows and that are not let through."""

    def __init__(self, fields: Mapping[str, Check], refused: tuple[str, ...] = ()) -> None:
        self.fields = fields
        self.refused = refused

    def __call__(self, value: Any) -> None:
        if type(value) is not dict or len(value) != 1:
            raise ProgramError("has something else where an object of one field belongs")
        ((name, each),) = value.items()
        if name not in self.fields:
            raise ProgramError(f"has an argument of the kind {name[:60]!r}, which is not let through")
        self.fields[name](each)


# The kinds of texts.

# Names that the Python code which torch makes of a graph uses itself.
_TAKEN: Final = {"torch", "device", "inf", "nan", "math", "operator", "pytree", "fx_pytree", "builtins", "NoneType"}


def is_identifier(value: str) -> bool:
    """Whether a text may become a variable of the Python code that torch makes of a graph."""
    plain = len(value) <= 255 and value.isascii() and value.isidentifier() and not keyword.iskeyword(value)
    return plain and not value.startswith("__") and value not in _TAKEN


def _is_path(value: str) -> bool:
    """A dotted path to a module or a tensor: `layers.0.weight`, `encoder@1`; no part may be one of Python's own names."""
    parts = value.split(".")
    return len(value) <= 1000 and all(re.fullmatch(r"(?!__)[A-Za-z0-9_@]+", part, re.ASCII) for part in parts)


def _is_tree(value: str) -> bool:
    """A tree of tuples, lists and dicts with identifiers as keys, as torch's pytree writes one."""

    def fits(node: Any, depth: int) -> bool:
        if type(node) is not dict or set(node) != {"type", "context", "children_spec"} or depth > DEEPEST_TREE:
            return False
        children, context = node["children_spec"], node["context"]
        if node["type"] is None:
            return context is None and children == []
        keys = read_json(context.encode(), "context of a tree") if type(context) is str else 0
        named = type(keys) is list and all(type(key) is str and is_identifier(key) for key in keys)
        if node["type"] == "builtins.dict":
            fitting = named and len(keys) == len(children)
        else:
            fitting = node["type"] in ("builtins.tuple", "builtins.list") and keys is None
        return fitting and type(children) is list and all(fits(each, depth + 1) for each in children)

    tree = read_json(value.encode(), "tree of arguments")
    return type(tree) is list and len(tree) == 2 and tree[0] == 1 and fits(tree[1], 0)


def _is_json(value: str) -> bool:
    """Notes that torch keeps as JSON and never evaluates."""
    read_json(value.encode(), "note")
    return len(value) < 100_000


NAME: Final = text("a name", is_identifier)
# The operator's own words, such as `self` and `from`.
_ARGUMENT_NAME: Final = pattern("an argument's name", r"((?!__)[A-Za-z_]\w{0,100})?")
_PATH: Final = text("a path", _is_path)
_TREE: Final = text("a tree of arguments", _is_tree)
_LINES: Final = text("a note", lambda value: len(value) < 1_000_000 and value.replace("\n", "").isprintable())
_PLAIN: Final = text("a text", lambda value: len(value) <= 1000 and value.isascii() and value.isprintable())
_SIZE: Final = text("a size", lambda value: expressions.check_size(value) is None)
_GUARD: Final = text("a guard", lambda value: expressions.check_guard(value) is None)
_TARGET: Final = text("an operator", operators.is_allowed_target)

# Notes of a node. Nothing evaluates them; torch looks functions in them up by their names below `torch`.
_NOTES: Final[Mapping[str, Check]] = {
    "stack_trace": _LINES,
    "nn_module_stack": _LINES,
    "source_fn_stack": pattern("a list of functions", r"[\w.]+,(?!#)[\w.<>]+(;[\w.]+,(?!#)[\w.<>]+)*"),
    "torch_fn": _LINES,
    "custom": text("a note", _is_json),
    "from_node": text("a note", _is_json),
}

# The fields. `Argument` holds graphs, and graphs hold arguments.

DEVICE: Final = Record({"type": pattern("a device", "cpu")}, {"index": optional(integer)})
_HINT: Final = Choice({"as_int": integer, "as_bool": truth, "as_float": real})
_EXPRESSION: Final = Record({"expr_str": _SIZE}, {"hint": optional(_HINT)})
_SYM_INT: Final = Choice({"as_expr": _EXPRESSION, "as_int": integer})
_SYM_FLOAT: Final = Choice({"as_expr": _EXPRESSION, "as_float": real})
_SYM_BOOL: Final = Choice({"as_expr": _EXPRESSION, "as_bool": truth})
_INT_ARGUMENT: Final = Choice({"as_name": NAME, "as_int": integer})
_FLOAT_ARGUMENT: Final = Choice({"as_name": NAME, "as_float": real})
_BOOL_ARGUMENT: Final = Choice({"as_name": NAME, "as_bool": truth})
_TENSOR: Final = Record({"name": NAME})
_OPTIONAL_TENSOR: Final = Choice({"as_tensor": _TENSOR, "as_none": truth})
_COMPLEX: Final = Record({"real": real, "imag": real})
_GRAPH_ARGUMENT: Final = Record({"name": NAME, "graph": lambda value: GRAPH(value)})
TENSOR_META: Final = Record(
    {
        "dtype": integer,
        "sizes": listed(_SYM_INT),
        "requires_grad": truth,
        "device": DEVICE,
        "strides": listed(_SYM_INT),
        "storage_offset": _SYM_INT,
        "layout": integer,
    }
)
ARGUMENT: Final = Choice(
    {
        "as_none": truth,
        "as_tensor": _TENSOR,
        "as_tensors": listed(_TENSOR),
        "as_int": integer,
        "as_ints": listed(integer),
        "as_float": real,
        "as_floats": listed(real),
        "as_string": _PLAIN,
        "as_strings": listed(_PLAIN),
        "as_sym_int": _INT_ARGUMENT,
        "as_sym_ints": listed(_INT_ARGUMENT),
        "as_scalar_type": integer,
        "as_memory_format": integer,
        "as_layout": integer,
        "as_device": DEVICE,
        "as_bool": truth,
        "as_bools": listed(truth),
        "as_sym_bool": _BOOL_ARGUMENT,
        "as_sym_bools": listed(_BOOL_ARGUMENT),
        "as_graph": _GRAPH_ARGUMENT,
        "as_optional_tensors": listed(_OPTIONAL_TENSOR),
        "as_sym_float": _FLOAT_ARGUMENT,
        "as_sym_floats": listed(_FLOAT_ARGUMENT),
        "as_optional_tensor": _OPTIONAL_TENSOR,
        "as_complex": _COMPLEX,
        "as_nested_tensors": listed(listed(_TENSOR)),
        "as_int_lists": listed(listed(integer)),
        "as_float_lists": listed(listed(real)),
    },
    refused=("as_custom_obj", "as_operator", "as_string_to_argument"),
)
_NAMED_ARGUMENT: Final = Record({"name": _ARGUMENT_NAME, "arg": ARGUMENT}, {"kind": optional(integer)})
NODE: Final = Record(
    {
        "target": _TARGET,
        "inputs": listed(_NAMED_ARGUMENT),
        "outputs": listed(ARGUMENT),
        "metadata": Record({}, _NOTES),
    },
    {"is_hop_single_tensor_return": optional(truth), "name": optional(NAME)},
)
GRAPH: Final = Record(
    {
        "inputs": listed(ARGUMENT),
        "outputs": listed(ARGUMENT),
        "nodes": listed(NODE),
        "tensor_values": mapped(NAME, TENSOR_META),
        "sym_int_values": mapped(NAME, _SYM_INT),
        "sym_bool_values": mapped(NAME, _SYM_BOOL),
    },
    {
        "is_single_tensor_return": truth,
        "custom_obj_values": nothing("custom objects"),
        "sym_float_values": mapped(NAME, _SYM_FLOAT),
    },
)
_CONSTANT: Final = Choice(
    {"as_none": truth, "as_int": integer, "as_float": real, "as_string": _PLAIN, "as_bool": truth}
)
_INPUT_SPEC: Final = Choice(
    {
        "user_input": Record({"arg": ARGUMENT}),
        "parameter": Record({"arg": _TENSOR, "parameter_name": _PATH}),
        "buffer": Record({"arg": _TENSOR, "buffer_name": _PATH, "persistent": truth}),
        "tensor_constant": Record({"arg": _TENSOR, "tensor_constant_name": _PATH}),
        "constant_input": Record({"name": NAME, "value": _CONSTANT}),
    },
    refused=("custom_obj", "token"),
)
_OUTPUT_SPEC: Final = Choice(
    {
        "user_output": Record({"arg": ARGUMENT}),
        "buffer_mutation": Record({"arg": _TENSOR, "buffer_name": _PATH}),
        "user_input_mutation": Record({"arg": _TENSOR, "user_input_name": NAME}),
    },
    refused=("loss_output", "gradient_to_parameter", "gradient_to_user_input", "token", "parameter_mutation"),
)
_CALL_SIGNATURE: Final = Record(
    {"inputs": listed(ARGUMENT), "outputs": listed(ARGUMENT), "in_spec": _TREE, "out_spec": _TREE},
    {"forward_arg_names": optional(listed(NAME))},
)
GRAPH_MODULE: Final = Record(
    {
        "graph": GRAPH,
        "signature": Record({"input_specs": listed(_INPUT_SPEC), "output_specs": listed(_OUTPUT_SPEC)}),
        "module_call_graph": listed(
            Record(
                {"fqn": text("a path", lambda value: value == "" or _is_path(value))},
                {"signature": optional(_CALL_SIGNATURE)},
            )
        ),
    },
    {
        "metadata": Record({}, {"custom": _NOTES["custom"]}),
        "treespec_namedtuple_fields": nothing("named tuples"),
    },
)
PROGRAM: Final = Record(
    {
        "graph_module": GRAPH_MODULE,
        "opset_version": mapped(pattern("a namespace", r"[a-z_]{1,40}"), integer),
        "range_constraints": mapped(
            text("a symbol", expressions.RANGED.fullmatch),
            Record({"min_val": optional(integer), "max_val": optional(integer)}),
        ),
        "schema_version": Record({"major": lambda value: _major(value), "minor": integer}),
    },
    {
        "verifiers": listed(pattern("a dialect", "|ATEN|TRAINING|EDGE")),
        "torch_version": pattern("a version", r"[\w.+<=]{1,60}"),
        "guards_code": listed(_GUARD),
    },
)
PAYLOADS: Final = Record(
    {
        "config": mapped(
            _PATH,
            Record(
                {
                    "path_name": pattern("a record", r"(weight|tensor)_\d{1,9}"),
                    "is_param": truth,
                    "use_pickle": lambda value: _plain_bytes(value),
                    "tensor_meta": TENSOR_META,
                }
            ),
        )
    }
)


def _major(value: Any) -> None:
    if value != 8 or type(value) is not int:
        raise ProgramError(f"has the schema version {str(value)[:20]}, and torch 2.13 reads 8")


def _plain_bytes(value: Any) -> None:
    if value is not False:
        raise ProgramError("holds a tensor as a pickle")
