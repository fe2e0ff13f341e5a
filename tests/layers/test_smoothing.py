"""The layers of the exported smoothed history; that they agree with it is shown there."""

import keras
import numpy as np
import pytest

from mmnet.layers.smoothing import AsOfCentre, PosteriorMean, ValuePriors
from tests.conformance import check_layer

CATEGORY = np.array([[2], [3], [1]], "int32")  # [batch=3, values=1]; the last is unknown
TAGS = np.array([[2, 0], [4, 3], [0, 0]], "int32")  # [batch=3, values=2], 0 = padding
ALL = [0.3, 10]  # mu and kappa
CATEGORIES = [ALL, ALL, [0.1, 40], [0.2, 30]]
TAG_PRIORS = [ALL, ALL, [0.4, 20], [0.5, 60], [0.8, 30]]

MU, KAPPA = np.array([0.5, 0.5], "float32"), np.array([30, 30], "float32")
# Two taxonomies over three steps, [batch=2, window=3, taxonomies=2].
TAXONOMY_RATE = np.array([[[10, 9], [40, 9], [9, 60]], [[9, 9]] * 3], "float32")
TAXONOMY_FLAG = np.array([[[0, 1], [0, 1], [1, 0]], [[1, 1]] * 3], "float32")

RATE = np.array([[10, 9, 40], [9, 9, 9]], "float32")  # [batch=2, window=3], percent
FLAG = np.array([[0, 1, 0], [1, 1, 1]], "float32")
CLICKS = np.array([[20, 7, 10], [7, 7, 7]], "float32")


def value_priors():
    layer = ValuePriors([4, 5])
    layer.build([(None, 1), (None, 2)])
    layer.set_weights([np.array(part) for part in (ALL, CATEGORIES, TAG_PRIORS)])
    return layer


def centre(own_share):
    layer = AsOfCentre()
    layer.build((None,), (None,), *[(None, 3, 2)] * 2)
    halving, weights = np.array([1, 0.5, 0.25]), np.array([0.75, 0.25])
    layer.set_weights([halving, weights, np.array(20.0), np.array(own_share)])
    return layer


def posterior(kappa_scale=1.0, **options):
    layer = PosteriorMean(**options)
    layer.build((None,), (None,), *[(None, 3)] * 3)
    layer.set_weights([np.array([0.25, 0.5, 1]), np.array(kappa_scale)])
    return layer


def test_a_prior_is_the_mean_of_the_pseudo_counts_of_the_known_values():
    # 4 of 40 and 8 of 20; 6 of 30, 24 of 30 and 30 of 60; nothing known.
    mu, kappa = value_priors()([CATEGORY, TAGS])
    np.testing.assert_allclose(mu, [0.2, 0.5, 0.3], rtol=1e-6)  # float32
    np.testing.assert_allclose(kappa, [30, 40, 10], rtol=1e-6)


@pytest.mark.parametrize("identifier", [-(2**31), -1, 5, 2**31 - 1])
def test_an_id_outside_the_vocabulary_is_not_read(identifier):
    odd = np.where(TAGS == 0, np.int32(identifier), TAGS)
    np.testing.assert_array_equal(value_priors()([CATEGORY, odd]), value_priors()([CATEGORY, TAGS]))


def test_the_centre_is_the_mean_of_the_taxonomies_that_were_seen():
    # Of the first taxonomy the second step is the last one seen: (½ · 10 + 40) / 1.5 = 30 percent;
    # of the second 60. ¾ · 30 + ¼ · 60 = 37.5; nothing is seen of the second item.
    mu, kappa = centre(0.0)(MU, KAPPA, TAXONOMY_RATE, TAXONOMY_FLAG)
    np.testing.assert_allclose(mu, [0.375, 0.5], rtol=1e-6)
    np.testing.assert_allclose(kappa, [20, 30], rtol=1e-6)
    # A quarter of 0.5 worth 30 beside it.
    mu, kappa = centre(0.25)(MU, KAPPA, TAXONOMY_RATE, TAXONOMY_FLAG)
    np.testing.assert_allclose(mu, [0.75 * 0.375 + 0.25 * 0.5, 0.5], rtol=1e-6)
    np.testing.assert_allclose(kappa, [22.5, 30], rtol=1e-6)


def test_a_taxonomy_that_was_not_seen_leaves_its_weight_to_the_others():
    flag = TAXONOMY_FLAG.copy()
    flag[0, :, 1] = 1
    mu, _ = centre(0.0)(MU, KAPPA, TAXONOMY_RATE, flag)
    np.testing.assert_allclose(mu, [0.3, 0.5], rtol=1e-6)


def test_nothing_under_a_flag_is_read():
    rate = TAXONOMY_RATE + 50 * TAXONOMY_FLAG
    np.testing.assert_array_equal(
        centre(0.25)(MU, KAPPA, rate, TAXONOMY_FLAG),
        centre(0.25)(MU, KAPPA, TAXONOMY_RATE, TAXONOMY_FLAG),
    )
    more = (RATE + 50 * FLAG, FLAG, CLICKS + 50 * FLAG)
    np.testing.assert_array_equal(
        posterior()(MU, KAPPA, *more), posterior()(MU, KAPPA, RATE, FLAG, CLICKS)
    )


def test_the_window_corrects_the_prior_by_its_clicks():
    # 15 of 30 from the prior, ¼ of 2 of 20 and 4 of 10; and a window that says nothing.
    found = posterior()(MU, KAPPA, RATE, FLAG, CLICKS)
    np.testing.assert_allclose(found, [100 * 19.5 / 45, 50], rtol=1e-6)
    # 5 of 10 from the prior.
    found = posterior(1 / 3)(MU, KAPPA, RATE, FLAG, CLICKS)
    np.testing.assert_allclose(found, [100 * 9.5 / 25, 50], rtol=1e-6)


def test_rates_are_clipped_only_where_they_have_a_limit():
    above = np.array([1.5, 1.5], "float32")
    hidden = RATE, np.ones_like(FLAG), CLICKS
    np.testing.assert_array_equal(posterior()(above, KAPPA, *hidden), [100, 100])
    found = posterior(max_rate=None)(above, KAPPA, *hidden)
    np.testing.assert_allclose(found, [150, 150], rtol=1e-6)


def test_extreme_priors_have_a_finite_posterior():
    mu, kappa = np.float32([0, 1e30, 1e30, -1e30]), np.float32([0, 0, 1e30, -1e30])
    sequences = [np.full((4, 3), value, "float32") for value in (2.0**38, 0, 2.0**63)]
    assert np.all(np.isfinite(posterior(max_rate=None)(mu, kappa, *sequences)))
    sequences[1] += 1
    assert np.all(np.isfinite(posterior(max_rate=None)(mu, kappa, *sequences)))


def test_all_compute_in_float32_under_any_policy():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        layers = value_priors(), centre(0.25), posterior()
    finally:
        keras.config.set_dtype_policy(policy)
    assert {layer.compute_dtype for layer in layers} == {"float32"}


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [
        (value_priors, ([CATEGORY, TAGS],)),
        (lambda: centre(0.25), (MU, KAPPA, TAXONOMY_RATE, TAXONOMY_FLAG)),
        (posterior, (MU, KAPPA, RATE, FLAG, CLICKS)),
    ],
    ids=["ValuePriors", "AsOfCentre", "PosteriorMean"],
)
def test_conforms(layer, inputs, tmp_path):
    check_layer(layer(), *inputs, tmp_path=tmp_path)


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="`taxonomies` must be at least 1"):
        ValuePriors([])
    with pytest.raises(ValueError, match="`missing_flag`"):
        posterior()(MU, KAPPA, RATE, FLAG[:, :2], CLICKS)
    with pytest.raises(ValueError, match="`taxonomy_missing_flag`"):
        centre(0.0)(MU, KAPPA, TAXONOMY_RATE, TAXONOMY_FLAG[:, :2])
