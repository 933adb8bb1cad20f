"""Which of PyTorch's test files are run, and which tests of them are not."""

from __future__ import annotations

from typing import NamedTuple


class Area(NamedTuple):
    """A part of PyTorch and the files that test it, as patterns below the folder of the tests."""

    name: str
    files: tuple[str, ...]


class LeftOut(NamedTuple):
    """Files that are not run, as a pattern, and why."""

    pattern: str
    reason: str


AREAS = (
    Area("autograd", ("test_autograd.py", "test_autograd_fallback.py", "autograd/test_*.py")),
    Area("nn", ("test_nn.py", "test_modules.py", "test_native_mha.py", "nn/test_*.py")),
    Area(
        "torch",
        (
            "test_torch.py",
            "test_indexing.py",
            "test_view_ops.py",
            "test_tensor_creation_ops.py",
            "test_type_promotion.py",
            "test_reductions.py",
            "test_shape_ops.py",
            "test_sort_and_select.py",
            "test_linalg.py",
            "test_numpy_interop.py",
        ),
    ),
    Area("jit", ("jit/test_*.py",)),  # `test_jit.py` imports them
    Area("serialization", ("test_serialization.py", "test_package.py", "package/test_*.py")),
    Area("fx", ("test_fx.py", "test_fx_experimental.py", "test_fx_passes.py", "fx/test_*.py")),
    Area("distributions", ("distributions/test_*.py",)),
    Area("optim", ("test_optim.py", "optim/test_*.py")),
    Area(
        "dispatch and tensors of other kinds",
        (
            "test_dispatch.py",
            "test_python_dispatch.py",
            "test_overrides.py",
            "test_subclass.py",
            "test_meta.py",
            "test_fake_tensor.py",
            "test_proxy_tensor.py",
            "test_sparse.py",
            "test_nestedtensor.py",
            "test_namedtensor.py",
            "test_pytree.py",
            "test_dataloader.py",
            "functorch/test_vmap.py",
            "functorch/test_eager_transforms.py",
        ),
    ),
)
LEFT_OUT = (
    LeftOut("jit/test_backends.py", "it loads a library of torch's tests, which the layer leaves out"),
    LeftOut("jit/test_torchbind.py", "it loads a library of torch's tests, which the layer leaves out"),
    LeftOut("fx/test_gradual_type.py", "it needs torchvision"),
    LeftOut("fx/test_z3_gradual_types.py", "it needs z3 and torchvision"),
)
# They are there for stock PyTorch as for the layer, and no part of either.
BESIDE = (
    "pytest", "_pytest", "py", "pytest_timeout", "pluggy", "iniconfig", "packaging", "pygments",
    "expecttest", "hypothesis", "sortedcontainers",
)  # fmt: skip
