import hypothesis.strategies as st
import keras
import numpy as np
import pytest
from hypothesis import given, settings

from mmnet.layers.evidence import (
    LARGEST_CENTRE,
    KnownMeans,
    PriorClicks,
    SmoothedRate,
    TaxonomyCentre,
)
from tests.conformance import check_layer

WINDOW = 3
PRIOR_RATE = np.array([2.0, 5.0], "float32")  # [batch=2], percent
PRIOR_CLICKS = np.array([10.0, 40.0], "float32")
RATE = np.array([[0.0, 8.0, 4.0], [0.0, 0.0, 1.0]], "float32")  # [batch=2, window=3], percent
CLICKS = np.array([[0, 20, 5], [0, 0, 40]], "float32")  # nothing in the first period
ALWAYS = 80.0  # logit of a weight of 1, and log of more clicks than there are


def smoothed_rate(step_logits, log_half_clicks, **kwargs):
    """A layer with given weights."""
    layer = SmoothedRate(**kwargs)
    layer.build((None,), (None,), (None, WINDOW), (None, WINDOW))
    layer.set_weights([np.broadcast_to(w, WINDOW) for w in (step_logits, log_half_clicks)])
    return layer


def rate_of(layer):
    """A layer's rates, without the weight of the own clicks."""
    return lambda *given, **named: layer(*given, **named)[0]


PLAIN = rate_of(smoothed_rate(ALWAYS, ALWAYS))
LEARNED_LAYER = smoothed_rate([-1.0, 0.5, 2.0], np.log([10, 50, 200]))
LEARNED = rate_of(LEARNED_LAYER)


def test_plain_empirical_bayes_is_a_special_case():
    # (10 · 2 + 20 · 8 + 5 · 4) / (10 + 25) and (40 · 5 + 40 · 1) / (40 + 40).
    # Four operations of float32.
    np.testing.assert_allclose(
        PLAIN(PRIOR_RATE, PRIOR_CLICKS, RATE, CLICKS), [200 / 35, 3.0], rtol=1e-6
    )


def test_a_step_counts_by_its_weight():
    halves = rate_of(smoothed_rate([0.0, 0.0, ALWAYS], ALWAYS))
    # (10 · 2 + ½ · 20 · 8 + 5 · 4) / (10 + 10 + 5) and, at full weight, as above.
    np.testing.assert_allclose(
        halves(PRIOR_RATE, PRIOR_CLICKS, RATE, CLICKS), [4.8, 3.0], rtol=1e-6
    )


def test_many_clicks_of_one_step_tell_no_more_than_its_half_clicks():
    layer = rate_of(smoothed_rate(ALWAYS, [ALWAYS, np.log(20), ALWAYS]))
    # 20 of 20 half-clicks tell 10: (10 · 2 + 10 · 8 + 5 · 4) / (10 + 10 + 5).
    first = layer(PRIOR_RATE[:1], PRIOR_CLICKS[:1], RATE[:1], CLICKS[:1])
    np.testing.assert_allclose(first, [4.8], rtol=1e-6)
    # 10⁹ clicks tell 20: (10 · 2 + 20 · 8) / 30.
    many = layer(PRIOR_RATE[:1], PRIOR_CLICKS[:1], RATE[:1], np.array([[0, 1e9, 0]], "float32"))
    np.testing.assert_allclose(many, [6.0], rtol=1e-6)


def test_a_history_without_clicks_gives_the_prior_to_the_bit():
    draw = np.random.default_rng(0)
    prior = draw.uniform(0, 100, 1000).astype("float32")
    kappa = draw.uniform(0.2, 8000, 1000).astype("float32")
    nothing = np.zeros((1000, WINDOW), "float32")
    np.testing.assert_array_equal(LEARNED(prior, kappa, nothing, nothing), prior)


rates = st.floats(0, 100, width=32)
counts = st.one_of(st.just(0.0), st.floats(1, 2**20, width=32))
cases = st.tuples(
    rates,
    st.floats(0.25, 8000, width=32),
    st.lists(rates, min_size=WINDOW, max_size=WINDOW),
    st.lists(counts, min_size=WINDOW, max_size=WINDOW),
)


def arrays(case):
    prior, kappa, rate, clicks = (np.array([part], "float32") for part in case)
    return prior, kappa, rate, clicks


@settings(max_examples=100, deadline=None)
@given(cases)
def test_is_what_a_loop_over_steps_gives(case):
    (prior,), (kappa,), (rate,), (clicks,) = (a.astype("float64") for a in arrays(case))
    total, weight = kappa * prior, kappa
    for logit, half, y, n in zip([-1.0, 0.5, 2.0], [10, 50, 200], rate, clicks, strict=True):
        evidence = n / (1 + n / half) / (1 + np.exp(-logit))
        total, weight = total + evidence * y, weight + evidence
    # float32 against float64, of percents up to 100.
    assert float(LEARNED(*arrays(case))[0]) == pytest.approx(total / weight, abs=1e-4)


@settings(max_examples=50, deadline=None)
@given(cases)
def test_its_weight_is_how_far_the_own_clicks_move_the_prior(case):
    prior, kappa, rate, clicks = arrays(case)
    _, own = LEARNED_LAYER(prior, kappa, rate, clicks)
    # All steps at one rate: (1 - o) μ + o y, in float32 of percents.
    same = LEARNED(prior, kappa, 0 * rate + 40, clicks)
    np.testing.assert_allclose(same, (1 - own) * prior + own * 40, atol=1e-4)
    assert 0 <= float(own[0]) < 1
    assert (float(own[0]) == 0) == (not clicks.any())


@settings(max_examples=100, deadline=None)
@given(cases)
def test_lies_between_the_prior_and_the_rates_with_clicks(case):
    prior, _, rate, clicks = arrays(case)
    known = [prior[0], *rate[clicks > 0]]
    # Rounding of float32 at 100 percent.
    assert min(known) - 1e-4 <= float(LEARNED(*arrays(case))[0]) <= max(known) + 1e-4


@settings(max_examples=100, deadline=None)
@given(cases, st.floats(1, 1000, width=32))
def test_more_clicks_bring_it_closer_to_the_windows_rate(case, factor):
    prior, kappa, rate, clicks = arrays(case)
    window_rate = np.sum(rate * clicks) / np.maximum(np.sum(clicks), 1)
    few, many = (
        abs(float(PLAIN(prior, kappa, rate, n)[0]) - window_rate)
        for n in (clicks, np.float32(factor) * clicks)
    )
    assert not clicks.any() or many <= few + 1e-4  # rounding, as above


def test_later_steps_count_more_at_the_start():
    layer = rate_of(SmoothedRate())
    one_step = np.eye(WINDOW, dtype="float32")
    same = np.zeros(WINDOW, "float32"), np.full(WINDOW, 50, "float32")
    pulled = np.asarray(layer(*same, 10 * one_step, 30 * one_step))
    assert np.all(np.diff(pulled) > 0)


def test_is_clipped_at_inference_only():
    prior, no_clicks = np.array([-3.0, 130.0], "float32"), np.zeros((2, WINDOW), "float32")
    given = (prior, PRIOR_CLICKS, no_clicks, no_clicks)
    np.testing.assert_array_equal(rate_of(SmoothedRate())(*given), [0, 100])
    np.testing.assert_array_equal(rate_of(SmoothedRate(None))(*given), [0, 130])
    np.testing.assert_array_equal(rate_of(SmoothedRate())(*given, training=True), prior)


def test_refuses_to_broadcast():
    with pytest.raises(ValueError, match="`prior_rate`, `prior_clicks` must have one shape"):
        SmoothedRate()(PRIOR_RATE, PRIOR_CLICKS[:, None], RATE, CLICKS)
    with pytest.raises(ValueError, match="`share_rate`, `clicks` must have one shape"):
        SmoothedRate()(PRIOR_RATE, PRIOR_CLICKS, RATE, CLICKS[:, :1])


def test_every_prior_is_worth_the_same_at_the_start():
    vectors = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    # exp(log 20) in float32.
    np.testing.assert_allclose(PriorClicks(20)(vectors), np.full(4, 20.0), rtol=1e-6)


def test_prior_clicks_stay_within_sane_limits():
    layer = PriorClicks(1)
    layer.build((None, 1))
    layer.set_weights([np.ones(1), np.zeros(())])
    clicks = layer(np.array([[-99.0], [3.0], [99.0]], "float32"))
    np.testing.assert_allclose(clicks, np.exp([-2.0, 3.0, 9.0]), rtol=1e-6)  # float32


def test_prior_clicks_refuse_to_start_at_nothing():
    with pytest.raises(ValueError, match="`start` must be above 0"):
        PriorClicks(0)


def test_both_stay_float32_under_mixed_precision():
    assert SmoothedRate(dtype="mixed_bfloat16").compute_dtype == "float32"
    assert PriorClicks(dtype="mixed_bfloat16").compute_dtype == "float32"


@pytest.mark.parametrize("jit", [False, True])
def test_learns_how_many_clicks_a_prior_is_worth(jit):
    # True rates ~ beta with mean 10 % worth 20 clicks; the posterior mean is linear in κ = 20.
    draw, examples = np.random.default_rng(0), 20_000
    truth = draw.beta(2, 18, examples)
    clicks = draw.poisson(15, (examples, WINDOW)) * draw.integers(0, 2, (examples, WINDOW))
    rate = 100 * draw.binomial(clicks, truth[:, None]) / np.maximum(clicks, 1)
    inputs = [keras.Input((1,)), keras.Input((WINDOW,)), keras.Input((WINDOW,))]
    ten = keras.layers.Rescaling(0, 10)(inputs[0])
    kappa = PriorClicks(100, name="kappa")(inputs[0])
    layer = SmoothedRate()
    model = keras.Model(inputs, layer(keras.layers.Reshape(())(ten), kappa, *inputs[1:])[0])
    layer.set_weights([np.full(WINDOW, ALWAYS), np.full(WINDOW, ALWAYS)])
    layer.trainable = False
    model.compile(keras.optimizers.Adam(0.02), "mse", jit_compile=jit)
    x = [np.zeros((examples, 1)), rate.astype("float32"), clicks.astype("float32")]
    model.fit(x, 100 * truth, batch_size=500, epochs=5, verbose=0)
    # The loss is flat around κ = 20: its curvature leaves a standard error of about 0.7.
    assert np.exp(model.get_layer("kappa").bias.numpy()) == pytest.approx(20, abs=2.1)


def test_conforms(tmp_path):
    check_layer(SmoothedRate(50), PRIOR_RATE, PRIOR_CLICKS, RATE, CLICKS, tmp_path=tmp_path)


def test_prior_clicks_conform(tmp_path):
    vectors = np.array([[1.0, -2.0], [0.5, 3.0]], "float32")
    check_layer(PriorClicks(), vectors, tmp_path=tmp_path)


# ------------------------------------------------------------------------------ taxonomy centre

# [batch=3, window=2, taxonomies=2], percent: both known, one known earlier only, neither.
MEANS = np.array([[[9, 9], [4, 6]], [[5, 7], [8, 0]], [[0, 0], [0, 0]]], "float32")
NO_MEAN = np.array([[[0, 0], [0, 0]], [[0, 0], [0, 1]], [[1, 1], [1, 1]]], "float32")


def test_the_centre_is_the_mean_of_the_last_taxonomy_means():
    layer = TaxonomyCentre(scale=2, mean=4, link="identity")
    # (4 - 4) / 2 and (6 - 4) / 2; (8 - 4) / 2 and, a step earlier, (7 - 4) / 2; nothing.
    np.testing.assert_allclose(
        layer(MEANS, NO_MEAN), [[(0 + 1) / 2], [(2 + 1.5) / 2], [0]], rtol=1e-6
    )


@pytest.mark.parametrize("link", ["logit", "log"])
def test_a_centre_is_what_the_link_makes_of_the_mean_again(link):
    layer = TaxonomyCentre(scale=2, mean=4, max_rate=100, link=link)
    one = np.array([[[10.0]]], "float32")
    z = float(layer(one, 0 * one)[0, 0])
    # A tenth of the mean, 0.4, keeps both 10 and 4 away from 0 and from 100.
    expected = 10.4 / 4.4 if link == "log" else (10.4 / 90.4) / (4.4 / 96.4)
    assert np.exp(z) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("link", ["identity", "logit", "log"])
def test_a_centre_is_finite_and_limited_for_any_mean(link):
    layer = TaxonomyCentre(scale=0.01, mean=0.5, max_rate=100, link=link)
    extreme = np.array([0, 1e-30, 100, 1e6, 1e30], "float32").reshape(5, 1, 1)
    found = np.asarray(layer(extreme, 0 * extreme))
    assert np.isfinite(found).all()
    assert np.abs(found).max() <= LARGEST_CENTRE


def test_a_centre_refuses_to_broadcast():
    with pytest.raises(ValueError, match="`taxonomy_missing_flag` must have one shape"):
        TaxonomyCentre(link="log")(MEANS, NO_MEAN[:, :1])


def test_taxonomy_centre_conforms(tmp_path):
    check_layer(TaxonomyCentre(2, 4, 50, link="logit"), MEANS, NO_MEAN, tmp_path=tmp_path)


# ------------------------------------------------------------------------- evidence of means


def test_a_mean_of_unknown_evidence_is_hidden(tmp_path):
    rate = np.float32([[[2, 3], [4, 5]]])
    missing = np.float32([[[0, 0], [0, 1]]])
    evidence = np.float32([[[9, -1], [-1, 0]]])
    found = KnownMeans()(rate, missing, evidence)
    np.testing.assert_array_equal(found[0], [[[2, 0], [0, 5]]])
    np.testing.assert_array_equal(found[1], [[[0, 1], [1, 1]]])
    # A rounding of float32.
    np.testing.assert_allclose(found[2], [[[np.log(10), 0], [0, 0]]], rtol=1e-6)
    check_layer(KnownMeans(), rate, missing, evidence, tmp_path=tmp_path)


def test_evidence_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="taxonomy_evidence"):
        KnownMeans()(np.ones((1, 3, 2)), np.ones((1, 3, 2)), np.ones((1, 3, 1)))
