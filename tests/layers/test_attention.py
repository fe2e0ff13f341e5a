import numpy as np
import pytest

from mmnet.layers.attention import HANAttention
from tests.conformance import check_layer

VECTORS = np.random.default_rng(0).normal(size=(5, 4, 3)).astype("float32")  # [batch, n, width]


def test_weights_sum_to_one_and_pool_the_vectors():
    pooled, weights = HANAttention()(VECTORS)
    np.testing.assert_allclose(np.sum(weights, axis=-1), np.ones(5), rtol=1e-6)
    np.testing.assert_allclose(pooled, np.einsum("bn,bnd->bd", weights, VECTORS), rtol=1e-5)


def test_weights_follow_the_formula():
    layer = HANAttention()
    layer.build(VECTORS.shape)
    kernel, bias, context = (np.asarray(weight) for weight in layer.weights)
    scores = np.exp(np.tanh(VECTORS @ kernel + bias) @ context)[..., 0]
    expected = scores / scores.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(layer(VECTORS)[1], expected, rtol=1e-5)


def test_an_absent_vector_has_no_weight_and_no_influence():
    layer, present = HANAttention(), np.array([[1, 0, 1, 1]] * 5)
    pooled, weights = layer(VECTORS, present)
    np.testing.assert_array_equal(np.asarray(weights)[:, 1], 0)
    np.testing.assert_allclose(np.sum(weights, axis=-1), 1, rtol=1e-6)
    changed = VECTORS.copy()
    changed[:, 1] = 9
    np.testing.assert_array_equal(layer(changed, present)[0], pooled)


def test_a_list_says_which_of_the_last_vectors_are_there():
    layer, last = HANAttention(), [np.array([1, 0, 1, 0, 1]), np.array([0, 0, 1, 1, 1])]
    whole = np.stack([np.ones(5), np.ones(5), *last], axis=-1)
    for one, other in zip(layer(VECTORS, last), layer(VECTORS, whole), strict=True):
        np.testing.assert_array_equal(one, other)


def test_where_all_are_there_nothing_is_changed():
    layer = HANAttention()
    # A score times 1, minus 0, is that score to the bit.
    for one, other in zip(layer(VECTORS), layer(VECTORS, np.ones((5, 4))), strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_vector_at_all_pools_to_zeros():
    pooled, weights = HANAttention()(VECTORS, np.zeros((5, 4)))
    np.testing.assert_array_equal(pooled, np.zeros((5, 3)))
    np.testing.assert_array_equal(weights, np.zeros((5, 4)))


def test_a_list_is_attended_like_a_stack():
    layer = HANAttention()
    listed = layer([VECTORS[:, n] for n in range(4)])[0]
    np.testing.assert_array_equal(listed, layer(VECTORS)[0])


@pytest.mark.parametrize(("softmax_axis", "sums_over"), [(-2, 2), (-3, 1)])
def test_softmax_axis_is_where_the_weights_sum_to_one(softmax_axis, sums_over):
    steps = np.random.default_rng(0).normal(size=(2, 6, 4, 3)).astype("float32")
    pooled, weights = HANAttention(softmax_axis)(steps)
    np.testing.assert_allclose(np.sum(weights, axis=sums_over), 1, rtol=1e-6)
    # The sum stays over granularities: [batch, window, width].
    np.testing.assert_allclose(pooled, np.einsum("btn,btnd->btd", weights, steps), rtol=1e-4)


def test_has_4224_parameters_at_width_64():
    layer = HANAttention()
    layer.build((None, 4, 64))
    assert layer.count_params() == 64 * 64 + 64 + 64 == 4224


def test_conforms(tmp_path):
    check_layer(HANAttention(), VECTORS, tmp_path=tmp_path)


def test_conforms_with_a_stage(tmp_path):
    present, stage = np.eye(5, 4, dtype="float32"), VECTORS[:, 0, :2]
    check_layer(
        HANAttention(), VECTORS, present, stage, tmp_path=tmp_path, golden="HANAttention_stage"
    )
