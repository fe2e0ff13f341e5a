import hypothesis
import numpy as np
import pandas as pd
import pytest
from hypothesis import strategies as st

from mmnet.evaluation import conformal
from mmnet.evaluation.conformal import Group, Intervals


def frame(n, seed, scenario="normal", scale=1.0):
    """Rates whose noise grows as a root, wider for items of few clicks."""
    draws = np.random.default_rng(seed)
    predicted = draws.gamma(2, 2, n)
    clicks = draws.choice([0, 5, 50, 500, 5_000], n)
    noise = scale * draws.standard_t(3, n) / np.log(2 + clicks)
    return pd.DataFrame(
        {
            "item_id": np.arange(n),
            "scenario": scenario,
            "seen_clicks": clicks,
            "predicted_share_rate": predicted,
            "share_rate": np.clip(predicted + noise * np.sqrt(predicted), 0, 100),
        }
    )


def test_new_rates_fall_inside_as_often_as_said_in_every_group():
    fitted = conformal.fit(frame(20_000, 0), level=0.9)
    found = conformal.coverage(fitted, frame(20_000, 1))
    assert len(found) == 6
    # 4,000 rows a group on either side: two binomial errors of 0.5 points each, four of them.
    assert found["coverage"].between(0.9 - 0.028, 0.9 + 0.028).all()
    # Where more is known, intervals are narrower.
    assert (found["mean_width"][1:].diff()[1:] < 0).all()


def test_the_error_of_coverage_is_that_of_as_many_items():
    once = frame(300, 2)
    fitted = conformal.fit(frame(4_000, 0), level=0.8)
    found = conformal.coverage(fitted, pd.concat([once] * 7)).iloc[0]  # seven alike rows an item
    assert (found["n"], found["items"]) == (2100, 300)
    p = found["coverage"]
    assert found["standard_error"] == pytest.approx((p * (1 - p) / 299) ** 0.5)
    alone = conformal.coverage(fitted, once.assign(item_id="a"))
    assert alone["standard_error"].isna().all()


def test_each_scenario_has_its_own_intervals():
    both = pd.concat([frame(4_000, 0), frame(4_000, 1, "cold_start", scale=3)])
    fitted = conformal.fit(both, level=0.8)
    found = conformal.coverage(fitted, both).query("clicks == 'all'").set_index("scenario")
    assert found["coverage"].between(0.79, 0.82).all()  # of the rows calibrated on: a rank's worth
    assert found.loc["cold_start", "mean_width"] > 1.5 * found.loc["normal", "mean_width"]


@hypothesis.given(st.integers(1, 60), st.floats(0.5, 0.95), st.randoms(use_true_random=False))
def test_ranks_hold_the_level_on_average_over_every_place_of_a_new_residual(n, level, random):
    """Of n + 1 exchangeable residuals each is the new one with probability 1 / (n + 1)."""
    residual = np.array(random.sample(range(1000), n + 1), float)
    inside = 0
    for new in range(n + 1):
        low, high = conformal._bounds(np.delete(residual, new), level)
        above = low is None or low <= residual[new]
        inside += above and (high is None or residual[new] <= high)
    assert inside / (n + 1) >= level - 1e-9


def test_small_groups_join_their_neighbours():
    clicks = np.concatenate([np.zeros(50), np.full(400, 5), np.full(300, 50), np.full(10, 5_000)])
    assert [start for start, _ in conformal._grouped(clicks)] == [0, 10]
    assert [int(rows.sum()) for _, rows in conformal._grouped(clicks)] == [450, 310]
    assert [start for start, _ in conformal._grouped(np.zeros(10))] == [0]


def test_too_few_rows_bound_nothing():
    fitted = conformal.fit(frame(10, 0), level=0.9)
    assert fitted.groups[0].low is None
    low, high = fitted("normal", np.array([3]), np.array([5.0]))
    assert (low[0], high[0]) == (0, 100)


def test_ends_stay_in_range_and_scale_with_the_root():
    groups = (Group(scenario="normal", clicks=0, n=9, low=-1.0, high=2.0),)
    fitted = Intervals(level=0.9, floor=1.0, max_rate=10.0, groups=groups)
    low, high = fitted("normal", np.array([0, 0, 0]), np.array([0.0, 4.0, 9.0]))
    # s = sqrt(max(predicted, 1)) = 1, 2, 3.
    np.testing.assert_array_equal(low, [0, 2, 6])
    np.testing.assert_array_equal(high, [2, 8, 10])


@pytest.mark.parametrize("level", [0, 1, -0.1, float("nan")])
def test_a_level_outside_its_range_is_refused(level):
    with pytest.raises(ValueError, match="level"):
        conformal.fit(frame(10, 0), level=level)


def test_a_scenario_that_was_not_calibrated_is_refused():
    with pytest.raises(ValueError, match="scenario"):
        conformal.fit(frame(10, 0))("noisy", np.array([1]), np.array([1.0]))
