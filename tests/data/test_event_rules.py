"""Every event is left out by the first rule that it breaks, and by no other."""

import itertools

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from mmnet.config import TableFlags, TaskFlags
from mmnet.data import events
from mmnet.data.engines import Engine

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


@pytest.mark.parametrize("hashed", ["as DuckDB does", "all alike", "no hash"])
def test_items_are_those_of_their_texts_whatever_the_hashes_are(hashed, tmp_path, monkeypatch):
    """Spellings of one item are joined; texts of one hash are not."""
    if hashed == "all alike":
        monkeypatch.setattr(Engine, "hashed", lambda self, column: ibis.literal(7, "uint64"))
    if hashed == "no hash":
        monkeypatch.setattr(Engine, "hashes", lambda self, column: False)
    items = ["a", " a", "b", "b", "TRUE", "true", None, "", "12.0", "c"]
    times = [1, 1, 1, None, 2, 2, 1, 1, 3, 3]
    columns = {"item": items, "time": times, "shares": [1, 2, 3, 4, 5, 6, 7, 8, 9, None]}
    pa.parquet.write_table(pa.table(columns), tmp_path / "events.parquet")
    flags = TableFlags(
        events=str(tmp_path / "events.parquet"),
        item_column="item",
        time_column="time",
        denominator="events",
        bad_events="drop",
        unknown_items="drop",
        use_partial=True,
    )
    output, known = tmp_path / "counts.parquet", np.array(["a", "true", "12", "c"], object)
    ledger = events.count(flags, TaskFlags(), known, output)
    assert [rule.dropped for rule in ledger] == [2, 1, 1, 1]
    assert pa.parquet.read_table(output).to_pylist() == [
        {"item": "12", "period": 3, "events": 1, "shares": 9},
        {"item": "a", "period": 1, "events": 2, "shares": 3},
        {"item": "c", "period": 3, "events": 0, "shares": 0},
        {"item": "true", "period": 2, "events": 2, "shares": 11},
    ]
