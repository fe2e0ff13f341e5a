import dataclasses

import numpy as np
import pytest

from mmnet.mma4ctr.config import ProtocolFlags
from mmnet.mma4ctr.data import protocols
from mmnet.mma4ctr.data.protocols import Edges
from mmnet.mma4ctr.models.baselines.rows import (
    NEGATIVES,
    histories,
    paired_rows,
    taken_rows,
)
from tests.mma4ctr.logs import log


def protocol(name="c1"):
    data = log(rows=900, users=40, min_rows=3)
    return data, protocols.build(data, ProtocolFlags(protocol=name), np.ones(30, bool), 0)


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


def test_pairs_are_a_positive_and_a_negative_of_one_user():
    _, made = protocol()
    rows = paired_rows(made, 0, 0)
    part = made.parts["train"]
    user, label = made.user[part][rows], made.label[part][rows]
    np.testing.assert_array_equal(label, np.tile([1, 0], len(rows) // 2))
    np.testing.assert_array_equal(user[::2], user[1::2])
    counts = np.bincount(rows[::2])
    assert set(counts[counts > 0]) == {NEGATIVES}
    assert (paired_rows(made, 0, 1) != rows).any()


def test_rows_of_items_to_predict_are_those_taken():
    _, made = protocol()
    part = made.parts["train"]
    rows = taken_rows(made, 0, 0)
    assert sorted(rows) == np.flatnonzero(made.label[part] == 1).tolist()
    assert (taken_rows(made, 0, 1) != rows).any()
