"""Measures times at memory sizes, in the test box or of a deployed function."""

import base64
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lambda_torch.errors import TuningError

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

    from lambda_torch.emulator.run import RunOptions

# The line REPORT in Lambda's log, see "Lambda function metrics".
_BILLED = re.compile(r"\bDuration: (?P<ms>[\d.]+) ms")
_INIT = re.compile(r"Init Duration: (?P<ms>[\d.]+) ms")
_PEAK = re.compile(r"Max Memory Used: (?P<mb>\d+) MB")
BUCKET = "models"


@dataclass(frozen=True)
class Times:
    """The times at one memory size, in milliseconds. `cold_ms` includes the start-up."""

    cold_ms: float
    warm_ms: list[float]
    peak_mb: int | None


def require_box() -> None:
    """Check that this machine can make test boxes, before any long work.

    Raises:
        TuningError: it cannot.
    """
    from lambda_torch import testbox

    reason = testbox.why_not()
    if reason:
        raise TuningError(
            f"This machine cannot make a test box: {reason} Next: measure a deployed function with --function NAME."
        )


@contextmanager
def in_boxes(
    options: "RunOptions", event: bytes | None, say: Callable[[str], None]
) -> Iterator[Callable[[int, int], Times]]:
    """Give a function that measures a memory size with a number of requests, in test boxes.

    Args:
        event: the request. None for the model's own example.

    Raises:
        TuningError: there is no layer.
        lambda_torch.errors.EmulatorError, lambda_torch.errors.BucketError: as for `lambda-torch serve`.
    """
    from lambda_torch import project, testbox
    from lambda_torch.emulator.processes import Processes
    from lambda_torch.emulator.run import HANDLER, example_of
    from lambda_torch.emulator.storage import Storage
    from lambda_torch.releases.bucket import Bucket
    from lambda_torch.releases.publishing import publish

    software = options.software
    if software.opt is None:
        raise TuningError("The test box runs the function with the layer, and there is no layer. Next: make layer.")
    with tempfile.TemporaryDirectory(prefix="tune-") as scratch, Processes() as processes:
        say("Preparing the function's package and the layer, as Lambda unpacks them")
        model = None if options.model is None else project.model_package(options.model)
        task = testbox.package(software.folders[0], Path(scratch, "task"), model)
        storage = Storage(processes, Path(scratch), BUCKET)
        published = publish(options.release, Bucket(storage.client(), BUCKET), golden_file=options.golden)
        request = event or example_of(published.release.manifest).encode()
        variables = {
            "MODEL_BUCKET": BUCKET,
            "AWS_ENDPOINT_URL_S3": storage.url,
            "FUNCTION_TIMEOUT": str(options.timeout_seconds),
            **options.variables,
        }
        with testbox.Rootfs(task, software.opt) as files:

            def measure(memory_mb: int, count: int) -> Times:
                times = []
                with testbox.Box(
                    files,
                    HANDLER,
                    memory_mb=memory_mb,
                    timeout_seconds=options.timeout_seconds,
                    variables=variables,
                ) as box:
                    for _ in range(count + 1):
                        began = time.perf_counter()
                        outcome = box.invoke(request)
                        times.append((time.perf_counter() - began) * 1000)
                        if outcome.failed or b'"statusCode": 200' not in outcome.payload:
                            raise TuningError(
                                f"At {memory_mb} MB the function answered {outcome.payload.decode(errors='replace')[:300]}"
                            )
                    return Times(times[0], times[1:], round(box.limits.peak_bytes() / 1024 / 1024))

            yield measure


@contextmanager
def deployed(client: "LambdaClient", function: str, event: bytes) -> Iterator[Callable[[int, int], Times]]:
    """Give a function that measures a memory size of a deployed function, in its unpublished version $LATEST.

    Afterwards it restores the size. Requests of clients go to a published version through an alias, so they are not
    affected.

    Raises:
        TuningError: the function fails on the event.
    """
    before = client.get_function_configuration(FunctionName=function)["MemorySize"]
    updated = client.get_waiter("function_updated_v2")

    def resize(memory_mb: int) -> None:
        client.update_function_configuration(FunctionName=function, MemorySize=memory_mb)
        updated.wait(FunctionName=function)

    def invoke() -> str:
        answer: Any = client.invoke(FunctionName=function, Payload=event, LogType="Tail")
        if "FunctionError" in answer:
            said = answer["Payload"].read().decode(errors="replace")[:300]
            raise TuningError(f"{function} fails on the event: {said}")
        said = answer["Payload"].read().decode(errors="replace")
        if '"statusCode": 200' not in said:
            raise TuningError(f"{function} answered {said[:300]}")
        return base64.b64decode(answer["LogResult"]).decode(errors="replace")

    def measure(memory_mb: int, count: int) -> Times:
        resize(memory_mb)
        reports = [invoke() for _ in range(count + 1)]
        durations = [_number(_BILLED, each, function) for each in reports]
        start = _INIT.search(reports[0])
        peaks = [int(found["mb"]) for each in reports if (found := _PEAK.search(each))]
        cold = durations[0] + (float(start["ms"]) if start else 0.0)
        return Times(cold, durations[1:], max(peaks, default=None))

    try:
        yield measure
    finally:
        resize(before)


def _number(pattern: re.Pattern[str], text: str, function: str) -> float:
    found = pattern.search(text)
    if found is None:
        raise TuningError(f"The log of {function} has no REPORT line with a duration: {text[-300:]}")
    return float(found["ms"])
