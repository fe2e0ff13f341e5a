import json
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmnet.checks import InputError
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import items
from mmnet.data.ids import ItemIds
from mmnet.data.items import HUGEST
from mmnet.data.tables import Table
from mmnet.schema import VectorSpec

ALL = np.ones(4, bool)


def table(**columns):
    return Table(pa.table(columns), "items")


def sentence(function, *arguments):
    with pytest.raises(InputError) as caught:
        function(*arguments)
    return str(caught.value)


# ---------------------------------------------------------------------------------- fields


def test_a_vocabulary_is_fitted_on_training_items_most_frequent_first():
    tags = table(tags=["b;a", "b", "a;c", "z;y;x;w"])
    fitted_on = np.array([True, True, True, False])
    (spec,), vocabularies = items.fit_fields(tags, fitted_on, TableFlags(taxonomies=("tags",)))
    # a and b twice each, by letter; c once. z and its like only stand in the last item.
    assert vocabularies == {"tags": ["a", "b", "c"]}
    assert (spec.size, spec.max_values) == (5, 2)


def test_a_field_knows_padding_unknown_and_its_values():
    tags = table(tags=["b;a", "", "new", "c;new;a"])
    (spec,), found = items.fit_fields(
        table(tags=["a;b", "a", "c"]), ALL[:3], TableFlags(taxonomies=("tags",))
    )
    encoded = items.encode_field(tags, spec, items.ValueIds(found[spec.name]), "taxonomies")
    # a 2, b 3, c 4; a third value does not fit the two that training had.
    np.testing.assert_array_equal(encoded, [[3, 2], [0, 0], [1, 0], [4, 1]])
    assert encoded.dtype == np.int32


def test_a_field_without_values_in_training_still_has_a_place():
    specs, found = items.fit_fields(
        table(author=["x"]), ~ALL[:1], TableFlags(categoricals=("author",))
    )
    encoded = items.encode_field(
        table(author=["x"]), specs[0], items.ValueIds(found["author"]), "categoricals"
    )
    assert (specs[0].size, specs[0].max_values, encoded.tolist()) == (2, 1, [[1]])


def test_a_long_list_is_cut():
    tags = table(tags=[[f"tag {i:02}" for i in range(40)]])
    (spec,), found = items.fit_fields(tags, ALL[:1], TableFlags(taxonomies=("tags",)))
    assert spec.max_values == items.MAX_VALUES
    encoded = items.encode_field(tags, spec, items.ValueIds(found[spec.name]), "taxonomies")
    np.testing.assert_array_equal(encoded, [np.arange(2, 18)])


# -------------------------------------------------------------------------------- numerics


def fit_numeric(values, fitted_on=ALL):
    return items.fit_numerics(table(length=values), fitted_on, TableFlags(numerics=("length",)))[0]


def test_a_numeric_is_standardised_on_training_items_and_zero_where_empty():
    values = [1.0, 3.0, float("nan"), 1000.0]
    spec = fit_numeric(values, np.array([True, True, True, False]))
    assert (spec.mean, spec.sd) == (2.0, 1.0)
    encoded = items.encode_numeric(table(length=values), spec)
    np.testing.assert_array_equal(encoded, [-1, 1, 0, 998])
    assert encoded.dtype == np.float32


def test_a_numeric_may_be_written_as_text_or_be_empty():
    spec = fit_numeric(["1", "", "3", None])
    assert (spec.mean, spec.sd) == (2.0, 1.0)
    empty = fit_numeric([None, None, None, None])
    assert (empty.mean, empty.sd) == (0.0, 1.0)


def test_a_constant_is_not_divided_by_its_rounding():
    # np.full(3, 0.1).std() is 1.4e-17, and would blow 0.2 up to 7e15.
    spec = fit_numeric([0.1, 0.1, 0.1, 0.1])
    assert spec.sd == 1.0
    assert items.encode_numeric(table(length=[0.2]), spec)[0] == pytest.approx(0.1)


def test_infinity_is_as_good_as_empty():
    spec = fit_numeric([1.0, 3.0, float("inf"), None])
    assert items.encode_numeric(table(length=[float("inf")]), spec).tolist() == [0]


def test_a_standardised_number_is_bounded_and_a_huge_one_is_not_an_empty_one():
    spec = fit_numeric([1.0, 3.0, None, None])
    values = [1e300, -1e300, 1.7e308, 1e30, 10_001.5, 10_002.1]
    encoded = items.encode_numeric(table(length=values), spec)
    np.testing.assert_array_equal(encoded, [1e4, -1e4, 1e4, 1e4, 9_999.5, 1e4])


@pytest.mark.parametrize(
    ("values", "mean", "sd"),
    [
        ([-1.5e308, 1.5e308], 0, 1.5e308),  # whose squares, and whose difference, are infinite
        ([1e200, 1e200, 1e200, 5e200], 2e200, 3**0.5 * 1e200),
        ([1e-200, 3e-200], 2e-200, 1e-200),  # whose squares are 0
        ([0.0, 5e-324], 0, 1),  # too near to each other for a division
        ([1.7e308] * 4, 1.7e308, 1),
    ],
)
def test_statistics_of_extreme_numbers_are_finite(values, mean, sd):
    # Two roundings of float64.
    assert items.mean_and_sd(np.array(values)) == pytest.approx((mean, sd), rel=4e-16)


def test_statistics_do_not_depend_on_the_order():
    values = np.random.default_rng(0).lognormal(0, 5, 1000)
    ordered = np.sort(values)
    expected = (ordered.mean(), ordered.std())
    assert items.mean_and_sd(values[::-1].copy()) == items.mean_and_sd(values) == expected


@given(
    st.lists(
        st.sampled_from([HUGEST, -HUGEST, 1e308, np.nextafter(HUGEST, 0), 1.0, 5e-324, 0.0]),
        min_size=1,
        max_size=40,
    )
)
def test_statistics_of_the_largest_numbers_are_finite(values):
    mean, sd = items.mean_and_sd(np.array(values))
    assert np.isfinite([mean, sd]).all()
    exact = sum(map(Fraction, values), Fraction(0)) / len(values)
    assert abs(Fraction(mean) - exact) <= Fraction(HUGEST) / 2**50  # 40 sums of 53 bits each
    assert sd > 0


# ----------------------------------------------------------------------------------- texts


def fit_texts(**columns):
    flags = TableFlags(texts=tuple(columns))
    return items.fit_texts(table(**columns), ALL, flags, TaskFlags(text_tokens=3))


def encode_text(spec, words, titles):
    lookup = items.token_lookup(words, spec.max_tokens, hashed=False)
    return items.encode_text(table(title=titles), spec, lookup)


def test_a_text_is_read_as_token_ids():
    titles = ["cats and dogs", "cats, cats!", None, "dogs"]
    (spec,), found = fit_texts(title=titles)
    assert found == {"title": ["cats", "dogs"]}
    encoded = encode_text(spec, found["title"], titles)
    np.testing.assert_array_equal(encoded, [[2, 1, 3], [2, 2, 0], [0, 0, 0], [3, 0, 0]])


def test_texts_without_a_common_word_are_all_unknown():
    (spec,), found = fit_texts(title=["one", "two", "", None])
    encoded = encode_text(spec, found["title"], ["one", ""])
    np.testing.assert_array_equal(encoded, [[1, 0, 0], [0, 0, 0]])


def test_no_text_encoder_reads_no_text():
    flags, task = TableFlags(texts=("title",), text_encoder="none"), TaskFlags()
    assert items.fit_texts(table(title=["a a"]), ALL[:1], flags, task) == ([], {})


@pytest.mark.parametrize(
    ("values", "kind"), [([1, 2, 3, 4], "int64"), (["1", "2.5", "", "4"], "number")]
)
def test_a_text_column_of_numbers_is_refused(values, kind):
    with pytest.raises(InputError) as caught:
        fit_texts(title=values)
    assert str(caught.value) == (
        f"items table: column 'title' named by --texts has {kind} values, not text; "
        "name it in --numerics or --categoricals instead"
    )


def test_the_texts_that_are_held_at_a_time_change_nothing(monkeypatch):
    titles = ["1984", "", "cats and dogs", "cats"]
    whole = fit_texts(title=titles)
    assert whole[1] == {"title": ["cats"]}
    monkeypatch.setattr(items, "PIECE_ROWS", 2)
    assert fit_texts(title=titles) == whole
    with pytest.raises(InputError, match="'title' named by --texts has number values"):
        fit_texts(title=["", "", "1", "2"])


def test_one_title_that_is_a_number_is_a_title():
    (spec,), found = fit_texts(title=["1984", "1984 again", "", ""])
    assert encode_text(spec, found["title"], ["1984"]).tolist() == [[2, 0, 0]]


# --------------------------------------------------------------------------------- vectors

IDS = ItemIds(pa.chunked_array([["a", "b", "c"]]))


def vectors(ids, values, kind=None):
    return Table(pa.table({"item_id": ids, "cover": pa.array(values, kind)}), "vectors")


def encode(found):
    return items.encode_vectors(found, items.fit_vector("cover", found), IDS, TableFlags())


@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.list_(pa.float32(), 2)])
def test_vectors_are_lined_up_and_zero_where_missing(kind):
    found = vectors(["c", "x", "a", "b"], [[5, 6], [9, 9], [1, 2], None], kind)
    np.testing.assert_array_equal(encode(found), [[1, 2], [0, 0], [5, 6]])
    assert encode(found).dtype == np.float32
    assert items.fit_vector("cover", found) == VectorSpec(name="cover", dim=2)


@pytest.mark.parametrize(
    ("ids", "values", "said"),
    [
        (
            ["a", "b", "c"],
            [[1.0, 2.0], [3.0], None],
            "vectors table row 2, column cover: this vector has 1 numbers, but "
            "--vectors=cover needs 2",
        ),
        (
            ["a", "b"],
            [None, [1.0, float("nan")]],
            "vectors table row 2, column cover: a vector must have finite numbers",
        ),
        (
            ["a", "b"],
            [[1.0, None], [1.0, 2.0]],
            "vectors table row 1, column cover: a vector must have finite numbers",
        ),
        (
            ["a"],
            [[1.0, 1e39]],
            "vectors table row 1, column cover: a vector must have finite numbers, none beyond "
            "3.4e38 (float32)",
        ),
        (
            ["a", "a"],
            [[1.0], [2.0]],
            "vectors table row 2, column item_id: item 'a' has another vector in an earlier row, "
            "and --vectors=cover must have one row per item; keep the right one",
        ),
        (
            ["a", "b", "a"],
            [[1.0], None, [1.0]],
            "vectors table row 3, column item_id: duplicate of an earlier row of item 'a' with "
            "the same vector (--vectors=cover); remove it, or set --repeats=drop",
        ),
        (
            ["a"],
            [["x"]],
            "vectors table: column 'cover' must have lists of numbers. "
            "Received: list<item: string>",
        ),
        (["a"], [[]], "vectors table: --vectors=cover contains no vectors"),
        (
            ["a", "b"],
            ["1 2", "1,5 2,5"],
            "vectors table row 2, column cover: a vector in text must be numbers separated "
            "by spaces, or a list such as [0.1, 2]. Received: '1,5 2,5'",
        ),
        (
            ["a"],
            [7],
            "vectors table: --vectors=cover needs exactly one list-of-floats column, or a column "
            "named cover, which may be text: numbers separated by spaces. Received: none among "
            "item_id, cover",
        ),
    ],
)
def test_vectors_that_do_not_fit_are_refused(ids, values, said):
    kind = pa.list_(pa.float32()) if values == [[]] else None
    assert sentence(encode, vectors(ids, values, kind)) == said


@pytest.mark.parametrize("write", [str, json.dumps, lambda one: " ".join(map(str, one)), np.array])
def test_vectors_may_be_text(write):
    numbers = [[0.5, -1e-3], [2.0, 3.25]]
    found = vectors(["c", "a", "b"], [*(str(write(one)) for one in numbers), ""])
    np.testing.assert_array_equal(encode(found), np.float32([numbers[1], [0, 0], numbers[0]]))


def test_vectors_of_another_length_than_the_models_are_refused():
    found = vectors(["a"], [[1.0, 2.0]])
    wrong = sentence(
        items.encode_vectors, found, VectorSpec(name="cover", dim=3), IDS, TableFlags()
    )
    assert wrong == (
        "vectors table row 1, column cover: this vector has 2 numbers, but --vectors=cover needs 3"
    )


@pytest.mark.parametrize("kind", [pa.list_(pa.string()), pa.large_list(pa.large_string())])
def test_words_of_a_text_may_be_a_list(kind):
    words = pa.array([["one", "song"], [], None, ["two", None, "goals"]], kind)
    table = Table(pa.table({"title": words}), "items")
    assert items.texts_of(table, "title").tolist() == ["one song", "", "", "two goals"]
