"""Programs about programs: export, script, compile, fx, ONNX."""

from __future__ import annotations

import io

import torch
from torch import Tensor, nn


class _Gate(nn.Module):
    """A module with control flow on a value known at trace time, and a buffer."""

    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)
        self.register_buffer("scale", torch.tensor(0.5))

    def forward(self, rows: Tensor) -> Tensor:
        inner = torch.relu(self.linear(rows)) * self.scale
        if rows.shape[0] > 1:
            inner = inner - inner.mean(0, keepdim=True)
        return inner.sin() + rows.cumsum(-1)


def export() -> dict[str, Tensor]:
    """A program with a dynamic batch is exported, decomposed, saved, loaded and run at another batch size."""
    model, rows = _Gate().eval(), torch.randn(4, 6)
    program = torch.export.export(
        model, (rows,), dynamic_shapes={"rows": {0: torch.export.Dim("batch", min=2, max=64)}}
    )
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    buffer.seek(0)
    loaded = torch.export.load(buffer)
    larger = torch.randn(9, 6)
    torch.testing.assert_close(loaded.module()(larger), model(larger))
    core = program.run_decompositions()
    return {"same": loaded.module()(rows), "larger": loaded.module()(larger), "core": core.module()(larger)}


def _collatz(start: int) -> int:
    steps = 0
    while start != 1:
        start = start // 2 if start % 2 == 0 else 3 * start + 1
        steps += 1
    return steps


class _ScriptedTagger(nn.Module):
    """A recurrent layer inside a module, since TorchScript cannot save an LSTM's two overloads at the top."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 6, 2)

    def forward(self, steps: Tensor) -> Tensor:
        output: Tensor = self.lstm(steps)[0]
        return output


def jit_script() -> dict[str, Tensor | str]:
    """A loop, torch's recurrent and transformer modules, and a saved script."""
    steps = torch.jit.script(_collatz)
    assert steps(27) == 111
    tagger, rows = _ScriptedTagger().eval(), torch.randn(7, 2, 5)
    scripted = torch.jit.script(tagger)
    layer = torch.jit.script(nn.TransformerEncoderLayer(8, 2, 16).eval())
    frozen = torch.jit.optimize_for_inference(
        torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval())
    )
    buffer = io.BytesIO()
    torch.jit.save(scripted, buffer)
    buffer.seek(0)
    again = torch.jit.load(buffer)
    torch.testing.assert_close(again(rows), tagger(rows))
    return {
        "tagger": scripted(rows),
        "again": again(rows),
        "transformer": layer(torch.randn(3, 2, 8)),
        "frozen": frozen(torch.randn(1, 3, 6, 6)),
        "code": steps.code,
    }


def compile_eager() -> dict[str, Tensor]:
    """Dynamo captures graphs, recompiles for another shape, and breaks the graph at a print of a value."""
    model, graphs = _Gate().eval(), []

    def backend(graph: torch.fx.GraphModule, _examples: list[Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    def broken(rows: Tensor) -> Tensor:
        doubled = rows * 2
        if doubled.sum().item() > 0:
            doubled = doubled + 1
        return doubled.cos()

    rows, larger = torch.randn(4, 6), torch.randn(9, 6)
    outputs = {"eager": torch.compile(model, backend="eager")(rows)}
    outputs["larger"] = torch.compile(model, backend="eager", dynamic=True)(larger)
    outputs["broken"] = torch.compile(broken, backend=backend)(rows.abs())
    torch.testing.assert_close(outputs["eager"], model(rows))
    assert graphs, "nothing was captured"
    return outputs


def fx() -> dict[str, Tensor | str]:
    """A traced graph is rewritten and prints its code."""
    graph = torch.fx.symbolic_trace(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
    torch.fx.replace_pattern(graph, lambda x: torch.relu(x), lambda x: torch.sigmoid(x))
    for node in graph.graph.nodes:
        if node.op == "call_module" and node.target == "1":
            with graph.graph.inserting_after(node):
                replacement = graph.graph.call_function(torch.tanh, (node.args[0],))
            node.replace_all_uses_with(replacement)
            graph.graph.erase_node(node)
            break
    graph.recompile()
    rows = torch.randn(2, 4)
    return {"output": graph(rows), "code": graph.code, "table": str(graph.graph)}


def onnx() -> dict[str, str]:
    """Without the `onnx` package, which the layer does not carry, exporting names it as stock torch does."""
    try:
        torch.onnx.export(nn.Linear(2, 2), (torch.ones(1, 2),), "unwritten.onnx")
    except ImportError as error:
        return {"error": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
    raise AssertionError("a model was exported without the onnx package")
