import numpy as np
import pytest

from mmnet.evaluation.dwell import MEASURES, Shown, gains, measures, pool
from mmnet.evaluation.significance import Clusters


def shown(candidates=40, impressions=300, users=25, seed=0):
    """A log in which every candidate is shown; two candidates may be of one item."""
    draw = np.random.default_rng(seed)
    candidate = np.r_[np.arange(candidates), draw.integers(0, candidates, impressions - candidates)]
    return Shown(
        item=draw.integers(0, candidates // 2, candidates),
        rate=draw.gamma(2, 1, candidates),
        candidate=candidate,
        user=draw.integers(0, users, impressions),
        seconds=draw.exponential(10, impressions),
    )


def in_loops(log, weights, items=None, users=None):
    """The measures by definition; `items` and `users` are how often each was drawn."""
    rates = seconds = number = seen = 0.0
    for n, weight in enumerate(weights):
        weight = weight * (1 if items is None else items[log.item[n]])
        own = [s for c, s in zip(log.candidate, log.seconds, strict=True) if c == n]
        rates, number = rates + weight * log.rate[n], number + weight
        seconds, seen = seconds + weight * sum(own), seen + weight * len(own)
    of_users, there = np.zeros(2)
    for user in sorted(set(log.user)):
        rows = [i for i in range(len(log.user)) if log.user[i] == user]
        drawn_there = [
            weights[c] * (1 if items is None else items[log.item[c]]) for c in log.candidate[rows]
        ]
        seen_there = sum(drawn_there)
        if seen_there > 0:
            stayed = sum(w * s for w, s in zip(drawn_there, log.seconds[rows], strict=True))
            drawn = 1 if users is None else users[user]
            of_users, there = of_users + drawn * stayed / seen_there, there + drawn
    return [rates / number, seconds / number, seconds / seen, of_users / there]


def some_pools(log, seeds=1):
    draw = np.random.default_rng(1)
    period = draw.integers(0, 3, len(log.item))
    scores = [draw.normal(size=len(log.item)).round(1) for _ in range(seeds)]
    return [pool(score, period, 0.3) for score in scores]


def test_the_measures_are_those_of_loops():
    log = shown()
    (weights,) = some_pools(log)
    found = measures(log, weights)
    assert tuple(found) == MEASURES
    # The same sums in another order.
    np.testing.assert_allclose([*found.values()], in_loops(log, weights), rtol=1e-12)


def test_a_pool_holds_its_share_of_every_period():
    score, period = np.array([1.0, 2, 3, 3, 9, 8, 7, 6]), np.array([0] * 4 + [1] * 4)
    np.testing.assert_array_equal(pool(score, period, 0.5), [0, 0, 1, 1, 1, 1, 0, 0])
    np.testing.assert_array_equal(pool(score, period, 0.25), [0, 0, 0.5, 0.5, 1, 0, 0, 0])
    np.testing.assert_array_equal(pool(score, period, 1.0), np.ones(8))


def test_gains_are_relative_to_each_base_and_mean_over_seeds():
    log = shown()
    pools = {"model": some_pools(log, seeds=3), "all": [np.ones(len(log.item))]}
    table = gains(log, pools, ["all"], replicates=20).set_index(["rule", "measure"])
    of_all = in_loops(log, pools["all"][0])
    for n, name in enumerate(MEASURES):
        each = [100 * (in_loops(log, weights)[n] / of_all[n] - 1) for weights in pools["model"]]
        row = table.loc["model", name]
        assert row["gain"] == pytest.approx(np.mean(each), rel=1e-9)
        assert row["gain_sd"] == pytest.approx(np.std(each, ddof=1), rel=1e-9)
        assert row["gain_low"] < row["gain_high"]
        itself = table.loc["all", name]
        assert (itself["gain"], itself["gain_low"], itself["gain_high"]) == (0, 0, 0)


@pytest.mark.parametrize("name", MEASURES)
def test_intervals_are_of_a_bootstrap_of_items_and_for_users_of_both(name):
    log = shown(candidates=12, impressions=60, users=8)
    pools = {"model": some_pools(log, seeds=2), "all": [np.ones(12)]}
    table = gains(log, pools, ["all"], replicates=30, seed=4)
    row = table.query(f"rule == 'model' and measure == '{name}'").iloc[0]
    # How often each is drawn is tested elsewhere; here what is made of it, in loops.
    items, users = (
        np.concatenate([*Clusters(keys).resample(30, seed)], axis=1)
        for keys, seed in ((log.item, 4), (np.arange(8), 5))
    )
    drawn = []
    for of_item, of_user in zip(items.T, users.T, strict=True):
        counts = dict(zip(log.item, of_item, strict=True)), dict(enumerate(of_user))
        with np.errstate(invalid="ignore", divide="ignore"):  # a resample with nothing of a pool
            first, second, base = (
                in_loops(log, chosen, *counts)[MEASURES.index(name)]
                for chosen in (*pools["model"], *pools["all"])
            )
        drawn.append(100 * ((first + second) / 2 / base - 1))
    found = [row["gain_low"], row["gain_high"]]
    np.testing.assert_allclose(found, np.nanquantile(drawn, [0.025, 0.975]), rtol=1e-9)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rate": np.array([1.0, np.nan])}, "`rate` must be finite"),
        ({"seconds": np.array([1.0, np.inf])}, "`seconds` must be finite"),
        ({"candidate": np.array([0, 2])}, r"`candidate` must be in \[0, 2\)"),
        ({"candidate": np.array([0, 0])}, "must show every candidate. Received: none of 1"),
    ],
)
def test_what_is_no_log_is_refused(changed, message):
    given = {
        "item": np.array(["a", "b"]),
        "rate": np.array([1.0, 2.0]),
        "candidate": np.array([0, 1]),
        "user": np.array([1, 2]),
        "seconds": np.array([3.0, 4.0]),
    }
    with pytest.raises(ValueError, match=message):
        Shown(**given | changed)
