from math import comb

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import gammaln
from scipy.stats import binom, poisson

from mmnet.checks import InputError
from mmnet.training.losses import (
    BinomialCrossEntropy,
    PoissonLoss,
    ScaledMeanSquaredError,
    check_loss,
    loss_weighting,
)


def test_loss_is_mse_in_units_of_the_scale():
    loss = ScaledMeanSquaredError(2.0)
    # Errors 2 and 4 percent: (4 + 16) / 2 / 2².
    assert float(loss(np.array([1.0, 1.0]), np.array([3.0, 5.0]))) == 2.5


def test_loss_refuses_to_broadcast():
    with pytest.raises(ValueError, match="must have one shape"):
        ScaledMeanSquaredError(2.0)(np.ones(3), np.ones((3, 1)))


def test_loss_serialises():
    config = keras.losses.serialize(ScaledMeanSquaredError(2.0))
    assert keras.losses.deserialize(config).scale == 2.0


def test_a_scale_of_zero_is_refused():
    with pytest.raises(ValueError, match="`scale` must be positive"):
        ScaledMeanSquaredError(0.0)


def test_binomial_loss_is_the_cross_entropy_per_click():
    target, predicted = np.array([0.0, 25.0, 100.0]), np.array([50.0, 75.0, 50.0])
    # −log ½;  −¼ log ¾ − ¾ log ¼;  −log ½. The squeeze into (0, 1) moves them by about 10⁻⁶.
    expected = [np.log(2), 0.25 * np.log(4 / 3) + 0.75 * np.log(4), np.log(2)]
    np.testing.assert_allclose(BinomialCrossEntropy().call(target, predicted), expected, rtol=1e-5)


def test_binomial_loss_times_clicks_is_the_likelihood_of_the_shares():
    shares, clicks, rate = 3, 20, np.array([30.0])
    loss = float(BinomialCrossEntropy().call(np.array([100 * shares / clicks]), rate)[0])
    assert clicks * loss == pytest.approx(
        -binom.logpmf(shares, clicks, 0.3) + np.log(comb(clicks, shares)), rel=1e-5
    )  # as above


def test_poisson_loss_times_clicks_is_the_likelihood_of_the_shares():
    shares, clicks, rate = 30, 20, np.array([120.0])
    loss = float(PoissonLoss().call(np.array([100 * shares / clicks]), rate)[0])
    constant = gammaln(shares + 1) - shares * np.log(clicks)
    # 10⁻⁶ is added to the expectation of 1.2.
    expected = -poisson.logpmf(shares, clicks * 1.2) - constant
    assert clicks * loss == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("loss", [BinomialCrossEntropy(), PoissonLoss()])
def test_a_certainty_that_is_wrong_costs_a_finite_price(loss):
    target = tf.constant([0.0, 100.0, 0.0, 100.0])
    predicted = tf.Variable([0.0, 100.0, 100.0, 0.0])
    with tf.GradientTape() as tape:
        cost = loss(target, predicted)
    gradient = tape.gradient(cost, predicted).numpy()
    assert np.isfinite(cost)
    assert np.isfinite(gradient).all()
    assert gradient[2] > 0 > gradient[3]  # away from what is wrong


@pytest.mark.parametrize("loss", [BinomialCrossEntropy(), PoissonLoss()])
def test_likelihoods_are_lowest_at_the_target(loss):
    rates = np.arange(1.0, 100)
    costs = [float(loss(np.array([30.0]), np.array([rate]))) for rate in rates]
    assert rates[np.argmin(costs)] == 30
    assert type(keras.losses.deserialize(keras.losses.serialize(loss))) is type(loss)
    with pytest.raises(ValueError, match="must have one shape"):
        loss(np.ones(3), np.ones((3, 1)))


def test_a_loss_needs_the_link_that_keeps_rates_in_its_range(tiny):
    for loss, link in (("binomial", "logit"), ("poisson", "log")):
        check_loss(loss, tiny.headed(link=link))
        for unfit in (tiny.model(), tiny.headed()):
            with pytest.raises(InputError, match=f"--loss={loss} needs --set=link={link}"):
                check_loss(loss, unfit)
    check_loss("mse", tiny.model())


def test_rates_that_may_exceed_one_have_no_binomial_loss(tiny):
    with pytest.raises(
        InputError, match="here they may exceed it; use --loss=poisson --set=link=log"
    ):
        check_loss("binomial", tiny.headed(max_rate=None))


def test_likelihoods_weigh_a_target_by_its_clicks():
    weightings = {loss: loss_weighting(loss) for loss in ("mse", "binomial", "poisson")}
    assert weightings == {"mse": "equal", "binomial": "clicks", "poisson": "clicks"}
