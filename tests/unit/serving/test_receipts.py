import re
import sys
import threading
from importlib import import_module, machinery
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.telemetry import emf, imports, layer, receipts
from serving.telemetry.receipts import REQUEST_PHASES, START_PHASES, Receipt, Start
from serving.telemetry.request_log import RequestLog

# The header's grammar (W3C Server Timing, section 3; RFC 9110 for token and quoted-string), and no comma in the words.
METRIC = re.compile(
    r"[!#$%&'*+.^_`|~0-9A-Za-z-]+(;dur=\d+(\.\d+)?)?(;desc=\"[\x20-\x21\x23-\x2b\x2d-\x5b\x5d-\x7e]*\")?"
)

METRICS = emf.Metrics("PredictFunction")


def test_a_phase_goes_to_the_receipt_that_is_open() -> None:
    """Inside `recording`, phases are added to that receipt, also those that raise; outside, to none."""
    receipt = Receipt()
    with receipts.phase("before"):
        pass
    with receipt.recording():
        with receipts.phase("first"):
            pass
        with pytest.raises(KeyError), receipts.phase("second"):
            raise KeyError
    with receipts.phase("after"):
        pass
    assert [each.name for each in receipt.phases] == ["first", "second"]


def test_threads_have_receipts_of_their_own() -> None:
    """A phase of another thread is not taken for this one's, unless that thread records for the same receipt."""
    receipt = Receipt()

    def elsewhere(records: bool) -> None:
        if records:
            with receipt.recording(), receipts.phase("joined"):
                pass
        else:
            with receipts.phase("stray"):
                pass

    with receipt.recording():
        for records in (False, True):
            thread = threading.Thread(target=elsewhere, args=(records,))
            thread.start()
            thread.join()
    assert [each.name for each in receipt.phases] == ["joined"]


def test_phases_of_one_name_are_added_up() -> None:
    """A summary has each name once, in the order of the beginnings."""
    receipt = Receipt(0)
    receipt.phases += [
        receipts.Phase("b", 2_000_000, 1_000_000, 0),
        receipts.Phase("a", 1_000_000, 3_000_000, 500_000),
        receipts.Phase("b", 9_000_000, 4_000_000, 2_000_000),
    ]
    assert receipt.summary() == {
        "a": {"at": 1.0, "ms": 3.0, "cpu_ms": 0.5},
        "b": {"at": 2.0, "ms": 5.0, "cpu_ms": 2.0},
    }


def test_server_timing_follows_its_grammar() -> None:
    """Every phase there is has a name and words that may stand in the header as they are."""
    receipt = Receipt(0)
    receipt.phases += [receipts.Phase(name, 0, 1_234_567, 0) for name in (*START_PHASES, *REQUEST_PHASES)]
    value = receipts.server_timing(receipt.rounded(), START_PHASES | REQUEST_PHASES)
    assert receipts.server_timing({"pointer": 1.0}, REQUEST_PHASES) == receipts.server_timing({"pointer": 1.0})
    assert 'torch;dur=1.235;desc="import torch"' in value
    for part in value.split(", "):
        assert METRIC.fullmatch(part), part


def test_timed_imports_leave_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module whose import is timed, package or not, has a loader as any other, and the import system is as before."""
    (tmp_path / "timed_package").mkdir()
    (tmp_path / "timed_package" / "__init__.py").write_text("import timed_package.part")
    (tmp_path / "timed_package" / "part.py").write_text("x = 1")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(imports, "TIMED_IMPORTS", {"timed_package": "outer", "timed_package.part": "inner"})
    before = list(sys.meta_path)
    start = Start.of_process()
    module = import_module("timed_package")
    start.ready()
    assert sys.meta_path == before
    for name in ("timed_package", "timed_package.part"):
        loader = sys.modules[name].__spec__.loader  # type: ignore[union-attr]
        assert isinstance(loader, machinery.SourceFileLoader)
        assert set(vars(loader)) == {"name", "path"}
    assert module.part.x == 1
    phases = start.summary()
    assert phases["outer"]["ms"] >= phases["inner"]["ms"]


def test_a_failed_import_fails_as_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Timing an import does not change what it raises."""
    (tmp_path / "timed_broken.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(imports, "TIMED_IMPORTS", {"timed_broken": "broken", "timed_missing": "missing"})
    start = Start.of_process()
    with pytest.raises(ZeroDivisionError):
        import_module("timed_broken")
    with pytest.raises(ModuleNotFoundError):
        import_module("timed_missing")
    start.ready()
    assert "broken" in start.summary()
    assert "missing" not in start.summary()


def started() -> RequestLog:
    """The request log of an environment that has just started."""
    start = Start.of_process()
    start.ready()
    return RequestLog(start, "on-demand", METRICS)


def test_the_first_answer_carries_the_start() -> None:
    """The start is in the first request's line, metrics and header, and in no other's."""
    made = started()
    first, second = made.entry(Receipt(), None, 1.0), made.entry(Receipt(), None, 1.0)
    assert first.facts["start"]["kind"] == "on-demand"
    assert first.metrics["ColdStarts"] == 1
    assert first.metrics["StartMilliseconds"] > 0
    assert first.server_timing.startswith("runtime;dur=")
    assert "start" not in second.facts
    assert "ColdStarts" not in second.metrics
    assert "runtime" not in second.server_timing


def test_one_of_many_first_answers_carries_the_start() -> None:
    """Where several requests are answered at a time, exactly one has the start."""
    made = started()
    found: list[bool] = []
    threads = [
        threading.Thread(target=lambda: found.append("start" in made.entry(Receipt(), None, None).facts))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [False] * 7 + [True]


def test_the_pager_is_counted_from_request_to_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first line has what the pager did since the process began, the next what it did since the line before."""
    counts = iter(
        [layer.PagerCounts(24, 5000, 9000), layer.PagerCounts(24, 5000, 9000), layer.PagerCounts(26, 7000, 9500)]
    )
    monkeypatch.setattr(layer, "pager_counts", lambda: next(counts))
    made = started()
    lines = [entry.facts | entry.metrics for entry in (made.entry(Receipt(), None, None) for _ in range(3))]
    keys = ("PagerFaults", "PagerBytes", "pager_ms")
    assert [[line.get(key) for key in keys] for line in lines] == [[24, 5000, 9.0], [None] * 3, [2, 2000, 0.5]]


def test_a_completed_import_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first line after something completed the import names it, and no other does; none does on stock torch."""
    monkeypatch.delitem(sys.modules, "torch_layer.finder", raising=False)
    made = started()
    assert "import_completed" not in made.entry(Receipt(), None, None).facts
    stats = [(572, False, "", 0), (572, True, "torch.fft.fft", 450_000), (572, True, "torch.fft.fft", 450_000)]
    fields = ("held", "complete", "reason", "microseconds")
    counts = iter(SimpleNamespace(**dict(zip(fields, each, strict=True))) for each in stats)
    monkeypatch.setitem(sys.modules, "torch_layer.finder", SimpleNamespace(imports=lambda: next(counts)))
    told = [made.entry(Receipt(), None, None).facts.get("import_completed") for _ in range(3)]
    assert told == [None, {"by": "torch.fft.fft", "milliseconds": 450.0}, None]


# The metric names and units of the embedded metric format, as its specification has them.
def check_embedded(line: dict[str, object]) -> None:
    """What the specification asks of a line, as far as it is used here."""
    meta = line["_aws"]
    assert isinstance(meta, dict)
    assert isinstance(meta["Timestamp"], int)
    for directive in meta["CloudWatchMetrics"]:
        assert directive["Namespace"] == "lambda-torch"
        assert 1 <= len(directive["Metrics"]) <= 100
        for metric in directive["Metrics"]:
            assert metric["Unit"] == emf.UNITS[metric["Name"]]
            found = line[metric["Name"]]
            values = found if isinstance(found, list) else [found]
            assert 1 <= len(values) <= 100
            assert all(isinstance(value, int | float) for value in values)
        for dimensions in directive["Dimensions"]:
            for dimension in dimensions:
                assert isinstance(line[dimension], str)


@given(st.sets(st.sampled_from(sorted(emf.UNITS)), min_size=1), st.floats(0, 1e12))
def test_every_set_of_metrics_makes_a_valid_line(names: set[str], value: float) -> None:
    """Whichever metrics a line has, each is declared once, with its unit, and errors are counted by code and in all."""
    line = {"code": "invalid_json"} | METRICS.embedded(dict.fromkeys(names, value))
    check_embedded(line)
    directives = line["_aws"]["CloudWatchMetrics"]
    declared = [metric["Name"] for directive in directives for metric in directive["Metrics"]]
    assert sorted(declared) == sorted(names)
    for directive in directives:
        is_errors = [metric["Name"] for metric in directive["Metrics"]] == ["Errors"]
        assert directive["Dimensions"] == (
            [["function_name", "code"], ["function_name"]] if is_errors else [["function_name"]]
        )


def test_metrics_that_no_alarm_looks_at_can_stay_fields() -> None:
    """With `alarms` the line has every value, and CloudWatch makes metrics of those that alarms look at only."""
    values = {"Requests": 1.0, "Errors": 1.0, "SwapFailures": 1.0}
    fields = emf.Metrics("PredictFunction", "alarms").embedded(values)
    assert values.items() <= fields.items()
    made = [
        (metric["Name"], directive["Dimensions"])
        for directive in fields["_aws"]["CloudWatchMetrics"]
        for metric in directive["Metrics"]
    ]
    assert sorted(made) == [("Errors", [["function_name", "code"]]), ("SwapFailures", [["function_name"]])]


def test_an_unknown_metric_is_refused() -> None:
    """A misspelt name does not become a metric of its own that nobody looks at."""
    with pytest.raises(KeyError, match="Requsts"):
        METRICS.embedded({"Requsts": 1})


def test_without_the_layer_there_is_no_pager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stock torch has no pager, and nothing is imported to find that out."""
    monkeypatch.delitem(sys.modules, "torch_layer", raising=False)
    assert layer.pager_counts() is None
    assert "torch_layer" not in sys.modules


def test_the_layers_counters_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the layer, its pager is asked."""
    counted = SimpleNamespace(faults=1, blocks=2, bytes=3, microseconds=4)
    monkeypatch.setitem(sys.modules, "torch_layer", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "torch_layer.pager", SimpleNamespace(stats=lambda: counted))
    assert layer.pager_counts() == layer.PagerCounts(1, 3, 4)
