import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import optimize, stats

from mmnet.models import REGISTRY
from mmnet.models.estimator import Sample
from mmnet.models.options import SmoothedHistoryOptions
from mmnet.models.smoothed_history import (
    BETA_BINOMIAL,
    GAMMA_POISSON,
    SmoothedHistory,
    fit_prior,
    fit_priors,
    posterior_mean,
)
from mmnet.schema import FeatureSpec, FieldSpec

SPEC = FeatureSpec(
    window=3,
    horizon=1,
    taxonomies=("category", "tags"),
    fields=(
        FieldSpec(name="category", size=4),
        FieldSpec(name="author", size=9),  # no taxonomy: not read
        FieldSpec(name="tags", size=5, max_values=2),
    ),
)
# Seen 20 clicks with 2 shares, a gap, and 10 clicks with 4 shares; and an item never seen.
INPUTS = {
    "share_rate": np.array([[10, 0, 40], [0, 0, 0]], "float32"),  # [batch=2, window=3], percent
    "missing_flag": np.array([[0, 1, 0], [1, 1, 1]], "float32"),
    "clicks": np.array([[20, 0, 10], [0, 0, 0]], "float32"),
    "field_category": np.array([[2], [3]], "int32"),
    "field_author": np.array([[5], [6]], "int32"),
    "field_tags": np.array([[2, 0], [4, 3]], "int32"),
}
STATE = {
    "prior": np.array([0.3, 10.0]),  # mu, kappa
    "prior_field_category": np.array([[0.3, 10], [0.3, 10], [0.1, 40], [0.2, 30]]),
    "prior_field_tags": np.array([[0.3, 10], [0.3, 10], [0.4, 20], [0.5, 60], [0.8, 30]]),
    "decay": np.array(1.0),
    "kappa_scale": np.array(1.0),
}


def model(**changed):
    found = SmoothedHistory(SPEC, SmoothedHistoryOptions())
    found.restore(STATE | {name: np.array(value) for name, value in changed.items()})
    return found


def beta_binomial(draw, mu, kappa, clicks):
    return draw.binomial(clicks, draw.beta(mu * kappa, (1 - mu) * kappa, clicks.shape))


def sample(inputs, shares, clicks):
    rate = np.divide(100 * shares, clicks).astype("float32")
    return Sample(inputs, rate, clicks.astype("float32"), np.ones(len(rate), "float32"))


def test_the_posterior_mean_pools_the_window_with_the_mean_of_the_pseudo_counts():
    # Item 1: priors 4 of 40 and 8 of 20, mean 6 of 30; with the window 12 of 60.
    # Item 2: priors 6 of 30, 24 of 30 and 30 of 60, together 60 of 120, and no window.
    np.testing.assert_allclose(model().predict(INPUTS), [20, 50], rtol=1e-6)


def test_older_steps_weigh_less_and_kappa_is_scaled():
    # decay 1/2: the step two periods before the last weighs 1/4, so 0.5 of 5 and 4 of 10;
    # kappa_scale 1/3: 2 of 10 from the prior.
    found = model(decay=0.5, kappa_scale=1 / 3).predict(INPUTS)
    np.testing.assert_allclose(found, [26, 50], rtol=1e-6)


@pytest.mark.parametrize("identifier", [0, 1])
def test_an_item_without_a_known_value_gets_the_prior_of_all(identifier):
    nothing = {name: np.full_like(INPUTS[name], identifier) for name in INPUTS if "field" in name}
    # 3 of 10 and the window's 6 of 30; without a window 30 percent.
    np.testing.assert_allclose(model().predict({**INPUTS, **nothing}), [22.5, 30], rtol=1e-6)


def test_nothing_under_a_missing_flag_is_read():
    told = {
        **INPUTS,
        "share_rate": np.array([[10, np.nan, 40], [99, 99, np.nan]], "float32"),
        "clicks": np.array([[20, 7, 10], [7, 7, 7]], "float32"),
    }
    np.testing.assert_array_equal(model().predict(told), model().predict(INPUTS))


@given(
    rate=arrays("float32", (1, 3), elements=st.floats(0, 100, width=32)),
    flag=arrays("float32", (1, 3), elements=st.sampled_from([0.0, 1.0])),
    clicks=arrays("float32", (1, 3), elements=st.integers(1, 10_000)),
    mu=st.floats(0, 1),
    kappa=st.floats(0.01, 1e5),
    decay=st.floats(0.1, 1),
)
def test_lies_between_the_prior_and_the_window(rate, flag, clicks, mu, kappa, decay):
    inputs = {"share_rate": rate, "missing_flag": flag, "clicks": clicks}
    found = posterior_mean(inputs, mu, kappa, decay)[0]
    both = [100 * mu, *rate[flag == 0]]
    # A weighted mean of float64 numbers up to 100, rounded at each of a dozen operations.
    assert min(both) - 1e-11 <= found <= max(both) + 1e-11


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


def history(draw, truth, category):
    clicks = draw.integers(20, 100, (len(truth), 3)).astype("float32")
    rate = 100 * draw.binomial(clicks.astype(int), truth[:, None]) / clicks
    return {
        "share_rate": rate.astype("float32"),
        "missing_flag": np.zeros_like(clicks),
        "clicks": clicks,
        "field_category": category[:, None],
        "field_tags": np.zeros((len(truth), 2), "int32"),
    }


def world(seed, examples=3000):
    """Items of two categories, Beta(3, 27) and Beta(9, 21), with three steps of history."""
    draw = np.random.default_rng(seed)
    category = draw.integers(2, 4, examples).astype("int32")
    truth = draw.beta(np.array([3, 9])[category - 2], np.array([27, 21])[category - 2])
    clicks = draw.integers(20, 100, examples)
    return sample(history(draw, truth, category), draw.binomial(clicks, truth), clicks)


def cold(one):
    flag = np.ones_like(one.inputs["missing_flag"])
    return Sample({**one.inputs, "missing_flag": flag}, one.share_rate, one.clicks, one.weight)


def test_fits_a_world_of_its_own_kind():
    train, validation = world(1), world(2)
    found = SmoothedHistory(SPEC, SmoothedHistoryOptions())
    told = found.fit(train, {"normal": validation, "cold_start": cold(validation)})
    # Rates that stand still: old steps are worth what new ones are, and kappa what it says.
    assert told["decay"] >= 0.9
    assert 0.5 <= told["kappa_scale"] <= 2
    # Three standard errors of a mean of 1500 Beta(3, 27) and Beta(9, 21) rates and of binomial
    # targets: 3 · sqrt((.3 · .7 / 31 + .3 · .7 / 50) / 1500) < 0.01, and as much for shrinking.
    np.testing.assert_allclose(found.state()["prior_field_category"][2:, 0], [0.1, 0.3], atol=0.02)
    predicted = found.predict(cold(validation).inputs)
    assert len(np.unique(predicted)) == 2  # the two categories' means


def test_decay_and_scale_are_fitted_on_validation_and_priors_are_not():
    train, validation = world(1), world(2, 500)
    drifting = {**validation.inputs, "share_rate": validation.inputs["share_rate"].copy()}
    drifting["share_rate"][:, :2] = 90.0  # only the last step says anything
    other = Sample(drifting, validation.share_rate, validation.clicks, validation.weight)
    states = []
    for shown in (validation, other):
        found = SmoothedHistory(SPEC, SmoothedHistoryOptions())
        found.fit(train, {"normal": shown})
        states.append(found.state())
    assert states[1]["decay"] < states[0]["decay"]
    for name in (name for name in states[0] if name.startswith("prior")):
        np.testing.assert_array_equal(states[0][name], states[1][name])
    given = SmoothedHistory(SPEC, SmoothedHistoryOptions(decay=0.7, kappa_scale=3.0))
    told = given.fit(train, {"normal": validation})
    assert (told["decay"], told["kappa_scale"]) == (0.7, 3.0)


def test_rates_above_one_are_smoothed_and_not_clipped():
    spec = SPEC.model_copy(update={"max_rate": None})
    draw = np.random.default_rng(0)
    clicks = draw.integers(20, 100, 2000)
    truth = draw.gamma(6, 1 / 4, 2000)  # mean 1.5 shares per click, kappa 4
    train = sample(world(0, 2000).inputs, draw.poisson(clicks * truth), clicks)
    found = SmoothedHistory(spec, SmoothedHistoryOptions())
    told = found.fit(train, {"normal": train})
    # Three standard errors: sd of a gamma rate sqrt(6) / 4 = .61, over sqrt(2000), in percent.
    assert told["prior_mean"] == pytest.approx(150, abs=4.2)
    assert found.predict(cold(train).inputs).min() > 100


def test_the_state_restores_every_prediction():
    train = world(1, 500)
    found, restored = REGISTRY["smoothed_history"](SPEC), REGISTRY["smoothed_history"](SPEC)
    found.fit(train, {"normal": train})
    restored.restore(found.state())
    predicted = restored.predict(train.inputs)
    assert predicted.dtype == np.float32
    np.testing.assert_array_equal(predicted, found.predict(train.inputs))


def test_works_without_taxonomies():
    spec = FeatureSpec(window=3, horizon=1)
    found = SmoothedHistory(spec, SmoothedHistoryOptions())
    train = world(1, 500)
    found.fit(train, {"normal": train})
    assert len(np.unique(found.predict(cold(train).inputs))) == 1


@pytest.mark.parametrize("options", [{"decay": 1.5}, {"kappa_scale": 0}])
def test_refuses_options_out_of_range(options):
    with pytest.raises(ValueError, match=rf"`{next(iter(options))}` must be"):
        SmoothedHistory(SPEC, SmoothedHistoryOptions(**options))
