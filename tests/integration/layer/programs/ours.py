"""Tests in the manner of PyTorch's own, which `test_verdicts.py` runs on the layer and on stock PyTorch.

Each area that `make upstream` runs has some. The first use of an area is inside a test, so that its modules are held until then.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "sin": torch.sin,
    "logsumexp": lambda x: torch.logsumexp(x, -1),
    "inverse": lambda x: torch.linalg.inv(x @ x.T + 3 * torch.eye(3, dtype=x.dtype)),
    "softmax": lambda x: torch.softmax(x, 0),
    "gelu": nn.functional.gelu,
    "fft": lambda x: torch.fft.rfft(x).abs(),
    "cumulative": lambda x: torch.cumsum(x, 0).prod(),
    "attention": lambda x: nn.functional.scaled_dot_product_attention(x[None], x[None], x[None]),
}
MODULES: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(3, 4),
    "norm": lambda: nn.LayerNorm(3),
    "recurrent": lambda: _First(nn.GRU(3, 2)),
    "convolution": lambda: nn.Conv1d(3, 2, 2),
    "encoder": lambda: nn.TransformerEncoderLayer(3, 1, 4, dropout=0.0),
}


class _First(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The first output of the inner module."""
        first: torch.Tensor = self.inner(x)[0]
        return first


class _Wrong(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        """Twice the input."""
        return x * 2

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        """The gradient of the input itself."""
        return gradient


def _input() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(3, 3, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_of_a_function(name: str) -> None:
    """Numeric and analytic gradients agree."""
    assert torch.autograd.gradcheck(FUNCTIONS[name], _input())


@pytest.mark.parametrize("name", MODULES)
def test_gradients_of_a_module(name: str) -> None:
    """Numeric and analytic gradients agree."""
    torch.manual_seed(2)
    assert torch.autograd.gradcheck(MODULES[name]().double(), _input())


def test_second_derivatives() -> None:
    """Gradients of gradients agree with numeric ones."""
    assert torch.autograd.gradgradcheck(torch.sin, _input())


def test_a_wrong_gradient_is_found() -> None:
    """The check is one: it refuses a wrong backward."""
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        torch.autograd.gradcheck(_Wrong.apply, _input())


def test_a_jacobian() -> None:
    """The Jacobian of the sine at zero is the identity."""
    assert torch.autograd.functional.jacobian(torch.sin, torch.zeros(2)).equal(torch.eye(2))


def test_a_scripted_module() -> None:
    """A scripted module runs."""
    assert torch.jit.script(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))(torch.ones(1, 2)).shape == (1, 2)


def test_a_trace_through_a_function_of_python() -> None:
    """A trace keeps a function that has a backward of its own."""
    graph = torch.jit.trace(lambda x: _Wrong.apply(x) + 1, torch.ones(2)).graph  # type: ignore[no-untyped-call]
    assert "_Wrong" in str(graph)


def test_a_symbolic_trace() -> None:
    """A trace begins with its input."""
    traced = torch.fx.symbolic_trace(nn.Linear(2, 2))
    assert next(iter(traced.graph.nodes)).op == "placeholder"


def test_a_trace_of_operators() -> None:
    """Tracing sees the operators below Python."""
    from torch.fx.experimental.proxy_tensor import make_fx

    assert "aten.sin" in make_fx(torch.sin)(torch.ones(2)).code


def test_an_operator_of_control_flow() -> None:
    """A condition in a tensor picks its branch."""
    assert torch.cond(torch.tensor(True), lambda x: x + 1, lambda x: x - 1, (torch.zeros(1),)).item() == 1


def test_save_and_load() -> None:
    """What is saved can be loaded."""
    file = io.BytesIO()
    torch.save({"weight": torch.arange(3), "names": ["a"]}, file)
    file.seek(0)
    assert torch.load(file)["weight"].tolist() == [0, 1, 2]


def test_loading_refuses_code() -> None:
    """A file that names a function is refused."""
    file = io.BytesIO()
    torch.save(print, file)
    file.seek(0)
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        torch.load(file)


def test_distributions() -> None:
    """Equal distributions have no divergence, and a negative scale is refused."""
    normal = torch.distributions.Normal(torch.zeros(2), torch.ones(2))
    assert torch.distributions.kl_divergence(normal, normal).tolist() == [0, 0]
    with pytest.raises(ValueError, match="constraint"):
        torch.distributions.Normal(torch.zeros(1), -torch.ones(1), validate_args=True)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad"])
def test_an_optimizer(name: str) -> None:
    """A step makes the sum smaller."""
    weight = nn.Parameter(torch.ones(2))
    optimizer = getattr(torch.optim, name)([weight], lr=0.1)
    weight.sum().backward()
    optimizer.step()
    assert (weight < 1).all()


def test_vmap() -> None:
    """A function of vectors runs over a batch."""
    assert torch.func.vmap(torch.dot)(torch.ones(2, 3), torch.ones(2, 3)).tolist() == [3, 3]


def test_meta_tensors() -> None:
    """A layer without data knows the shape of its output."""
    assert nn.Linear(3, 4, device="meta")(torch.ones(2, 3, device="meta")).shape == (2, 4)


def test_a_dispatch_mode() -> None:
    """A mode sees the operators that run below it."""
    from torch.utils._python_dispatch import TorchDispatchMode

    seen = []

    class Log(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(str(function))
            return function(*args, **(kwargs or {}))

    with Log():  # type: ignore[no-untyped-call]
        torch.ones(2).sin()
    assert "aten.sin.default" in seen


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu() -> None:
    """Skipped on both sides."""
    torch.ones(1, device="cuda")
