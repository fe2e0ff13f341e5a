import numpy as np
import pytest

from mmnet.config import TaskFlags
from mmnet.data.calendars import Calendar
from mmnet.data.counts import Panel
from mmnet.inspection import quality

DRAW = np.random.default_rng(0)


def panel(clicks, shares):
    seen = np.where((clicks > 0).any(axis=1), (clicks > 0).argmax(axis=1), clicks.shape[1])
    ids = np.arange(len(clicks)).astype(str)
    return Panel(ids, clicks, shares, seen, Calendar(kind="integer"), 0), seen


def test_a_small_panel_by_hand():
    clicks = np.array([[0, 4, 0, 2], [10, 10, 10, 10], [0, 0, 0, 0]])
    found = quality.of_panel(*panel(clicks, clicks // 2), [slice(0, 2), slice(2, 3)])
    assert (found.items, found.observed_items, found.cells, found.empty_periods) == (3, 2, 6, 0)
    assert found.coverage == 6 / (3 + 4)
    assert found.rate == 50
    assert found.quantiles == (2, 10, 10)
    assert [one.cells for one in found.evidence] == [2, 0, 4, 0, 0, 0, 0]


@pytest.mark.parametrize("shards", [[slice(0, 300)], [slice(0, 100), slice(100, 300)]])
def test_the_share_of_noise_does_not_depend_on_shards(shards):
    true = DRAW.beta(3, 9, (300, 1))
    clicks = np.random.default_rng(1).integers(2, 30, (300, 8))
    shares = np.random.default_rng(2).binomial(clicks, 0.2 + 0 * true)
    rate = shares / clicks
    naive = (rate * (1 - rate) / (clicks - 1)).mean() / rate.var()
    assert quality.of_panel(*panel(clicks, shares), shards).noise == pytest.approx(min(naive, 1))


def test_examples_and_thresholds():
    clicks = np.random.default_rng(0).integers(5, 15, (600, 40))
    one, _ = panel(clicks, clicks // 3)
    shards = [slice(0, 600)]
    least, _ = quality.least_clicks(one, TaskFlags(), shards)
    assert least == 10  # 50 and 20 leave none
    found = quality.examples(one, TaskFlags(min_target_clicks=least), shards)
    assert found["train"] == 600 * 31
    assert found["test"] == (clicks[:, -4:] >= 10).sum()


def test_a_gap_at_the_end_of_which_too_little_is_left_is_kept():
    there = np.array([1] * 30 + [0] * 6 + [1] * 10, bool)
    assert quality.start_after_gap(there, least=6) == 0
    assert quality.start_after_gap(np.r_[there, np.ones(30, bool)], least=6) == 36
