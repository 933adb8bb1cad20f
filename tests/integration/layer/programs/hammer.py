"""Eight threads touch cold code at the same moment, in many processes one after the other.

    python hammer.py OUTPUT.json RUNS [fork] [faulthandler]

Every run is a child, forked before anything cold was touched, so that its cold pages are still cold. With `fork`, the child
forks once more while its threads are at work, and that process touches further cold code; with `faulthandler`, Python's
own SIGSEGV handler is installed after torch was imported. `OUTPUT.json` has, for every run, the digests of all results, how often
they occurred, and the pager's counters.
"""

from __future__ import annotations

import collections
import faulthandler
import hashlib
import json
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

THREADS = 8
SECONDS = 120  # no run takes a tenth of that; one that does hangs

torch.set_num_threads(1)
torch.manual_seed(20180501)
SQUARE = torch.randn(24, 24)
FRACTION = SQUARE.abs().sigmoid()
SIGNAL = torch.randn(4, 210)
CLIP = torch.randn(1, 2, 6, 7, 8)
SPARSE = torch.randn(12, 12).relu()


def _gradient(layer: nn.Module, rows: Tensor) -> Tensor:
    asked = rows.clone().requires_grad_()
    answer = layer(asked)
    (answer[0] if isinstance(answer, tuple) else answer).square().sum().backward()
    assert asked.grad is not None
    return asked.grad


def _refused() -> Tensor:
    """A C++ exception that unwinds through frames of LAPACK's wrappers."""
    try:
        torch.linalg.cholesky(-torch.eye(3))
    except RuntimeError as error:
        return torch.tensor([len(str(error))])
    raise AssertionError("a matrix that is not positive definite has no factor")


CONVOLUTION, TRANSPOSED = nn.Conv3d(2, 3, 2), nn.ConvTranspose2d(4, 3, 3, stride=2)
GRU, NORM = nn.GRU(5, 6, 2), nn.GroupNorm(2, 4)

# None of this is in the recorded workload.
TASKS: tuple[Callable[[], Tensor], ...] = (
    lambda: torch.linalg.svdvals(SQUARE),
    lambda: torch.linalg.qr(SQUARE)[1],
    lambda: torch.linalg.solve(SQUARE, SQUARE[:, :3]),
    lambda: torch.linalg.eigvalsh(SQUARE @ SQUARE.T),
    lambda: torch.view_as_real(torch.fft.rfft(SIGNAL)),
    lambda: torch.view_as_real(torch.fft.fft2(SQUARE)),
    lambda: _gradient(CONVOLUTION, CLIP),
    lambda: _gradient(TRANSPOSED, SIGNAL[None, :, :49].reshape(1, 4, 7, 7)),
    lambda: _gradient(GRU, SIGNAL[:, :50].reshape(10, 4, 5)),
    lambda: _gradient(NORM, SIGNAL[None]),
    lambda: torch.sparse.mm(SPARSE.to_sparse(), SQUARE[:12]),
    lambda: torch.cdist(SQUARE, SQUARE, p=1.5),
    lambda: torch.special.modified_bessel_k0(SQUARE.abs()) + torch.special.erfcx(SQUARE),
    lambda: functional.ctc_loss(
        SIGNAL[:, None, :50].log_softmax(-1), torch.tensor([[3]]), torch.tensor([4]), torch.tensor([1])
    ),
    lambda: torch.quantize_per_channel(SQUARE, torch.full((24,), 0.1), torch.zeros(24), 0, torch.qint8).int_repr(),
    lambda: torch.stft(SIGNAL, 32, window=torch.ones(32), return_complex=True).abs(),
    lambda: functional.fractional_max_pool2d(CLIP[0], 2, output_size=3, _random_samples=torch.full((2, 6, 2), 0.5)),
    _refused,
)
# What the process forked in the middle touches: kernels alone, and none of MKL's. Whatever registers a destructor at its first
# use, as the bindings and the dispatcher do, may find glibc's lock of exit functions held by a thread that the fork left behind,
# and MKL, which has the float and double kernels of asin and the like, its own lock: in stock torch as well. `warm_bindings`
# therefore calls each with nothing to compute, which leaves the kernel cold, and the dtypes are those that MKL does not have.
_OWN_KERNELS = (
    torch.special.i0e,
    torch.special.log_ndtr,
    torch.special.entr,
    torch.special.modified_bessel_i1,
    torch.sinc,
)
_MKL_KERNELS = (torch.asin, torch.tan, torch.sinh, torch.cosh, torch.rsqrt, torch.sigmoid)
AFTER_FORK: tuple[tuple[Callable[[Tensor], Tensor], Tensor], ...] = (
    *((function, FRACTION) for function in _OWN_KERNELS),
    *(
        (function, tensor)
        for function in _MKL_KERNELS
        for tensor in (FRACTION.bfloat16(), torch.complex(FRACTION, SQUARE))
    ),
)


def warm_bindings() -> None:
    """Call what a forked process will call, on tensors without elements."""
    digest([function(tensor[:0]) for function, tensor in AFTER_FORK])


def digest(tensors: list[Tensor]) -> str:
    """One digest for a list of results."""
    whole = hashlib.sha256()
    for tensor in tensors:
        content = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        whole.update(f"{tensor.dtype}{list(tensor.shape)}".encode() + content)
    return whole.hexdigest()[:24]


def _run_tasks(start: int) -> str:
    """The digest of all tasks' results in their order, whichever was run first."""
    results = {number: TASKS[number]() for number in [*range(start, len(TASKS)), *range(start)]}
    return digest([results[number] for number in range(len(TASKS))])


def _fork_in_the_middle() -> list[object]:
    """Fork while the threads are at work; what the new process computed, as a digest, and how many faults it took."""
    time.sleep(0.002)
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        signal.alarm(SECONDS)
        before = _counters()
        text = digest([function(tensor) for function, tensor in AFTER_FORK])
        os.write(writer, json.dumps([text, _counters().get("faults", 0) - before.get("faults", 0)]).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    _, status = os.waitpid(process, 0)
    return list(json.loads(text)) if status == 0 else [f"ended with {os.waitstatus_to_exitcode(status)}", 0]


def _counters() -> dict[str, int]:
    try:
        from torch_layer import pager
    except ImportError:  # stock torch
        return {}
    return {name: int(value) for name, value in pager.stats()._asdict().items()}


def one_run(number: int, options: list[str]) -> dict[str, object]:
    """Start the threads together; every second run they begin at different tasks."""
    barrier = threading.Barrier(THREADS)
    digests: list[str] = []

    def work(thread: int) -> None:
        torch.set_num_threads(1)  # the setting is per thread
        barrier.wait()
        try:
            found = _run_tasks(thread * 2 if number % 2 else 0)
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
        digests.append(found)

    before = _counters()
    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    forked = _fork_in_the_middle() if "fork" in options else []
    for thread in threads:
        thread.join()
    after = _counters()
    return {
        "digests": collections.Counter(digests),
        "forked": forked,
        "counters": {name: after[name] - before[name] for name in after},
    }


def main(output: str, runs: str, *options: str) -> None:
    """Run the children; the first that dies or hangs ends the program with a message."""
    warnings.simplefilter("ignore")
    if "faulthandler" in options:
        faulthandler.enable()
    warm_bindings()
    results = []
    for number in range(int(runs)):
        file = Path(f"{output}.{number}")
        process = os.fork()
        if process == 0:
            signal.alarm(SECONDS)
            file.write_text(json.dumps(one_run(number, list(options))))
            os._exit(0)
        _, status = os.waitpid(process, 0)
        if status:
            sys.exit(f"run {number} ended with {os.waitstatus_to_exitcode(status)}")
        results.append(json.loads(file.read_text()))
        file.unlink()
    Path(output).write_text(json.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
