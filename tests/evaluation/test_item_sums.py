"""Item sums: right, small, and without a way back to targets and predictions."""

import io

import numpy as np
import pandas as pd
import pytest

from mmnet.evaluation.item_sums import DIGITS, MOST, SPREAD_DIGITS, as_parquet, item_sums
from mmnet.evaluation.precision import precision_at
from mmnet.evaluation.significance import Clusters, Predictions, repeated

SCENARIOS = ("normal", "cold_start", "noisy")


def scenarios(rows, *, seed=0, systems=2, seeds=3, shift=0.0, names=None, **more):
    """Predictions for items with `rows` rows each; all numbers are multiples of 1 / 1024.

    `more` has further systems: scenario and truth → predictions, [seeds, rows].
    """
    draw = np.random.default_rng(seed)
    names = np.arange(len(rows)) if names is None else names
    item = np.repeat(names, rows)
    period = np.concatenate([np.arange(n) for n in rows])
    grid = np.round(draw.gamma(2, 2, len(item)) * 1024) / 1024
    found = {}
    for scenario in SCENARIOS:
        errors = np.round(draw.normal(0, 2, (systems, seeds, len(item))) * 1024) / 1024
        predicted = {f"s{n}": grid + one for n, one in enumerate(errors)}
        predicted |= {name: np.asarray(make(scenario, grid)) for name, make in more.items()}
        found[scenario] = Predictions(
            grid + shift, item, period, {name: runs + shift for name, runs in predicted.items()}
        )
    return found


def test_sums_are_those_of_a_loop():
    found = scenarios([3, 4, 5] * 4)
    frame = item_sums(found, percents=(20,))
    assert len(frame) == 3 * 2 * 12
    for (scenario, system), lines in frame.groupby(["scenario", "system"]):
        own = found[scenario]
        runs, expected = own.predicted[system], []
        mse = [np.mean((run - own.truth) ** 2) for run in runs]
        for item in range(12):
            mine = own.item == item
            sums = [np.sum((run - own.truth)[mine] ** 2) for run in runs]
            moved = [one - np.mean(mse) for one in mse]
            spread = sum(
                (one - np.mean(sums) - change * mine.sum()) ** 2
                for one, change in zip(sums, moved, strict=True)
            )
            expected.append((mine.sum(), np.mean(sums), spread))
        columns = ["rows", "squared_error", "squared_error_spread"]
        ours = sorted(lines[columns].itertuples(index=False, name=None))
        for line, wanted in zip(ours, sorted(expected), strict=True):
            assert line[:2] == pytest.approx(wanted[:2], rel=0.5 * 10 ** (1 - DIGITS))
            assert line[2] == pytest.approx(wanted[2], rel=0.5 * 10 ** (1 - SPREAD_DIGITS))
        precision = np.mean([precision_at(20, own.truth, run) for run in runs])
        hits, top = lines["hits_20"].sum(), lines["true_top_20"].sum()
        # A sum of twelve numbers of four digits.
        assert hits / top == pytest.approx(precision, rel=1e-3)
        assert lines["predicted_top_20"].sum() == pytest.approx(top, rel=1e-3)


def test_variances_follow_within_the_rounding():
    found = scenarios([3, 5, 8] * 30)
    frame = item_sums(found).query("scenario == 'noisy'").set_index("item")
    own, by_system = found["noisy"], dict(list(frame.groupby("system")))
    clusters, size = Clusters(own.item), len(own.item)
    errors = {name: (runs - own.truth) ** 2 for name, runs in own.predicted.items()}
    groups = len(by_system["s0"])
    scale = np.sqrt(groups / (groups - 1)) / size

    def error(change):
        """Standard error of a mean from the sums of its items."""
        rows = by_system["s0"]["rows"]
        return scale * np.linalg.norm(change - rows * change.sum() / size)

    one, other = (by_system[name]["squared_error"].astype(float) for name in ("s0", "s1"))
    exact = clusters.variance(errors["s0"].mean(axis=0) - errors["s1"].mean(axis=0)) ** 0.5
    # Sums are wrong by half a unit of their last digit at most; centering makes no norm longer
    # than by the spread of the rows per item.
    unit = 0.5 * 10 ** (1 - DIGITS)
    rows = by_system["s0"]["rows"]
    longer = 1 + np.linalg.norm(rows) * np.sqrt(groups) / size
    bound = scale * unit * longer * (np.linalg.norm(one) + np.linalg.norm(other)) * (1 + 2 * unit)
    assert abs(error(one - other) - exact) <= bound < 0.01 * exact
    shared = by_system["s0"]["squared_error_spread"].astype(float).sum() * scale**2 / (3 * 2)
    assert shared == pytest.approx(
        repeated(clusters.variance, errors["s0"]), rel=0.5 * 10 ** (1 - SPREAD_DIGITS)
    )


# -------------------------------------------------------------------------- no way back


def test_other_targets_and_predictions_of_every_row_yield_the_same_file():
    rows = [1, 2, 3, 4, 5] * 10
    one, other = scenarios(rows), scenarios(rows, shift=0.5)
    frames = [item_sums(found) for found in (one, other)]
    assert frames[0].equals(frames[1])
    for scenario in SCENARIOS:
        assert (one[scenario].truth != other[scenario].truth).all()
        for system, runs in one[scenario].predicted.items():
            assert (runs != other[scenario].predicted[system]).all()


def test_other_targets_of_every_row_go_with_known_predictions():
    # All predictions of `s0` are known, and its sums: any rotation of an item's errors is possible.
    (found,) = [scenarios([3, 4, 6] * 10)[name] for name in ("normal",)]
    draw = np.random.default_rng(1)
    truth = found.truth.copy()
    runs = found.predicted["s0"][:1]
    for item in np.unique(found.item):
        mine = found.item == item
        turn = np.linalg.qr(draw.normal(size=(mine.sum(),) * 2))[0]
        truth[mine] = runs[0, mine] - turn @ (runs[0] - found.truth)[mine]
    assert (abs(truth - found.truth) > 1e-6).all()
    sums = [
        item_sums({"normal": Predictions(one, found.item, found.period, {"s0": runs})})
        for one in (found.truth, truth)
    ]
    same = [one.sort_values(["rows", "squared_error"])["squared_error"] for one in sums]
    np.testing.assert_allclose(*same, rtol=10 ** (1 - DIGITS))  # of the last digit


def test_a_constant_that_can_be_guessed_gives_no_target_away():
    def zeros(scenario, truth):
        return np.zeros((1, len(truth)))

    def no_history(scenario, truth):  # 0 throughout the first 9 of 30 items
        return np.where(np.arange(len(truth)) < 27, 0, truth + 1 + np.arange(len(truth)))[None]

    found = scenarios([3] * 30, zeros=zeros, no_history=no_history)
    frame = item_sums(found)
    sums = frame.groupby("system")["squared_error"]
    assert (sums.count()["zeros"], sums.count()["s0"]) == (0, 3 * 21)
    own = found["normal"]
    alone = [np.sum(own.truth[own.item == item] ** 2) for item in range(9)]
    kept = frame.query("system == 'no_history'")["squared_error"].to_numpy()
    # No sum of squared targets is there; each is joined to an item with history.
    assert len(kept) == 3 * 21
    assert not np.isclose(kept[:, None], alone, rtol=10 ** (1 - DIGITS)).any()
    assert frame.query("scenario == 'normal' and system == 's0'")["rows"].sum() == 90


def test_no_sum_has_fewer_than_three_rows():
    frame = item_sums(scenarios([1] * 41 + [2] * 4 + [3, 9]))
    lines = frame.query("scenario == 'normal' and system == 's1'")
    assert lines["rows"].min() >= 3
    assert lines["rows"].sum() == 41 + 8 + 12


def test_ids_and_their_order_are_not_kept():
    rows = [3, 4, 5, 6] * 10
    names = np.array([f"id {number:02}" for number in range(40)])
    frames = [item_sums(scenarios(rows, names=one)) for one in (names, names[::-1])]
    assert frames[0].equals(frames[1])
    assert not any("id" in str(value) for value in frames[0]["item"])


@pytest.mark.parametrize("rows", [[1, 1], [3, 3, 3, 3]])
def test_few_sums_are_not_kept(rows):
    frame = item_sums(scenarios(rows))
    assert frame.empty
    assert list(pd.read_parquet(io.BytesIO(as_parquet(frame)))) == list(frame)


def test_a_large_experiment_is_below_400_kb_and_read_back():
    frame = item_sums(scenarios([3] * 3000, systems=24, seeds=2))
    assert MOST / 2 < len(frame) <= MOST  # items are joined: there would be 216,000 lines
    assert frame["rows"].min() >= 6
    written = as_parquet(frame)
    assert len(written) < 400_000
    again = pd.read_parquet(io.BytesIO(written))
    for column in frame:
        np.testing.assert_array_equal(again[column], frame[column])
