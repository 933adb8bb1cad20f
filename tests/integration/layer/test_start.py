"""What importing torch runs on the layer, and what ordinary inference leaves waiting."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

from builder import clean
from builder.native.elf import SharedLibrary, Tag
from builder.profile import record
from builder.python.deferred import rules

if TYPE_CHECKING:
    from integration.layer.conftest import Layer

# torch's version: the first two numbers.
TORCH = (int(version("torch").split(".")[0]), int(version("torch").split(".")[1]))
# Modules that run until an LSTM has answered; stock torch runs 729 to be imported, and NumPy 81.
MODULE_BUDGET = 135
NUMPY_BUDGET = 10
# Memory that is not the libraries' own pages; stock torch takes 154 MB.
ANONYMOUS_BUDGET = 112_000_000
# Cold code that comes back for a few everyday layers, on a processor whose maker's kernels were recorded.
PAGED_BUDGET = 3_000_000
# What the kernel maps with a neighbour (fault-around).
EDGE_PAGES = 32


def answer(layer: Layer, program: str, **environment: str) -> Any:
    """What the program prints as JSON on its last line, in a clean process that finds the layer."""
    done = clean.run(layer.tree, "-c", dedent(program), extra=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_an_inference_runs_few_modules(layer: Layer) -> None:
    """Importing torch and running an LSTM stays within the budgets of modules, and completes nothing."""
    program = """
    import json, sys, torch
    from torch_layer import finder
    torch.nn.LSTM(8, 8)(torch.tensor([[[0.5] * 8]]))
    run = [name.split(".")[0] for name, module in sys.modules.items() if type(module).__name__ != "Placeholder"
           and (getattr(module, "__file__", None) or "").endswith(".py")]
    print(json.dumps([run.count("torch"), run.count("numpy"), finder.imports(), finder.imports("numpy")]))
    """
    torch_count, numpy_count, (held, complete, reason, _), (held_of_numpy, *of_numpy, _) = answer(layer, program)
    assert (complete, reason) == (False, "")
    assert of_numpy == [False, ""]
    assert held > 580
    assert held_of_numpy > 70
    assert torch_count <= MODULE_BUDGET
    assert numpy_count <= NUMPY_BUDGET


@pytest.mark.skipif(record.maker() == "other", reason="no profile was recorded on a processor of this maker")
@pytest.mark.parametrize("capability", record.capabilities(platform.machine()), ids=lambda each: each.name)
def test_everyday_layers_are_ready_on_this_processor(layer: Layer, capability: record.Capability) -> None:
    """An LSTM, linear layers, products of matrices and a convolution page in little of what was cold."""
    program = """
    import json, torch
    from torch_layer import pager
    with torch.inference_mode():
        torch.nn.LSTM(8, 8)(torch.zeros(2, 1, 8))
        for rows in (1, 16):
            torch.nn.Linear(64, 128)(torch.ones(rows, 64))
        torch.mm(torch.ones(64, 64), torch.ones(64, 64))
        torch.nn.Conv2d(3, 8, 3)(torch.ones(1, 3, 32, 32))
    print(json.dumps(pager.stats().bytes))
    """
    assert answer(layer, program, **capability.environment) <= PAGED_BUDGET


def test_a_start_takes_little_memory(layer: Layer) -> None:
    """Importing torch and running an LSTM stays within the budget of memory beside the libraries' own pages."""
    program = """
    import json, torch
    torch.nn.LSTM(8, 8)(torch.tensor([[[0.5] * 8]]))
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    print(json.dumps(int(status["RssAnon"].split()[0]) * 1024))
    """
    assert answer(layer, program) <= ANONYMOUS_BUDGET


@pytest.mark.parametrize("library", ["libtorch_cpu.so", "libtorch_python.so"])
def test_tables_that_only_loading_reads_are_given_back(layer: Layer, library: str) -> None:
    """Of the relocations of a library that has been loaded, only pages at the edges of the table are mapped."""
    read = SharedLibrary.read(layer.tree / "torch" / "lib" / library)
    table, size = read.tag(Tag.RELA), read.tag(Tag.RELASZ)
    assert table
    assert size
    program = f"""
    import json, re, torch
    maps = open("/proc/self/maps").read()
    base = int(re.search(r"^([0-9a-f]+)-[^\\n]* 00000000 [^\\n]*/{library}$", maps, re.MULTILINE)[1], 16)
    with open("/proc/self/pagemap", "rb", 0) as pages:
        pages.seek((base + {table}) // 4096 * 8)
        entries = pages.read({size} // 4096 * 8)
    print(json.dumps([len(entries) // 8, sum(entries[at + 7] >> 7 for at in range(0, len(entries), 8))]))
    """
    whole, there = answer(layer, program)
    assert whole > 100
    assert there <= EDGE_PAGES


TOUCHES_OF_NUMPY = [
    "import numpy; print(numpy.arange(6).reshape(2, 3).mean(axis=0))",
    "print(repr(torch.ones(2).numpy()))",
    "print(torch.ones(2).numpy().astype('float16').std())",
    "import numpy as np; print(torch.from_numpy(np.linspace(0, 1, 3)))",
    "print(torch.tensor(__import__('numpy').float32(2)))",
    "from numpy.linalg import norm; print(norm([3, 4]))",
    "import numpy.random; print(numpy.random.default_rng(1).integers(9, size=3))",
    "import pickle, numpy; print(pickle.loads(pickle.dumps(numpy.ones(3))).sum())",
    "import sys; print(type(sys.modules['numpy._core._multiarray_umath']._ARRAY_API))",
    "import numpy._core._multiarray_umath as native; print(native.array([1, 2]).sum())",
]


@pytest.mark.parametrize("use", TOUCHES_OF_NUMPY)
@pytest.mark.parametrize("first", ["import torch", "import numpy, torch", "import numpy; numpy.ones(1); import torch"])
def test_any_use_of_numpy_brings_all_of_it(layer: Layer, first: str, use: str) -> None:
    """A program that uses NumPy finds what stock NumPy has, in any order of imports, and torch's modules go on waiting."""
    program = f"""
    import contextlib, io, json
    {first}
    with contextlib.redirect_stdout(io.StringIO()) as said:
        {use}
    import sys, numpy
    from torch_layer import finder
    modules = sorted(name for name in sys.modules if name.split(".")[0] == "numpy")
    held = [name for name in modules if type(sys.modules[name]).__name__ == "Placeholder"]
    mine = "numpy" in vars(torch.Tensor)
    names = sorted(vars(numpy)), sorted(vars(numpy._core._multiarray_umath))
    print(json.dumps([said.getvalue(), modules, names, held, mine, finder.imports("numpy").complete, finder.imports().reason]))
    """
    found = answer(layer, program)
    assert found[:3] == answer(layer, program, TORCH_LAYER_IMPORTS="eager")[:3]
    assert found[3:] == [[], False, True, ""]


def test_loading_leaves_the_process_as_it_was(layer: Layer) -> None:
    """Flags for later extension modules, the environment and the collector are as before the import."""
    program = """
    import gc, json, os, sys
    def state():
        return [sys.getdlopenflags(), gc.isenabled(), gc.get_freeze_count(), sorted(os.environ.items())]
    before = state()
    import torch
    torch.ones(2).numpy()
    print(json.dumps([before, state()]))
    """
    before, after = answer(layer, program)
    assert after == before


def test_ordinary_inference_completes_nothing(layer: Layer) -> None:
    """Every group of the workload but those listed with a reason leaves the held modules waiting."""
    program = """
    import json, os
    from torch_layer import finder
    from builder import workload
    found = {}
    for group in workload.GROUPS:
        reading, writing = os.pipe()
        if os.fork() == 0:
            try:
                workload.run_groups([group])
                os.write(writing, finder.imports().reason.encode() or b"-")
            finally:
                os._exit(0)
        os.wait()
        os.close(writing)
        found[group.name] = os.read(reading, 1000).decode()
    print(json.dumps(found))
    """
    found = answer(layer, program)
    listed = {rule.group for rule in rules.applying(rules.COMPLETING, TORCH)}
    assert listed <= found.keys()
    assert {name for name, reason in found.items() if reason != "-"} == listed


FUNCTIONS = {
    "torch.autograd.gradcheck": "torch.autograd.gradcheck(torch.sin, torch.ones(2, dtype=torch.float64, requires_grad=True))",
    "torch.cond": "torch.cond(torch.tensor(True), torch.sin, torch.cos, (torch.zeros(1),)).tolist() == [0]",
    "torch.while_loop": "torch.while_loop(lambda x: x.sum() < 3, lambda x: (x + 1,), (torch.zeros(1),))[0].tolist() == [3]",
    "flat_apply": "callable(torch._higher_order_ops.flat_apply)",
}


@pytest.mark.parametrize("mode", ["held", "eager"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_with_the_names_of_their_modules_are_functions(layer: Layer, name: str, mode: str) -> None:
    """A function that a package has under the name of a submodule can be called, as the first touch and without held modules."""
    program = f"import json, torch\nprint(json.dumps(bool({FUNCTIONS[name]})))"
    assert answer(layer, program, TORCH_LAYER_IMPORTS=mode)


@pytest.mark.parametrize("delay", [0.02, 0.2, 0.5, 1.0])
def test_a_fork_while_another_thread_completes(layer: Layer, delay: float) -> None:
    """A child that is forked at any moment of completing computes what its parent does."""
    program = f"""
    import json, os, select, threading, time, torch
    def use():
        fourier = torch.fft.fft(torch.ones(9)).real.sum().item()
        return [fourier, torch.sparse.mm(torch.eye(4).to_sparse(), torch.ones(4, 4)).sum().item(), torch.fx.Graph.__name__]
    thread = threading.Thread(target=lambda: torch.export.export)
    thread.start()
    time.sleep({delay})
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, json.dumps(use()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    is_there = bool(select.select([reading], [], [], 60)[0])
    os.kill(child, 0 if is_there else 9)
    thread.join()
    print(json.dumps([os.read(reading, 1000).decode() if is_there else "hangs", use()]))
    """
    forked, own = answer(layer, program)
    assert json.loads(forked) == own == [9, 16, "Graph"]


def test_native_classes_keep_their_names(layer: Layer) -> None:
    """Classes that C code makes in a module that waits can be pickled, and say that they are torch's."""
    program = """
    import json, pickle, torch
    kind = torch.distributed.ReduceOp
    copied = pickle.loads(pickle.dumps(kind.SUM))
    names = torch._C._distributed_c10d.Reducer.__module__
    print(json.dumps([copied == kind.SUM, names, repr(torch._C._distributed_rpc.RpcAgent)]))
    """
    rpc = "<class 'torch._C._distributed_rpc.RpcAgent'>"
    assert answer(layer, program) == [True, "torch._C._distributed_c10d", rpc]


def test_everything_can_be_asked_for(layer: Layer) -> None:
    """The variable and the function both leave what stock torch leaves: no module held."""
    program = """
    import json, sys, torch
    from torch_layer import finder
    if not finder.imports().complete:
        finder.complete_imports()
    held = [name for name, module in sys.modules.items() if type(module).__name__ == "Placeholder"]
    print(json.dumps([finder.imports().complete, held, torch.export.export.__name__]))
    """
    assert answer(layer, program) == [True, [], "export"]
    assert answer(layer, program, TORCH_LAYER_IMPORTS="eager") == [True, [], "export"]


META_OPERATORS = {row.name for row in rules.applying(rules.META_OPERATORS, TORCH)}
where_the_meta_device_is_native = pytest.mark.skipif(
    not META_OPERATORS, reason="with this version of torch every meta tensor completes the import"
)
META = """
import json, torch
from torch_layer import finder
MADE = {
    "empty.memory_format": lambda: torch.empty(2, 3, device="meta", memory_format=torch.contiguous_format),
    "zeros": lambda: torch.zeros(2, 3, dtype=torch.half, device="meta"),
    "ones": lambda: torch.ones(3, device="meta"),
    "full": lambda: torch.full((2, 2), 7, device="meta"),
    "arange": lambda: torch.arange(7, device="meta"),
    "arange.start": lambda: torch.arange(1.5, 7, device="meta"),
    "arange.start_step": lambda: torch.arange(0, 7, 2, dtype=torch.int64, device="meta"),
    "arange.start_out": lambda: torch.arange(0, 7, out=torch.empty(0, dtype=torch.int64, device="meta")),
    "randn": lambda: torch.randn(1, 2, device="meta"),
    "resize_": lambda: torch.empty(0, device="meta").resize_(2, 3),
    "empty_like": lambda: torch.empty_like(torch.empty(2, 3, 4, 5, device="meta").transpose(1, 2)),
    "empty_strided": lambda: torch.empty_strided((2, 3), (1, 2), device="meta"),
    "fill_.Scalar": lambda: torch.empty(2, device="meta").fill_(3),
    "zero_": lambda: torch.empty(2, device="meta").zero_(),
    "normal_": lambda: torch.empty(2, device="meta").normal_(0, 0.02),
    "uniform_": lambda: torch.empty(2, device="meta").uniform_(-1, 1),
    "copy_": lambda: torch.empty(2, 3, device="meta").copy_(torch.zeros(3, device="meta")),
    "detach": lambda: torch.nn.Parameter(torch.empty(2, 3, device="meta")).detach(),
    "alias": lambda: torch.ops.aten.alias(torch.empty(2, 3, device="meta")),
    "select.int": lambda: torch.empty(2, 3, device="meta")[1],
    "as_strided": lambda: torch.empty(6, device="meta").as_strided((2, 2), (3, 1), 1),
    "expand": lambda: torch.empty(1, 3, device="meta").expand(4, -1),
    "slice.Tensor": lambda: torch.empty(5, 3, device="meta")[1:4:2],
    "unsqueeze": lambda: torch.empty(5, 3, device="meta").unsqueeze(1),
    "view": lambda: torch.empty(6, 2, device="meta").view(3, -1),
    "t": lambda: torch.empty(6, 2, device="meta").t(),
    "transpose.int": lambda: torch.empty(6, 2, 3, device="meta").transpose(0, 2),
    "div.Tensor": lambda: torch.arange(0, 8, 2, device="meta") / 8,
    "mul.Tensor": lambda: 2 * torch.empty(4, 1, dtype=torch.half, device="meta") * torch.empty(3, device="meta"),
    "pow.Scalar": lambda: 10000 ** (torch.arange(0, 8, 2, device="meta") / 8),
    "reciprocal": lambda: torch.empty(3, 2, device="meta").t().reciprocal(),
    "clone": lambda: torch.empty(3, 2, 4, device="meta").transpose(0, 1).clone(),
}
def described():
    found = {}
    for name, make in MADE.items():
        value = make()
        found[name] = [list(value.shape), list(value.stride()), value.storage_offset(), str(value.dtype), value.is_leaf]
    return found
"""


@where_the_meta_device_is_native
def test_a_model_on_the_meta_device_completes_nothing(layer: Layer) -> None:
    """Operators of the table make the meta tensors that they make in stock torch, and nothing completes the import."""
    program = META + dedent("""
    held = described()
    reason = finder.imports().reason
    finder.complete_imports()
    print(json.dumps([reason, held, described()]))
    """)
    reason, held, complete = answer(layer, program)
    assert (reason, held) == ("", complete)
    assert {f"aten::{name}" for name in held} == META_OPERATORS


@where_the_meta_device_is_native
def test_another_operator_on_the_meta_device_completes_the_import(layer: Layer) -> None:
    """An operator that is not in the table completes the import, by its name, and gives what it gives in stock torch."""
    program = """
    import json, torch
    from torch_layer import finder
    made = torch.empty(2, 3, device="meta")
    before = finder.imports().complete
    answer = torch.linalg.vector_norm(made, dim=1)
    print(json.dumps([before, list(answer.shape), finder.imports().reason]))
    """
    assert answer(layer, program) == [False, [2], "a meta tensor (aten::linalg_vector_norm)"]


def test_threads_complete_the_import_together(layer: Layer) -> None:
    """Eight threads whose first touches are different ones all get what they asked for."""
    program = """
    import json, threading, torch
    uses = [
        lambda: torch.export.export.__name__,
        lambda: torch.optim.AdamW.__name__,
        lambda: torch.distributions.Normal.__name__,
        lambda: str(torch.ops.prims.add),
        lambda: list(torch.cumsum(torch.empty(2, 3, device="meta"), 0).shape),
        lambda: torch.fx.Graph.__name__,
        lambda: torch.utils.data.DataLoader.__name__,
        lambda: torch.jit.script.__name__,
    ]
    barrier, found = threading.Barrier(len(uses)), [None] * len(uses)
    def work(number):
        barrier.wait()
        found[number] = uses[number]()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(uses))]
    [each.start() for each in threads]; [each.join(120) for each in threads]
    print(json.dumps(found))
    """
    expected = ["export", "AdamW", "Normal", "prims.add", [2, 3], "Graph", "DataLoader", "script"]
    for _ in range(5):
        assert answer(layer, program) == expected
