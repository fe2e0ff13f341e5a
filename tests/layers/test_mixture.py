import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from mmnet.layers.mixture import DirectWeight, MixedRate
from tests.conformance import check_layer

SMOOTHED = np.array([2.0, 5.0, 0.0], "float32")  # [batch=3], percent
DIRECT = np.array([4.0, 1.0, 8.0], "float32")
WEIGHT = np.array([0.25, 0.0, 1.0], "float32")
VECTORS = [
    np.array([[1.0, -2.0], [0.5, 3.0]], "float32"),
    np.array([[0.0, 1.0, 2.0], [1.0, 0.0, -1.0]], "float32"),
]
CLICKS = np.array([[0.0, 3.0], [0.0, 0.0]], "float32")  # [batch=2, window=2]
OWN = np.array([0.5, 0.0], "float32")


def test_mixes_by_the_weight():
    # 0.75 · 2 + 0.25 · 4, all of s, all of f: exact in float32.
    np.testing.assert_array_equal(MixedRate(0.2)(SMOOTHED, DIRECT, WEIGHT), [2.5, 5.0, 8.0])


rates = st.floats(0, 2.0**20, width=32)


@settings(max_examples=100, deadline=None)
@given(rates, rates, st.floats(0, 1, width=32))
def test_lies_between_its_parts(smoothed, direct, weight):
    found = float(
        MixedRate(0.0)(*(np.array([x], "float32") for x in (smoothed, direct, weight)))[0]
    )
    # Three roundings of float32.
    slack = 4e-7 * max(smoothed, direct)
    assert min(smoothed, direct) - slack <= found <= max(smoothed, direct) + slack


def test_training_shows_each_part_alone_as_often():
    n = 20_000
    ones = np.ones(n, "float32")
    found = np.asarray(MixedRate(0.2, seed=0)(0 * ones, ones, 0.5 * ones, training=True))
    assert set(np.unique(found)) == {0.0, 0.5, 1.0}
    # Four standard errors of a tenth of 20,000 draws.
    assert np.mean(found == 0) == pytest.approx(0.1, abs=0.0085)
    assert np.mean(found == 1) == pytest.approx(0.1, abs=0.0085)


def test_without_a_part_alone_training_mixes_too():
    found = MixedRate(0.0)(SMOOTHED, DIRECT, WEIGHT, training=True)
    np.testing.assert_array_equal(found, MixedRate(0.0)(SMOOTHED, DIRECT, WEIGHT))


def test_every_example_has_the_same_weight_at_the_start():
    np.testing.assert_allclose(DirectWeight(0.25)(VECTORS, CLICKS, OWN), [0.25, 0.25], rtol=1e-6)


def test_the_weight_reads_vectors_clicks_and_the_smoothed_part():
    layer = DirectWeight()
    layer.build([(None, 2), (None, 3)], (None, 2), (None,))
    layer.set_weights([np.array([1.0, 0, 0, 0, 2]), np.array([3.0, 4.0]), np.array(-0.5)])
    # 1 + 2 · 2 + 3 log 4 + 4 · 0.5 - 0.5 and 0.5 - 2 - 0.5.
    score = np.array([6.5 + 3 * np.log(4), -2.0])
    np.testing.assert_allclose(layer(VECTORS, CLICKS, OWN), 1 / (1 + np.exp(-score)), rtol=1e-5)


def test_arguments_are_checked():
    with pytest.raises(ValueError, match=r"`start` must be in \(0, 1\). Received: start=1"):
        DirectWeight(1)
    with pytest.raises(ValueError, match=r"`alone` must be in \[0, 1\]"):
        MixedRate(1.5)
    with pytest.raises(ValueError, match="`smoothed`, `direct`, `weight` must have one shape"):
        MixedRate(0.0)(SMOOTHED, DIRECT, WEIGHT[:, None])


def test_both_stay_float32_under_mixed_precision():
    assert DirectWeight(dtype="mixed_bfloat16").compute_dtype == "float32"
    assert MixedRate(0.0, dtype="mixed_bfloat16").compute_dtype == "float32"


def test_mixed_rate_conforms(tmp_path):
    check_layer(MixedRate(0.2, seed=0), SMOOTHED, DIRECT, WEIGHT, tmp_path=tmp_path)


def test_direct_weight_conforms(tmp_path):
    check_layer(DirectWeight(0.3), VECTORS, CLICKS, OWN, tmp_path=tmp_path)
