"""Expressions are worth on an engine what a plain loop says, and refused by type."""

import importlib.util
import itertools
import re
import shutil
from pathlib import Path

import ibis
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmnet.checks import InputError
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import events, expressions
from mmnet.data.expressions import in_ibis, tree
from tests.data.expressions import trees


@pytest.fixture(scope="module")
def engine():
    """DuckDB with the table of `trees`, as the package uses it: steps stay steps."""
    backend = ibis.duckdb.connect(threads=1)
    fuse, ibis.options.sql.fuse_selects = ibis.options.sql.fuse_selects, False
    yield backend, ibis.memtable(trees.TABLE)
    ibis.options.sql.fuse_selects = fuse
    backend.disconnect()


def values(engine, texts, null_comparisons="bad"):
    """For each expression what every row of the table adds; None for a bad event."""
    backend, table = engine
    counts = [expressions.read_count(text, "numerator", table.columns) for text in texts]
    table, found = expressions.counted(counts, table, null_comparisons)
    columns = {f"value_{n}": value for n, (value, _) in enumerate(found)}
    columns |= {f"good_{n}": good for n, (_, good) in enumerate(found)}
    result = backend.to_pyarrow(table.select(**columns)).to_pydict()
    pairs = [
        list(zip(result[f"value_{n}"], result[f"good_{n}"], strict=True)) for n in range(len(texts))
    ]
    assert {value for each in pairs for value, good in each if not good} <= {0}
    return [[value if good else None for value, good in each] for each in pairs]


@settings(max_examples=40)
@given(st.lists(trees.conditions, min_size=4, max_size=4), trees.numbers)
def test_an_engine_computes_what_a_plain_loop_does(engine, conditions, number):
    wanted = {
        tree.written(node): [trees.counted(node, row) for row in trees.ROWS]
        for node in (*conditions, number)
        if tree.columns_of(node)
    }
    if wanted:
        assert dict(zip(wanted, values(engine, wanted), strict=True)) == wanted


def test_logic_has_three_values_as_the_docstring_says(engine):
    lines = re.findall(r"^ {4}((?:true|false|not known) .*)$", in_ibis.__doc__, re.MULTILINE)
    words = {"true": 1, "false": 0, "not known": None}
    rows = [[words[word] for word in re.split(r" {2,}", line.strip())] for line in lines]
    assert len(rows) == 9
    backend, _ = engine
    truths = {
        name: pa.array([row[n] for row in rows]).cast(pa.bool_()) for n, name in enumerate("ab")
    }
    table = ibis.memtable(pa.table(truths))
    texts = ["a and b", "a or b", "not a"]
    for n, found in enumerate(values((backend, table), texts), 2):
        assert found == [row[n] for row in rows], texts[n - 2]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        # kind: None, "", "share", "it's", "1", " 2.5 ", "TRUE", "a\\b", 'say "x"', "0"
        ("kind == 'share' or likes > 1", [None, 0, 1, 0, 1, 0, 1, 1, 1, 0]),
        ("kind not in ('share', '')", [None, 0, 0, 1, 1, 1, 1, 1, 1, 1]),
        ("kind in ('share', 1)", [None, None, 1, None, 1, 0, 1, None, None, 0]),
        ("kind is null", [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        # plays: None, 0, 1, 2, 3, -1, 2**53 - 1, 2**53 + 1, -(2**63), 1
        ("plays between 1 and 2.5", [None, 0, 1, 1, 0, 0, 0, 0, 0, 1]),
        ("plays not between likes and 2", [None, 1, 0, 0, 1, 1, 1, 1, 1, 0]),
        ("2 * plays", [None, 0, 2, 4, 6, None, None, None, None, 2]),
        ("plays / (plays - 1)", [None, 0, None, 2, None, None, None, None, 1, None]),
        ("plays / likes is null", [1, 0, 1, 0, 0, 0, 0, 0, 0, 1]),
        ("plays + 1 > plays", [None, 1, 1, 1, 1, 1, 1, 0, 0, 1]),
        ("plays == likes", [None, 0, 0, 0, 0, 0, 0, 1, 0, 0]),  # whole numbers stay exact
        ("not plays", [None, 1, 0, None, None, None, None, None, None, 0]),
        ('not "is ad"', [None, 0, 1, 0, 1, 0, 1, None, 0, 1]),
        ("plays * (kind == '1') + 5 * \"in\"", [None, None, None, 0, 3, 5, 5, 0, 5, 0]),
        ("events - likes", [None, 0, 1, 0, None, 0, None, None, None, 1]),
        # seconds: None, nan, inf, 0, 0.5, 1, -2.5, 1e308, 3, -inf
        ("seconds - seconds == 0", [None, None, None, 1, 1, 1, 1, 1, 1, None]),
        ("seconds is not null and seconds < 1e999", [0, 0, 0, 1, 1, 1, 1, 1, 1, 1]),
    ],
)
def test_an_expression_is_worth(engine, text, wanted):
    assert values(engine, [text]) == [wanted]
    read = expressions.read_count(text, "numerator", trees.TABLE.column_names)
    if read.is_condition:
        wanted = [value or 0 for value in wanted]
    assert values(engine, [text], "false") == [wanted]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tags + 1", "--numerator=tags + 1: column 'tags' holds array<string> values; + - * / ac"),
        ("began - ended", "column 'began' holds timestamp(6) values; + - * / accept numbers"),
        ("plays + 'x'", "cannot read \"plays + 'x'\"; write a number in place of the text 'x'"),
        ("not began", "column 'began' holds timestamp(6) values; `and`, `or` and `not` accept"),
        ("plays > 1 or 1", "cannot read 'plays > 1 or 1'; write a comparison or a column of true/f"
         "alse in place of 1"),
        ("not plays + 1", "write a comparison or a column of true/false in place of plays + 1"),
        ("began in (1)", "column 'began' holds timestamp(6) values and does not compare with the nu"
         "mber 1.0; compare numbers with numbers and text with 'text'"),
        ("3 < began", "column 'began' holds timestamp(6) values and does not compare with the num"),
        ("plays in (1, 'x')", "column 'plays' holds int64 values and does not compare with the text"
         " 'x'; compare"),
        ("kind between 'a' and began", "column 'kind' holds string values and does not compare with"
         " column 'began', timestamp(6) values"),
        ("plays + 1 == 'x'", "the text 'x' does not compare with the number plays + 1; compare"),
        ("(plays > 1) == 'x'", "the text 'x' does not compare with the truth plays > 1; compare"),
        ("tags", "column 'tags' holds array<string> values; a count is a number or true/false"),
        ("tags == tags", "column 'tags' holds array<string> values and does not compare with colum"
         "n 'tags', array<string> values"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_one_sentence(text, said):
    table = ibis.table(trees.TABLE.append_column("tags", pa.array([["x"]] * 10)).schema)
    count = expressions.read_count(text, "numerator", table.columns)
    with pytest.raises(InputError) as caught:
        expressions.counted([count], table, "bad")
    assert said in str(caught.value)
    assert str(caught.value).isprintable()


# -------------------------------------------------------------------------------- whole tables


def write(name="events.parquet"):
    """The table as events of one item and period each."""
    table = trees.TABLE.append_column("item_id", pa.array([f"i{n}" for n in range(10)]))
    table = table.append_column("timestamp", pa.array([0] * 10))
    if name.endswith(".csv"):
        pa.csv.write_csv(table, name)
    else:
        pa.parquet.write_table(table, name)


def count(name="events.parquet", **flags):
    """The counts and the ledger."""
    given = {"events": name, "denominator": "events", "engine_threads": 1} | flags
    output = Path("counted.parquet")
    ledger = events.count(TableFlags(**given), TaskFlags(), None, output)
    table = pa.parquet.read_table(output)
    output.unlink() if output.is_file() else shutil.rmtree(output)
    return table.to_pylist(), ledger


@pytest.mark.parametrize("name", ["events.parquet", "events.csv"])
def test_a_condition_on_an_empty_value_is_bad_or_false(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(name)
    numerator = "plays >= 0.9 * likes and not \"is ad\" or kind in ('share', 'it''s')"
    with pytest.raises(InputError) as caught:
        count(name, numerator=numerator)
    assert "correct them, or set --bad_events=drop, or --null_comparisons=false if an" in str(
        caught.value
    )
    read = expressions.read_count(numerator, "numerator", trees.TABLE.column_names)
    rows = trees.ROWS  # of a CSV file, an empty cell has no value
    if name.endswith(".csv"):
        rows = [{key: None if cell == "" else cell for key, cell in row.items()} for row in rows]
    wanted = [trees.counted(read.expression, row) for row in rows]
    assert {None, 0, 1} == set(wanted)
    counted, ledger = count(name, numerator=numerator, bad_events="drop")
    assert [row[numerator] for row in counted] == [value or 0 for value in wanted]
    assert [row["events"] for row in counted] == [int(value is not None) for value in wanted]
    assert ledger[-1].rule == f"{numerator} and events can be counted"
    counted, ledger = count(name, numerator=numerator, null_comparisons="false")
    assert [row[numerator] for row in counted] == [value or 0 for value in wanted]
    assert {row["events"] for row in counted} == {1}
    assert {rule.dropped for rule in ledger} == {0}


def test_a_number_is_bad_where_it_has_no_value_whatever_conditions_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write()
    with pytest.raises(InputError, match=r"\d events .* cannot be counted") as caught:
        count(numerator="plays / likes", null_comparisons="false")
    assert "--null_comparisons" not in str(caught.value)
    counted, _ = count(rate=("part=(plays / likes)/(events - 0 * likes)",), bad_events="drop", **{
        "numerator": "part_numerator", "denominator": "part_denominator"
    })  # fmt: skip
    assert [row["part_numerator"] for row in counted] == [0, 0, 0, 2, 0, 0, 0, 1, 0, 0]


@pytest.mark.slow(first=True)
@pytest.mark.skipif(
    importlib.util.find_spec("pyspark") is None or shutil.which("java") is None,
    reason="needs PySpark (the extra spark) and Java 17",
)
def test_spark_counts_what_duckdb_counts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write()
    texts = [
        *("2 * plays", "plays / likes", "plays - likes + short", "-plays * -1", "1e308 * seconds"),
        *("price * 100", "short * short * short", "plays / (plays - 1)", "events - likes"),
        *("plays * (kind == '1') + 5 * \"in\"", "kind + \"Wörter.2\"", "(plays + likes) / 2"),
        *("seconds - seconds == 0", "seconds / seconds", "seconds is null", "0 * seconds == 0"),
        *("plays + 1 > plays", "plays == likes", "likes <= plays", "plays == 9007199254740993"),
        *("kind < 'm'", "kind == 'a\\b'", "kind in ('it''s', 'say \"x\"', 'a\\b')"),
        *("kind == \"Wörter.2\"", "kind < \"Wörter.2\"", "\"Wörter.2\" in ('é', 'x')"),
        *("kind in ('share', 1, true)", "kind not in (0, 2.5)", "kind is null", "kind = 1"),
        *("plays between 1 and 2.5", "plays not between likes and 2", "kind between 'a' and 'j'"),
        *("began < ended", "began between ended and ended", "began is null or ended is null"),
        *("not plays", "not \"is ad\"", "\"is ad\" and \"in\"", "\"is ad\" or \"in\"", "not kind"),
        *("\"is ad\" == \"in\"", "(plays > 1) == \"in\"", "not (not (\"in\" and plays > 0))"),
        *("true and \"in\"", "false or \"in\"", "price > 0.1", "price in (0.1, 2.5)"),
        *("-(-(-seconds)) < 1e999", "likes > -1e999", "seconds * 10 > seconds", "short > 1.5"),
    ]  # fmt: skip
    rates = [f"r{n}=({text})/events" for n, text in enumerate(texts)]
    assert len(rates) >= 50
    read = {"rate": rates, "numerator": "events", "bad_events": "drop"}
    spark = {"engine": "pyspark://?spark.sql.shuffle.partitions=1", "engine_threads": 2}
    for null_comparisons in ("bad", "false"):
        read["null_comparisons"] = null_comparisons
        for here, there in itertools.zip_longest(count(**read), count(**read, **spark)):
            assert here == there
    many = " or ".join(f"plays == {n}" for n in range(600)) + " or " + 40 * "not " + "(plays < 0)"
    odd = "plays >= 0.9 * likes and kind in ('it''s', 'a.b') or not (\"Wörter.2\" is null)"
    for numerator in (many, odd):
        read = {"numerator": numerator, "bad_events": "drop"}
        assert count(**read) == count(**read, **spark)
