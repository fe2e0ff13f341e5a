import numpy as np
import pytest
import tensorflow as tf

from mmnet.layers.presence import AbsentVectors, Presence
from tests.conformance import check_layer

IDS = np.array([[0, 0], [0, 1], [3, 0], [0, 0]], "int32")  # [batch=4, values=2]
NUMBER = np.array([0.0, 0.0, -1.5, 2.0], "float32")
VECTOR = np.array([[0, 0, 0], [0, -1e-30, 0], [1, 2, 3], [0, 0, 0]], "float32")


def test_a_modality_is_absent_where_all_its_tensors_are_zero():
    meta, text, cover = Presence()([[IDS, NUMBER], [IDS], [VECTOR]])
    np.testing.assert_array_equal(meta, [0, 1, 1, 1])  # the last one by its number alone
    np.testing.assert_array_equal(text, [0, 1, 1, 0])  # an unknown word is a word
    np.testing.assert_array_equal(cover, [0, 1, 1, 0])


def test_texts_together_are_there_where_any_of_them_is():
    flags = [np.array([0, 0, 1, 1], "float32"), np.array([0, 1, 0, 1], "float32")]
    np.testing.assert_array_equal(Presence()([flags])[0], [0, 1, 1, 1])


def test_what_is_close_to_zero_is_there_in_half_precision_too():
    layer = Presence(dtype="mixed_bfloat16")
    np.testing.assert_array_equal(tf.cast(layer([[VECTOR]])[0], "float32"), [0, 1, 1, 0])


ABSENT = [[0.0, 1.0, 0.0], [1.0, 1.0, 0.0]]  # two modalities, three examples
PRESENT = [1 - np.array(flags, "float32") for flags in ABSENT]


def test_the_vector_of_each_absent_modality_is_added():
    layer, vector = AbsentVectors(), np.ones((3, 2), "float32")
    layer.build(vector.shape, [flag.shape for flag in PRESENT])
    layer.set_weights([np.array([[10, 20], [3, 4]], "float32")])
    np.testing.assert_array_equal(layer(vector, PRESENT), [[4, 5], [14, 25], [1, 1]])


def test_at_the_start_absence_means_nothing():
    vector = np.random.default_rng(0).normal(size=(3, 2)).astype("float32")
    np.testing.assert_array_equal(AbsentVectors()(vector, PRESENT), vector)


@pytest.mark.parametrize("modality", [0, 1])
def test_the_vector_learns_from_those_examples_only_that_lack_the_modality(modality):
    layer, vector = AbsentVectors(), np.ones((3, 2), "float32")
    layer.build(vector.shape, [flag.shape for flag in PRESENT])
    pull = tf.constant([[1.0], [2.0], [4.0]])  # of each example on both entries
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(pull * layer(vector, PRESENT))
    gradient = tf.convert_to_tensor(tape.gradient(loss, layer.vectors.value))
    expected = np.dot(ABSENT[modality], [1, 2, 4])
    np.testing.assert_array_equal(gradient[modality], [expected, expected])


def test_presence_conforms(tmp_path):
    check_layer(Presence(), [[IDS, NUMBER], [IDS], [VECTOR]], tmp_path=tmp_path)


def test_absent_vectors_conform(tmp_path):
    check_layer(AbsentVectors(), np.ones((3, 2), "float32"), PRESENT, tmp_path=tmp_path)
