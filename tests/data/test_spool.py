import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mmnet.data import spool
from mmnet.data.spool import Spool

ROWS = st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 99)), max_size=8), max_size=6)


@given(ROWS, st.sampled_from([1, 5, 1000]))
def test_rows_come_back_by_shard_in_the_order_they_came(pieces, held):
    """Whether they wait in memory, in files, or in both."""
    before, spool.SPOOL_ROWS = spool.SPOOL_ROWS, held
    try:
        made = Spool(np.dtype([("value", "i8")]), 4)
        for piece in pieces:
            shards = np.array([shard for shard, _ in piece], np.int64)
            made.add(shards, np.array([(value,) for _, value in piece], made.dtype))
        for shard in range(4):
            wanted = [value for piece in pieces for own, value in piece if own == shard]
            assert made.shard(shard)["value"].tolist() == wanted
            if wanted:
                assert made.mapped(shard)["value"].tolist() == wanted
    finally:
        spool.SPOOL_ROWS = before
