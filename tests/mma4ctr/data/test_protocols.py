import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmnet.checks import InputError
from mmnet.mma4ctr.config import ModalityFlags, ProtocolFlags
from mmnet.mma4ctr.data import features, protocols
from mmnet.mma4ctr.data.protocols import SPLITS
from mmnet.mma4ctr.models.baselines.rows import histories
from tests.mma4ctr.logs import log, reduction

SEEDS = st.integers(0, 1000)


def build(data, protocol, seed=0, needed=None, sequential=False, **flags):
    needed = np.ones(len(data.item_ids), bool) if needed is None else needed
    flags = ProtocolFlags(protocol=protocol, **flags)
    return protocols.build(data, flags, needed, seed, sequential=sequential)


def tables(data, protocol, monkeypatch=None, **flags):
    flags = ProtocolFlags(protocol=protocol.name, user_length=4, **flags)
    return features.build(data, protocol, flags, reduction())


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    """Tables are made, never read from or written to a directory."""
    monkeypatch.setattr(
        features,
        "_tables",
        lambda data, fit, how: features.modalities.tables(data.modalities, fit, how),
    )


def users_of(protocol):
    return {split: set(protocol.user[protocol.parts[split]].tolist()) for split in SPLITS}


@given(SEEDS)
@settings(max_examples=20)
def test_published_blocks_share_at_most_one_user_per_boundary(seed):
    found = build(log(seed), "p0", seed)
    number = len(found)
    assert [found.parts[s].stop for s in SPLITS] == [number * 8 // 10, number * 9 // 10, number]
    users = users_of(found)
    for a, b in itertools.combinations(SPLITS, 2):
        assert len(users[a] & users[b]) <= 1
    # Each user's rows are together.
    assert (np.diff(found.user) != 0).sum() + 1 == len(set(found.user.tolist()))


def test_users_come_by_first_appearance_in_a_random_order_of_rows():
    user = np.repeat([0, 1], [990, 10])
    first = [protocols.user_blocks(user, seed)[0] for seed in range(200)]
    # The user of 99 % of the rows is met first in 198 of 200 on average (sd 1.4).
    assert sum(user[row] == 0 for row in first) >= 190


def test_repeated_triples_count_once_as_published_and_conflicts_stay():
    data = log(rows=200)
    again = np.repeat(np.arange(200), 2)
    doubled = dataclasses.replace(
        data, **{n: getattr(data, n)[again] for n in ("user", "item", "time", "device", "label")}
    )
    key = np.stack([data.user, data.item, data.label])
    assert len(build(doubled, "p0").edges.user) == len(np.unique(key, axis=1).T)
    assert len(build(doubled, "c1").edges.user) == 400  # in an honest protocol all are events


def test_users_with_few_rows_are_left_out_by_what_a_protocol_may_know():
    data = log(users=6, rows=120, min_rows=12)
    triples = np.unique(np.stack([data.user, data.item, data.label]), axis=1)
    expected = np.flatnonzero(np.bincount(triples[0]) >= 12)
    assert set(build(data, "p0").edges.user.tolist()) == set(expected.tolist())
    known = np.flatnonzero(np.bincount(data.user[data.time < 13]) >= 12)
    assert set(build(data, "c1").edges.user.tolist()) == set(known.tolist())
    support = build(log(rows=900, min_rows=30), "c2").edges.user
    assert np.bincount(support)[np.unique(support)].min() >= 30


def test_rows_of_one_kind_are_remarked_on():
    protocol = build(log(), "c1")
    assert protocol.remarks("like") == []
    label = protocol.label.copy()
    label[protocol.parts["test"]] = 0
    number = len(label[protocol.parts["test"]])
    assert dataclasses.replace(protocol, label=label).remarks("like") == [
        f"note: all {number:,} test rows have the label 0 (like): nothing can be learned from "
        "them, and AUC is not defined on them; check how the label is computed, or choose "
        "another --label"
    ]


def test_time_cuts_c1():
    found = build(log(), "c1")
    for split, days in (("train", range(2, 13)), ("validation", [13]), ("test", [14])):
        assert set(found.time[found.parts[split]].tolist()) == set(days)
    assert found.bins == 14
    np.testing.assert_array_equal(found.state, found.user * 15 + found.time - 1)


def test_more_days_can_be_held_out():
    found = build(log(), "c1", validation_days=2, test_days=3)
    for split, days in (("train", range(2, 10)), ("validation", [10, 11]), ("test", [12, 13, 14])):
        assert set(found.time[found.parts[split]].tolist()) == set(days)
    with pytest.raises(InputError, match=r"--validation_days=10 and --test_days=3: the log has 14"):
        build(log(), "c1", validation_days=10, test_days=3)


def test_seconds_are_cut_at_quantiles_and_ties_stay_together():
    time = np.repeat(np.arange(100), 7)
    found, bins, validation, test = protocols.time_bins(time, 50)
    assert (bins, validation, test) == (50, 40, 45)
    assert np.array_equal(found, np.repeat(np.arange(100) // 2, 7))
    ties, *_ = protocols.time_bins(np.append(np.zeros(90), np.arange(10)), 10)
    assert len(set(ties[:90].tolist())) == 1


@given(SEEDS)
@settings(max_examples=20)
def test_a_pair_is_support_or_query_never_both_and_users_are_in_one_split(seed):
    found = build(log(seed, users=40, rows=1500, min_rows=3), "c2", seed)
    pairs = set(zip(found.user.tolist(), found.item.tolist(), strict=True))
    support = set(zip(found.edges.user.tolist(), found.edges.item.tolist(), strict=True))
    assert not pairs & support
    users = users_of(found)
    assert not any(users[a] & users[b] for a, b in itertools.combinations(SPLITS, 2))


@given(SEEDS, st.integers(2, 14))
@settings(max_examples=15)
def test_rewriting_labels_from_a_day_on_moves_no_unscaled_feature_up_to_it(seed, day):
    data = log(seed)
    found = build(data, "c1")
    label = np.where(data.time >= day, 1 - data.label, data.label).astype(np.int8)
    changed = build(dataclasses.replace(data, label=label), "c1")
    kept = {}
    for name, one in (("before", found), ("after", changed)):
        # Scaling aside: it is fitted to the training span.
        one = dataclasses.replace(one, parts={s: found.parts["train"] for s in SPLITS})
        means, _ = features.user_embedding.signed_means(
            one.edges,
            [("a", np.arange(60.0).reshape(30, 2))],
            {"a": np.ones(30, bool)},
            users=12,
            bins=14,
        )
        kept[name] = means["a"].reshape(12, 15, 2)[:, :day]
    np.testing.assert_array_equal(kept["before"], kept["after"])


def test_rewriting_labels_after_the_training_span_moves_no_feature_and_no_scale():
    data = log()
    found = build(data, "c1")
    label = np.where(data.time >= 13, 1 - data.label, data.label).astype(np.int8)
    changed = build(dataclasses.replace(data, label=label), "c1")
    before, after = tables(data, found), tables(data, changed)
    moment = np.arange(found.num_states) % 15
    np.testing.assert_array_equal(before.states[moment < 13], after.states[moment < 13])
    np.testing.assert_array_equal(before.items, after.items)
    for split in SPLITS:
        np.testing.assert_array_equal(before.scalers[split].low, after.scalers[split].low)
        np.testing.assert_array_equal(before.scalers[split].factor, after.scalers[split].factor)
    # Features of day 14 know the labels of day 13.
    assert (before.states[moment == 13] != after.states[moment == 13]).any()


def test_c2_features_know_no_label_that_is_scored():
    data = log(rows=900)
    found = build(data, "c2")
    scored = np.isin(
        data.user.astype(np.int64) * 1000 + data.item,
        found.user.astype(np.int64) * 1000 + found.item,
    )
    label = np.where(scored, 1 - data.label, data.label).astype(np.int8)
    changed = build(dataclasses.replace(data, label=label), "c2")
    np.testing.assert_array_equal(tables(data, found).states, tables(data, changed).states)


def test_p0_features_know_the_labels_of_test_rows():
    data = log()
    found = build(data, "p0")
    states = found.state[found.parts["test"]]
    edges = found.edges
    flipped = dataclasses.replace(
        edges, label=np.where(np.isin(edges.user, states), 1 - edges.label, edges.label)
    )
    changed = dataclasses.replace(found, edges=flipped)
    assert (tables(data, found).states[states] != tables(data, changed).states[states]).any()


def test_exposure_features_know_no_label_at_all():
    data = log()
    found = build(data, "p0")
    changed = dataclasses.replace(
        found, edges=dataclasses.replace(found.edges, label=1 - found.edges.label)
    )
    kind = {"user_features": "exposure"}
    np.testing.assert_array_equal(
        tables(data, found, **kind).states, tables(data, changed, **kind).states
    )


def test_published_scaling_is_each_splits_own_and_honest_scaling_that_of_train():
    data = log()
    published = build(data, "p0")
    made = tables(data, published)
    for split in SPLITS:
        part = published.parts[split]
        rows = made.rows(published.state[part], published.item[part], split)
        np.testing.assert_allclose(rows.min(axis=0), 0, atol=1e-6)
        assert (np.isclose(rows.max(axis=0), 1, atol=1e-5) | (rows.max(axis=0) == 0)).all()
    honest = tables(data, build(data, "c1"))
    assert honest.scalers["test"].low is not honest.scalers["train"].low
    np.testing.assert_array_equal(honest.scalers["test"].low, honest.scalers["train"].low)


def test_columns_of_each_kind_of_user_feature():
    data = log()
    widths = {}
    for name, flags in {
        "signed": {},
        "rate": {"user_features": "rate", "matrix": "none"},
        "id": {"user_length": 0},
        "none": {"user_features": "none"},
    }.items():
        flags = ProtocolFlags(protocol="p0", **({"user_length": 4} | flags))
        found = build(data, "p0")
        widths[name] = features.build(data, found, flags, reduction()).states.shape[1]
    assert widths == {"signed": 3 * 5, "rate": 2, "id": 1, "none": 0}
    assert tables(data, build(data, "c1")).states.shape[1] == 3 * 5 + 1  # whether there is history


def test_a_user_without_history_has_zeros_and_says_so():
    data = log()
    first = build(data, "c1")
    flags = ProtocolFlags(protocol="c1", user_length=4)
    monkey = features.fusion.scaled
    try:
        features.fusion.scaled = lambda table, fit: table.astype(np.float32)
        states = features.build(data, first, flags, reduction()).states
    finally:
        features.fusion.scaled = monkey
    np.testing.assert_array_equal(states[np.arange(12) * 15], 0)  # at day 1
    assert (states[np.arange(12) * 15 + 14, -1] == 1).all()


def test_the_usual_device_is_of_the_past_only():
    user, device = np.zeros(5, np.int32), np.array([7, 7, 3, 3, 3])
    bins_of = np.array([0, 1, 1, 2, 2])
    found = protocols._usual_device(user, device, bins_of, 1, 3)
    assert found.tolist() == [0, 7, 7, 3]
    assert protocols._usual_device(user, device, np.zeros(5, int), 1, 0).tolist() == [3]
    # Of two devices as often the smaller.
    assert protocols._usual_device(user[:2], device[1:3], np.zeros(2, int), 1, 0).tolist() == [3]


def test_rows_of_items_that_lack_a_modality_serve_as_edges_only():
    data = log()
    needed = np.arange(30) % 3 > 0
    found = build(data, "p0", needed=needed)
    assert needed[found.item].all()
    assert not needed[found.edges.item].all()


def test_a_shuffled_log_has_the_same_rows_and_as_many_positives():
    data = log()
    plain, shuffled = build(data, "c1"), build(data, "c1", shuffle_labels=True)
    assert plain.edges.label.sum() == shuffled.edges.label.sum()
    assert (plain.label != shuffled.label).any()


def test_the_last_state_knows_all():
    found = build(log(), "c1")
    assert found.last_state.tolist() == [user * 15 + 14 for user in range(12)]
    assert build(log(), "p0").last_state.tolist() == list(range(12))


def sizes_of_splits(rows):
    """RecBole's rule for the rows of a user, step by step."""
    sizes = [rows - 2 * int(0.1 * rows), int(0.1 * rows), int(0.1 * rows)]
    for part in (2, 1):
        if sizes[0] > 1 and 0 < 0.1 * rows < 1:
            sizes[0], sizes[part] = sizes[0] - 1, sizes[part] + 1
    return sizes


def test_a_users_rows_are_split_in_time_as_recbole_does():
    for rows in range(1, 45):
        expected = np.repeat([0, 1, 2], sizes_of_splits(rows))
        found = protocols.recbole_splits(np.repeat([3, 8], [rows, 2]))
        np.testing.assert_array_equal(found, [*expected, 0, 2])
    assert protocols.recbole_splits(np.zeros(0, int)).tolist() == []


@pytest.mark.parametrize("sequential", [False, True])
def test_recbole_takes_each_row_for_a_positive_and_draws_a_negative(sequential):
    # Users of 2 to 50 rows, some of them the same item again, and an item that no user was shown.
    data = log(users=12, rows=300, items=60)
    data = dataclasses.replace(data, item_ids=np.append(data.item_ids, 9999))
    needed = np.arange(61) != 7
    found = build(data, "recbole", needed=needed, sequential=sequential)
    shown, expected = {}, {split: [] for split in SPLITS}
    for user, item, time in zip(data.user.tolist(), data.item.tolist(), data.time, strict=True):
        if item != 7:
            shown.setdefault(user, []).append((item, int(time)))
    for user, rows in shown.items():
        rows = rows[1:] if sequential else rows
        place = iter(rows)
        for split, size in zip(SPLITS, sizes_of_splits(len(rows)), strict=True):
            expected[split] += [(user, *next(place)) for _ in range(size)]
    known, all_items = set(), {item for rows in shown.values() for item, _ in rows}
    for split in SPLITS:
        part = found.parts[split]
        user, item, time = (x[part].tolist() for x in (found.user, found.item, found.time))
        assert list(zip(user, item, time, strict=True))[::2] == expected[split]
        np.testing.assert_array_equal(found.label[part], np.tile([1, 0], len(expected[split])))
        assert user[::2] == user[1::2]
        assert set(item[1::2]) <= all_items
        if sequential:
            assert not any(a == b for a, b in zip(item[::2], item[1::2], strict=True))
            continue
        # No item that the user was shown in this split or before; those of later ones may come.
        known |= {(u, i) for u, i, _ in expected[split]}
        assert not known & set(zip(user[1::2], item[1::2], strict=True))
        if split == "train":
            later = {(u, i) for u, rows in shown.items() for i, _ in rows} - known
            assert later & set(zip(user[1::2], item[1::2], strict=True))
    train = [item for _, item, _ in expected["train"]]
    assert set(np.flatnonzero(found.fit_items).tolist()) == set(train)


def test_recbole_histories_are_all_that_a_user_was_shown_before():
    data = log(users=12, rows=300, items=60)
    found = build(data, "recbole", sequential=True)
    rows = histories(found, 5)[found.state]
    for at in range(0, len(found), 2):
        own = np.flatnonzero(data.user == found.user[at])
        last = found.state[at]  # a state is a row of the log, before which it knows all
        expected = (data.item[own[own < last]] + 1)[-5:].tolist()
        assert data.item[last] == found.item[at]
        assert rows[at].tolist() == [0] * (5 - len(expected)) + expected
        assert (rows[at + 1] == rows[at]).all()


def test_recbole_features_know_training_rows_only():
    data = log(users=12, rows=300, items=60)
    found = build(data, "recbole")
    assert set(found.edges.label.tolist()) == {1}
    part = found.parts["train"]
    edges = zip(found.edges.user, found.edges.item, strict=True)
    rows = zip(found.user[part][::2], found.item[part][::2], strict=True)
    assert sorted(edges) == sorted(rows)


def test_recbole_refuses_a_log_without_an_item_to_draw():
    with pytest.raises(InputError, match="user 1000 was shown all 2 items"):
        build(log(users=3, items=2, rows=60), "recbole")
    with pytest.raises(InputError, match="the log has a single item"):
        build(log(users=3, items=1, rows=60), "recbole")
    with pytest.raises(InputError, match="train has no rows; a user needs four rows"):
        build(log(users=60, items=9, rows=4), "recbole", sequential=True)


def test_a_split_of_one_kind_is_refused():
    with pytest.raises(InputError, match="both labels are needed"):
        build(log(rate=0.0), "c1")


def test_how_modalities_are_made_follows_the_protocol():
    data = log(source="tiktok")
    flags = ModalityFlags(pca_widths=(71, 10, 22))
    published = features.reduction(data, flags, "p0")
    assert published.per_part
    assert published.rounded
    assert published.widths == {"visual": 71, "acoustic": 10, "textual": 22}
    honest = features.reduction(data, ModalityFlags(), "c2")
    assert not honest.per_part
    assert not honest.rounded
