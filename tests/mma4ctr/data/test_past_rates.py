import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmnet.mma4ctr.config import ProtocolFlags
from mmnet.mma4ctr.data import features, past_rates, protocols
from mmnet.mma4ctr.data.protocols import SPLITS
from tests.mma4ctr.logs import log, reduction

SEEDS = st.integers(0, 1000)
DAYS = 14
MOMENTS = DAYS + 1


def build(data, **flags):
    flags = ProtocolFlags(protocol="c1", past_rates=True, **flags)
    return protocols.build(data, flags, np.ones(len(data.item_ids), bool), 0)


def columns(data):
    return past_rates.tables(build(data), len(data.user_ids), len(data.item_ids))


def by_hand(data, ids, number):
    """The columns of one table and of one prior after the other, by loops over moments and rows."""
    protocol = build(data)
    edges = protocol.edges
    of = {"user": edges.user, "item": edges.item}[ids]
    part = protocol.parts["train"]
    rows = getattr(protocol, ids)[part], protocol.time[part] - 1, protocol.label[part]
    found = []
    for prior in past_rates.PRIOR_ROWS:
        table = np.zeros((number, MOMENTS, 2))
        for moment in range(MOMENTS):
            before = edges.bin < moment
            base = (edges.label[before].sum() + 1) / (before.sum() + 2)
            for one in range(number):
                mine = before & (of == one)
                rate = (edges.label[mine].sum() + prior * base) / (mine.sum() + prior)
                table[one, moment] = np.log(rate / (1 - rate)), np.log(1 + mine.sum())
        rate = 1 / (1 + np.exp(-table[rows[0], rows[1], 0]))
        loss = -np.mean(np.log(np.where(rows[2] == 1, rate, 1 - rate)))
        found.append((loss, table.reshape(-1, 2)))
    return min(found, key=lambda one: one[0])[1]


@given(SEEDS)
@settings(max_examples=3)
def test_they_are_the_sums_of_a_loop(seed):
    data = log(seed, users=8, items=9, rows=300)
    users, items = columns(data)
    # float32 of logarithms near 10.
    np.testing.assert_allclose(users, by_hand(data, "user", 8), atol=1e-5)
    np.testing.assert_allclose(items, by_hand(data, "item", 9), atol=1e-5)


def test_rates_that_differ_are_smoothed_less():
    """Rows that all have one rate say nothing about users; those of unlike users say much."""
    draw, alike = np.random.default_rng(0), log(rows=6000)
    unlike = np.where(alike.user % 2, 0.1, 0.9) > draw.random(len(alike))
    users, _ = columns(dataclasses.replace(alike, label=unlike.astype(np.int8)))
    rate = 1 / (1 + np.exp(-users.reshape(12, MOMENTS, 2)[:, -1, 0]))
    np.testing.assert_allclose(rate, np.where(np.arange(12) % 2, 0.1, 0.9), atol=0.1)
    users, _ = columns(alike)
    rate = 1 / (1 + np.exp(-users.reshape(12, MOMENTS, 2)[:, -1, 0]))
    # Standard deviation of a rate of .3 from 500 rows: .02.
    assert np.abs(rate - 0.3).max() < 0.04


@given(SEEDS, st.integers(4, DAYS))
@settings(max_examples=10)
def test_no_feature_of_a_day_moves_with_the_events_of_that_day_or_of_later_ones(seed, day):
    data, draw = log(seed), np.random.default_rng(seed)
    late = np.flatnonzero(data.time >= day)
    label, item = data.label.copy(), data.item.copy()
    label[late], item[late] = draw.permutation(label[late]), draw.permutation(item[late])
    changed = dataclasses.replace(data, label=label, item=item)
    # Validation and test begin at that day, or the prior could be chosen by its rows.
    held = {"validation_days": 1, "test_days": DAYS - day} if day < DAYS else {}
    made = []
    for one in (data, changed):
        protocol = build(one, **held) if held else build(one)
        made.append(past_rates.tables(protocol, 12, 30))
    for before, after in zip(*made, strict=True):
        known = np.arange(len(before)) % MOMENTS < day
        np.testing.assert_array_equal(before[known], after[known])


def test_rows_have_them_standardised_behind_the_other_columns(monkeypatch):
    data = log()
    monkeypatch.setattr(
        features,
        "_tables",
        lambda data, fit, how: features.modalities.tables(data.modalities, fit, how),
    )
    protocol = build(data)
    flags = ProtocolFlags(protocol="c1", past_rates=True, user_length=4)
    others = flags.model_copy(update={"past_rates": False})
    plain = features.build(data, protocol, others, reduction())
    both = features.build(data, protocol, flags, reduction())
    users, items = columns(data)
    cut = plain.states.shape[1]
    for split in SPLITS:
        part = protocol.parts[split]
        state, item = protocol.state[part], protocol.item[part]
        rows = both.rows(state, item, split)
        without = np.delete(rows, [cut, cut + 1, rows.shape[1] - 2, rows.shape[1] - 1], axis=1)
        np.testing.assert_array_equal(without, plain.rows(state, item, split))
        day = protocol.time[part] - 1
        raw = np.concatenate([users[state], items[item * MOMENTS + day]], axis=1)
        rates = rows[:, [cut, cut + 1, -2, -1]]
        if split == "train":
            scale = raw.mean(axis=0), raw.std(axis=0)
            np.testing.assert_allclose(rates.mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(rates, (raw - scale[0]) / scale[1], atol=1e-4)
    assert both.in_features == plain.in_features + 4


@pytest.mark.parametrize("rate", [0.02, 0.5, 0.98])
def test_users_and_items_without_rows_have_the_rate_of_all(rate):
    data = log(rate=rate, rows=2000)
    users, items = columns(data)
    base = past_rates._base_rates(build(data).edges, DAYS)
    for table in (users, items):
        fresh = table[:, 1] == 0
        assert fresh[::MOMENTS].all()
        moment = np.flatnonzero(fresh) % MOMENTS
        found = 1 / (1 + np.exp(-table[fresh, 0].astype(np.float64)))
        np.testing.assert_allclose(found, base[moment], rtol=1e-5)
