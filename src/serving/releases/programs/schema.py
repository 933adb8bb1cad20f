"""The JSON of an exported program, field by field: what each may hold.

The fields are those of `torch/_export/serde/schema.py` of torch 2.13, which a test compares with this table. torch
itself ignores fields that it does not know, looks operators up by name in its own modules, evaluates sizes and guards
as Python, and makes Python code with the names in it. So each field has the kind of text that torch writes into it, and
what stands in no field is refused. Kinds of arguments that carry other programs, Python callables or custom objects are
left out.
"""

from collections.abc import Mapping
from typing import Any, Final

from serving.releases.programs import expressions, operators
from serving.releases.programs.fields import (
    Check,
    Fields,
    OneField,
    integer,
    is_identifier,
    is_note,
    is_path,
    is_tree,
    listed,
    mapped,
    nothing,
    optional,
    parsed,
    pattern,
    real,
    text,
    truth,
)
from serving.releases.programs.refusal import ProgramError

NAME: Final = text("a name", is_identifier)
# The operator's own words, such as `self` and `from`.
_ARGUMENT_NAME: Final = pattern("an argument's name", r"((?!__)[A-Za-z_]\w{0,100})?")
_PATH: Final = text("a path", is_path)
_TREE: Final = text("a tree of arguments", is_tree)
_LINES: Final = text("a note", lambda value: len(value) < 1_000_000 and value.replace("\n", "").isprintable())
_PLAIN: Final = text("a text", lambda value: len(value) <= 1000 and value.isascii() and value.isprintable())
_SIZE: Final = parsed("a size", expressions.check_size)
_GUARD: Final = parsed("a guard", expressions.check_guard)
_TARGET: Final = text("an operator", operators.is_allowed_target)

# Notes of a node. Nothing evaluates them; torch looks functions in them up by their names below `torch`.
_NOTES: Final[Mapping[str, Check]] = {
    "stack_trace": _LINES,
    "nn_module_stack": _LINES,
    "source_fn_stack": pattern("a list of functions", r"[\w.]+,(?!#)[\w.<>]+(;[\w.]+,(?!#)[\w.<>]+)*"),
    "torch_fn": _LINES,
    "custom": text("a note", is_note),
    "from_node": text("a note", is_note),
}

# The fields. `Argument` holds graphs, and graphs hold arguments.

DEVICE: Final = Fields({"type": pattern("a device", "cpu")}, {"index": optional(integer)})
_HINT: Final = OneField({"as_int": integer, "as_bool": truth, "as_float": real})
_EXPRESSION: Final = Fields({"expr_str": _SIZE}, {"hint": optional(_HINT)})
_SYM_INT: Final = OneField({"as_expr": _EXPRESSION, "as_int": integer})
_SYM_FLOAT: Final = OneField({"as_expr": _EXPRESSION, "as_float": real})
_SYM_BOOL: Final = OneField({"as_expr": _EXPRESSION, "as_bool": truth})
_INT_ARGUMENT: Final = OneField({"as_name": NAME, "as_int": integer})
_FLOAT_ARGUMENT: Final = OneField({"as_name": NAME, "as_float": real})
_BOOL_ARGUMENT: Final = OneField({"as_name": NAME, "as_bool": truth})
_TENSOR: Final = Fields({"name": NAME})
_OPTIONAL_TENSOR: Final = OneField({"as_tensor": _TENSOR, "as_none": truth})
_COMPLEX: Final = Fields({"real": real, "imag": real})
_GRAPH_ARGUMENT: Final = Fields({"name": NAME, "graph": lambda value: _graph(value)})
TENSOR_META: Final = Fields(
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
ARGUMENT: Final = OneField(
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
_NAMED_ARGUMENT: Final = Fields({"name": _ARGUMENT_NAME, "arg": ARGUMENT}, {"kind": optional(integer)})
NODE: Final = Fields(
    {
        "target": _TARGET,
        "inputs": listed(_NAMED_ARGUMENT),
        "outputs": listed(ARGUMENT),
        "metadata": Fields({}, _NOTES),
    },
    {"is_hop_single_tensor_return": optional(truth), "name": optional(NAME)},
)
GRAPH: Final = Fields(
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
_CONSTANT: Final = OneField(
    {"as_none": truth, "as_int": integer, "as_float": real, "as_string": _PLAIN, "as_bool": truth}
)
_INPUT_SPEC: Final = OneField(
    {
        "user_input": Fields({"arg": ARGUMENT}),
        "parameter": Fields({"arg": _TENSOR, "parameter_name": _PATH}),
        "buffer": Fields({"arg": _TENSOR, "buffer_name": _PATH, "persistent": truth}),
        "tensor_constant": Fields({"arg": _TENSOR, "tensor_constant_name": _PATH}),
        "constant_input": Fields({"name": NAME, "value": _CONSTANT}),
    },
    refused=("custom_obj", "token"),
)
_OUTPUT_SPEC: Final = OneField(
    {
        "user_output": Fields({"arg": ARGUMENT}),
        "buffer_mutation": Fields({"arg": _TENSOR, "buffer_name": _PATH}),
        "user_input_mutation": Fields({"arg": _TENSOR, "user_input_name": NAME}),
    },
    refused=("loss_output", "gradient_to_parameter", "gradient_to_user_input", "token", "parameter_mutation"),
)
_CALL_SIGNATURE: Final = Fields(
    {"inputs": listed(ARGUMENT), "outputs": listed(ARGUMENT), "in_spec": _TREE, "out_spec": _TREE},
    {"forward_arg_names": optional(listed(NAME))},
)
GRAPH_MODULE: Final = Fields(
    {
        "graph": GRAPH,
        "signature": Fields({"input_specs": listed(_INPUT_SPEC), "output_specs": listed(_OUTPUT_SPEC)}),
        "module_call_graph": listed(
            Fields(
                {"fqn": text("a path", lambda value: value == "" or is_path(value))},
                {"signature": optional(_CALL_SIGNATURE)},
            )
        ),
    },
    {
        "metadata": Fields({}, {"custom": _NOTES["custom"]}),
        "treespec_namedtuple_fields": nothing("named tuples"),
    },
)
PROGRAM: Final = Fields(
    {
        "graph_module": GRAPH_MODULE,
        "opset_version": mapped(pattern("a namespace", r"[a-z_]{1,40}"), integer),
        "range_constraints": mapped(
            text("a symbol", expressions.RANGED.fullmatch),
            Fields({"min_val": optional(integer), "max_val": optional(integer)}),
        ),
        "schema_version": Fields({"major": lambda value: _major(value), "minor": integer}),
    },
    {
        "verifiers": listed(pattern("a dialect", "|ATEN|TRAINING|EDGE")),
        "torch_version": pattern("a version", r"[\w.+<=]{1,60}"),
        "guards_code": listed(_GUARD),
    },
)
PAYLOADS: Final = Fields(
    {
        "config": mapped(
            _PATH,
            Fields(
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


def _graph(value: Any) -> None:
    GRAPH(value)


def _major(value: Any) -> None:
    if value != 8 or type(value) is not int:
        raise ProgramError(f"has the schema version {str(value)[:20]}, and torch 2.13 reads 8")


def _plain_bytes(value: Any) -> None:
    if value is not False:
        raise ProgramError("holds a tensor as a pickle")
