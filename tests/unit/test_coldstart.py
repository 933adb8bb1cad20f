"""What benchmarks.coldstart makes of its starts: figures, ratios, tables and the picture."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from benchmarks.coldstart import picture, results, starts
from benchmarks.coldstart.candidates import Candidate
from benchmarks.coldstart.results import Setting
from benchmarks.coldstart.starts import Start

WARM, COLD = Setting(1769, dropped=False), Setting(1769, dropped=True)


def start(wall: float, cpu: float = 1.0, read: int = 0) -> Start:
    """One that took so long."""
    return Start(wall, cpu, read, 100, ["Rovan"], {"the request": wall * 1e3})


def candidate(name: str, folder: Path) -> Candidate:
    """One with 10 bytes of layer, 5 of package, and the benchmark's own entry beside it."""
    for part, size in (("opt/python/torch.py", 10), ("task/app.py", 5), ("task/entry.py", 1000)):
        path = folder / name / part
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
    return Candidate(name, name.title(), folder / name / "opt", folder / name / "task", folder)


def test_figures_are_medians_of_the_right_series(tmp_path: Path) -> None:
    """Time and memory are those of the warm starts, bytes read those of the dropped page cache, sizes what Lambda counts."""
    ours = candidate("ours", tmp_path)
    series = {
        WARM: {"ours": [start(3.0, 0.3), start(1.0, 0.1), start(2.0, 0.2)]},
        COLD: {"ours": [start(9.0, 0.9, 70), start(8.0, 0.8, 90), start(7.0, 0.7, 80)]},
    }
    found = results.summary(ours, series)
    assert (found["wall_s"], found["cpu_s"], found["read_bytes"]) == (2.0, 0.2, 80)
    assert found["unzipped_bytes"] == 15
    assert found["settings"]["1769-warm"]["middle_half"]["wall_s"] == [1.5, 2.5]
    assert found["settings"]["1769-warm"]["phases"] == {"the request": 2000.0}


def test_where_the_page_cache_cannot_be_dropped_nothing_is_said_of_it(tmp_path: Path) -> None:
    """Bytes read of a warm page cache would look like a good result; there is none instead."""
    found = {
        name: results.summary(candidate(name, tmp_path), {WARM: {name: [start(1.0), start(1.0)]}})
        for name in ("stock", "ours")
    }
    assert found["ours"]["read_bytes"] is None
    assert [goal["measure"] for goal in results.ratios(found)] == ["cpu_s", "peak_rss_bytes"]


@pytest.mark.parametrize(("cpu", "reached"), [(0.3, True), (0.31, False)])
def test_a_goal_is_reached_or_not(cpu: float, reached: bool, tmp_path: Path) -> None:
    """Our figure over the other's, against what the project wants to reach."""
    found = {
        "stock": results.summary(candidate("stock", tmp_path), {WARM: {"stock": [start(1.0, 1.0)] * 3}}),
        "ours": results.summary(candidate("ours", tmp_path), {WARM: {"ours": [start(1.0, cpu)] * 3}}),
    }
    goal = results.ratios(found)[0]
    assert (goal["ratio"], goal["reached"]) == (cpu, reached)
    short = "" if reached else ", 0.01 short"
    assert f"| {cpu:.2f} | 0.3 or less{short} |" in results.goals_table([goal])
    assert "| Ours | 1.00 (1.00-1.00) |" in results.table(found, WARM)


def measured(**phases: tuple[float, float]) -> dict[str, object]:
    """What an entry reports: phases by name, with when they began and how long they took."""
    listed = {name: {"at": at, "ms": ms, "cpu_ms": ms} for name, (at, ms) in phases.items()}
    return {"unpacking_ms": 30.0, "timing": "parse;dur=1, total;dur=10.0", "start": {"phases": listed}}


def test_phases_follow_each_other_and_add_up() -> None:
    """Nested and overlapping phases of a receipt count once, and with the emulator's share they are the whole time."""
    told = measured(runtime=(0, 100), pointer=(150, 300), model=(160, 400), dlopen=(200, 150), load=(580, 20))
    phases = starts._phases(told, 700.0)
    assert sum(phases.values()) == pytest.approx(700.0)
    assert phases["unpack"] == 30.0
    assert phases["Python and the runtime client"] == 70.0
    assert phases["the function's imports"] == 60.0
    assert (phases["load torch's libraries"], phases["import the rest of torch, and the model"]) == (150.0, 250.0)
    assert phases["wait for the release"] == 20.0
    assert phases["Lambda's emulator"] == pytest.approx(90.0)
    assert set(phases) == set(picture.COLOURS)


def test_a_release_that_is_loaded_by_the_request_is_a_part_of_it() -> None:
    """Where the start did not wait for the release any longer, its phases still add up to the whole time."""
    phases = starts._phases(measured(runtime=(0, 100), model=(160, 400), dlopen=(200, 150)), 700.0)
    assert phases["wait for the release"] == phases["build and warm up the model"] == 0.0
    assert sum(phases.values()) == pytest.approx(700.0)


def test_the_picture_has_a_bar_for_each_and_a_length_for_each_phase() -> None:
    """The drawing is an image that says what it shows, and its lengths are the times."""
    phases = dict.fromkeys(picture.COLOURS, 100.0)
    bars = [picture.Bar("stock", "stock <&>", phases), picture.Bar("ours", "ours", {"the request": 450.0})]
    drawing = ET.fromstring(picture.draw(bars, "A & B", "in turns"))
    names = {"svg": "http://www.w3.org/2000/svg"}
    assert drawing.get("aria-label") == "A & B"
    lengths = {
        (each.findtext("svg:title", "", names).rpartition(",")[0]): float(each.get("width", ""))
        for each in drawing.findall("svg:rect", names)
        if each.find("svg:title", names) is not None
    }
    assert len(lengths) == len(phases) + 1
    assert lengths["ours: the request"] == pytest.approx(4.5 * lengths["stock <&>: unpack"], abs=0.5)
    assert max(float(each.get("x", "0")) for each in drawing.iter("{http://www.w3.org/2000/svg}text")) < picture.WIDTH
