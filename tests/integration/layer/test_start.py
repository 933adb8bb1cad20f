"""What importing torch runs on the layer, and what ordinary inference leaves waiting."""

from __future__ import annotations

import json
from textwrap import dedent
from typing import TYPE_CHECKING, Any

from builder import clean

if TYPE_CHECKING:
    from integration.layer.conftest import Layer

# Modules of torch that run until an LSTM has answered; stock torch runs 729 to be imported.
MODULE_BUDGET = 170


def answer(layer: Layer, program: str, **environment: str) -> Any:
    """What the program prints as JSON on its last line, in a clean process that finds the layer."""
    done = clean.run(layer.tree, "-c", dedent(program), extra=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_an_inference_runs_few_modules(layer: Layer) -> None:
    """Importing torch and running an LSTM stays within the budget of modules, and completes nothing."""
    program = """
    import json, sys, torch
    from torch_layer import finder
    torch.nn.LSTM(8, 8)(torch.randn(3, 2, 8))
    run = [name for name, module in sys.modules.items() if name.startswith("torch.") and type(module).__name__ != "_Held"
           and getattr(module, "__file__", "").endswith(".py")]
    print(json.dumps([len(run), finder.imports()]))
    """
    count, (held, complete, reason, _) = answer(layer, program)
    assert (complete, reason) == (False, "")
    assert held > 500
    assert count <= MODULE_BUDGET


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
    from builder.lazy import rules

    listed = {rule.group for rule in rules.COMPLETING}
    assert listed <= found.keys()
    assert {name for name, reason in found.items() if reason != "-"} == listed


def test_everything_can_be_asked_for(layer: Layer) -> None:
    """The variable and the function both leave what stock torch leaves: no module held."""
    program = """
    import json, sys, torch
    from torch_layer import finder
    if not finder.imports().complete:
        finder.complete_imports()
    held = [name for name, module in sys.modules.items() if type(module).__name__ == "_Held"]
    print(json.dumps([finder.imports().complete, held, torch.export.export.__name__]))
    """
    assert answer(layer, program) == [True, [], "export"]
    assert answer(layer, program, TORCH_LAYER_IMPORTS="eager") == [True, [], "export"]


def test_threads_complete_the_import_together(layer: Layer) -> None:
    """Eight threads whose first touches are different ones all get what they asked for."""
    program = """
    import json, threading, torch
    uses = [
        lambda: torch.export.export.__name__,
        lambda: torch.optim.AdamW.__name__,
        lambda: torch.distributions.Normal.__name__,
        lambda: str(torch.ops.prims.add),
        lambda: list(torch.empty(2, 3, device="meta").shape),
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
