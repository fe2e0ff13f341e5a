"""Events are counted right whatever their files and columns are called and written in."""

import dataclasses
import io
import itertools
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmnet.checks import InputError
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import event_files, events, input_tables, json_rows, table_files, table_reading
from mmnet.data.sources import reading
from mmnet.data.sources.reading import Scan
from mmnet.mma4ctr.config import InteractionFlags
from mmnet.mma4ctr.data import interactions
from tests.mma4ctr.files import feed, play, write_wechat

ITEMS = np.array(["a", "b", "c"], object)
EVENTS = {
    "item_id": ["a", "b", "a", "c"],
    "timestamp": ["2024-05-01", "2024-05-01", "2024-05-01", "2024-05-03"],
    "like": [1, 0, 1, 0],
}
COUNTED = [("a", 2, 2), ("b", 1, 0), ("c", 1, 0)]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Files have short names in messages."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name, columns=EVENTS, **how):
    os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
    if name.endswith(".csv"):
        rows = [list(columns), *map(list, zip(*columns.values(), strict=True))]
        text = "".join(",".join(map(str, row)) + "\n" for row in rows)
        Path(name).write_text(text, encoding="utf-8")
    elif name.endswith(".jsonl"):
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        Path(name).write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    else:
        file = io.BytesIO()  # Arrow takes some names for addresses
        pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), file, **how)
        Path(name).write_bytes(file.getvalue())
    return name


def count(pattern, output="counted.parquet", **flags):
    """Rows of the counts, without their periods; and the ledger."""
    given = {"denominator": "events", "numerator": "like", "engine_threads": 1}
    flags = TableFlags(events=pattern, **given | flags)
    ledger = events.count(flags, TaskFlags(), ITEMS, Path(output))
    table = pq.read_table(io.BytesIO(Path(output).read_bytes()))
    rows = [tuple(row.values()) for row in table.to_pylist()]
    return [(item, *counts) for item, _, *counts in rows], ledger


def sentence(*arguments, **flags):
    with pytest.raises(InputError) as caught:
        count(*arguments, **flags)
    assert str(caught.value).isprintable()
    return str(caught.value)


# --------------------------------------------------------------------------------- names

ODD = [
    *("[12]", "a* b? {a,b}", "it's x\"' (FORMAT csv); --", "back\\slash"),
    *("100%25 nb\u00a0sp z\u200bw 猫", "item_id=x", "~"),
]


@pytest.mark.parametrize("name", ODD)
def test_files_and_folders_may_be_called_as_they_like(name):
    """Read as events, counts, items and sources, and written below such a folder."""
    for ending in (".parquet", ".csv"):
        os.makedirs(f"out{ending}/{name}")
        for decoy in ("1", "2", "aa bb a"):
            write(f"d{ending}/{decoy}{ending}", EVENTS | {"like": [1, 1, 1, 1]})
        path = write(f"d{ending}/{name}/{name}{ending}")
        assert count(path, f"out{ending}/{name}/counts.parquet")[0] == COUNTED
        assert count(f"d{ending}/{name}")[0] == COUNTED
        flags = {"denominator": "like", "numerator": "like", "period_column": "timestamp"}
        found = input_tables.load_tables(TableFlags(counts=path, items=path, **flags))
        for table in (found.counts.read(), found.items):
            assert [str(value) for value in table.data["like"].to_pylist()] == ["1", "0", "1", "0"]
        place = Path(f"d{ending}/{name}")
        log = Scan(reading.find(place, f"{name}{ending}", "log"), ["item_id"], "log")
        assert log.whole().data["item_id"].to_pylist() == EVENTS["item_id"]


@pytest.mark.parametrize("name", ["[12]", "back\\slash", "userid=5", "'\""])
def test_a_publishers_directory_may_be_called_as_it_likes(here, name):
    place = here / name
    place.mkdir()
    directory = write_wechat(place, [play(9, 2), play(7, 5)], [feed(1)])
    rows, _, _ = interactions.read(InteractionFlags(source_dir=str(directory)))
    assert rows.user_id.tolist() == [7, 9]


def test_names_of_files_are_no_globs_of_the_engine():
    """Neither twice nor never: d1 and d2 match the name of the third."""
    for name in ("log/d1", "log/d2", "log/d[12]", "log/d*"):
        write(f"{name}.parquet")
    counted, ledger = count("log")
    assert counted == [(item, 4 * rows, 4 * likes) for item, rows, likes in COUNTED]
    assert ledger[1].rows_in == 16


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".jsonl"])
def test_a_folder_never_hides_a_column_of_the_file(ending):
    write(f"log/item_id=x/like=0/day=3/e{ending}")
    assert count("log")[0] == COUNTED
    assert count("log", numerator="day == '3'")[0] == [("a", 2, 2), ("b", 1, 1), ("c", 1, 1)]


# ------------------------------------------------------------------------------- columns


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".jsonl"])
def test_columns_that_differ_in_case_only_are_told_apart(ending):
    columns = {"LIKE": [0] * 4, **EVENTS, "Item_ID": ["z"] * 4, "timeStamp": ["x"] * 4}
    write(f"e{ending}", columns)
    assert count(f"e{ending}")[0] == COUNTED
    assert count(f"e{ending}", event_key=["item_id", "like"])[0] == [
        (i, 1, n and 1) for i, _, n in COUNTED
    ]
    assert sentence(f"e{ending}", numerator="like > LIKE") == (
        f"e{ending}: columns 'LIKE' and 'like' differ only in upper and lower case, which engines "
        "cannot distinguish; rename one"
    )


def test_a_column_may_have_any_name():
    odd = 'li"ke; DROP'
    columns = {"": [1] * 4, "a.b": [0] * 4, **EVENTS, odd: EVENTS["like"], "new\nline": [1] * 4}
    for name in ("e.parquet", "e.jsonl", "log/two\nlines.parquet"):
        write(name, columns)
        assert count(name.split("/")[0], numerator=odd)[0] == COUNTED


def test_files_may_differ_in_the_order_of_columns_and_in_types():
    write("log/0.parquet")
    write("log/1.parquet", dict(reversed(EVENTS.items())) | {"more": [1] * 4})
    write("log/2.parquet", EVENTS | {"like": pa.array(EVENTS["like"], pa.int8())})
    write("log/3.parquet", EVENTS | {"like": [1.0, 0.0, 1.0, 0.0]})
    write("log/4.parquet", {name: pa.array(map(str, one)) for name, one in EVENTS.items()})
    write("log/5.csv")
    write("log/6.jsonl", EVENTS | {"like": ["1", "0", "1", "0"]})
    texts = pa.table({name: pa.array(map(str, one)) for name, one in EVENTS.items()})
    write("log/7.parquet", texts.cast(pa.schema([(name, pa.binary()) for name in EVENTS])))
    write("log/8.parquet", {name: texts[name].dictionary_encode() for name in EVENTS})
    assert count("log")[0] == [(item, 9 * rows, 9 * likes) for item, rows, likes in COUNTED]
    for number in range(9):
        (name,) = Path("log").glob(f"{number}.*")
        assert count(str(name))[0] == COUNTED


def test_a_column_that_only_later_rows_of_json_have_is_found(monkeypatch):
    monkeypatch.setattr(json_rows, "SAMPLE_ROWS", 1)
    write("rest.jsonl")
    first = '{"item_id": null, "timestamp": "2024-05-01"}\n'
    Path("e.jsonl").write_text(first + Path("rest.jsonl").read_text(), encoding="utf-8")
    assert "like" not in table_files.opened("e.jsonl", "events")[0].names
    assert count("e.jsonl", bad_events="drop")[0] == COUNTED


def test_a_column_that_one_file_lacks_is_named_with_both_files():
    write("log/0.csv")
    write("log/1.csv", {name: EVENTS[name] for name in ("timestamp", "item_id")})
    assert sentence("log") == (
        "log/1.csv has no column 'like', but log/0.csv has (named by --numerator)"
    )
    assert count("log", numerator="events")[0] == [(item, 2 * rows) for item, rows, _ in COUNTED]


# --------------------------------------------------------------------------------- rows


def test_an_empty_part_is_fine_and_a_log_of_empty_parts_is_refused():
    header = "item_id,timestamp,like"
    write("log/0.csv")
    Path("log/1.csv").write_text(header)
    Path("log/2.csv").write_text(header + "\n\n")
    write("log/3.parquet", pa.table(EVENTS).slice(0, 0))
    assert count("log")[0] == COUNTED
    os.remove("log/0.csv")
    assert sentence("log") == "log/1.csv: the events table has no rows"


def test_events_that_are_written_again_are_those_that_are_needed(monkeypatch):
    monkeypatch.setattr(event_files, "ROWS", 3)
    write("e.csv", EVENTS | {"more": ["x"] * 4})
    found = event_files.opened(table_files.opened("e.csv", "events"))
    types = {"like": pa.int64()}
    (path,), rows = event_files.written(found, ["like", "item_id"], Path("again"), types)
    assert rows == 4
    table = pq.read_table(path)
    assert table.schema == pa.schema([("like", pa.int64()), ("item_id", pa.string())])
    assert table.to_pydict() == {name: EVENTS[name] for name in ("like", "item_id")}
    assert pq.ParquetFile(path).metadata.num_row_groups == 2


def test_parquet_is_read_where_it_is_unless_an_engine_could_mistake_it(monkeypatch):
    def found(pattern, columns=("item_id", "like")):
        files = event_files.opened(table_files.opened(pattern, "events"))
        opens = itertools.count()
        with monkeypatch.context() as patch:
            patch.setattr(table_reading, "parquet_groups", lambda file: next(opens))
            return event_files.as_they_are(files, columns)

    write("a.parquet")
    write("b.parquet", EVENTS | {"like": [True, False, True, False]})
    write("c.parquet", EVENTS | {"LIKE": [1] * 4})
    write("d/item=1/a.parquet")
    write("e.csv")
    assert found("a.parquet")
    assert not found("[ab].parquet")
    assert found("[ab].parquet", ["item_id"])
    assert not found("c.parquet")
    assert not found("d", ["item_id", "item"])
    assert not found("e.csv")


def test_a_table_knows_what_its_parquet_files_count():
    write("a.parquet", row_group_size=3)
    write("b.csv")
    opened = [event_files.opened(table_files.opened(one, "events")) for one in ("a*", "[ab]*")]
    assert [one.rows for one in opened] == [4, None]
    assert [one.origin for one in opened] == ["a.parquet", "."]
    assert dataclasses.replace(opened[0], lacking={"x": "why"}).lacking == {"x": "why"}


@pytest.mark.parametrize("kind", [pa.string(), pa.binary()])
def test_an_id_that_is_no_text_is_refused_in_a_sentence(kind):
    ids = pa.array([b"a", b"caf\xe9", b"a", b"b"]).view(kind)
    write("e.parquet", EVENTS | {"item_id": ids})
    assert "e.parquet" in sentence("e.parquet")
