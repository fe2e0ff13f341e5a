"""What a model reads when it scores is what it read in training, whatever it is read from."""

import datetime

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from mmnet import schema
from mmnet.checks import InputError
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import dataset as datasets
from mmnet.data import input_tables, pipeline
from mmnet.data.splits import Examples
from mmnet.data.windows import Windows
from mmnet.encoders import value_hashes
from mmnet.models.mmnet import mmnet
from mmnet.models.options import MMNetOptions
from mmnet.schema import FIRST_ID
from mmnet.serving import golden
from mmnet.serving.export import Servable
from mmnet.serving.inputs import DatasetSource, TableSource

AS_OF = 3  # the window begins before the first period


@pytest.fixture(scope="module")
def data(run_dir):
    """The dataset of the small run."""
    return datasets.load(run_dir / "dataset")


@pytest.mark.parametrize("of", ["tables", "dataset"])
def test_items_are_read_as_training_reads_them(data, tmp_path, of):
    found = input_tables.open_tables(data.fitted.tables)
    source = DatasetSource(data, data.fitted)
    if of == "tables":
        source = TableSource(found, data.fitted)
    source.survey(str(AS_OF), tmp_path)
    inputs = source.inputs(tmp_path)
    assert inputs.first_period == AS_OF + 1 - data.fitted.spec.window < 0
    (piece,) = inputs.pieces(len(source.items))
    read = inputs.history(piece) | inputs.static(piece)
    everyone = np.arange(len(source.items), dtype=np.int32)
    ((_, wanted),) = Windows(data).batches(Examples(everyone, np.full_like(everyone, AS_OF)))
    assert set(read) == set(wanted)
    for name, tensor in wanted.items():
        np.testing.assert_array_equal(read[name], tensor, err_msg=name)
        assert read[name].dtype == tensor.dtype.as_numpy_dtype
    (category,) = (field for field in data.fitted.spec.fields if field.name == "category")
    np.testing.assert_array_equal(inputs.groups(piece, category), wanted["field_category"][:, 0])


def test_a_further_rate_is_read_before_the_first_click_of_the_main_one(tmp_path):
    rows = [(f"i{one}", day, 9 * (day > one), 8, day) for one in range(4) for day in range(9)]
    names = ["item_id", "period", "clicks", "views", "likes"]
    counts = pd.DataFrame(rows, columns=names).assign(shares=0)
    counts.to_csv(tmp_path / "counts.csv", index=False)
    pd.DataFrame({"item_id": ["i0", "i1", "i2", "i3"]}).to_csv(tmp_path / "items.csv", index=False)
    flags = TableFlags(
        counts=str(tmp_path / "counts.csv"),
        items=str(tmp_path / "items.csv"),
        rate=("like=likes/views",),
        also_predict=("like",),
    )
    task = TaskFlags(window=3, min_target_clicks=1, min_test_rows=1)
    data = pipeline.prepare(input_tables.load_tables(flags, task), flags, task)
    source = TableSource(input_tables.open_tables(flags), data.fitted)
    (tmp_path / "survey").mkdir()
    source.survey("2", tmp_path / "survey")
    inputs = source.inputs(tmp_path / "survey")
    (piece,) = inputs.pieces(4)
    read = inputs.history(piece)
    everyone = np.arange(4, dtype=np.int32)
    ((_, wanted),) = Windows(data).batches(Examples(everyone, np.full_like(everyone, 2)))
    for name, array in read.items():
        np.testing.assert_array_equal(array, wanted[name], err_msg=name)
    # Item 3 has no click yet, and 0, 1 and 2 likes of 8 views.
    np.testing.assert_array_equal(read["missing_flag"][3], np.ones(3))
    np.testing.assert_array_equal(read["missing_flag_like"][3], np.zeros(3))


def test_values_of_a_quota_are_known_by_their_hashes(data, tmp_path):
    hashed = {
        name: value_hashes.hash_vocabulary(values, name)
        for name, values in data.fitted.vocabularies.items()
    }
    task = data.fitted.task.model_copy(update={"hash_vocabularies": True})
    fitted = data.fitted.model_copy(update={"vocabularies": hashed, "task": task})
    source = TableSource(input_tables.open_tables(data.fitted.tables), fitted)
    source.survey("", tmp_path)
    inputs = source.inputs(tmp_path)
    (piece,) = inputs.pieces(len(source.items))
    (category,) = (field for field in fitted.spec.fields if field.name == "category")
    ids = inputs.groups(piece, category)
    np.testing.assert_array_equal(ids, data.tensors["field_category"][:, 0])
    assert (ids >= FIRST_ID).any()


def test_the_key_of_static_parts_follows_their_contents(data, tmp_path):
    source = DatasetSource(data, data.fitted)
    source.survey("", tmp_path)
    inputs = source.inputs(tmp_path)
    first, second, *_ = inputs.pieces(100)
    keys = {inputs.key(first), inputs.key(first), inputs.key(second)}
    assert len(keys) == 2


# ----------------------------------------------------------------------- the target's moment

ITEMS, DAYS, WINDOW = 300, 45, 3


@pytest.fixture(scope="module", params=["release", "first_click"])
def of_days(request, tmp_path_factory):
    """A dataset of daily counts with all of `--inputs`, and the flags of its tables."""
    place, draws = tmp_path_factory.mktemp("days"), np.random.default_rng(0)
    start = datetime.date(2024, 2, 20)
    first = draws.integers(0, DAYS, ITEMS)
    item, day = np.nonzero(
        (np.arange(DAYS) >= first[:, None]) & (draws.random((ITEMS, DAYS)) < 0.5)
    )
    clicks = draws.integers(1, 90, len(item))
    counts = {
        "item_id": [f"i{one}" for one in item],
        "period": [start + datetime.timedelta(int(one)) for one in day],
        "clicks": clicks,
        "shares": clicks // 3,
    }
    pd.DataFrame(counts).to_csv(place / "counts.csv", index=False)
    released = [start + datetime.timedelta(int(one) - 2) if one % 5 else None for one in first]
    items = {"item_id": [f"i{one}" for one in range(ITEMS)], "day": released}
    items["creator"] = [f"c{one // 7}" if one % 11 else "" for one in range(ITEMS)]
    items["tags"] = [f"t{one % 5};t{one % 3}" for one in range(ITEMS)]
    pd.DataFrame(items).to_csv(place / "items.csv", index=False)
    flags = TableFlags(
        counts=str(place / "counts.csv"),
        items=str(place / "items.csv"),
        release="day" if request.param == "release" else "",
        taxonomies=("creator", "tags"),
    )
    task = TaskFlags(
        window=WINDOW,
        min_target_clicks=1,
        min_test_rows=1,
        inputs=("age", "calendar", "lifetime", "taxonomy_evidence"),
        taxonomy_weighting="clicks" if request.param == "release" else "items",
    )
    return pipeline.prepare(input_tables.load_tables(flags, task), flags, task), flags


def test_the_moment_is_the_same_in_training_scoring_and_requests(of_days, tmp_path):
    data, flags = of_days
    windows, fitted = Windows(data), data.fitted
    names = ["age", "age_at_least", "target_weekday", "earlier_rate", "earlier_clicks"]
    names += ["taxonomy_rate", "taxonomy_missing_flag", "taxonomy_evidence"]
    everyone = np.arange(ITEMS, dtype=np.int32)
    servable = Servable(mmnet(fitted.spec, MMNetOptions(units=2, field_width=2)), fitted)
    read = tf.function(servable.read, autograph=False)
    rows = 0
    for last in range(WINDOW - 1, DAYS - 9):  # 10,200 rows
        examples = Examples(everyone, np.full_like(everyone, last))
        ((_, wanted),) = windows.batches(examples)
        as_of = str(data.panel.label(last))
        sources = [DatasetSource(data, fitted)]
        if last % 10 == 0:  # a first pass over the tables takes its time
            tables = input_tables.open_tables(flags)
            sources.append(TableSource(tables, fitted))
        for source in sources:
            source.survey(as_of, tmp_path)
            inputs = source.inputs(tmp_path)
            (piece,) = inputs.pieces(ITEMS)
            found = inputs.history(piece)
            for name in names:
                np.testing.assert_array_equal(found[name], wanted[name])
                assert found[name].dtype == wanted[name].dtype
        columns = golden.rows(data, windows, examples, ITEMS).columns
        found = read(**{name: tf.constant(column) for name, column in columns.items()})
        hidden = {name: np.array(wanted[name]) for name in names}
        for name, value in schema.UNKNOWN_LIFETIME.items():
            hidden[name][1::2] = value  # every other row is without a history
        for name in names:
            np.testing.assert_array_equal(found[name], hidden[name])
        rows += ITEMS
    assert rows > 10_000


def test_what_happens_after_the_window_changes_nothing_of_the_evidence(of_days, tmp_path):
    """Other counts after t; items that are released then, of old and new creators, or removed."""
    data, flags = of_days
    last = DAYS // 2
    as_of = str(data.panel.label(last))
    counts, items = pd.read_csv(flags.counts), pd.read_csv(flags.items)
    later = counts["period"] > as_of
    first = counts.groupby("item_id")["period"].min()
    released = items.set_index("item_id")["day"].fillna(first) if flags.release else first
    gone = [item for item in first.index[first > as_of] if released[item] > as_of][::2]
    assert len(gone) > 20
    counts.loc[later, "clicks"] = counts.loc[later, "clicks"] * 3 + 1
    day = str(data.panel.label(last + 1))
    new = pd.DataFrame({"item_id": [f"n{one}" for one in range(50)], "day": day, "tags": "t0"})
    new["creator"] = [f"c{one}" for one in range(50)]
    of_new = pd.DataFrame({"item_id": new["item_id"], "period": day, "clicks": 9, "shares": 4})
    counts = pd.concat([counts[~counts["item_id"].isin(gone)], of_new])
    items = pd.concat([items[~items["item_id"].isin(gone)], new])
    changed = {"counts": str(tmp_path / "counts.csv"), "items": str(tmp_path / "items.csv")}
    counts.to_csv(changed["counts"], index=False)
    items.to_csv(changed["items"], index=False)
    tables = flags.model_copy(update=changed)
    made = []
    again = pipeline.transform(input_tables.load_tables(tables), data.fitted)
    for number, source in enumerate(
        (
            DatasetSource(data, data.fitted),
            TableSource(input_tables.open_tables(tables), data.fitted),
            DatasetSource(again, data.fitted),
        )
    ):
        place = tmp_path / str(number)
        place.mkdir()
        source.survey(as_of, place)
        inputs = source.inputs(place)
        (piece,) = inputs.pieces(len(source.items))
        ids = piece.data["item_id"].to_pylist()
        kept = [ids.index(f"i{one}") for one in range(ITEMS) if f"i{one}" not in gone]
        read = inputs.history(piece) | inputs.static(piece)
        made.append({name: read[name][kept] for name in data.fitted.spec.tensors()})
    assert made[0]["taxonomy_evidence"].max() > 1
    for other in made[1:]:
        for name, array in made[0].items():
            np.testing.assert_array_equal(other[name], array, err_msg=name)


def test_counts_that_begin_later_are_scored_without_what_reads_them(of_days, tmp_path):
    data, flags = of_days
    counts = pd.read_csv(flags.counts)
    later = tmp_path / "later.csv"
    counts[counts["period"] >= "2024-03-01"].to_csv(later, index=False)
    flags = flags.model_copy(update={"counts": str(later)})
    tables = input_tables.open_tables(flags)
    with pytest.raises(InputError, match="counts begin with 2024-03-01, but the model reads"):
        TableSource(tables, data.fitted).survey("", tmp_path)
    source = TableSource(input_tables.open_tables(flags), data.fitted, allow_short=True)
    source.survey("", tmp_path)
    inputs = source.inputs(tmp_path)
    (piece,) = inputs.pieces(ITEMS)
    found = inputs.history(piece)
    assert (found["age"] == -1).all() == (not flags.release)  # the counts have no part in a release
    assert (found["earlier_clicks"] == -1).all()
    assert not found["earlier_rate"].any()
