"""The engines for quantized operators that the workload and the checks use."""

import platform

import pytest
import torch

from builder.workload import engines


def test_every_engine_is_used_on_x86(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that torch supports is left out there, and the default engine stays."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    supported = [name for name in torch.backends.quantized.supported_engines if name != "none"]
    assert engines.usable(*supported, "no-such-engine") == supported
    default = torch.backends.quantized.engine
    with engines.usable_default() as engine:
        assert engine == default


def test_an_engine_that_fails_on_some_processors_is_left_out_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """On AArch64 another engine takes the place of the default one as long as the context lasts; each row has its reason."""
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(torch.backends.quantized, "engine", "x86")
    assert engines.usable("x86", "qnnpack") == ["qnnpack"]
    with engines.usable_default() as engine:
        assert engine == torch.backends.quantized.engine == "qnnpack"
    assert torch.backends.quantized.engine == "x86"
    assert all(row.reason for row in engines.UNUSABLE)
