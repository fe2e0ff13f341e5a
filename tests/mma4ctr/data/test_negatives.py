import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mmnet.mma4ctr.data.negatives import Untaken, other_items


class InTurn:
    """Draws the numbers from `low` to `high` in turn, where a generator draws them at random."""

    def integers(self, low, high, size=None):
        size = len(high) if size is None else size
        found = low + np.arange(size)
        assert (found < high).all()
        return found


@given(st.sets(st.integers(0, 40), min_size=2), st.data())
def test_each_other_item_is_drawn_by_one_number(items, data):
    taken = data.draw(st.sampled_from(sorted(items)))
    found = other_items(InTurn(), np.array(sorted(items)), np.full(len(items) - 1, taken))
    assert found.tolist() == sorted(items - {taken})


@given(
    st.sets(st.integers(0, 30), min_size=1),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30)), max_size=60),
)
def test_each_untaken_item_is_drawn_by_one_number(items, rows):
    user, item = np.array(rows, int).reshape(-1, 2).T
    untaken = Untaken.of(np.array(sorted(items)), user, item, users=4)
    for one in range(4):
        expected = sorted(items - {i for u, i in rows if u == one})
        assert untaken.left[one] == len(expected)
        found = untaken.draw(InTurn(), np.full(len(expected), one))
        assert found.tolist() == expected


def test_draws_are_uniform_and_users_do_not_mix():
    untaken = Untaken.of(np.array([2, 5, 7, 9]), np.array([0, 1, 1]), np.array([5, 2, 9]), 2)
    user = np.tile([0, 1], 3000)
    found = untaken.draw(np.random.default_rng(0), user)
    for one, left in ((0, [2, 7, 9]), (1, [5, 7])):
        items, counts = np.unique(found[user == one], return_counts=True)
        assert items.tolist() == left
        # Five standard errors of a share among 3,000.
        share = 1 / len(left)
        error = 5 * (share * (1 - share) / 3000) ** 0.5
        np.testing.assert_allclose(counts / 3000, share, atol=error)
