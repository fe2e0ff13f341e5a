"""Unknown values are counted alike in tables, prepared tensors and requests."""

import numpy as np
import pyarrow as pa
import pytest

from mmnet.config import TableFlags
from mmnet.data import items
from mmnet.data.tables import Table
from mmnet.schema import FeatureSpec, FieldSpec
from mmnet.serving import known_values
from mmnet.serving.known_values import Seen, ValueCounts
from mmnet.tasks.shown import print_values
from tests.serving.exported import fitted

FIELDS = (FieldSpec(name="tags", size=4, max_values=3), FieldSpec(name="author", size=3))
FLAGS = TableFlags(taxonomies=("tags",), categoricals=("author",))
FITTED = fitted(FeatureSpec(window=2, horizon=1, taxonomies=("tags",), fields=FIELDS)).model_copy(
    update={
        "vocabularies": {"field_tags": ["a", "b"], "field_author": ["12"]},
        "tables": FLAGS,
    }
)
TEXT = {"tags": ["a;x", "x;b", "", "y", "x;a", None], "author": [12.0, 7, 7, None, 12, 12]}
LISTS = {"tags": [["a", "x"], ["x", "b"], [], ["y"], ["x", "a"], None], "author": TEXT["author"]}


@pytest.mark.parametrize("columns", [TEXT, LISTS])
def test_values_of_tables_are_counted(columns):
    table = Table(pa.table(columns), "items")
    tags, author = known_values.of_items(table, FITTED)
    assert tags == Seen("tags", 7, 4, ["x", "y"], ["a", "b"])
    assert author == Seen("author", 5, 2, ["7"], ["12"])
    assert (tags.mostly_unknown, author.mostly_unknown) == (True, False)
    tensors = {
        spec.tensor: items.encode_field(
            table, spec, items.ValueIds(FITTED.vocabularies[spec.tensor]), flag
        )
        for spec, flag in zip(FIELDS, ("taxonomies", "categoricals"), strict=True)
    }
    prepared = known_values.of_tensors(tensors, FITTED)
    assert [(one.filled, one.unknown) for one in prepared] == [(7, 4), (5, 2)]


def test_a_field_that_is_mostly_unknown_is_named_on_stderr(capsys):
    values = known_values.of_items(Table(pa.table(TEXT), "items"), FITTED)
    print_values(values, "items.csv")
    out, err = capsys.readouterr()
    assert out == (
        "  tags: 4 of 7 values are unknown to the model\n"
        "  author: 2 of 5 values are unknown to the model\n"
    )
    assert err == (
        "items.csv: tags: 4 of 7 values are unknown to the model, such as 'x', 'y', and are scored "
        "as unknown; values of training are 'a', 'b'. Check how the column is written\n"
    )


def test_a_field_that_training_never_saw_filled_is_no_news():
    assert not Seen("tags", 5, 5, ["a"], []).mostly_unknown
    assert not Seen("tags", 0, 0, [], ["a"]).mostly_unknown


def texts(*values):
    return np.array([value.encode() for value in values], object)


def test_requests_are_counted_one_by_one_and_warned_of_once():
    counts = ValueCounts(FITTED)
    assert counts.separators == {"item_tags": ";", "item_author": ";"}
    request = {"item_tags": texts("a;x", " b ", ""), "item_author": texts("12.0", "7", "")}
    assert counts.count(request) == ({"tags": 1, "author": 1}, [])
    ids = {"field_tags": np.array([[2, 0, 0]]), "field_author": np.array([[1]])}
    assert counts.count(ids) == ({"author": 1}, [])
    unknown = {"item_author": texts(*"x" * 100)}
    assert counts.count(unknown) == (
        {"author": 100},
        [
            "requests: author: 102 of 103 values are unknown to the model, such as '7', 'x', and "
            "are scored as unknown; values of training are '12'. Check how the column is written"
        ],
    )
    assert counts.count(unknown) == ({"author": 100}, [])


def test_a_model_without_fields_counts_nothing():
    assert ValueCounts(None).count({"user_id": np.array([1])}) == ({}, [])
