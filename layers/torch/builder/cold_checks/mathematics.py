"""Numerical corners: transforms, linear algebra, function transforms, distributions, layouts, special functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Dirichlet, Gamma, MultivariateNormal, Normal, StudentT, kl_divergence


def fft() -> dict[str, Tensor]:
    """Transforms there and back, at lengths of several factorisations, and the short-time transform."""
    signal, image = torch.randn(3, 210), torch.randn(12, 17)
    back = torch.fft.irfft(torch.fft.rfft(signal), n=210)
    torch.testing.assert_close(back, signal)
    short = torch.stft(signal, 64, window=torch.hann_window(64), return_complex=True)
    return {
        "full": torch.fft.fft(signal),
        "double": torch.fft.fft(signal.double()),
        "prime": torch.fft.fft(signal[:, :101]),
        "plane": torch.fft.fft2(image),
        "shifted": torch.fft.fftshift(torch.fft.rfftn(image)),
        "back": back,
        "short": short,
        "again": torch.istft(short, 64, window=torch.hann_window(64)),
    }


def linalg() -> dict[str, Tensor]:
    """Decompositions and solvers, in two precisions and in batches; what they make multiplies back."""
    outputs: dict[str, Tensor] = {}
    for dtype in (torch.float32, torch.float64, torch.complex64):
        name, square = str(dtype).removeprefix("torch."), torch.randn(3, 8, 8, dtype=dtype)
        positive = square @ square.mH + 8 * torch.eye(8, dtype=dtype)
        left, values, right = torch.linalg.svd(square)
        torch.testing.assert_close(left * values[..., None, :] @ right, square, rtol=1e-3, atol=1e-4)
        q, r = torch.linalg.qr(square)
        torch.testing.assert_close(q @ r, square, rtol=1e-3, atol=1e-4)
        # Least squares are not among the outputs: MKL's gelsy depends on where its work memory lies, also in stock
        # torch.
        found = torch.linalg.lstsq(square[..., :5], square[..., 5:]).solution
        normal = torch.linalg.solve(square[..., :5].mH @ square[..., :5], square[..., :5].mH @ square[..., 5:])
        torch.testing.assert_close(found, normal, rtol=1e-2, atol=1e-3)
        outputs |= {
            f"{name}-singular": values,
            f"{name}-solution": torch.linalg.solve(square, square[..., :2]),
            f"{name}-inverse": torch.linalg.inv(square),
            f"{name}-determinant": torch.linalg.det(square),
            f"{name}-cholesky": torch.linalg.cholesky(positive),
            f"{name}-eigenvalues": torch.linalg.eigvalsh(positive),
            f"{name}-exponential": torch.linalg.matrix_exp(square / 4),
        }
    outputs["eigen"] = torch.linalg.eigvals(torch.randn(6, 6)).abs().sort().values
    outputs["low-rank"] = torch.svd_lowrank(torch.randn(20, 10), q=3)[1]
    return outputs


def vmap() -> dict[str, Tensor]:
    """Batched functions, per-sample gradients, jacobians and hessians, and a functional model."""
    weight, rows = torch.randn(5, 3), torch.randn(4, 5)

    def loss(weight: Tensor, row: Tensor) -> Tensor:
        return torch.tanh(row @ weight).square().sum()

    model, parameters = nn.Linear(5, 2), {"weight": torch.randn(2, 5), "bias": torch.zeros(2)}
    with torch.enable_grad():
        outputs = {
            "mapped": torch.vmap(torch.dot)(rows, rows),
            "samples": torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weight, rows),
            "jacobian": torch.func.jacrev(lambda x: (x @ weight).sin())(rows[0]),
            "forward": torch.func.jacfwd(lambda x: (x @ weight).sin())(rows[0]),
            "hessian": torch.func.hessian(lambda x: x.exp().sum())(rows[0]),
            "functional": torch.func.functional_call(model, parameters, (rows,)),
            "random": torch.func.vmap(lambda x: x + torch.rand(2), randomness="different")(rows[:, :2]),
        }
    torch.testing.assert_close(outputs["jacobian"], outputs["forward"])
    return outputs


def distributions() -> dict[str, Tensor]:
    """Samples, log-probabilities, entropies and divergences."""
    covariance = torch.eye(3) + 0.2
    outputs = {
        "normal": Normal(0.5, 2.0).sample((20,)),
        "gamma": Gamma(torch.tensor(2.0), torch.tensor(3.0)).sample((20,)),
        "dirichlet": Dirichlet(torch.tensor([1.0, 2.0, 3.0])).sample((5,)),
        "student": StudentT(4.0).log_prob(torch.linspace(-2, 2, 9)),
        "multivariate": MultivariateNormal(torch.zeros(3), covariance).log_prob(torch.randn(4, 3)),
        "categorical": Categorical(logits=torch.randn(6)).entropy(),
        "divergence": kl_divergence(Normal(0.0, 1.0), Normal(1.0, 2.0)),
    }
    try:
        Normal(0.0, -1.0)
    except ValueError:
        return outputs
    raise AssertionError("a negative scale was accepted")


def sparse() -> dict[str, Tensor]:
    """COO, CSR and jagged layouts, and masked tensors."""
    dense = torch.randn(6, 8).relu()
    coordinates, rows = dense.to_sparse(), dense.to_sparse_csr()
    right = torch.randn(8, 3)
    nested = torch.nested.nested_tensor([torch.randn(2, 4), torch.randn(5, 4)], layout=torch.jagged)
    masked: Any = torch.masked.masked_tensor(dense, dense > 0).sum()
    torch.testing.assert_close(torch.sparse.mm(coordinates, right), dense @ right)
    return {
        "product": torch.sparse.mm(coordinates, right),
        "rows-product": rows @ right,
        "sum": torch.sparse.sum(coordinates, 0).to_dense(),
        "softmax": torch.sparse.softmax(coordinates, 1).to_dense(),
        "nested": nn.Linear(4, 2)(nested).to_padded_tensor(0.0),
        "masked": masked.to_tensor(0.0),
    }


def special() -> dict[str, Tensor]:
    """Special functions, windows, complex arithmetic and polynomials."""
    line = torch.linspace(0.1, 4, 40)
    names = ("bessel_j0", "digamma", "entr", "erfcx", "gammaln", "i0e", "i1", "log_ndtr", "modified_bessel_k0", "ndtri", "sinc", "zeta")  # fmt: skip  # noqa: E501
    outputs = {}
    for name in names:
        function = getattr(torch.special, name)
        outputs[name] = function(line + 1, line) if name == "zeta" else function(line / 5 if name == "ndtri" else line)
    number = torch.complex(line, line.flip(0))
    return outputs | {
        "kaiser": torch.signal.windows.kaiser(30),
        "complex": (number * number.conj()).real + number.angle() + number.exp().imag,
        "hermite": torch.special.hermite_polynomial_h(line, torch.tensor(5)),
        "trapezoid": torch.trapezoid(line, dx=0.1),
        "cross": torch.linalg.cross(line[:3], line[3:6]),
        "triangular": torch.tril_indices(4, 4),
        "cdist": torch.cdist(torch.randn(5, 3), torch.randn(6, 3), p=1.5),
        "unpooled": nn.functional.max_unpool1d(*nn.functional.max_pool1d(line[None], 4, return_indices=True), [4]),
        "ctc": nn.functional.ctc_loss(
            torch.randn(10, 2, 5).log_softmax(-1),
            torch.randint(1, 5, (2, 3)),
            torch.tensor([10, 8]),
            torch.tensor([3, 2]),
        ),
    }


def exceptions() -> dict[str, str]:
    """Errors that are thrown deep in LAPACK wrappers, the script compiler and the autograd engine, caught in Python."""
    outputs = {}

    def backward_fails() -> None:
        class Fails(torch.autograd.Function):
            @staticmethod
            def forward(_ctx: object, x: Tensor) -> Tensor:
                return x.clone()

            @staticmethod
            def backward(_ctx: object, *_grads: Tensor) -> Tensor:
                raise ArithmeticError("raised in the engine")

        with torch.enable_grad():
            fails: Any = Fails.apply
            fails(torch.ones(2, requires_grad=True)).sum().backward()

    mistakes: dict[str, Callable[[], object]] = {
        "cholesky": lambda: torch.linalg.cholesky(-torch.eye(3)),
        "inverse": lambda: torch.linalg.inv(torch.zeros(3, 3)),
        "script": lambda: torch.jit.CompilationUnit("def f(x):\n    return unknown(x)\n"),
        "fft": lambda: torch.fft.fft(torch.ones(3), n=0),
        "engine": backward_fails,
        "sparse": lambda: torch.sparse_coo_tensor(torch.tensor([[5]]), torch.ones(1), (2,), check_invariants=True),
        "schema": lambda: torch._C.parse_schema("broken(Tensor"),
    }
    for name, mistake in mistakes.items():
        try:
            mistake()
        except Exception as error:
            lines = str(error).strip().splitlines()
            outputs[name] = f"{type(error).__name__}: {lines[0] if lines else ''}"
        else:
            raise AssertionError(f"{name}: torch raised nothing where it should have")
    return outputs
