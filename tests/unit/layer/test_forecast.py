"""The size of a layer is known before it is built: what fits is built, and what cannot fit is refused with advice that helps."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.account import forecast
from builder.account.forecast import Forecast, Ratio
from builder.errors import LayerSizeError
from builder.native import selection
from builder.native.page_set import PageSet
from builder.native.split import LibraryPlan, thin
from builder.options import BuildOptions
from builder.profile.profiles import Profile
from builder.stage.policy import LIMIT_BYTES
from layer_kit.packages import RECORDED, make_tree
from paging.kit import PLAIN, Tree, unsplit

RATIOS = {name: value for name, value in vars(forecast).items() if isinstance(value, Ratio)}


@pytest.mark.parametrize("name", sorted(RATIOS))
def test_ratios_have_reasons(name: str) -> None:
    """Each ratio says what it was measured on, and the least is not above the likely."""
    ratio = RATIOS[name]
    assert ratio.reason
    assert 0 < ratio.least <= ratio.likely


def test_every_file_counts(tmp_path: Path) -> None:
    """Every package of the tree is in the forecast, and a file more makes it larger by what such files take."""
    tree = make_tree(tmp_path / "tree")
    before = forecast.forecast(tree, None)
    assert {"lake", "hill", "single", "stranger", "torch_layer"} == {name for name, _ in before.packages}
    assert before.likely == sum(size for _, size in before.packages)
    (tree / "lake" / "table.bin").write_bytes(bytes(100_000))
    (tree / "stranger" / "large.py").write_text("N = 1\n" * 1000)
    after = forecast.forecast(tree, None)
    assert after.likely - before.likely == pytest.approx(100_000 + 6000 * forecast.SOURCE_AS_FILE.likely, abs=2)
    assert after.least - before.least == pytest.approx(100_000 + 6000 * forecast.SOURCE_AS_FILE.least, abs=2)


def test_a_profile_tells_the_tiers_apart(tmp_path: Path) -> None:
    """With a profile a packed module counts by its tier, without one by the ratio of all tiers together."""
    names = {"torch/__init__.py": RECORDED.hot, "torch/cold.py": ()}
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("#" * 1_000_000)
    profile = Profile({}, "", "", {}, (), ("torch",), frozenset(), frozenset(), PageSet())
    with_profile, without = (dict(forecast.forecast(tmp_path, known).packages)["torch"] for known in (profile, None))
    assert with_profile == round(1e6 * (forecast.HOT_SOURCE.likely + forecast.COLD_SOURCE.likely))
    assert without == round(2e6 * forecast.SOURCE.likely)


@pytest.mark.parametrize("package", ["torch", "package"])
def test_a_split_library_is_forecast(tmp_path: Path, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a library that is really split, hot pages included, the result is not below the least and near the likely size."""
    monkeypatch.setattr(selection, "THRESHOLD_BYTES", 50_000)
    unsplit(tmp_path / "kit")
    tree = Tree(tmp_path / "tree")
    name = f"{package}/lib/libplain.so"
    (tree.root / name).parent.mkdir(parents=True)
    (tree.root / name).write_bytes((tmp_path / "kit" / PLAIN).read_bytes())
    hot = frozenset(range(20, 60)) if package == "torch" else frozenset[int]()
    profile = Profile({}, "", "", {}, (), (), frozenset(), frozenset(), PageSet({name: hot}))
    expected = forecast.forecast(tree.root, profile)
    tree.add_pager()
    report = thin({name: LibraryPlan(hot)}, tree.root, tree.side_file)
    actual = report.libraries[0].thin + report.side_file
    likely = dict(expected.packages)[package]
    assert expected.least - forecast.RUN_TIME_BYTES <= actual
    # The kit's code is random constants, which compress worse than any real library's.
    assert likely < report.libraries[0].original * 0.6


@given(st.integers(1, LIMIT_BYTES), st.integers(1, 4 * LIMIT_BYTES))
def test_the_advice_fits(budget: int, least: int) -> None:
    """Only what cannot fit is refused; a larger budget is named only where Lambda would take the layer, and then it is enough."""
    found = Forecast(least + 1000, least, (("torch", least), ("lake", 1000)))
    if least <= budget:
        forecast.require_room(found, budget)
        return
    with pytest.raises(LayerSizeError) as caught:
        forecast.require_room(found, budget)
    assert "torch" in caught.value.cause
    assert f"{least:,}" in caught.value.cause
    _, _, named = caught.value.next_step.partition("--budget ")
    if least > LIMIT_BYTES:
        assert not named
        assert "does not help" in caught.value.next_step
    else:
        assert least <= int(named) <= LIMIT_BYTES


@pytest.mark.parametrize("budget", [0, -1, LIMIT_BYTES + 1])
def test_a_budget_that_lambda_does_not_have_is_refused(tmp_path: Path, budget: int) -> None:
    """A budget above Lambda's own limit, or below one byte, is refused before anything is done."""
    with pytest.raises(LayerSizeError, match="262,144,000") as caught:
        BuildOptions([], tmp_path / "layer", tmp_path / "work", budget_bytes=budget)
    assert "between 1 and 262144000" in caught.value.next_step
    assert not list(tmp_path.iterdir())
