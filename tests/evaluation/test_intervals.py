"""Intervals of one evaluation, by items."""

import numpy as np
import pandas as pd
import pytest

from mmnet.evaluation import intervals, significance
from mmnet.evaluation.scenarios import SCENARIOS


def frame(errors, items):
    """Rows in every scenario whose predictions are off by the given errors."""
    rows = pd.DataFrame(
        {
            "item_id": items,
            "period": np.arange(len(items)),
            "share_rate": np.arange(len(items), dtype=float),
        }
    )
    rows["predicted_share_rate"] = rows["share_rate"] + errors
    return pd.concat([rows.assign(scenario=scenario) for scenario in SCENARIOS])


def test_rows_of_an_item_count_once():
    errors = np.tile([1.0, 2.0], 50)
    alone = intervals.estimate(frame(errors, np.arange(100)), {}, "a")["normal"]["mse"]
    # Every item has two rows that err alike: 50 items, not 100 rows.
    twice = intervals.estimate(frame(np.repeat(errors[:50], 2), np.arange(100) // 2), {}, "a")
    width, wider = (one["high"] - one["low"] for one in (alone, twice["normal"]["mse"]))
    assert (alone["low"] + alone["high"]) / 2 == pytest.approx(2.5)
    # √2, and a t quantile of 49 degrees of freedom in place of 99, one item less in the variance.
    assert wider / width == pytest.approx(2**0.5, rel=0.03)


def test_a_difference_is_paired_by_row():
    draws = np.random.default_rng(0).normal(size=60)
    own, other = frame(draws, np.arange(60)), frame(draws + 0.1, np.arange(60))
    found = intervals.estimate(own, {"ha": other}, "a")["cold_start"]["mse"]["difference"]["ha"]
    # (x)² - (x + 0.1)² = -0.2 x - 0.01.
    assert found["value"] == pytest.approx(np.mean(-0.2 * draws - 0.01))
    error = 0.2 * np.std(draws, ddof=1) / 60**0.5
    assert found["high"] - found["value"] == pytest.approx(2.001 * error, rel=1e-3)  # t of 59


def test_one_item_has_no_interval():
    assert intervals.estimate(frame(np.ones(3), ["a", "a", "a"]), {}, "a") == {}


def test_many_rows_are_resampled_less_often(monkeypatch):
    asked = []
    monkeypatch.setattr(intervals, "MOST_DRAWS", 1000)
    monkeypatch.setattr(
        intervals.significance,
        "measure",
        lambda scenarios, replicates, seed: asked.append(replicates) or {},
    )
    intervals.estimate(frame(np.ones(20), np.arange(20)), {}, "a")
    intervals.estimate(frame(np.ones(2), np.arange(2)), {}, "a")
    assert asked == [50, 50, 50, 200, 200, 200]  # 20 rows * 50 replicates


def test_the_mean_of_squared_errors_has_the_same_interval_alone():
    errors, items = np.random.default_rng(0).normal(size=90), np.arange(90) // 3
    both = intervals.estimate(frame(errors, items), {"ha": frame(errors + 1, items)}, "a")
    for squared, known in (
        (errors**2, both["noisy"]["mse"]),
        ((errors + 1) ** 2, both["noisy"]["mse"]["others"]["ha"]),
    ):
        found = intervals.mse_ends(squared, significance.Clusters(items))
        assert found == pytest.approx({"low": known["low"], "high": known["high"]}, rel=1e-12)


def test_groups_have_the_intervals_of_their_own_rows():
    draw = np.random.default_rng(0)
    squared = draw.exponential(size=400)
    items, groups = draw.integers(0, 40, 400), draw.integers(0, 4, 400)
    low, high = intervals.group_ends(squared, items, groups)
    for group in range(4):
        rows = groups == group
        found = intervals.mse_ends(squared[rows], significance.Clusters(items[rows]))
        assert (low[group], high[group]) == pytest.approx((found["low"], found["high"]), rel=1e-12)


def test_a_group_of_one_item_or_of_nearly_one_has_no_interval():
    items = np.array(["a"] * 3 + ["b"] * 50 + ["c"] + ["d", "e", "f"])
    low, high = intervals.group_ends(np.arange(57.0), items, np.repeat([0, 1, 3], [3, 51, 3]))
    assert np.isnan(low).tolist() == np.isnan(high).tolist() == [True, True, True, False]


def test_metrics_get_the_ends_of_their_intervals():
    own = {scenario: {"mse": 4.0, "n": 3} for scenario in SCENARIOS} | {"seed": 0}
    known = {"normal": {"mse": {"low": 3.0, "high": 5.0, "others": {"ha": {"low": 1.0}}}}}
    found = intervals.with_ends(own, known)
    assert (found["normal"]["mse_low"], found["normal"]["mse_high"]) == (3.0, 5.0)
    assert found["normal"]["precision_at_5_low"] is found["noisy"]["mse_high"] is None
    assert (found["seed"], found["normal"]["n"]) == (0, 3)
    assert intervals.with_ends(own, known, "ha")["normal"]["mse_low"] == 1.0
    header, ((name, first, *_),) = intervals.table_cells({"a": found})
    assert (header[:2], name, first) == (["System", "Normal MSE"], "a", "[3.000, 5.000]")
