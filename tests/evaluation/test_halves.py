import numpy as np

from mmnet.data.splits import Examples
from mmnet.evaluation import halves as module
from mmnet.evaluation.halves import halves

IDS = np.array([f"item {number}" for number in range(400)], object)


def examples(items, periods=4):
    return Examples(
        np.repeat(np.arange(items, dtype=np.int32), periods),
        np.tile(np.arange(periods, dtype=np.int32), items),
    )


def rows(part):
    return set(zip(part.items.tolist(), part.times.tolist(), strict=True))


def test_every_example_is_in_one_half_with_all_others_of_its_item():
    whole = examples(400)
    found = halves(whole, IDS)
    assert not found.remark
    assert rows(found.choosing) | rows(found.fitting) == rows(whole)
    assert not set(found.choosing.items) & set(found.fitting.items)
    # Three standard deviations of a Binomial(400, 1/2): 30.
    assert abs(len(set(found.choosing.items)) - 200) < 30


def test_an_items_half_depends_on_its_id_alone():
    order = np.random.default_rng(0).permutation(400)
    one, other = halves(examples(400), IDS), halves(examples(400), IDS[order])
    assert set(IDS[one.choosing.items]) == set(IDS[order][other.choosing.items])


def test_halves_that_are_too_small_are_not_cut(monkeypatch):
    few_rows = examples(60, periods=2)
    found = halves(few_rows, IDS)
    assert found.choosing is found.fitting is few_rows
    assert found.remark.startswith("validation is not cut in two: a half would have ")
    few_items = examples(30, periods=100)
    assert halves(few_items, IDS).remark
    monkeypatch.setattr(module, "FEWEST_ITEMS", 5)
    assert not halves(few_items, IDS).remark
