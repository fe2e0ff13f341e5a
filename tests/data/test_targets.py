"""A target without any positive, or with a single value, is reported; an ordinary one is not."""

import numpy as np
import pytest

from mmnet.data import targets
from mmnet.data.calendars import Calendar
from mmnet.data.counts import Panel
from mmnet.data.splits import Examples, Split

ITEMS = 40


def world(train, validation, test):
    """One period to start from, and a target period per split: shares of 10 clicks of each item."""
    shares = np.stack([np.zeros(ITEMS, np.int64), train, validation, test], axis=1)
    panel = Panel(
        np.arange(ITEMS),
        np.full((ITEMS, 4), 10),
        shares,
        np.zeros(ITEMS, np.int64),
        Calendar(kind="integer"),
        0,
    )
    rows = np.arange(ITEMS, dtype=np.int32)
    return panel, Split(*(Examples(rows, np.full(ITEMS, t, np.int32)) for t in range(3)))


def shares(*positives):
    return np.array([*positives, *[0] * (ITEMS - len(positives))])


def remarks(*splits, names=("train", "validation", "test")):
    return targets.remarks(*world(*splits), 1, "likes", names)


USUAL = np.arange(ITEMS) % 3


def test_ordinary_targets_are_not_remarked_on():
    assert remarks(USUAL, USUAL, USUAL) == []


@pytest.mark.parametrize(("each", "rate"), [(0, "0"), (10, "100"), (3, "30")])
def test_one_line_for_a_rate_that_all_targets_have(each, rate):
    same = np.full(ITEMS, each)
    means_nothing = (
        f"targets have the same rate, {rate} %: nothing can be learned from them, and P@N and "
        "thresholds are meaningless on them; check how 'likes' is counted"
    )
    assert remarks(same, same, same) == [
        f"note: all 40 train, 40 validation and 40 test {means_nothing}"
    ]
    assert remarks(USUAL, USUAL, same) == [f"note: all 40 test {means_nothing}"]
    assert remarks(same, USUAL, same, names=("validation",)) == []


def test_few_targets_above_zero_are_remarked_on():
    assert remarks(shares(1, 1, 1), USUAL, shares(*[1] * 9)) == [
        "note: only 3 of 40 train and 9 of 40 test targets are above 0 %: what is learned or "
        "measured on them is mostly chance; use a longer log, or a --numerator more frequent "
        "than 'likes'"
    ]
    assert remarks(shares(*[1] * 10), USUAL, USUAL) == []


def test_targets_are_looked_at_in_pieces(monkeypatch):
    panel, split = world(shares(0, 0, 0, 10, 1), USUAL, USUAL)
    whole = targets.of_examples(panel, split.train, 1)
    monkeypatch.setattr(targets, "ROWS_AT_ONCE", 3)
    assert targets.of_examples(panel, split.train, 1) == whole
    assert whole == targets.Targets(ITEMS, 2, 0.0, 100.0)
