"""Kernels that are registered when something needs them: nothing is called in their place, and nothing is missed."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from builder import clean
from builder.native.late_initialisers import LATE_GROUPS, find

if TYPE_CHECKING:
    from integration.layer.conftest import Layer

PROGRAM = Path(__file__).parent / "programs" / "late_kernels.py"
KEYS = frozenset(key for group in LATE_GROUPS for key in group.keys)

pytestmark = pytest.mark.skipif(not version("torch").startswith("2.13."), reason="nothing waits with this torch")


def run(tree: Path, program: str, **environment: str) -> list[str]:
    """The lines that a program prints, in a clean process that finds the tree."""
    head = "import json, sys, torch, warnings\nwarnings.simplefilter('ignore')\nC = torch._C\n"
    done = clean.run(tree, "-c", head + dedent(program), extra=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


WAITS = """
print(sys.modules['torch_layer.finder']._LATE.is_waiting)
"""


def test_the_initialisers_are_found(stock: Path) -> None:
    """Those of tracing, of vmap and of functionalisation wait in this version of torch."""
    assert len(find(stock).addresses) == 37


def test_no_other_kernel_stands_in(layer: Layer) -> None:
    """For each operator and key the dispatcher has the final kernel from the start, or none, and none for late keys only."""
    done = clean.run(layer.tree, str(PROGRAM))
    assert done.returncode == 0, done.stderr
    before, after, complete = json.loads(done.stdout)
    assert not complete
    assert len(before) > 3000
    assert before.keys() == after.keys()
    for name, final in after.items():
        now = before[name]
        assert {key: kernel for key, kernel in final.items() if key in now} == now, name
        assert final.keys() - now.keys() <= KEYS, name
        # A fallback that is there before the others would be called in their place.
        assert not any(key in KEYS and "fallback" in kernel for key, kernel in now.items()), name


QUIET = {
    "an LSTM": "torch.nn.LSTM(3, 4)(torch.ones(2, 1, 3))",
    "a gradient": "x = torch.ones(3, requires_grad=True); (x * x).sum().backward()",
    "autocast": "with torch.autocast('cpu', torch.bfloat16): torch.nn.Linear(3, 4)(torch.ones(1, 3))",
    "a model on the meta device": "with torch.device('meta'): torch.nn.Linear(3, 4)",
    "a sparse tensor": "torch.ones(3, 3).to_sparse() @ torch.ones(3, 3)",
    "a quantised tensor": "torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8).dequantize()",
    "torch.fft": "torch.fft.rfft(torch.ones(8))",
    "a complex view": "torch.ones(2, dtype=torch.complex64).conj() * 2",
    "an operator by its name": "torch.ops.aten.add.Tensor(torch.ones(2), torch.ones(2))",
}


@pytest.mark.parametrize("what", QUIET)
def test_ordinary_inference_leaves_them_waiting(layer: Layer, what: str) -> None:
    """Everyday things use no kernel that waits."""
    assert run(layer.tree, QUIET[what] + WAITS) == ["True"]


# What brings a key into use or looks at what is registered, by the functions that the public ones call in the end.
USES = {
    "vmap": """
        F = C._functorch
        level = F._vmap_increment_nesting(2, 'error')
        one = F._add_batch_dim(torch.arange(6.).reshape(2, 3), 0, level)
        print(F._remove_batch_dim(torch.add(one, torch.ones(3), alpha=2).mul_(3), level, 2, 0).tolist())
        F._vmap_decrement_nesting()
    """,
    "random numbers in vmap": "print(torch.vmap(lambda x: x + torch.randn(2) * 0, randomness='same')(torch.ones(3, 2)).tolist())",
    "the older vmap": """
        C._vmapmode_increment_nesting()
        print(torch._remove_batch_dim(torch._add_batch_dim(torch.ones(2, 3), 0, 1).sum(0), 1, 2, 0).tolist())
    """,
    "gradients of a batch": """
        x = torch.ones(3, requires_grad=True)
        print(torch.autograd.grad(x * x, x, torch.eye(3), is_grads_batched=True)[0].tolist())
    """,
    "recording": """
        graph = C._create_graph_by_tracing(lambda a: (a + 1).relu().reshape(-1), (torch.ones(2, 3),), lambda _: '', True, False)
        print(str(graph[0]).replace(chr(10), ' '))
    """,
    "torch.jit.trace": "print(torch.jit.trace(torch.nn.ReLU(), torch.ones(2)).code.split())",
    "functional tensors": """
        x = torch._to_functional_tensor(torch.arange(4.))
        y = x.add(1); y.view(2, 2)[0].mul_(2); torch._sync(y)
        print(torch._from_functional_tensor(y).tolist())
    """,
    "a key that is switched on": """
        with C._IncludeDispatchKeyGuard(C._dispatch_key_parse('Tracer')):
            print((torch.ones(2) + 1).tolist())
    """,
    "a question for a kernel": "print(C._dispatch_has_kernel_for_dispatch_key('aten::add.Tensor', 'FuncTorchBatched'))",
    "a list of kernels": "print(len(C._dispatch_get_registrations_for_dispatch_key('Functionalize')))",
    "a table": "print('TraceType' in C._dispatch_dump_table('aten::mul.Tensor'))",
    "a kernel of one's own": """
        mine = torch.library.Library('aten', 'IMPL')
        mine.impl('cos', lambda x: torch.full((2,), 7.), 'FuncTorchBatched')
        print(torch.vmap(torch.cos)(torch.ones(3, 2)).tolist())
    """,
    "torch.vmap": "print(torch.vmap(lambda x: torch.linalg.norm(x * 2))(torch.ones(3, 2)).tolist())",
    "torch.func.jacrev": "print(torch.func.jacrev(torch.sin)(torch.zeros(2)).tolist())",
    "torch.export": """
        print(str(torch.export.export(torch.nn.ReLU(), (torch.ones(2),)).graph).replace(chr(10), ' '))
    """,
}


@pytest.mark.parametrize("what", USES)
def test_a_use_finds_them(layer: Layer, stock: Path, what: str) -> None:
    """Whatever needs a kernel that waits gives what it gives on stock torch, and the initialisers have run then."""
    expected, found = run(stock, USES[what]), run(layer.tree, dedent(USES[what]) + WAITS)
    assert (found[:-1], found[-1]) == (expected, "False")


def test_many_threads_need_them_at_once(layer: Layer) -> None:
    """Threads that use vmap at once, while others compute, all get right results."""
    program = """
        import threading
        F, results, start = C._functorch, [], threading.Barrier(8)
        def batched():
            start.wait()
            level = F._vmap_increment_nesting(2, 'error')
            one = F._add_batch_dim(torch.arange(6.).reshape(2, 3), 0, level)
            results.append(F._remove_batch_dim((one * 2).sum(0), level, 2, 0).tolist())
            F._vmap_decrement_nesting()
        def plain():
            start.wait()
            results.append([float((torch.ones(64, 64) @ torch.ones(64, 64)).sum()) for _ in range(300)][0])
        threads = [threading.Thread(target=batched if number % 2 else plain) for number in range(8)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(sorted(map(str, results)))
    """
    assert run(layer.tree, program) == [str(["262144.0"] * 4 + ["[6.0, 24.0]"] * 4)]


def test_a_forked_process_runs_them_itself(layer: Layer) -> None:
    """A child that was forked before needs them on its own; its parent's wait on."""
    program = """
        import os
        child = os.fork()
        if not child:
            C._dispatch_dump_table('aten::add.Tensor')
            os._exit(sys.modules['torch_layer.finder']._LATE.is_waiting)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    assert run(layer.tree, dedent(program) + WAITS) == ["0", "True"]


def test_nothing_waits_where_nothing_may(layer: Layer) -> None:
    """With TORCH_LAYER_IMPORTS=eager the initialisers run when torch is imported."""
    assert run(layer.tree, WAITS, TORCH_LAYER_IMPORTS="eager") == ["False"]


def test_what_stood_before_the_gates_is_back(layer: Layer) -> None:
    """When the initialisers have run, the functions that would have run them are torch's own again."""
    program = """
        gates = list(sys.modules['torch_layer.finder']._LATE._gates)
        assert len(gates) > 25
        C._dispatch_dump('aten::add.Tensor')
        print([name for owner, name, gate, _ in gates if getattr(owner, name) is gate])
    """
    assert run(layer.tree, program) == ["[]"]
