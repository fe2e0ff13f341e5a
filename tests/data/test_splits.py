import numpy as np
import pytest

from mmnet.checks import InputError
from mmnet.config import TaskFlags
from mmnet.data.calendars import Calendar
from mmnet.data.counts import Counts, Panel
from mmnet.data.splits import SPLITS, split_examples
from mmnet.hashing import hash_items, uniform


def panel(clicks, *, release=None, ids=None, likes=None):
    clicks = np.asarray(clicks, np.int64)
    ids = np.array([f"item {i}" for i in range(len(clicks))] if ids is None else ids, object)
    release = np.zeros(len(clicks), np.int64) if release is None else np.asarray(release)
    given = None if likes is None else np.arange(len(clicks)) % 2 == 0  # every second release
    rates = {} if likes is None else {"like": Counts(likes, np.zeros_like(likes))}
    days = Calendar(kind="integer")
    return Panel(ids, clicks, np.zeros_like(clicks), release, days, 100, given, rates)


def task(**flags):
    small = {"window": 3, "min_target_clicks": 1, "min_test_rows": 1}
    return TaskFlags(**small | flags)


def split(clicks, *, seed=0, release=None, ids=None, **flags):
    made = task(split_seed=seed, **flags)
    return split_examples(panel(clicks, release=release, ids=ids), made)[0]


def pairs(examples):
    """(item, column of the target) with horizon 1."""
    return {(int(i), int(t) + 1) for i, t in zip(examples.items, examples.times, strict=True)}


def everything(found):
    return set.union(*(pairs(found[name]) for name in SPLITS))


def test_every_observed_target_is_an_example_however_many_entries_are_missing():
    clicks = np.zeros((3, 20), int)
    clicks[0] = 5
    clicks[1, [0, 9, 15, 19]] = 5  # windows full of gaps
    clicks[2, [7, 18]] = 5  # a natural cold start: nothing before column 7
    found = split(clicks)
    # Column 0 has no t before it.
    assert everything(found) == {(i, c) for i, c in np.argwhere(clicks > 0).tolist() if c >= 1}


def test_a_target_before_the_release_is_no_example():
    found = split(np.full((1, 20), 5), release=[4])
    assert everything(found) == {(0, column) for column in range(4, 20)}


def test_an_example_stands_in_one_split_once():
    rng = np.random.default_rng(0)
    for how in ("chronological", "by_item", "random_window"):
        found = split(rng.integers(0, 3, (40, 20)), split=how)
        sizes = [len(found[name]) for name in SPLITS]
        assert sum(sizes) == len(everything(found))
        for name in SPLITS:
            assert len(pairs(found[name])) == len(found[name])


def test_the_chronological_split_cuts_the_calendar_into_target_spans():
    found = split(np.full((2, 21), 5))
    # Targets stand in columns 1 to 20: 16 train, 2 validate, 2 test.
    spans = [{column for _, column in pairs(found[name])} for name in SPLITS]
    assert spans == [set(range(1, 17)), {17, 18}, {19, 20}]
    assert found.first_targets == (1, 17, 19)


def test_validation_and_test_have_a_period_each_however_short_the_calendar():
    found = split(np.full((1, 5), 5))
    assert found.first_targets == (1, 3, 4)


def test_a_horizon_of_two_leaves_two_periods_between():
    found = split(np.full((1, 12), 5), horizon=2)
    # Targets in columns 2 to 11, t two before; the last two test, the two before validate.
    assert found.first_targets == (2, 8, 10)
    assert found.train.times.tolist() == list(range(6))
    # The first target of each span is left out: its t would lie before the last training target.
    assert (found.validation.times.tolist(), found.test.times.tolist()) == ([7], [9])


@pytest.mark.parametrize("how", ["chronological", "by_item", "random_window"])
def test_no_example_stands_before_the_first_period(how):
    found = split(np.full((30, 12), 5), split=how, horizon=3)
    assert min(found[name].times.min() for name in SPLITS) == 0
    # By time, two of the three targets that validate and that test have too early a t.
    assert sum(len(found[name]) for name in SPLITS) == 30 * (5 if how == "chronological" else 9)


def test_targets_need_clicks_and_the_ledger_tells_how_many_lacked_them():
    clicks = np.full((1, 21), 5)
    clicks[0, [3, 17, 20]] = [1, 9, 10]
    made = task(min_train_clicks=2, min_target_clicks=9)
    found, ledger = split_examples(panel(clicks), made)
    assert len(found.train) == 15
    assert (pairs(found.validation), pairs(found.test)) == ({(0, 17)}, {(0, 20)})
    assert [(rule.rule, rule.rows_in, rule.dropped) for rule in ledger] == [
        ("train target has 2 clicks or more", 16, 1),
        ("validation target has 9 clicks or more", 2, 1),
        ("test target has 9 clicks or more", 2, 1),
    ]


def test_by_item_keeps_an_item_in_one_split():
    found = split(np.full((300, 8), 5), split="by_item")
    homes = [set(found[name].items.tolist()) for name in SPLITS]
    assert sum(map(len, homes)) == len(set.union(*homes)) == 300
    # 240 items train in the mean; five standard deviations of a binomial(300, 0.8).
    assert abs(len(homes[0]) - 240) < 35


def test_random_window_puts_an_item_into_several_splits():
    found = split(np.full((50, 20), 5), split="random_window")
    homes = [set(found[name].items.tolist()) for name in SPLITS]
    assert len(homes[0] & homes[1] & homes[2]) > 10
    # 760 of 950 examples train in the mean; five standard deviations of a binomial(950, 0.8).
    assert abs(len(found.train) - 760) < 62


@pytest.mark.parametrize("how", ["chronological", "by_item", "random_window"])
def test_the_order_of_the_items_changes_no_split(how):
    clicks = np.random.default_rng(1).integers(0, 4, (60, 20))
    order = np.random.default_rng(2).permutation(60)
    ids = np.array([f"item {i}" for i in range(60)], object)
    found, moved = split(clicks, split=how), split(clicks[order], ids=ids[order], split=how)
    for name in SPLITS:
        assert {(int(order[i]), c) for i, c in pairs(moved[name])} == pairs(found[name])


@pytest.mark.parametrize(("how", "moves"), [("chronological", False), ("by_item", True)])
def test_only_a_random_split_depends_on_the_seed(how, moves):
    clicks = np.full((60, 20), 5)
    first, second = (pairs(split(clicks, split=how, seed=seed).test) for seed in (0, 1))
    assert (first != second) == moves


def test_without_a_seed_the_split_by_item_is_the_one_that_it_always_was():
    found = split(np.full((20, 8), 5), split="by_item")
    homes = [sorted(set(found[name].items.tolist())) for name in SPLITS]
    assert homes[1:] == [[0, 5, 11, 18], [1]]  # as of the first version


def sentence(clicks, **flags):
    with pytest.raises(InputError) as caught:
        split(clicks, **flags)
    return str(caught.value)


def test_too_few_periods_are_refused():
    assert sentence(np.full((1, 4), 5), horizon=2) == (
        "the counts table spans 4 periods (100 to 103); --window=3 and --horizon=2 need at least 5"
    )


def test_too_few_test_rows_are_refused():
    assert sentence(np.full((2, 21), 5), min_test_rows=5) == (
        "the test split has 4 examples, fewer than 5; lower --min_target_clicks (now 1) or "
        "--min_test_rows, or use data with more periods"
    )


def test_an_empty_training_split_is_refused():
    clicks = np.zeros((1, 21), int)
    clicks[0, 17:] = 5
    assert sentence(clicks).startswith("the train split has 0 examples, fewer than 1; lower ")


@pytest.mark.parametrize("ratios", [(8, 1), (8, 0, 1), (8, -1, 1), (float("nan"), 1, 1)])
def test_ratios_that_are_none_are_refused(ratios):
    given = ",".join(str(ratio) for ratio in ratios)
    assert sentence(np.full((1, 21), 5), split_ratios=ratios) == (
        f"--split_ratios must be three positive numbers. Received: {given}"
    )


def test_a_number_of_test_periods_counts_from_the_end():
    # Targets stand in columns 1 to 20; validation keeps its tenth of them.
    assert split(np.full((2, 21), 5), test_periods=3).first_targets == (1, 16, 18)


def test_test_periods_are_those_that_are_left_of_a_longer_horizon():
    # The first target of a span is left out: a span of 4 columns has 3 targets.
    found = split(np.full((1, 20), 5), horizon=2, test_periods=3)
    assert found.first_targets == (2, 14, 16)
    assert (found.test.times + 2).tolist() == [17, 18, 19]


def test_a_refit_trains_on_the_targets_of_all_spans_and_keeps_the_others_as_they_are():
    clicks = np.random.default_rng(0).integers(0, 3, (4, 21))
    before = split(clicks, test_periods=3)
    panel_, task_ = panel(clicks), task(test_periods=3)
    found, ledger = split_examples(panel_, task_, refit=True)
    assert pairs(found.train) == everything(before)
    assert pairs(found.validation) == pairs(before.validation)
    assert pairs(found.test) == pairs(before.test)
    assert ledger[0].rows_out == len(found.train)
    assert found.first_targets == (1, 21, 21)  # nothing in the log is unseen


def test_an_earlier_origin_moves_every_span_by_whole_test_spans():
    # Targets stand in columns 1 to 20: a test span is 2 columns.
    found = split(np.full((2, 21), 5), origin=1)
    spans = [{column for _, column in pairs(found[name])} for name in SPLITS]
    assert spans == [set(range(1, 15)), {15, 16}, {17, 18}]
    assert found.first_targets == (1, 15, 17)


def test_the_ledger_says_what_an_origin_left_out():
    _, ledger = split_examples(panel(np.full((2, 21), 5)), task(origin=1))
    (rule,) = (one for one in ledger if "origin" in one.rule)
    assert (rule.rows_in, rule.rows_out) == (40, 36)


def test_counts_after_an_origin_change_no_example():
    clicks = np.random.default_rng(0).integers(0, 9, (5, 21))
    changed = clicks.copy()
    changed[:, 19:] = 0
    before, after = split(clicks, origin=1), split(changed, origin=1)
    for name in SPLITS:
        assert pairs(before[name]) == pairs(after[name])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            {"origin": 9},
            "--origin=9 leaves no periods to train on: of 21 periods, each test span has 2",
        ),
        ({"origin": 1, "split": "by_item"}, "--origin=1 needs --split=chronological, not by_item"),
        (
            {"test_periods": 1, "split": "by_item"},
            "--test_periods=1 needs --split=chronological, not by_item",
        ),
        (
            {"test_periods": 19},
            "--test_periods=19 leaves no periods to train on and to validate on: the counts table "
            "spans 21 periods; lower it",
        ),
    ],
)
def test_an_origin_that_cannot_be_is_one_clear_sentence(flags, message):
    with pytest.raises(InputError, match=message):
        split(np.full((2, 21), 5), **flags)


# ----------------------------------------------------------------- several horizons and rates


def naive_targets(counted, flags):
    """(item, t, rate, horizon) of every split, one target at a time, by the rules in words."""
    found = {name: set() for name in SPLITS}
    whole = (
        split_examples(counted.of_rate(""), flags)[0] if flags.split == "chronological" else None
    )
    hashes = hash_items(counted.item_ids)
    for rate in ("", *counted.rates):
        clicks = counted.of_rate(rate).clicks
        for (item, column), number in np.ndenumerate(clicks):
            released = not counted.release_given[item] or column >= counted.release[item]
            if not number or not released:
                continue
            for horizon in flags.horizon:
                t = column - horizon
                if t < 0:
                    continue
                if whole:
                    starts = whole.first_targets
                    name = SPLITS[int(np.searchsorted(starts, column, side="right")) - 1]
                    before = starts[SPLITS.index(name)] - 1
                    if name != "train" and t < before:
                        continue
                else:
                    period = 100 + column if flags.split == "random_window" else 0
                    draw = uniform(hashes[[item]], flags.split_seed, np.array([period]))[0]
                    name = SPLITS[int(np.searchsorted([0.8, 0.9], draw, side="right"))]
                least = flags.min_train_clicks if name == "train" else flags.min_target_clicks
                if number >= least:
                    found[name].add((item, t, rate, horizon))
    return found


def targets_of(examples, outputs):
    return {
        (int(item), int(t), *outputs[number])
        for item, t, row in zip(examples.items, examples.times, examples.eligible, strict=True)
        for number in np.flatnonzero(row)
    }


@pytest.mark.parametrize("how", ["chronological", "by_item", "random_window"])
@pytest.mark.parametrize("shards", [(), (slice(0, 7), slice(7, 40))])
def test_a_target_belongs_to_the_split_of_its_own_period_and_clicks(how, shards):
    rng = np.random.default_rng(1)
    clicks, likes = (rng.integers(0, 5, (40, 30)) for _ in range(2))
    counted = panel(clicks, likes=likes, release=rng.integers(0, 9, 40))
    flags = task(split=how, horizon=(1, 2, 4), min_target_clicks=3, min_train_clicks=2)
    found, ledger = split_examples(counted, flags, shards)
    outputs = [(rate, horizon) for rate in ("", "like") for horizon in (1, 2, 4)]
    wanted = naive_targets(counted, flags)
    for name in SPLITS:
        part = found[name]
        assert targets_of(part, outputs) == wanted[name]
        assert part.eligible.any(axis=1).all()
        order = [*zip(part.items.tolist(), part.times.tolist(), strict=True)]
        assert order == sorted(set(order))
        for number, (rate, horizon) in enumerate(outputs):
            of = {(i, t) for i, t, *output in wanted[name] if output == [rate, horizon]}
            alone = part.of_output(number)
            assert {*zip(alone.items.tolist(), alone.times.tolist(), strict=True)} == of
    lines = [line.rule for line in ledger]
    assert "test target of like at horizon 4 has 3 clicks or more" in lines
    assert "test target has 3 clicks or more" in lines


def test_no_target_of_a_later_span_trains():
    rng = np.random.default_rng(2)
    counted = panel(rng.integers(1, 5, (9, 40)), likes=rng.integers(1, 5, (9, 40)))
    found, _ = split_examples(counted, task(horizon=(1, 3), origin=1))
    _, validate, test = found.first_targets
    for name, end in (("train", validate), ("validation", test)):
        items = found[name]
        for number, horizon in enumerate((1, 3, 1, 3)):
            assert (items.times[items.eligible[:, number]] + horizon < end).all()
    # For a longer horizon, too, validation and test begin at the end of the span before.
    assert found.validation.times.min() == validate - 1
    assert found.test.times.min() == test - 1


def test_after_a_refit_every_target_trains():
    rng = np.random.default_rng(4)
    counted = panel(rng.integers(0, 5, (9, 30)), likes=rng.integers(0, 5, (9, 30)))
    found, _ = split_examples(counted, task(horizon=(1, 2), min_train_clicks=2), refit=True)
    for number, (rate, horizon) in enumerate((r, h) for r in ("", "like") for h in (1, 2)):
        clicks = counted.of_rate(rate).clicks
        of_train = found.train.of_output(number)
        wanted = {(i, c - horizon) for i, c in np.argwhere(clicks >= 2).tolist() if c >= horizon}
        assert {*zip(of_train.items.tolist(), of_train.times.tolist(), strict=True)} == wanted


def test_the_first_output_is_split_as_if_it_were_alone():
    rng = np.random.default_rng(3)
    clicks, likes = (rng.integers(0, 5, (40, 30)) for _ in range(2))
    both, _ = split_examples(panel(clicks, likes=likes), task())
    alone, _ = split_examples(panel(clicks), task())
    assert alone.train.eligible is None
    for name in SPLITS:
        one, other = both.of_output(0)[name], alone[name]
        np.testing.assert_array_equal(one.items, other.items)
        np.testing.assert_array_equal(one.times, other.times)
        assert one.items.dtype == other.items.dtype
        assert one.times.dtype == other.times.dtype


def test_an_output_with_too_few_targets_is_named():
    clicks, likes = np.full((9, 30), 5), np.full((9, 30), 5)
    likes[:, 20:] = 0
    with pytest.raises(
        InputError, match=r"^the validation split has 0 examples of like at horizon 2, f"
    ):
        split_examples(panel(clicks, likes=likes), task(horizon=(1, 2), test_periods=7))
    clicks[:, 28:] = 0  # test begins in column 27, and 28 is the first that is 2 periods ahead
    with pytest.raises(InputError, match=r"^the test split has 0 examples at horizon 2, fewer"):
        split_examples(panel(clicks), task(horizon=(1, 2)))


def test_the_test_split_of_an_output_is_closed_too():
    found, _ = split_examples(panel(np.full((9, 30), 5)), task(horizon=(1, 2)))
    assert len(found.closed().of_output(1)["validation"])
    with pytest.raises(RuntimeError, match="closed"):
        found.closed().of_output(1)["test"]
