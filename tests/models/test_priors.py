import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import optimize, stats

from mmnet.models import priors
from mmnet.models.priors import (
    BETA_BINOMIAL,
    CENTRE_DECAYS,
    GAMMA_POISSON,
    Centre,
    as_of_means,
    fit_centres,
    fit_prior,
    fit_priors,
)


def beta_binomial(draw, mu, kappa, clicks):
    return draw.binomial(clicks, draw.beta(mu * kappa, (1 - mu) * kappa, clicks.shape))


@pytest.mark.parametrize(
    ("family", "log_likelihood"),
    [
        (BETA_BINOMIAL, lambda k, n, mu, c: stats.betabinom.logpmf(k, n, c * mu, c * (1 - mu))),
        (GAMMA_POISSON, lambda k, n, mu, c: stats.nbinom.logpmf(k, c * mu, c / (c + n))),
    ],
)
def test_maximises_the_likelihood_as_scipy_has_it(family, log_likelihood):
    draw = np.random.default_rng(0)
    clicks = draw.integers(5, 200, 500)
    shares = beta_binomial(draw, 0.1, 20.0, clicks)
    found = optimize.minimize(
        lambda x: -log_likelihood(shares, clicks, np.exp(x[0]), np.exp(x[1])).sum(),
        np.log([0.2, 5.0]),
        method="Nelder-Mead",
        options={"xatol": 1e-6, "fatol": 1e-9},
    )
    # Newton stops after a step below 1e-3, which leaves about its square of the log.
    np.testing.assert_allclose(fit_prior(family, shares, clicks), np.exp(found.x), rtol=1e-4)


def test_recovers_a_planted_prior():
    draw = np.random.default_rng(0)
    found = []
    for _ in range(16):
        clicks = draw.integers(5, 200, 2000)
        found.append(fit_prior(BETA_BINOMIAL, beta_binomial(draw, 0.1, 20.0, clicks), clicks))
    # The mean of 16 independent fits is within three standard errors, from their own spread.
    error = 3 * np.std(found, axis=0, ddof=1) / 4
    assert np.all(np.abs(np.mean(found, axis=0) - [0.1, 20.0]) < error)
    assert error[0] < 0.002
    assert error[1] < 1


def test_without_overdispersion_kappa_stays_finite():
    clicks = np.full(1000, 50)
    shares = np.random.default_rng(0).binomial(clicks, 0.1)
    mu, kappa = fit_prior(BETA_BINOMIAL, shares, clicks)
    # The mean of 50,000 draws, within three standard errors; and no sign of a spread.
    assert mu == pytest.approx(0.1, abs=3 * np.sqrt(0.09 / 50_000))
    assert 500 < kappa <= 1e5 * (1 + 1e-9)


def test_without_a_single_share_the_prior_is_near_zero():
    mu, kappa = fit_prior(BETA_BINOMIAL, np.zeros(100), np.full(100, 20))
    assert 0 < mu < 1 / 2000  # fewer than one share in all clicks
    assert np.isfinite(kappa)


def planted(examples, means, seed=0):
    draw = np.random.default_rng(seed)
    values = np.repeat(np.arange(len(means)), examples)
    clicks = draw.integers(20, 100, len(values))
    return beta_binomial(draw, np.asarray(means)[values], 30.0, clicks), clicks, values


def test_a_rare_value_shrinks_to_the_prior_of_all_and_a_frequent_one_does_not():
    # 60 frequent values show how far values differ; two rare ones have two examples each, of
    # exactly the same rates, 10 and 30 percent; the last has none.
    means = np.tile([0.1, 0.3], 30)
    shares, clicks, values = planted([100] * 60, means)
    shares, clicks = np.append(shares, [5, 5, 15, 15]), np.append(clicks, [50] * 4)
    values = np.append(values, [60, 60, 61, 61])
    base = fit_prior(BETA_BINOMIAL, shares, clicks)
    found = fit_priors(BETA_BINOMIAL, shares, clicks, values, 63, base)
    # sd of a frequent mean of rates: sqrt(.3 · .7 · (1 / 31 + 1 / 50) / 100) = 0.01; four of them.
    np.testing.assert_allclose(found[:60, 0], means, atol=0.04)
    assert 0.105 < found[60, 0] < base[0] < found[61, 0] < 0.295
    np.testing.assert_allclose(found[62], base, rtol=1e-12)


def test_values_that_differ_by_chance_only_all_get_the_prior_of_all():
    shares, clicks, values = planted([10] * 100, [0.2] * 100)
    base = fit_prior(BETA_BINOMIAL, shares, clicks)
    found = fit_priors(BETA_BINOMIAL, shares, clicks, values, 100, base)
    raw = np.bincount(values, shares) / np.bincount(values, clicks)
    assert np.std(found[:, 0]) < np.std(raw) / 3  # at least nine tenths of the variance is gone


# ----------------------------------------------------------------------------------- centre

LIKELIHOODS = {
    "beta": (BETA_BINOMIAL, lambda k, n, m, c: stats.betabinom.logpmf(k, n, c * m, c * (1 - m))),
    "gamma": (GAMMA_POISSON, lambda k, n, m, c: stats.nbinom.logpmf(k, c * m, c / (c + n))),
}


def naive_mean(rates, flags, decay):
    """The mean of one taxonomy of one item, step by step from the last one on; None: not seen."""
    above = below = 0.0
    weight = None
    for rate, flag in zip(rates[::-1], flags[::-1], strict=True):
        weight = None if weight is None else weight * decay
        if flag < 1:
            weight = 1.0 if weight is None else weight
            above, below = above + weight * rate, below + weight
    return above / below / 100 if below else None


@given(
    rates=arrays("float32", (2, 4, 2), elements=st.floats(0, 100, width=32)),
    flags=arrays("float32", (2, 4, 2), elements=st.sampled_from([0.0, 1.0])),
    decay=st.sampled_from(CENTRE_DECAYS),
)
def test_a_mean_is_over_the_steps_seen_of_which_newer_ones_weigh_more(rates, flags, decay):
    found, seen = as_of_means({"taxonomy_rate": rates, "taxonomy_missing_flag": flags}, decay)
    for row, taxonomy in np.ndindex(2, 2):
        wanted = naive_mean(*(a[row, :, taxonomy].astype(float) for a in (rates, flags)), decay)
        assert seen[row, taxonomy] == (wanted is not None)
        # Sums of four float64 numbers up to 100.
        assert found[row, taxonomy] == pytest.approx(wanted or 0.0, rel=1e-12, abs=1e-14)


def test_the_centre_of_an_item_weighs_the_taxonomies_that_have_a_mean():
    rates = np.array([[[10, 60]], [[10, 60]], [[10, 60]]], "float32")  # [batch=3, window=1, 2]
    flags = np.array([[[0, 0]], [[0, 1]], [[1, 1]]], "float32")
    inputs = {"taxonomy_rate": rates, "taxonomy_missing_flag": flags}
    mu, known = Centre(1.0, np.array([0.8, 0.2]), 30.0).of(inputs)
    np.testing.assert_allclose(mu, [0.8 * 0.1 + 0.2 * 0.6, 0.1, 0], rtol=1e-12)
    assert known.tolist() == [True, True, False]


def around(draw, examples, family):
    """Targets around 0.7 and 0.3 of two taxonomies' last means, kappa 20; earlier ones mislead.

    A tenth of the flags are set, and one of the examples has no mean at all.
    """
    rates = draw.uniform(5, 40, (examples, 3, 2))
    flags = np.zeros_like(rates)
    flags[:, -1] = draw.random((examples, 2)) < 0.1
    flags[:, :2] = flags[:, -1:]
    parts = (1 - flags[:, -1]) * [0.7, 0.3]
    total = parts.sum(axis=1)
    mu = (parts * rates[:, -1]).sum(axis=1) / np.where(total, total, 1) / 100
    mu = np.where(total, mu, 0.9)
    clicks = draw.integers(20, 200, examples)
    if family is BETA_BINOMIAL:
        shares = draw.binomial(clicks, draw.beta(20 * mu, 20 * (1 - mu)))
    else:
        shares = draw.poisson(clicks * draw.gamma(20 * mu, 1 / 20))
    return shares, clicks, {"taxonomy_rate": rates, "taxonomy_missing_flag": flags}


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_the_centre_maximises_the_likelihood_as_scipy_has_it(kind):
    family, log_likelihood = LIKELIHOODS[kind]
    shares, clicks, inputs = around(np.random.default_rng(0), 600, family)
    found, *others = fit_centres(family, shares, clicks, inputs, 10.0)
    assert (found.decay, *(one.decay for one in others)) == CENTRE_DECAYS

    def value(theta):
        first, kappa = 1 / (1 + np.exp(-theta[0])), np.exp(theta[1])
        mu, known = Centre(0.0, np.array([first, 1 - first]), kappa).of(inputs)
        return -log_likelihood(shares, clicks, mu, kappa)[known].sum()

    best = optimize.minimize(value, [0.0, 3.0], method="Nelder-Mead")
    told = np.array([np.log(found.weights[0] / found.weights[1]), np.log(found.kappa)])
    # The same height: two searches stop at their own distance from the top, which is flat.
    assert value(told) == pytest.approx(best.fun, abs=1e-3)
    np.testing.assert_allclose(told, best.x, atol=0.01)


def test_the_centre_recovers_what_was_planted(monkeypatch):
    monkeypatch.setattr(priors, "CENTRE_DECAYS", (0.0,))
    draw = np.random.default_rng(0)
    draws = [around(draw, 1000, BETA_BINOMIAL) for _ in range(16)]
    found = [fit_centres(BETA_BINOMIAL, *one, 5.0)[0] for one in draws]
    told = np.array([(one.weights[0], one.kappa) for one in found])
    # The mean of 16 independent fits is within three standard errors, from their own spread.
    error = 3 * np.std(told, axis=0, ddof=1) / 4
    assert np.all(np.abs(told.mean(axis=0) - [0.7, 20]) < error)
    assert error[0] < 0.03
    assert error[1] < 1.5


def test_without_any_mean_there_is_nothing_to_fit():
    inputs = {"taxonomy_rate": np.zeros((4, 3, 2)), "taxonomy_missing_flag": np.ones((4, 3, 2))}
    assert fit_centres(BETA_BINOMIAL, np.ones(4), np.full(4, 9.0), inputs, 12.0) == []
    assert not Centre(0.5, np.array([0.5, 0.5]), 12.0).of(inputs)[1].any()


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_means_of_zero_and_of_one_are_no_impossible_events(kind):
    rates = np.array([0.0, 100.0, 20.0, 0.0])[:, None, None] * np.ones((4, 3, 2))
    inputs = {"taxonomy_rate": rates, "taxonomy_missing_flag": np.zeros((4, 3, 2))}
    shares, clicks = np.array([3, 1, 2, 0.0]), np.full(4, 9.0)
    for found in fit_centres(LIKELIHOODS[kind][0], shares, clicks, inputs, 10.0):
        assert np.isfinite([*found.weights, found.kappa]).all()
