"""What the builder must know about packages that a user adds, to let them do without parts of torch. Each rule has its reason.

`libraries` rewrites the modules of such packages. What they take by `from ... import` it finds by itself. These tables have what
it cannot find. A row about a package that a layer does not have, or about another version of it, does nothing.
"""

from typing import NamedTuple

from builder.python.deferred.rules import ClassWithoutInstances

# Classes of which packages that a user adds ask for instances.
LIBRARY_CLASSES = (
    ClassWithoutInstances(
        "torch.distributed.tensor._api",
        "DTensor",
        "transformers asks for it when it loads and calls a model: tensors on several machines",
        taken_from=("torch.distributed.tensor",),
    ),
    ClassWithoutInstances(
        "torch.distributed.fsdp.fully_sharded_data_parallel",
        "FullyShardedDataParallel",
        "transformers asks for it before it generates a text: a model on several machines",
        taken_from=("torch.distributed.fsdp",),
    ),
    ClassWithoutInstances(
        "torch._subclasses.fake_tensor",
        "FakeTensor",
        "transformers asks for it at each call: tensors without numbers",
        taken_from=("torch._subclasses",),
    ),
    ClassWithoutInstances("torch.fx.proxy", "Proxy", "the same: tensors of a graph", taken_from=("torch.fx",)),
    ClassWithoutInstances(
        "torch.nn.attention.flex_attention",
        "BlockMask",
        "transformers asks for it when it makes a mask: attention that is compiled",
    ),
)


class RegistryRule(NamedTuple):
    """An object of a package that a user adds. Statements `name.method("key", value)` fill it when modules are imported.

    They wait until something uses the object. Nothing reads what they give it in another way.
    """

    module: str
    name: str
    method: str
    reason: str


FILLED_OBJECTS = (
    RegistryRule(
        "transformers.distributed.parallel_utils",
        "ALL_PARALLEL_STYLES",
        "register",
        "ways to divide a model among machines, made of classes of torch.distributed.tensor",
    ),
)


class WaitingDecorator(NamedTuple):
    """A decorator of torch for functions of packages that a user adds. It waits for `module`, and means nothing before that runs.

    Attributes:
        path: the decorator, as it stands in a source.
        module: the later module without which it has no effect.
        makes: whether it gives another function; otherwise it notes something about the function, and gives it back.
    """

    path: str
    module: str
    makes: bool
    reason: str


WAITING_DECORATORS = (
    WaitingDecorator(
        "torch.compiler.disable",
        "torch._dynamo",
        True,
        "says what torch.compile must not compile; it compiles by this module",
    ),
    WaitingDecorator("torch._dynamo.disable", "torch._dynamo", True, "the same"),
    *(
        WaitingDecorator(f"{package}.{name}", "torch._dynamo", False, "a note for torch.compile about the function")
        for package in ("torch.compiler", "torch._dynamo")
        for name in ("allow_in_graph", "assume_constant_result")
    ),
)


class PutOffCall(NamedTuple):
    """A function of a package that a user adds. Its calls wait until torch's import is complete. It returns nothing."""

    module: str
    function: str
    reason: str


PUT_OFF_CALLS = (
    PutOffCall(
        "transformers.utils.generic",
        "_register_model_output_pytree_node",
        "tells torch.utils._pytree of a class; only what completes the import looks there",
    ),
)


class BodyNote(NamedTuple):
    """A function of torch that notes something about a function of a module's body, by its name, and gives it back.

    It asks who calls it, and takes no other place than the body. Its calls wait until torch's import is complete, and are made in
    the module's globals then.
    """

    path: str
    reason: str


BODY_NOTES = (BodyNote("torch.fx.wrap", "torchvision says what a graph of torch.fx must keep as one call"),)


class LibraryStatements(NamedTuple):
    """Statements of a package that a user adds, each by its first line. They wait until `after` has run, in their order.

    The rest of the module's body needs nothing of what they bind.
    """

    module: str
    lines: tuple[str, ...]
    after: str
    reason: str


LIBRARY_STATEMENTS = (
    LibraryStatements(
        "torchvision.ops",
        ("from ._register_onnx_ops import _register_custom_op", "_register_custom_op()"),
        "torch.onnx",
        "tells torch.onnx how to export operators; nothing else looks there",
    ),
)


OPERATOR_CALLS = frozenset(
    f"torch.library.{name}"
    for name in ("custom_op", "register_fake", "register_autograd", "register_kernel", "define", "impl")
)
"""Functions that define operators, with the operator's name first. Statements of packages that a user adds which only call them
wait until torch's import is complete, or one of the operators is looked up. Where the operator is there, since a library in C++
has defined it, they do not wait: a program may call it without a look-up."""
