import json

import hypothesis
import numpy as np
import pandas as pd
import pytest
from hypothesis import strategies as st

from mmnet.evaluation import filtering
from mmnet.evaluation.scenarios import SCENARIOS

values = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 4)), min_size=4, max_size=30
).filter(lambda rows: len({item for *_, item in rows}) > 1)


def columns(rows):
    truth, predicted, item = (np.array(column, float) for column in zip(*rows, strict=True))
    return truth, predicted, item


@hypothesis.given(values, st.sampled_from([0.1, 0.25, 0.5, 1.0]))
def test_a_sweep_is_what_counting_gives(rows, share):
    truth, predicted, item = columns(rows)
    found = filtering.sweep(
        truth, predicted, item, kept_shares=[share], top_percent=50, replicates=0
    ).iloc[0]
    kept = predicted >= sorted(predicted, reverse=True)[max(1, round(share * len(truth))) - 1]
    assert found["kept_share"] == kept.mean()
    assert found["pool_rate"] == pytest.approx(truth[kept].mean())
    best = sorted(truth, reverse=True)
    assert found["oracle_rate"] == pytest.approx(np.mean(best[: kept.sum()]))
    assert found["regret"] >= -1e-12
    # The expected share of the true top half that is kept, by drawing tied rows every way.
    size = max(1, len(truth) // 2)
    last = best[size - 1]
    above, tied = truth > last, truth == last
    drawn = (size - above.sum()) / tied.sum()
    expected = ((above & kept).sum() + drawn * (tied & kept).sum()) / size
    assert found["recall"] == pytest.approx(expected)


def test_everything_kept_recalls_everything_and_regrets_nothing():
    truth, predicted = np.arange(10.0), np.arange(10.0)[::-1]
    found = filtering.sweep(truth, predicted, np.arange(10), kept_shares=[1.0], replicates=50)
    row = found.iloc[0]
    assert (row["recall"], row["recall_low"], row["recall_high"]) == (1, 1, 1)
    assert row["regret"] == row["regret_low"] == row["regret_high"] == 0
    assert row["pool_rate_low"] < row["pool_rate"] == 4.5 < row["pool_rate_high"]


def test_a_threshold_above_all_scores_keeps_nothing():
    found = filtering.sweep(
        np.arange(4.0), np.arange(4.0), np.arange(4), kept_shares=(), thresholds=[9.0], replicates=0
    ).iloc[0]
    assert found["kept_share"] == found["recall"] == 0
    assert np.isnan(found["pool_rate"])


@pytest.mark.filterwarnings("error")
def test_an_interval_that_no_resample_defines_is_empty_without_a_warning():
    found = filtering.sweep(
        np.arange(4.0), np.arange(4.0), np.arange(4), kept_shares=(), thresholds=[9.0], replicates=9
    ).iloc[0]
    assert np.isnan([found["pool_rate_low"], found["pool_rate_high"]]).all()


def test_rows_of_one_item_are_no_independent_draws():
    """Ten copies of every row say no more than one, so the interval stays as wide."""
    draws = np.random.default_rng(0)
    truth, predicted = draws.normal(5, 1, 60), draws.normal(5, 1, 60)
    item = np.arange(60)
    widths = []
    for copies in (1, 10):
        row = filtering.sweep(
            np.repeat(truth, copies),
            np.repeat(predicted, copies),
            np.repeat(item, copies),
            kept_shares=[0.5],
            replicates=400,
        ).iloc[0]
        widths.append(row["pool_rate_high"] - row["pool_rate_low"])
    # The same resamples of 60 items: equal up to the rows that the threshold's tie adds.
    assert widths[1] == pytest.approx(widths[0], rel=1e-6)


@hypothesis.given(values)
def test_pools_are_chosen_period_by_period(rows):
    truth, score, item = columns(rows)
    period = np.arange(len(truth)) % 2
    found = filtering.replay(
        truth,
        item,
        period,
        {"model": score, "other": -score},
        pool_shares=[0.5],
        replicates=10,
    )
    expected = []
    for sign in (1, -1):
        total = number = 0.0
        for one in (0, 1):
            mine, ordered = truth[period == one], sign * score[period == one]
            size = max(1, len(mine) // 2)
            last = sorted(ordered, reverse=True)[size - 1]
            above, tied = ordered > last, ordered == last
            drawn = (size - above.sum()) / tied.sum()
            total += mine[above].sum() + drawn * mine[tied].sum()
            number += size
        expected.append(total / number)
    assert found["pool_rate"].tolist() == pytest.approx(expected)
    assert found["gain"].tolist() == pytest.approx([0, expected[0] - expected[1]], abs=1e-12)
    assert found["gain_low"][0] == found["gain_high"][0] == 0


def test_a_better_score_chooses_the_better_pool_beyond_luck():
    draws = np.random.default_rng(1)
    rate = draws.gamma(2, 2, 2000)
    found = filtering.replay(
        rate,
        np.arange(2000) // 2,
        np.arange(2000) % 4,
        {"model": rate + draws.normal(0, 1, 2000), "random": draws.normal(0, 1, 2000)},
        pool_shares=[0.2],
    ).set_index("rule")
    assert found.loc["random", "gain_low"] > 1
    assert (
        found.loc["random", "pool_rate_low"] < rate.mean() < found.loc["random", "pool_rate_high"]
    )


def frame(n=300):
    draws = np.random.default_rng(2)
    parts = []
    for scenario in SCENARIOS:
        rate = draws.gamma(2, 2, n)
        parts.append(
            pd.DataFrame(
                {
                    "scenario": scenario,
                    "item_id": np.arange(n).astype(str),
                    "period": np.arange(n) % 3,
                    "clicks": 100,
                    "share_rate": rate,
                    "seen_clicks": np.arange(n),
                    "age_periods": np.arange(n) % 7,
                    "predicted_share_rate": rate + draws.normal(0, 1, n),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def test_the_report_holds_every_rule_in_every_scenario(tmp_path):
    rows = frame()
    covered = pd.DataFrame(
        {
            "scenario": ["normal"],
            "clicks": ["all"],
            "n": [300],
            "items": [40],
            "coverage": [0.9],
            "standard_error": [0.02],
            "mean_width": [4],
        }
    )
    filtering.write(
        tmp_path,
        rows,
        {"last_rate": rows},
        {
            "recall=0.99": filtering.Applied(1.0),
            "keep=0.3": filtering.Applied(5.0),
            "keep=0.30": filtering.Applied(5.0),
        },
        covered,
        system="mmnet",
        level=0.9,
        replicates=20,
    )
    found = json.loads((tmp_path / "decision.json").read_text())
    assert set(found) == {"rules", "sweep", "replay", "coverage", "level", "top_percent"}
    for scenario in SCENARIOS:
        assert [row["rule"] for row in found["rules"][scenario]] == [
            "recall=0.99",
            "keep=0.3",
            "keep=0.30",
        ]
        assert {row["rule"] for row in found["replay"][scenario]} == {
            "mmnet",
            "last rate",
            "most clicks",
            "newest",
        }
    text = (tmp_path / "decision.md").read_text()
    assert "| Normal | all | 300 | 40 | 90.0% ± 2.0% | 4 |" in text
    assert (tmp_path / "decision.png").read_bytes().startswith(b"\x89PNG")


def test_a_quota_keeps_what_reaches_the_threshold_of_its_group(tmp_path):
    one = pd.DataFrame(
        {
            "item_id": ["a", "b", "c", "d"],
            "period": 0,
            "share_rate": [4.0, 3.0, 2.0, 1.0],
            "predicted_share_rate": [9.0, 8.0, 2.0, 1.0],
        }
    )
    rows = pd.concat([one.assign(scenario=scenario) for scenario in SCENARIOS])
    own = filtering.Applied(8.5, np.array([8.5, 8.5, 1.5, 1.5]))
    filtering.write(
        *(tmp_path, rows, {}, {"keep=0.5 per x": own}, pd.DataFrame()),
        system="mmnet",
        level=0.9,
        replicates=5,
    )
    (rule,) = json.loads((tmp_path / "decision.json").read_text())["rules"]["normal"]
    assert (rule["threshold"], rule["kept_share"], rule["kept_rows"]) == (8.5, 0.5, 2)
    assert (rule["pool_rate"], rule["lost_rate"]) == (3.0, 2.0)  # of a and c, and of b and d
    assert rule["oracle_rate"] == 3.5  # of a and b
