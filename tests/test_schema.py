import copy
import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmnet import schema
from mmnet.config import TableFlags
from mmnet.schema import FeatureSpec, FieldSpec, NumericSpec, TextSpec


def test_the_flags_name_the_contracts_columns_by_default():
    flags = TableFlags()
    named = (flags.item_column, flags.period_column, flags.denominator, flags.numerator)
    assert tuple(column.name for column in schema.COUNTS) == named


def test_the_items_table_has_a_flag_for_every_kind_of_column():
    kinds = {column.name for column in schema.ITEMS} - {"item_id"}
    flags = {
        name
        for name, field in TableFlags.model_fields.items()
        if re.search(r"\b[Ii]tems columns?\b", field.description)
    }
    assert kinds == flags


# --------------------------------------------------------------------------------- tensors


def of(*names, numerics=()):
    fields = tuple(FieldSpec(name=name, size=3) for name in names)
    numbers = tuple(NumericSpec(name=name, mean=0, sd=1) for name in numerics)
    return FeatureSpec(window=2, horizon=1, fields=fields, numerics=numbers, taxonomies=names[:1])


@pytest.mark.parametrize("name", ["category", "Video Category", "类别", "a.b"])
def test_a_tensor_has_the_name_of_its_column_where_no_other_is_like_it(name):
    plain = re.sub("[^0-9A-Za-z]", "_", name)
    assert of(name, "other").fields[0].tensor == f"field_{plain}"


def test_columns_whose_names_are_alike_have_a_suffix_of_their_own():
    spec = of("类别", "标签", "a (b)", numerics=["a (b)", "a_(b)", "length"])
    assert [one.tensor for one in (*spec.fields, *spec.numerics)] == [
        "field____0d12cbd6",
        "field____1d0fd5f9",
        "field_a__b_",  # the numbers have another tensor anyway
        "numeric_a__b__06f4d2fa",
        "numeric_a__b__7937f9b2",
        "numeric_length",
    ]
    assert of("标签", "类别").fields[1].tensor == "field____0d12cbd6"  # in any order
    assert spec.column_tensor("item", "类别") == "item____0d12cbd6"


def test_a_column_that_is_read_twice_is_one_column():
    fields, texts = (
        (FieldSpec(name="title", size=3),),
        (TextSpec(name="title", size=3, max_tokens=1),),
    )
    spec = FeatureSpec(window=2, horizon=1, fields=fields, texts=texts)
    assert (spec.fields[0].tensor, spec.texts[0].tensor) == ("field_title", "text_title")


@given(
    st.sets(st.text(st.sampled_from("ab_ 类标"), min_size=1, max_size=4), min_size=1, max_size=6)
)
def test_tensors_are_unique_and_survive_every_way_of_copying(names):
    spec = of(*names)
    tensors = list(spec.tensors())
    assert len(set(tensors)) == len(tensors)
    read = FeatureSpec.model_validate_json(spec.model_dump_json())
    for other in (read, copy.deepcopy(spec), pickle.loads(pickle.dumps(spec))):
        assert other == spec
        assert list(other.tensors()) == tensors


def test_a_spec_that_is_part_of_two_keeps_its_name_in_each():
    one, other = FieldSpec(name="a b", size=3), FieldSpec(name="a_b", size=3)
    both = FeatureSpec(window=2, horizon=1, fields=(one, other))
    alone = FeatureSpec(window=2, horizon=1, fields=(one,))
    assert alone.fields[0].tensor == "field_a_b" != both.fields[0].tensor
