"""The paired test is the clustered one of `significance`, and its interval is where it rejects."""

import dataclasses

import numpy as np
import pytest

from mmnet.evaluation import significance
from mmnet.promotion.paired import Paired


def drawn(items=40, seed=0, better=0.8):
    draws = np.random.default_rng(seed)
    item = np.repeat(np.arange(items), draws.integers(1, 5, items))
    champion = draws.chisquare(1, len(item)) + draws.chisquare(1, items)[item]
    return Paired(champion, champion * draws.uniform(0.2, 2 * better - 0.2, len(item)), item)


def test_the_difference_is_that_of_significance():
    paired = drawn()
    predictions = significance.Predictions(
        np.zeros(len(paired.item)),
        paired.item,
        np.arange(len(paired.item)),
        {"new": np.sqrt(paired.challenger)[None], "old": np.sqrt(paired.champion)[None]},
        frozenset({"new", "old"}),
    )
    expected = significance.measure_mse(predictions).difference("new", "old")
    found = paired.difference()
    assert (found.value, found.low, found.high) == pytest.approx(
        (expected.value, expected.low, expected.high), rel=1e-9
    )
    # One tail of the two-sided test.
    assert paired.p_not_below(1.0) == pytest.approx(expected.p / 2, rel=1e-6)


@pytest.mark.parametrize("level", [0.05, 0.05 / 30])
def test_an_end_of_the_ratios_interval_is_where_the_test_rejects(level):
    paired = drawn()
    ratio = paired.ratio(1 - 2 * level)
    assert ratio.low < ratio.value < ratio.high
    assert paired.p_not_below(ratio.high) == pytest.approx(level, rel=1e-6)
    assert paired.p_not_below(ratio.low) == pytest.approx(1 - level, rel=1e-6)


def test_a_weight_of_two_is_the_row_twice_within_its_item():
    paired = drawn()
    twice = np.tile(np.arange(len(paired.item)), 2)
    doubled = dataclasses.replace(paired, weight=np.full(len(paired.item), 2.0))
    repeated = Paired(paired.champion[twice], paired.challenger[twice], paired.item[twice])
    ratio = dataclasses.astuple(paired.ratio())
    for one in (doubled, repeated):
        assert dataclasses.astuple(one.ratio()) == pytest.approx(ratio)
        assert one.freedom == pytest.approx(paired.freedom)
    assert doubled.effective_rows == len(paired.item)


def test_rows_without_weight_are_not_there():
    paired = drawn()
    some = paired.item < 30
    weighted = dataclasses.replace(paired, weight=some.astype(float))
    kept = Paired(paired.champion[some], paired.challenger[some], paired.item[some])
    assert weighted.num_items == kept.num_items == 30
    assert weighted.ratio() == kept.ratio()


def test_one_item_equal_models_and_no_error_decide_nothing():
    one = Paired(np.ones(3), np.zeros(3), np.zeros(3))
    assert one.p_not_below() == 1
    assert (one.ratio().low, one.ratio().high) == (0, np.inf)
    assert one.ratio().to_json() == {"value": 0.0, "low": 0.0, "high": None}
    same = Paired(np.arange(9.0), np.arange(9.0), np.arange(9))
    assert same.p_not_below() == 1
    assert same.ratio().value == 1
    perfect = Paired(np.zeros(9), np.zeros(9), np.arange(9))
    assert perfect.ratio().value == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"weight": np.zeros(2)},
        {"champion": np.array([np.nan, 1])},
        {"weight": np.array([1.0, -1.0])},
        {"item": np.zeros(3)},
    ],
)
def test_errors_that_cannot_be_compared_are_refused(wrong):
    given = {"champion": np.ones(2), "challenger": np.ones(2), "item": np.zeros(2)}
    with pytest.raises(ValueError, match=r"`Paired` needs|must have one shape"):
        Paired(**given | wrong)
