"""Every event is left out by the first rule that it breaks, and by no other."""

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from mmnet.config import TableFlags, TaskFlags
from mmnet.data import events

GOOD = {"item": "a", "time": 5, "key": None, "shares": 1}
BREAKS = {  # in the order of the rules
    "no item": {"item": None},
    "no time": {"time": None},
    "before --first_period": {"time": 1},
    "at --events_until": {"time": 9},
    "a repeated key": {"key": "k"},
}


def test_every_event_is_left_out_by_the_first_rule_that_it_breaks(tmp_path):
    broken = [which for size in range(6) for which in itertools.combinations(BREAKS, size)]
    rows = [GOOD | {"key": "k"}]  # the first event of its key stays
    for which in broken:
        row = dict(GOOD)
        for name in reversed(which):  # a value that two rules look at is that of the first
            row |= BREAKS[name]
        rows.append(row)
    pa.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "events.parquet")
    flags = TableFlags(
        events=str(tmp_path / "events.parquet"),
        item_column="item",
        time_column="time",
        denominator="events",
        event_key=("key",),
        events_until="9",
        bad_events="drop",
    )
    output = tmp_path / "counts.parquet"
    ledger = events.count(flags, TaskFlags(first_period="3"), np.array(["a"], object), output)
    first = [which[0] if which else "" for which in broken]
    assert [rule.dropped for rule in ledger] == [*(first.count(name) for name in BREAKS), 0, 0]
    assert pa.parquet.read_table(output).to_pylist() == [
        {"item": "a", "period": 5, "events": 2, "shares": 2}
    ]
