"""Wrong input is one sentence that names the file, the line and the column, and the fix."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from mmnet.checks import InputError
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import input_tables, pipeline

PERIODS = 12
ITEMS = "item_id,category,title,length\na,music,one song,10\nb,sport,two goals,20\n"
COUNTS = "item_id,period,clicks,shares\n"
COUNTS += "".join(f"{item},{t},60,6\n" for item in "ab" for t in range(PERIODS))
COLUMNS = {
    "item_id": ["a"] * PERIODS,
    "period": list(range(PERIODS)),
    "clicks": [60] * PERIODS,
    "shares": [6] * PERIODS,
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Files have short names in messages."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name, content):
    if isinstance(content, dict):
        pa.parquet.write_table(pa.table(content), name)
    else:
        with open(name, "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())


def prepare(counts=COUNTS, items=ITEMS, *, task=None, **flags):
    places = {}
    for name, content in (("counts", counts), ("items", items)):
        places[name] = f"{name}.parquet" if isinstance(content, dict) else f"{name}.csv"
        write(places[name], content)
    table_flags = TableFlags(**places | flags)
    task = TaskFlags(**{"window": 3, "min_test_rows": 1} | (task or {}))
    return pipeline.prepare(input_tables.load_tables(table_flags), table_flags, task)


def sentence(*tables, **more):
    with pytest.raises(InputError) as caught:
        prepare(*tables, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def line(number, text):
    """The counts with one line (as an editor counts) replaced."""
    lines = COUNTS.splitlines()
    lines[number - 1] = text
    return "\n".join(lines) + "\n"


def row(number, **values):
    """The counts columns with values of one row (from 1) replaced."""
    return {
        name: [*column[: number - 1], values.get(name, column[number - 1]), *column[number:]]
        for name, column in COLUMNS.items()
    }


def test_the_tables_that_are_spoilt_below_are_fine():
    assert len(prepare().split.test) == 2
    assert len(prepare(COLUMNS).split.test) == 1


# --------------------------------------------------------------------------- what is refused

COUNT_RULE = "must be a whole number of 0 or more, below 2**53. Received:"


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        (
            COUNTS.replace("clicks", "click"),
            "counts.csv has no column 'clicks' (named by --denominator); it has item_id, period, "
            "click, shares. Did you mean click?",
        ),
        (line(5, "a,3,-1,0"), f"counts.csv line 5, column clicks: clicks {COUNT_RULE} '-1'"),
        (line(5, "a,3,60,0.5"), f"counts.csv line 5, column shares: shares {COUNT_RULE} '0.5'"),
        (line(5, "a,3,many,0"), f"counts.csv line 5, column clicks: clicks {COUNT_RULE} 'many'"),
        (line(5, "a,3,,0"), f"counts.csv line 5, column clicks: clicks {COUNT_RULE} ''"),
        (row(5, shares=-6), f"counts.parquet row 5, column shares: shares {COUNT_RULE} -6"),
        (
            COLUMNS | {"clicks": [60.0] * 11 + [59.5]},
            f"counts.parquet row 12, column clicks: clicks {COUNT_RULE} 59.5",
        ),
        (row(5, clicks=None), f"counts.parquet row 5, column clicks: clicks {COUNT_RULE} None"),
        (
            COLUMNS | {"clicks": pa.nulls(PERIODS)},
            f"counts.parquet row 1, column clicks: clicks {COUNT_RULE} None",
        ),
        (
            line(5, "a,3,60,61"),
            "counts.csv line 5, column shares: 61 shares of 60 clicks; shares must not "
            "exceed clicks. If they are not a subset, set --rate_may_exceed_one",
        ),
        (
            line(5, "a,2,60,5"),
            "counts.csv line 5: duplicate row for item 'a' in period 2 with other values: "
            "shares is '6' in line 4 and '5' here; keep the right one, or add them up if they are "
            "parts of one count",
        ),
        (
            line(5, "a,2,60,6"),
            "counts.csv line 5: exact duplicate of line 4 (item 'a' in period 2); remove it, or "
            "set --repeats=drop",
        ),
        (
            line(5, "a,,60,6"),
            "counts.csv line 5, column period: a period must be a whole number. Received: ''",
        ),
        (
            line(5, "a,later,60,6"),
            "counts.csv line 5, column period: a period must be a whole number. Received: 'later'",
        ),
        (
            COLUMNS | {"period": [*map(float, range(11)), float("nan")]},
            "counts.parquet row 12, column period: a period must be a whole number. Received: nan",
        ),
        (
            COLUMNS | {"period": [f"2024-05-{t + 1:02}" for t in range(11)] + ["2024-05-32"]},
            "counts.parquet row 12, column period: a period must be a date or time (ISO 8601). "
            "Received: '2024-05-32'",
        ),
        (
            COLUMNS | {"period": [*range(20240525, 20240532), *range(20240601, 20240606)]},
            "counts.parquet row 1, column period: 20240525 is a date written as a number, and "
            "numbers count periods; write it as 2024-05-31, or set --time_format=%Y%m%d, or "
            "--time_unit=index if it is the number of a period",
        ),
        (
            line(5, "x,3,60,6"),
            "counts.csv line 5, column item_id: item 'x' is not in the items table (1 such rows); "
            "add it, or set --unknown_items=drop",
        ),
        (
            line(5, "a,3,60"),
            "counts.csv line 5: 3 fields, but the header of the counts table has 4; put quotes "
            "around a value that contains a comma or a line break",
        ),
        ("", "counts.csv is not a readable CSV file (counts table): it is empty"),
        ("item_id,period,clicks,shares\n", "counts.csv: the counts table has no rows"),
        (
            {name: pa.array([], pa.int64()) for name in COLUMNS},
            "counts.parquet: the counts table has no rows",
        ),
        (
            COUNTS.replace("shares", "clicks"),
            "counts.csv has two columns named 'clicks'; rename one (named by --denominator)",
        ),
    ],
)
def test_a_wrong_counts_table_is_one_sentence(counts, said):
    assert sentence(counts) == said


@pytest.mark.parametrize(
    ("items", "flags", "said"),
    [
        (
            ITEMS + "a,news,again,5\n",
            {},
            "items.csv line 4: duplicate row for item 'a' with other values: category is 'music' "
            "in line 2 and 'news' here; keep the right one",
        ),
        (
            ITEMS + ITEMS.splitlines()[2],
            {},
            "items.csv line 4: exact duplicate of line 3 (item 'b'); remove it, or set "
            "--repeats=drop",
        ),
        (ITEMS + ",news,none,5\n", {}, "items.csv line 4, column item_id: an item id is empty"),
        (
            {"item_id": ["a", "b", None]},
            {},
            "items.parquet row 3, column item_id: an item id is empty",
        ),
        (
            ITEMS.replace("item_id", "id"),
            {},
            "items.csv has no column 'item_id' (named by --item_column); it has id, category, "
            "title, length",
        ),
        (
            ITEMS,
            {"taxonomies": ("categories",)},
            "items.csv has no column 'categories' (named by --taxonomies); it has item_id, "
            "category, title, length. Did you mean category?",
        ),
        (
            ITEMS,
            {"numerics": ("title",)},
            "items.csv line 2, column title: a numeric column's value must be a number. "
            "Received: 'one song'",
        ),
        (
            ITEMS,
            {"texts": ("length",)},
            "items.csv: column 'length' named by --texts has number values, not text; name it in "
            "--numerics or --categoricals instead",
        ),
        (
            {"item_id": ["a", "b"], "length": [1, 2]},
            {"texts": ("length",)},
            "items.parquet: column 'length' named by --texts has int64 values, not text; name it "
            "in --numerics or --categoricals instead",
        ),
        (
            ITEMS,
            {"release": "category"},
            "items.csv line 2, column category: a period must be a whole number. Received: 'music'",
        ),
        (
            {"item_id": ["a", "b"], "tags": [[{"id": 1}], []]},
            {"taxonomies": ("tags",)},
            "items.parquet: column 'tags' named by --taxonomies has list<element: "
            "struct<id: int64>> values; each row must have a list of single values",
        ),
        (
            b"item_id,title\na,caf\xe9\nb,tea\n",
            {"texts": ("title",)},
            "items.csv line 2, column title: not UTF-8 text; set its encoding, such as "
            "--text_set=encoding=gbk or latin-1",
        ),
    ],
)
def test_a_wrong_items_table_is_one_sentence(items, flags, said):
    assert sentence(COUNTS, items, **flags) == said


LONG = 500 * "猫"


@pytest.mark.parametrize(
    ("counts", "items"),
    [
        (line(5, f"{LONG},3,60,6"), ITEMS),  # unknown, in a log of known items
        (COUNTS.replace("\na,", f"\n{LONG},").replace("\nb,", f"\n{LONG},"), ITEMS),
        (COUNTS + f"{LONG},1,60,6\n{LONG},1,60,5\n", f"{ITEMS}{LONG},music,one,1\n"),
        (COUNTS, f"{ITEMS}{LONG},music,one,1\n{LONG},sport,one,1\n"),
        (line(5, f"X{LONG},3,60,6"), f"{ITEMS}x{LONG},music,one,1\n"),
    ],
)
def test_a_long_id_is_shown_in_part(counts, items):
    assert "猫…" in (said := sentence(counts, items))
    assert len(said) <= 600


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (
            {"window": 11, "horizon": 2},
            "the counts table spans 12 periods (0 to 11); --window=11 and --horizon=2 need at "
            "least 13",
        ),
        (
            {"min_test_rows": 200},
            "the test split has 2 examples, fewer than 200; lower --min_target_clicks (now 50) or "
            "--min_test_rows, or use data with more periods",
        ),
        (
            {"min_target_clicks": 61},
            "the validation split has 0 examples, fewer than 1; lower --min_target_clicks (now 61) "
            "or --min_test_rows, or use data with more periods",
        ),
        (
            {"first_period": "yesterday"},
            "--first_period: a period must be a whole number. Received: 'yesterday'",
        ),
    ],
)
def test_a_task_that_the_tables_cannot_serve_is_one_sentence(task, said):
    assert sentence(task=task) == said


def test_a_file_that_is_not_parquet_inside_is_one_sentence():
    with open("counts.parquet", "wb") as file:
        file.write(b"PAR1, and then nothing of the kind")
    with pytest.raises(InputError) as caught:
        input_tables.load_tables(TableFlags(counts="counts.parquet", items="items.csv"))
    start = "counts.parquet is not a readable Parquet file (counts table): "
    assert str(caught.value).startswith(start)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({}, "--counts and --items not given; name the tables, or set --source"),
        ({"counts": "counts.csv"}, "--items not given; name the tables, or set --source"),
        (
            {"source": "simulated", "items": "items.csv"},
            "--source has its own tables; remove --counts and --items",
        ),
        (
            {"counts": "none.csv", "items": "items.csv"},
            "none.csv: no such file, directory or glob pattern (--counts)",
        ),
        (
            {"counts": "counts.csv", "items": "items.csv", "vectors": ("cover.parquet",)},
            "--vectors must be NAME:FILE. Received: 'cover.parquet'",
        ),
        (
            {"counts": "counts.csv", "items": "items.csv", "vectors": ("cover:none.parquet",)},
            "none.parquet: no such file, directory or glob pattern (--vectors)",
        ),
    ],
)
def test_tables_that_are_not_named_right_are_one_sentence(flags, said):
    write("counts.csv", COUNTS)
    write("items.csv", ITEMS)
    with pytest.raises(InputError) as caught:
        input_tables.load_tables(TableFlags(**flags))
    assert str(caught.value) == said


# ----------------------------------------------------------------------------- what is fine


def same(first, second):
    assert first.fitted.spec == second.fitted.spec
    np.testing.assert_array_equal(first.panel.clicks, second.panel.clicks)
    np.testing.assert_array_equal(first.panel.shares, second.panel.shares)


def test_counts_of_unknown_items_are_dropped_when_asked_and_told():
    made = prepare(COUNTS + "x,3,60,6\ny,99,60,6\n", unknown_items="drop")
    assert made.panel.num_periods == PERIODS
    assert (made.ledger[0].rows_in, made.ledger[0].dropped) == (26, 2)


def test_a_byte_order_mark_and_windows_line_ends_are_fine():
    spoilt = [b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode() for text in (COUNTS, ITEMS)]
    same(prepare(*spoilt), prepare())


def test_quoted_line_breaks_are_fine_and_later_lines_still_right():
    items = 'item_id,title\na,"one\nsong"\nb,two\na,again\n'
    assert sentence(COUNTS, items).startswith("items.csv line 5: duplicate row for item 'a'")
    made = prepare(COUNTS, items.replace("a,again\n", ""), texts=("title",))
    assert made.fitted.spec.texts[0].name == "title"


def test_ids_and_categories_keep_their_zeros():
    items = "item_id,category\n007,01\n7,1\n"
    made = prepare(
        COUNTS.replace("\na,", "\n007,").replace("\nb,", "\n7,"), items, taxonomies=("category",)
    )
    assert made.panel.item_ids.tolist() == ["007", "7"]
    assert made.fitted.vocabularies["field_category"] == ["01", "1"]


def test_columns_of_items_may_be_empty():
    items = "item_id,category,title,length\na,,,\nb,,,\n"
    made = prepare(COUNTS, items, taxonomies=("category",), texts=("title",), numerics=("length",))
    assert made.tensors["field_category"].tolist() == [[0], [0]]
    assert made.tensors["numeric_length"].tolist() == [0, 0]
    assert not made.tensors["text_title"].any()
    assert made.taxonomy_missing_flag.all()


def test_an_item_without_counts_is_an_item():
    made = prepare(COUNTS, ITEMS + "c,news,three,5\n", numerics=("length",))
    assert made.missing_flag[2].all()
    assert 2 not in made.split.train.items


def test_dates_are_fine_in_any_of_their_types():
    days = np.arange("2024-05-25", "2024-06-06", dtype="datetime64[D]")
    columns = [
        pa.array(days),
        pa.array(days.astype("datetime64[s]")),
        pa.array(days.astype("datetime64[ns]")).cast(pa.timestamp("ns", "UTC")),
        pa.array([f"{day}" for day in days]),
        pa.array([f"{day}T00:00:00Z" for day in days]),
    ]
    for period in columns:
        made = prepare(COLUMNS | {"period": period})
        assert [made.panel.label(column) for column in (0, 11)] == ["2024-05-25", "2024-06-05"]


def test_other_rates_are_a_matter_of_names():
    counts = COUNTS.replace("clicks", "views").replace("shares", "likes")
    same(prepare(counts, denominator="views", numerator="likes"), prepare())
