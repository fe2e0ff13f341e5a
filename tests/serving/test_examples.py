"""A serialized example says what the raw columns say, and nothing where it says nothing."""

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from mmnet.serving import examples, export, exported, golden

COLUMNS = {
    "clicks": tf.TensorSpec([None, 2], tf.int64),
    "taxonomy_rate": tf.TensorSpec([None, 2, 3], tf.float32),
    "taxonomy_missing_flag": tf.TensorSpec([None, 2, 3], tf.float32),
    "taxonomy_evidence_like": tf.TensorSpec([None, 2, 3], tf.float32),
    "item_tags": tf.TensorSpec([None], tf.string),
    "number_duration": tf.TensorSpec([None], tf.float32),
}


def read(*serialized):
    found = examples.parse(tf.constant(list(serialized)), COLUMNS)
    return {name: tensor.numpy() for name, tensor in found.items()}


def test_an_empty_example_is_an_item_of_which_nothing_is_known():
    found = read(b"")
    np.testing.assert_array_equal(found["clicks"], [[0, 0]])
    np.testing.assert_array_equal(found["taxonomy_rate"], np.zeros((1, 2, 3)))
    np.testing.assert_array_equal(found["taxonomy_missing_flag"], np.ones((1, 2, 3)))
    np.testing.assert_array_equal(found["taxonomy_evidence_like"], -np.ones((1, 2, 3)))
    np.testing.assert_array_equal(found["item_tags"], [b""])
    np.testing.assert_array_equal(found["number_duration"], [np.nan])


def test_several_values_may_stand_in_one_feature():
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"a", b"b; c"]))
    example = tf.train.Example(features=tf.train.Features(feature={"item_tags": feature}))
    assert read(example.SerializeToString())["item_tags"] == [b"a;b; c"]


@pytest.mark.parametrize(
    "feature",
    [
        tf.train.Feature(int64_list=tf.train.Int64List(value=[1])),  # one period of two
        tf.train.Feature(float_list=tf.train.FloatList(value=[1.0, 2.0])),
    ],
)
def test_a_wrong_length_or_type_is_named(feature):
    example = tf.train.Example(features=tf.train.Features(feature={"clicks": feature}))
    with pytest.raises(tf.errors.InvalidArgumentError, match="clicks"):
        read(example.SerializeToString())
    with pytest.raises(ValueError, match=r"examples\[1\]: clicks must "):
        examples.read([b"", example.SerializeToString()], COLUMNS)


def test_what_is_checked_outside_the_graph_is_what_the_graph_reads():
    columns = {
        "clicks": np.array([[1, 2]]),
        "taxonomy_rate": np.arange(6.0, dtype="float32").reshape(1, 2, 3),
        "item_tags": np.array(["a;b"], object),
    }
    (whole,) = examples.serialize(columns)
    found, seen = read(b"", whole), examples.read([b"", whole], COLUMNS)
    assert set(seen) == set(COLUMNS)
    for name, array in seen.items():
        np.testing.assert_array_equal(array, found[name])
    with pytest.raises(ValueError, match=r"examples\[0\] is not a serialized tf.train.Example"):
        examples.read([whole[:-1]], COLUMNS)


@hypothesis.given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 2**40), min_size=2, max_size=2),
            st.lists(st.floats(0, 100, width=32), min_size=6, max_size=6),
            st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
            st.floats(width=32),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_what_is_serialized_is_read(rows):
    clicks, rates, texts, numbers = (list(values) for values in zip(*rows, strict=True))
    columns = {
        "clicks": np.array(clicks, np.int64),
        "taxonomy_rate": np.array(rates, np.float32).reshape(-1, 2, 3),
        "item_tags": np.array(texts, object),
        "number_duration": np.array(numbers, np.float32),
    }
    found = read(*examples.serialize(columns))
    for name in ("clicks", "taxonomy_rate", "number_duration"):
        np.testing.assert_array_equal(found[name], columns[name])
    assert [text.decode() for text in found["item_tags"]] == texts


def test_examples_score_as_the_raw_columns_do(run_dir):
    loaded, _ = export.load(run_dir / "export")
    batches = golden.read(run_dir / "export" / "1" / golden.FILE)
    columns = next(
        b for b in batches if b.signature == "raw_columns" and len(b.inputs["clicks"]) > 1
    )
    raw = {name: tf.constant(array) for name, array in columns.inputs.items()}
    wanted = loaded.signatures["raw_columns"](**raw)[exported.OUTPUT]
    serialized = examples.serialize(columns.inputs)
    found = loaded.signatures["examples"](examples=tf.constant(serialized))[exported.OUTPUT]
    # The same graph on the same values.
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)
    assert len(set(found.numpy().tolist())) > 10
