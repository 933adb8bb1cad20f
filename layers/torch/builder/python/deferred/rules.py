"""What the builder must know about torch to hold modules back. Each rule has its reason.

A row that is right for some versions of torch only says for which (`Versions`). `fitting` holds every row against the sources of
a torch. The search ends only when ordinary inference works without the held modules. The verification of a build compares all
operators and attributes with stock torch.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple, Protocol, TypeVar


class Versions(NamedTuple):
    """Versions of torch, each by its major and minor number: from `since` on, and before `before`."""

    since: tuple[int, int] = (0, 0)
    before: tuple[int, int] | None = None

    def has(self, torch: tuple[int, int]) -> bool:
        """Whether a version is one of them."""
        return self.since <= torch and (self.before is None or torch < self.before)

    def __str__(self) -> str:
        """For a table: `2.14 and later`."""
        since, before = (".".join(map(str, each)) if each else "" for each in (self.since, self.before))
        if self == EVERY:
            return "every version"
        return (
            f"{since} and later"
            if not before
            else f"before {before}"
            if not any(self.since)
            else f"{since} to before {before}"
        )


EVERY = Versions()
NEWEST = (9999, 0)
"""After every version that a row names."""


class _VersionedRow(Protocol):
    @property
    def versions(self) -> Versions: ...


_AnyRow = TypeVar("_AnyRow", bound=_VersionedRow)


def applying(rows: Iterable[_AnyRow], torch: tuple[int, int]) -> tuple[_AnyRow, ...]:
    """The rows of a table that are about this version of torch."""
    return tuple(row for row in rows if row.versions.has(torch))


# Modules of these packages can be held. `import torch` spends most of its time on them.
PACKAGES = ("torch", "torchgen")


# NumPy's C code, which torch's uses, and the line by which NumPy prepares for it. torch_layer/placeholders.py does the same.
NUMPY_NATIVE = "numpy._core._multiarray_umath"
NUMPY_PREPARES = "for envkey in ['OPENBLAS_MAIN_FREE']:"


class Constant(NamedTuple):
    """A name of a held module whose value, a text, can be read without a touch; `origin` assigns it to `original`."""

    module: str
    name: str
    origin: str
    original: str
    reason: str


CONSTANTS = (
    Constant(
        "numpy",
        "__version__",
        "numpy.version",
        "version",
        "torch's C code asks whether NumPy is one with a certain bug",
    ),
)


class Pattern(NamedTuple):
    """Modules, by their names."""

    pattern: str
    reason: str


NEVER = (
    Pattern(r"torch|torch\._C.*", "the root, and the extension module"),
    Pattern(
        r"torch\._logging\._registrations",
        "registers the names that every getArtifactLogger looks up; nothing takes anything from it",
    ),
    Pattern(
        r"torch\.(cuda|xpu)\.graphs",
        "makes classes for the device if it finds none; it would find those that the streams module has made, and keep them",
    ),
)

# A module that puts another object into sys.modules for itself, or that changes its class, is not the object that others have.
# A module that makes settings of its globals must find nothing else there.
_SPECIAL = re.compile(
    rb"sys\.modules\[[^\]]+\]\s*=[^=]|install_config_module\(|sys\.modules\[__name__\]\.__class__\s*="
)


# ... but these only look like it.
PLAIN = (Pattern(r"torch", "it puts modules for devices into sys.modules, and leaves its own place alone"),)


class ClassWithoutInstances(NamedTuple):
    """A class of a held module whose instances only that module makes, and whose metaclass has no `__instancecheck__`.

    In `library_rules` it may be a class of a later module too. `taken_from` are other modules from which it is imported.
    """

    module: str
    name: str
    reason: str
    versions: Versions = EVERY
    taken_from: tuple[str, ...] = ()


CLASSES_WITHOUT_INSTANCES = (
    ClassWithoutInstances(
        "torch._subclasses.fake_tensor", "FakeTensor", "Module.to, .half, .float and printing ask for it"
    ),
    ClassWithoutInstances("torch._subclasses.fake_tensor", "FakeTensorMode", "torch.save asks for it"),
    ClassWithoutInstances("torch._subclasses.functional_tensor", "FunctionalTensor", "printing asks for it"),
    ClassWithoutInstances("torch._subclasses.functional_tensor", "FunctionalTensorMode", "printing asks for it"),
    ClassWithoutInstances("torch._subclasses.schema_check_mode", "SchemaCheckMode", "printing asks for it"),
    ClassWithoutInstances("torch.fx.experimental.proxy_tensor", "ProxyTorchDispatchMode", "printing asks for it"),
    ClassWithoutInstances(
        "torch._library.fake_class_registry",
        "FakeScriptObject",
        "operators on script objects ask for it: record_function",
    ),
    ClassWithoutInstances(
        "torch.nested._internal.nested_tensor", "NestedTensor", "backward asks whether its roots are nested"
    ),
)


class EagerStatement(NamedTuple):
    """Statements of a module that must not wait, although the module does.

    `lines` are run when `import torch` ends; each must stand in the module's source just so.
    """

    module: str
    lines: tuple[str, ...]
    reason: str
    versions: Versions = EVERY


EAGER_STATEMENTS = (
    EagerStatement(
        "torch._prims.rng_prims",
        ("from torch._opaque_base import OpaqueBaseMeta", "torch._C._set_generator_metaclass(OpaqueBaseMeta)"),
        "torch.Generator() is an error before",
        Versions(since=(2, 13), before=(2, 14)),
    ),
    EagerStatement(
        "torch._prims.rng_prims",
        (
            "from torch._custom_class_base import CustomClassBaseMeta",
            "torch._C._set_generator_metaclass(CustomClassBaseMeta)",
        ),
        "the same, since torch 2.14 under this name",
        Versions(since=(2, 14)),
    ),
    EagerStatement(
        "torch.jit._script",
        (
            "from torch.utils import set_module",
            "ScriptFunction = torch._C.ScriptFunction",
            "CompilationUnit = torch._C.CompilationUnit",
            "ScriptFunction.__name__ = 'ScriptFunction'",
            "ScriptFunction.__qualname__ = 'torch.jit.ScriptFunction'",
            "set_module(ScriptFunction, 'torch.jit')",
            "set_module(CompilationUnit, 'torch.jit')",
        ),
        "names of native classes, by which they are shown and pickled",
    ),
    EagerStatement(
        "torch.nn.attention",
        (
            "from torch._C import _SDPBackend as SDPBackend",
            "SDPBackend.__module__ = __name__",
            "SDPBackend.__name__ = 'SDPBackend'",
        ),
        "the same",
    ),
)


class CopiedFunction(NamedTuple):
    """A function of a held module that does not need its module.

    A copy of it answers until the import is completed, made of its own source and of `lines`, which must stand in the module.
    Flags among them have their first value: setting one from outside is a touch. A question whether something is an instance of
    a class of CLASSES_WITHOUT_INSTANCES is answered with no.

    Where `answer` is given, a Python expression, the copy returns that: the function cannot answer otherwise before its module
    runs. `home` is the module that defines the function, if it is another one.
    """

    module: str
    function: str
    lines: tuple[str, ...]
    reason: str
    versions: Versions = EVERY
    answer: str = ""
    home: str = ""


COPIED_FUNCTIONS = (
    CopiedFunction(
        "torch.jit._trace",
        "is_tracing",
        ("from torch._jit_internal import is_scripting",),
        "split, pad_sequence, interpolate and others ask it; its module is TorchScript's compiler",
    ),
    CopiedFunction(
        "torch.compiler",
        "is_compiling",
        ("_is_compiling_flag: bool = False",),
        "calling a module with hooks asks it; its package brings in the higher-order operators",
    ),
    CopiedFunction("torch.compiler", "is_exporting", ("_is_exporting_flag: bool = False",), "attention asks it"),
    CopiedFunction(
        "torch.distributed",
        "is_available",
        (),
        "libraries ask it when they are imported, and each time they call a model",
    ),
    CopiedFunction(
        "torch.distributed",
        "is_initialized",
        (),
        "the same; there is no process group before the module that makes them has run",
        answer="False",
        home="torch.distributed.distributed_c10d",
    ),
    CopiedFunction(
        "torch._subclasses.fake_tensor",
        "is_fake_tensor",
        ("from torch import Tensor",),
        "printing and copying a tensor ask it; its module is tracing",
        Versions(since=(2, 14)),
    ),
)


class StubbedAnswer(NamedTuple):
    """A function of a module that runs or is separable, and what it returns as long as the import is not completed.

    `value` and `when` are Python expressions; where `when` is not true, the function runs as it is. `function` may be
    `outer.inner`: a function that a function makes.
    """

    module: str
    function: str
    value: str
    reason: str
    when: str = ""
    versions: Versions = EVERY


# torch.optim imports torch._dynamo at its first step, to say what torch.compile must not compile.
_WITHOUT_DYNAMO = "'torch._dynamo' not in __import__('sys').modules"

STUBBED_ANSWERS = (
    StubbedAnswer(
        "torch._guards", "detect_fake_mode", "None", "torch.load asks it; there is no fake mode before its module ran"
    ),
    StubbedAnswer(
        "torch._jit_internal",
        "_check_overload_body",
        "None",
        "reads and parses the sources of torch's own overloads, which are known to be right",
        when="func.__module__.startswith('torch.')",
    ),
    StubbedAnswer(
        "torch",
        "_check_with",
        "None",
        "attention with a padding mask asks it; symbolic shapes, and SymPy with them, are for conditions that are no bool",
        when="cond is True",
    ),
    StubbedAnswer(
        "torch.autograd.profiler",
        "_maybe_cupti_monitor",
        "None",
        "the data loader asks it; there is no monitor of a GPU before torch.profiler ran",
        versions=Versions((2, 13), (2, 14)),
    ),
    StubbedAnswer(
        "torch.utils.data.dataloader",
        "_get_distributed_settings",
        "(1, 0)",
        "the data loader asks it; there is no process group before torch.distributed ran",
    ),
    StubbedAnswer(
        "torch._compile",
        "_disable_dynamo.inner",
        "fn(*args, **kwargs)",
        "optimizers call it; it imports torch._dynamo to keep that from compiling, which nothing does that is not imported",
        when=_WITHOUT_DYNAMO,
        versions=Versions((2, 13), (2, 14)),
    ),
    StubbedAnswer(
        "torch.optim.optimizer",
        "_use_grad_for_differentiable._use_grad",
        "__import__('torch').set_grad_enabled(args[0].defaults['differentiable'])(func)(*args, **kwargs)",
        "the step of an optimizer: the same, without two notes for torch._dynamo",
        when=_WITHOUT_DYNAMO,
        versions=Versions((2, 13), (2, 14)),
    ),
)


class DeferredStatement(NamedTuple):
    """A statement of a module that runs. It waits until something asks for a name that it binds, or the import is complete.

    `line` is its first line.
    """

    module: str
    line: str
    reason: str
    versions: Versions = EVERY


DEFERRED_STATEMENTS = (
    DeferredStatement(
        "torch._jit_internal",
        "if torch.distributed.rpc.is_available():",
        "brings in torch.distributed, for two functions that only TorchScript calls",
    ),
    DeferredStatement(
        "torch._guards", "import unittest.mock", "brings in asyncio, ssl and more, for three patches in tracing"
    ),
    DeferredStatement(
        "torch",
        "quantized_lstm = ops.aten.quantized_lstm",
        "makes TorchScript's table of operators; a name kept for old programs",
    ),
    DeferredStatement(
        "torch._library.fake_class_registry",
        "from torch._library.utils import parse_namespace",
        "stock torch runs torch.utils._pytree before torch._library; in the order that is left, the two import each other",
        Versions(since=(2, 14)),
    ),
    DeferredStatement(
        "torch.utils.checkpoint",
        "SAC_IGNORED_OPS = {torch.ops.aten.detach.default, torch.ops.prim.device.default} | "
        "set(torch._subclasses.functional_tensor.FunctionalTensor.metadata_fns)",
        "takes names from a class of tracing, for selective checkpoints",
        Versions(since=(2, 13), before=(2, 14)),
    ),
    DeferredStatement("torch", "quantized_gru = ops.aten.quantized_gru", "as the line before it"),
    DeferredStatement(
        "torch",
        "if hasattr(torch._C, '_c10d_init'):",
        "tells tracing of process groups; it runs torch.distributed.distributed_c10d, and nothing else of that package",
        Versions(since=(2, 14)),
    ),
    *(
        DeferredStatement(
            module, f"import {library}", "a library of Python's own that only functions of the module use"
        )
        for module, libraries in (
            ("torch", ("glob",)),
            ("torch.serialization", ("difflib", "shutil", "tarfile", "tempfile")),
            ("torch._logging._internal", ("hashlib", "pathlib", "tempfile")),
            ("torch._strobelight.cli_function_profiler", ("subprocess",)),
            ("torch._strobelight.compile_time_profiler", ("subprocess",)),
            ("torch._utils_internal", ("tempfile",)),
        )
        for library in libraries
    ),
    *(
        DeferredStatement(
            "torch.cuda",
            f"_lazy_call({function})",
            "for the first use of a GPU, which a CPU build refuses; reads sources",
        )
        for function in ("_check_capability", "_check_cubins", "_register_triton_kernels")
    ),
)


class SeparableModules(NamedTuple):
    """Held modules, by name, that run by themselves when something touches them, while the others go on waiting.

    Each must do with the modules that run and with those of this table. A build fails if one of them completes the import, or if
    the order shows afterwards. So `versions` are those with which that was seen.
    """

    pattern: str
    reason: str
    versions: Versions = Versions((2, 13), (2, 14))


SEPARABLE = (
    SeparableModules(r"torch\.sparse(\..*)?", "torch.load asks whether sparse tensors are to be checked"),
    SeparableModules(r"torch\.fft", "spectrograms, and filters of audio models"),
    SeparableModules(r"torch\.nn\.attention(\._registry)?", "a model chooses the kernel of its attention"),
    SeparableModules(
        r"torch\.nn\.utils(\.(?!_named_member_accessor|parametriz|stateless|prune).*)?|torch\.utils\._foreach_utils",
        "weight normalisation and its removal, gradient clipping",
    ),
    SeparableModules(
        r"torch\.nested(\._internal(\.(nested_tensor|nested_int))?)?", "a default device lists its functions"
    ),
    SeparableModules(r"torch\.fx\.experimental\._constant_symnode|torch\.utils\.weak", "torch.nested takes them"),
    SeparableModules(r"torch\.utils\.checkpoint", "transformers has a function of it as the default of a parameter"),
    SeparableModules(
        r"torch\.utils\.(data(\..*)?|_import_utils)", "batches made by the data loader in the same process"
    ),
    SeparableModules(
        r"torch\.autograd\.profiler(_util)?", "the data loader, and torch.profiler, time their steps with it"
    ),
    SeparableModules(
        r"torch\.distributions(\.(?!von_mises).*)?",
        "sampling from what a model gives; von_mises calls TorchScript's compiler in its body",
    ),
    SeparableModules(
        r"torch\.jit\.(_serialization|_recursive|_check|_state|frontend|_dataclass_impls|_monkeytype_config|_script)",
        "torch.jit.load",
    ),
    SeparableModules(r"torch\._sources|torch\.package(\..*)?", "torch.jit.load takes them"),
    SeparableModules(r"torch\.jit\._trace", "torchvision has functions that TorchScript compiles when they are traced"),
    SeparableModules(r"torch\.hub", "torchvision asks it for the folder of downloads when it is imported"),
    SeparableModules(
        r"torch\._library\.(autograd|fake_impl|simple_registry)",
        "libraries tell torch the gradients and the sizes of their operators in C++ when they are imported",
    ),
    SeparableModules(r"torch\.backends\.cpu", "torchvision asks for the instruction set before it resizes a picture"),
    SeparableModules(r"torch\.optim(\..*)?", "training of a small model, or of a last layer"),
)


class AtFork(NamedTuple):
    """A module of Python's own library that held modules import, and that registers handlers for forks."""

    module: str
    reason: str


AT_FORK = (AtFork("concurrent.futures.thread", "takes a lock before a fork and gives it back afterwards"),)


class CompletingGroup(NamedTuple):
    """A group of the workload that may complete the import."""

    group: str
    reason: str
    versions: Versions = EVERY


COMPLETING = (
    CompletingGroup(
        "dynamic-quantized",
        "quantizing a model imports torch.ao.quantization, which is graph rewriting for its larger part",
    ),
    CompletingGroup(
        "weight-norm", "parametrizations register themselves with torch.utils._pytree and all that it takes"
    ),
    CompletingGroup(
        "save-and-load",
        "it also makes a model on the meta device; META_OPERATORS were not tried with these versions",
        Versions(since=(2, 14)),
    ),
    CompletingGroup("torchscript", "it also traces a module, which takes TorchScript's compiler"),
    CompletingGroup(
        "data-loader", "no module is separable where that was not tried: see SEPARABLE", Versions(since=(2, 14))
    ),
)


class MetaOperator(NamedTuple):
    """An operator `aten::name.overload` that works on meta tensors without the Python kernels of held modules.

    Its native kernel gives a tensor with the same sizes, strides and type. A test compares both. With versions where that was not
    tried, every factory completes the import.
    """

    name: str
    reason: str
    versions: Versions = Versions(before=(2, 14))


META_OPERATORS = tuple(
    MetaOperator(f"aten::{name}", reason)
    for reason, names in (
        (
            "libraries make a model on the meta device before they load its weights",
            ("empty.memory_format", "zeros", "ones", "full", "arange", "arange.start", "arange.start_step", "randn"),
        ),
        (
            "a part of the factories",
            ("arange.start_out", "resize_", "empty_like", "empty_strided", "fill_.Scalar", "zero_"),
        ),
        ("a model gives its parameters their first values: there are none to give", ("normal_", "uniform_", "copy_")),
        (
            "a view; it has no Python kernel",
            (
                "detach",
                "alias",
                "select.int",
                "as_strided",
                "expand",
                "slice.Tensor",
                "unsqueeze",
                "view",
                "t",
                "transpose.int",
            ),
        ),
        (
            "rotary positions are computed when a model is made",
            ("div.Tensor", "mul.Tensor", "pow.Scalar", "reciprocal", "clone"),
        ),
    )
    for name in names
)

# Keys of the dispatcher whose kernels may be missing until the import is completed.
MISSING_KERNELS = {
    "Meta": "every meta tensor begins with a factory: from then on all operators but those of META_OPERATORS complete the import",
    "CUDA": "there is no such device in a CPU build",
    "MPS": "there is no such device in a CPU build",
    "XPU": "there is no such device in a CPU build",
    "FuncTorchDynamicLayerFrontMode": "it is in force inside the transforms of torch.func only, and these complete the import",
    "PythonTLSSnapshot": "it is in force inside dispatch modes of Python only; torch's own kernels for it (since 2.15) are "
    "for fake and functional tensors, which complete the import, and hand all others on",
}


def is_left_alone(name: str, source: bytes) -> bool:
    """Whether a module does things with itself, so that it can neither be held nor rewritten."""
    return _SPECIAL.search(source) is not None and not any(re.fullmatch(rule.pattern, name) for rule in PLAIN)


def is_separable(name: str, torch: tuple[int, int]) -> bool:
    """Whether a held module of this version of torch runs by itself when something touches it."""
    return any(re.fullmatch(rule.pattern, name) for rule in applying(SEPARABLE, torch))


def is_never_held(name: str, source: bytes) -> bool:
    """Whether a rule keeps the module from being held."""
    return is_left_alone(name, source) or any(re.fullmatch(rule.pattern, name) for rule in NEVER)
