"""Training and operators of libraries leave the held modules waiting, and answer as in stock torch."""

from __future__ import annotations

import json
from importlib.metadata import version
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

from builder import clean
from builder.python.deferred import rules

if TYPE_CHECKING:
    from integration.layer.conftest import Layer

TORCH = (int(version("torch").split(".")[0]), int(version("torch").split(".")[1]))
where_they_are_separable = pytest.mark.skipif(
    not rules.is_separable("torch.optim", TORCH), reason="no module is separable with this version of torch"
)
TRAINED = """
        torch.manual_seed(1)
        network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
        def loss():
            optimizer.zero_grad()
            lost = (network(torch.ones(2, 3)) - 1).square().sum()
            lost.backward()
            return lost
"""
PROGRAMS = {
    "AdamW with a schedule": f"""{TRAINED}
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 5)
        answer = []
        for _ in range(3):
            answer.append(loss().item())
            optimizer.step()
            schedule.step()
        optimizer.load_state_dict(optimizer.state_dict())
        answer += [torch.is_grad_enabled(), optimizer.param_groups[0]["lr"], loss().item()]
    """,
    "SGD with momentum": f"""{TRAINED}
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
        answer = [(loss().item(), optimizer.step()) for _ in range(3)]
    """,
    "LBFGS": f"""{TRAINED}
        optimizer = torch.optim.LBFGS(network.parameters())
        answer = optimizer.step(loss).item(), loss().item()
    """,
    "a step that gradients go through": """
        factor = torch.ones(1, requires_grad=True)
        weight = torch.zeros(1, requires_grad=True).clone()
        optimizer = torch.optim.SGD([weight], lr=0.5, differentiable=True)
        weight.grad = factor * 3
        with torch.no_grad():
            optimizer.step()
        (after,) = optimizer.param_groups[0]["params"]
        after.sum().backward()
        answer = after.item(), factor.grad.item(), torch.is_grad_enabled()
    """,
    "an optimizer of one's own": """
        class Halving(torch.optim.Optimizer):
            def __init__(self, params): super().__init__(params, {})
            @torch.no_grad()
            def step(self, closure=None):
                for group in self.param_groups:
                    for each in group["params"]: each.mul_(0.5)
        weight = torch.ones(1, requires_grad=True)
        optimizer, heard = Halving([weight]), []
        optimizer.register_step_post_hook(lambda *_: heard.append(weight.item()))
        optimizer.step()
        answer = weight.item(), heard
    """,
    "a mean of weights": """
        network = torch.nn.Linear(2, 1)
        mean = torch.optim.swa_utils.AveragedModel(network)
        mean.update_parameters(network)
        answer = mean.n_averaged.item()
    """,
    "the folder of downloads": "answer = torch.hub.get_dir().endswith('hub')",
    "gradients of a library's operator": """
        library = torch.library.Library("mine", "DEF")
        library.define("twice(Tensor x) -> Tensor")
        library.impl("twice", lambda x: x + x, "CPU")
        torch.library.register_autograd("mine::twice", lambda ctx, given: given * 7)
        x = torch.ones(2, requires_grad=True)
        torch.ops.mine.twice(x).sum().backward()
        answer = x.grad.tolist()
    """,
}


def result(layer: Layer, program: str, **environment: str) -> Any:
    """What a program leaves in `answer`, and what completed the import."""
    text = f"import json, sys, torch\nfrom torch_layer import finder\n{dedent(program)}\n"
    text += "print(json.dumps([answer, finder.imports().reason, 'torch._dynamo' in sys.modules]))"
    done = clean.run(layer.tree, "-c", text, extra=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@where_they_are_separable
@pytest.mark.parametrize("name", PROGRAMS)
def test_training_and_libraries_leave_modules_waiting(layer: Layer, name: str) -> None:
    """Such a program completes nothing, and its answer is that of a process in which nothing waited."""
    answer, reason, _ = result(layer, PROGRAMS[name])
    assert reason == ""
    assert answer == result(layer, PROGRAMS[name], TORCH_LAYER_IMPORTS="eager")[0]


@where_they_are_separable
def test_an_optimizer_goes_on_when_the_import_is_completed(layer: Layer) -> None:
    """An optimizer that was made while modules waited takes the same steps afterwards, and asks torch._dynamo then."""
    program = f"""{TRAINED}
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
        answer = []
        for number in range(4):
            if number == 2 and finder.imports().held:
                finder.complete_imports()
            answer.append(loss().item())
            optimizer.step()
        answer.append(hasattr(torch.optim.Optimizer.zero_grad.__wrapped__, "__dynamo_disable"))
    """
    held, eager = result(layer, program), result(layer, program, TORCH_LAYER_IMPORTS="eager")
    assert held == [eager[0], "asked for", True]
