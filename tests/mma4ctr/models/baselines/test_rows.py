import dataclasses

import numpy as np
import pytest

from mmnet.mma4ctr.config import ProtocolFlags
from mmnet.mma4ctr.data import protocols
from mmnet.mma4ctr.data.protocols import Edges
from mmnet.mma4ctr.models.baselines.rows import (
    histories,
    other_histories,
    paired_rows,
    permuted_rows,
    shown_pairs,
    taken_rows,
)
from tests.mma4ctr.logs import log


def protocol(name="c1", **given):
    data = log(rows=900, users=40, min_rows=3)
    needed = np.ones(30, bool)
    return data, protocols.build(data, ProtocolFlags(protocol=name), needed, 0, **given)


@pytest.mark.parametrize("name", ["c1", "c2"])
def test_a_history_is_what_was_taken_before(name):
    _, made = protocol(name)
    found = histories(made, length=4)
    edges, moments = made.edges, made.bins + 1 if made.bins else 1
    for state in range(made.num_states):
        user, moment = divmod(state, moments)
        mine = (edges.user == user) & (edges.label == 1)
        mine &= edges.bin < moment if made.bins else True
        expected = sorted(edges.item[mine] + 1)
        shown = found[state][found[state] > 0]
        assert len(shown) == min(len(expected), 4)
        assert set(shown.tolist()) <= set(expected)
        assert (found[state][: 4 - len(shown)] == 0).all()


def test_the_newest_stand_last():
    _, made = protocol()
    edges = Edges(*(np.array(x) for x in ([0, 0, 0], [5, 6, 7], [1, 1, 1], [4, 2, 9])))
    made = dataclasses.replace(made, edges=edges)
    found = histories(made, length=2)
    assert found[5].tolist() == [7, 6]
    assert found[2].tolist() == [0, 0]
    assert found[14].tolist() == [6, 8]


def test_other_items_are_drawn_once_for_each_row_of_the_log():
    _, made = protocol("recbole", sequential=True)
    found, others = histories(made, 4), other_histories(made, 4, seed=0)
    assert ((others > 0) == (found > 0)).all()
    assert (others != found)[found > 0].all()
    # The histories of a user's rows in turn are windows of one sequence, and so are the others.
    same = made.state_user[1:] == made.state_user[:-1]
    np.testing.assert_array_equal(others[1:][same][:, :-1], others[:-1][same][:, 1:])


def test_every_row_comes_once_in_an_order_of_its_epoch():
    _, made = protocol()
    part = made.parts["train"]
    expected = sorted(zip(*(column[part] for column in made.columns), strict=True))
    found = [list(zip(*permuted_rows(made, 0, epoch), strict=True)) for epoch in (0, 1)]
    assert [sorted(one) for one in found] == [expected] * 2
    assert found[0] != found[1]


def test_pairs_are_a_positive_and_an_item_that_the_user_has_not_taken():
    _, made = protocol()
    state, item, label = paired_rows(made, 0, 0)
    part = made.parts["train"]
    taken = made.label[part] == 1
    np.testing.assert_array_equal(label, np.tile([1, 0], len(label) // 2))
    np.testing.assert_array_equal(state[::2], state[1::2])
    # Each positive row once.
    positives = zip(made.state[part][taken], made.item[part][taken], strict=True)
    assert sorted(zip(state[::2], item[::2], strict=True)) == sorted(positives)
    pairs = set(zip(made.user[part][taken].tolist(), made.item[part][taken].tolist(), strict=True))
    user = made.state_user[state]
    assert not pairs & set(zip(user[1::2].tolist(), item[1::2].tolist(), strict=True))
    assert set(item[1::2]) <= set(made.item[part])
    assert (paired_rows(made, 0, 1).item != item).any()


def test_shown_pairs_are_a_positive_and_a_negative_row_of_one_user():
    _, made = protocol()
    state, item, label = shown_pairs(made, 0, 0)
    part = made.parts["train"]
    np.testing.assert_array_equal(label, np.tile([1, 0], len(label) // 2))
    np.testing.assert_array_equal(made.state_user[state[::2]], made.state_user[state[1::2]])
    rows = set(zip(*(column[part].tolist() for column in made.columns), strict=True))
    assert set(zip(state.tolist(), item.tolist(), label.tolist(), strict=True)) <= rows
    kinds = {user: set() for user in made.user[part].tolist()}
    for user, kind in zip(made.user[part].tolist(), made.label[part].tolist(), strict=True):
        kinds[user].add(kind)
    both = [len(kinds[user]) == 2 for user in made.user[part][made.label[part] == 1].tolist()]
    assert len(label) == 2 * sum(both)
    assert (shown_pairs(made, 0, 1).item != item).any()


@pytest.mark.parametrize("sequential", [False, True])
def test_drawn_negatives_are_others_in_each_epoch_and_positives_stay(sequential):
    _, made = protocol("recbole", sequential=sequential)
    part = made.parts["train"]
    stored = made.item[part]
    first, again, second = (paired_rows(made, 0, epoch) for epoch in (0, 0, 1))
    np.testing.assert_array_equal(first.item, again.item)
    assert (first.item[1::2] != second.item[1::2]).mean() > 0.5
    for rows in (first, second):
        assert sorted(rows.item[::2]) == sorted(stored[::2])
        np.testing.assert_array_equal(rows.state[::2], rows.state[1::2])
    taken = set(zip(made.user[part][::2].tolist(), stored[::2].tolist(), strict=True))
    user = made.state_user[first.state[1::2]].tolist()
    own = {*zip(user, first.item[1::2].tolist(), strict=True)} & taken
    # A sequential model's negative may be another item that the user took.
    assert bool(own) == sequential
    whole = permuted_rows(made, 0, 0)
    assert sorted(zip(*whole, strict=True)) == sorted(zip(*first, strict=True))


def test_rows_of_items_to_predict_are_those_taken():
    _, made = protocol()
    part = made.parts["train"]
    found = taken_rows(made, 0, 0)
    taken = made.label[part] == 1
    expected = zip(made.state[part][taken], made.item[part][taken], strict=True)
    assert sorted(zip(found.state, found.item, strict=True)) == sorted(expected)
    assert (found.label == 1).all()
    assert (taken_rows(made, 0, 1).item != found.item).any()
