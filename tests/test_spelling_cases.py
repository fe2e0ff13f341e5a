"""What people's files hold, small: lists, float ids, numbers in text; the right rows or words."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from mmnet.checks import InputError
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import counts, events, input_tables, pipeline
from mmnet.data.tables import InMemory, Table

PERIODS, ITEMS = 12, 8
TASK = TaskFlags(window=2, min_target_clicks=1, min_test_rows=1)
TAGS = [["b", "a"], ["a"], ["c", "b", "a"], ["b"], ["a", "c"], ["c"], ["b", "c"], ["a", "b"]]


def counts_of(ids):
    rows = [(one, period) for one in ids for period in range(PERIODS)]
    who, periods = zip(*rows, strict=True)
    shares = np.arange(len(rows)) % 5
    data = {"item_id": pa.array(who), "period": periods, "clicks": [9] * len(rows)}
    return Table(pa.table(data | {"shares": shares}), "counts")


def prepared(ids=tuple("abcdefgh"), task=TASK, flags=None, **columns):
    items = Table(pa.table({"item_id": list(ids)} | columns), "items")
    return pipeline.prepare(InMemory(counts_of(ids), items), TableFlags(**flags or {}), task)


def sentence(function, *arguments, **named):
    with pytest.raises(InputError) as caught:
        function(*arguments, **named)
    return str(caught.value)


# ----------------------------------------------------------------------------------- lists


@pytest.mark.parametrize(
    ("write", "separator"),
    [
        (list, ""),
        (";".join, ""),
        (repr, ""),
        ("|".join, "|"),
        (",".join, ","),
        (" ".join, "space"),
        ("\t".join, "tab"),
    ],
)
def test_tags_are_the_same_however_they_are_written(write, separator):
    flags = {"taxonomies": ("tags",), "list_separator": separator}
    found = prepared(tags=[write(tags) for tags in TAGS], flags=flags)
    assert found.fitted.vocabularies == {"field_tags": ["a", "b", "c"]}
    assert found.tensors["field_tags"].tolist()[:3] == [[3, 2, 0], [2, 0, 0], [4, 3, 2]]
    assert found.fitted.tables.list_separator == separator


def test_values_with_another_separator_are_kept_whole_on_request():
    flags = {"taxonomies": ("tags",), "list_separator": ";"}
    found = prepared(tags=["|".join(tags) for tags in TAGS], flags=flags)
    assert set(found.fitted.vocabularies["field_tags"]) == {"|".join(tags) for tags in TAGS}


@pytest.mark.parametrize(
    "values", [[True, False] * 4, ["true", "FALSE"] * 4, ["True", "false "] * 4]
)
def test_truth_is_one_category_in_every_format(values):
    found = prepared(is_ad=values, flags={"categoricals": ("is_ad",)})
    assert found.fitted.vocabularies == {"field_is_ad": ["false", "true"]}


# --------------------------------------------------------------------------------- numbers


def test_a_decimal_comma_is_recognised_reported_and_exported(capsys):
    values = ["1.090,5", "12,5", "", "3", "4", "5", "6", "7"]
    found = prepared(length=values, flags={"numerics": ("length",)})
    plain = prepared(length=[1090.5, 12.5, None, 3, 4, 5, 6, 7], flags={"numerics": ("length",)})
    assert found.fitted.spec == plain.fitted.spec
    assert (found.tensors["numeric_length"] == plain.tensors["numeric_length"]).all()
    told = "numbers of length have a comma before decimals and a point between thousands"
    assert [rule.note for rule in found.ledger if rule.rule == told] == [
        "'1.090,5' is read as 1090.5"
    ]
    assert f"items table: {told}: '1.090,5' is read as 1090.5" in capsys.readouterr().err
    # What nothing else decides is read as in training.
    items = Table(pa.table({"item_id": list("ab"), "length": ["1.090", "2.000"]}), "items")
    new = pipeline.transform(InMemory(counts_of("ab"), items), found.fitted)
    spec = found.fitted.spec.numerics[0]
    expected = (np.array([1090.0, 2000.0]) - spec.mean) / spec.sd
    np.testing.assert_array_equal(new.tensors["numeric_length"], expected.astype("float32"))
    assert "marks" not in plain.fitted.model_dump()


def test_numbers_of_text_may_be_missing_or_infinite_but_not_words():
    values = ["inf", "NaN", "1e308", "-5", "NULL", "", "7", "8"]
    found = prepared(length=values, flags={"numerics": ("length",)})
    assert np.isfinite(found.tensors["numeric_length"]).all()
    assert found.tensors["numeric_length"][[0, 1, 4, 5]].tolist() == [0, 0, 0, 0]
    said = sentence(prepared, length=["None", *values[1:]], flags={"numerics": ("length",)})
    assert said == (
        "items table row 1, column length: a numeric column's value must be a number. "
        "Received: 'None'"
    )


# ------------------------------------------------------------------------------------- ids

BIG = [7_205_759_406_317_000_000 + 37 * number for number in range(ITEMS)]
LOST = "is an id that was converted to a floating-point number, so its last digits are lost"


def count(ids, items, **flags):
    flags = TableFlags(**flags)
    return counts.count(counts_of(ids), Table(pa.table({"item_id": items}), "items"), flags, TASK)


def test_float_ids_are_whole_numbers_as_long_as_floats_hold_them():
    panel = count([100001.0, 100002.0], ["100001", "100002"]).panel()
    assert panel.clicks.sum() == 2 * PERIODS * 9


def test_ids_that_lost_digits_are_refused_in_every_table():
    floats = [float(one) for one in BIG]
    for drop in ("drop", "fail"):
        assert LOST in sentence(count, floats, BIG, unknown_items=drop)
    assert LOST in sentence(count, BIG, sorted(set(floats)))
    assert LOST in sentence(count, [repr(one) for one in floats], BIG)


def events_of(ids, kind=None, **flags):
    table = pa.table({"item_id": pa.array(ids, kind), "timestamp": [*range(len(ids))]})
    pa.parquet.write_table(table, "events.parquet")
    flags = {"events": "events.parquet", "numerator": "events", "denominator": "events"} | flags
    return TableFlags(**flags | {"engine_threads": 1})


@pytest.mark.parametrize("drop", [{}, {"bad_events": "drop", "unknown_items": "drop"}])
@pytest.mark.parametrize("write", [float, lambda one: repr(float(one))])
def test_events_whose_ids_lost_digits_are_refused_before_they_are_dropped(
    tmp_path, monkeypatch, write, drop
):
    monkeypatch.chdir(tmp_path)
    flags = events_of([*map(write, BIG), None], **drop)
    ids = np.array([str(one) for one in BIG], object)
    said = sentence(events.count, flags, TaskFlags(), ids, tmp_path / "counts.parquet")
    assert said.startswith("events.parquet, column item_id: 7.205759406317e+18 " + LOST)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "events.parquet"]


def test_events_without_an_item_are_dropped_and_the_others_meet_their_items(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = events_of([100001.0, None, 100002.0], bad_events="drop")
    ids = np.array(["100001", "100002"], object)
    ledger = events.count(flags, TaskFlags(), ids, tmp_path / "counts.parquet")
    assert (ledger[0].rows_in, ledger[0].rows_out) == (3, 2)
    counted = pa.parquet.read_table("counts.parquet")
    assert counted["item_id"].to_pylist() == ["100001", "100002"]


@pytest.mark.parametrize("drop", ["drop", "fail"])
@pytest.mark.parametrize(
    ("mine", "its"), [("0012", "12"), ("ab", "AB"), ("AB", "ab"), ("12", "012")]
)
def test_no_drop_removes_items_that_are_there_in_another_spelling(
    tmp_path, monkeypatch, mine, its, drop
):
    monkeypatch.chdir(tmp_path)
    told = (
        f"item {mine!r} is not in the items table, but {its!r} is; 1 of 1 unknown items differ "
        "from a known one only in leading zeros or in upper and lower case; write ids the same way "
        "in all tables"
    )
    said = sentence(count, [mine, "x"], [its, "x"], unknown_items=drop)
    assert said == f"counts table row 1, column item_id: {told}"
    flags = events_of([mine, "x"], unknown_items=drop)
    ids = np.array([its, "x"], object)
    said = sentence(events.count, flags, TaskFlags(), ids, tmp_path / "counts.parquet")
    assert said == f"events.parquet, column item_id: {told}"


def test_unknown_items_may_be_dropped_where_a_few_differ_in_case_alone():
    found = count(["a", "B", "x", "y"], ["a", "b"], unknown_items="drop")
    assert found.panel().clicks.sum() == PERIODS * 9
    said = sentence(count, ["a", "x"], ["a", "b"])
    assert said.endswith("(12 such rows); add it, or set --unknown_items=drop")


def test_vectors_of_items_in_another_spelling_are_refused():
    vectors = Table(pa.table({"item_id": ["0012"], "cover": [[1.0]]}), "vectors")
    items = Table(pa.table({"item_id": ["12"]}), "items")
    found = InMemory(counts_of(["12"]), items, {"cover": vectors})
    assert "item '0012' is not in the items table, but '12' is" in sentence(
        pipeline.prepare, found, TableFlags(), TASK
    )


def test_a_fingerprint_depends_on_the_flags_of_spelling(tmp_path):
    (tmp_path / "counts.csv").write_text("item_id,period,clicks,shares\na,1,2,1\n")
    (tmp_path / "items.csv").write_text("item_id\na\n")
    flags = TableFlags(counts=str(tmp_path / "counts.csv"), items=str(tmp_path / "items.csv"))
    found = input_tables.load_tables(flags)
    encoders = pipeline.Encoders(flags)

    def key(**given):
        own = flags.model_copy(update=given)
        return input_tables.fingerprint(found, own, TaskFlags(), encoders)[0]

    assert len({key(), key(decimal=","), key(thousands="."), key(list_separator="|")}) == 4


# ----------------------------------------------------------------------------------- names


def test_columns_of_any_script_have_tensors_of_their_own():
    flags = {"taxonomies": ("类别", "标签"), "numerics": ("时长",), "categoricals": ("a b", "a_b")}
    columns = {"类别": list("xyxyxyxy"), "标签": list("uuuuvvvv"), "时长": [*range(8)]}
    columns |= {"a b": list("ppppqqqq"), "a_b": list("rsrsrsrs")}
    found = prepared(**columns, flags=flags)
    assert found.fitted.vocabularies == {
        "field____0d12cbd6": ["x", "y"],
        "field____1d0fd5f9": ["u", "v"],
        "field_a_b_c8687a08": ["p", "q"],
        "field_a_b_648fa9b3": ["r", "s"],
    }
    assert "numeric___" in found.tensors
    assert found.tensors["field____1d0fd5f9"][:, 0].tolist() == [2, 2, 2, 2, 3, 3, 3, 3]
