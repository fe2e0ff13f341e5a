import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mmnet.models import REGISTRY
from mmnet.models.estimator import SAME_SCORE, Sample
from mmnet.models.options import SmoothedHistoryOptions
from mmnet.models.smoothed_history import SmoothedHistory, posterior_mean
from mmnet.schema import FeatureSpec, FieldSpec
from tests.conformance import check_config

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


# --------------------------------------------------------------------------- as-of centre

# Means of category and tags over the window, [batch=2, window=3, taxonomies=2], percent.
AS_OF = {
    "taxonomy_rate": np.array([[[20, 9], [9, 70], [60, 90]], [[9, 9]] * 3], "float32"),
    "taxonomy_missing_flag": np.array([[[0, 1], [1, 0], [0, 0]], [[1, 1]] * 3], "float32"),
}
CENTRE = {
    "centre_decay": np.array(0.5),
    "centre_weights": np.array([0.75, 0.25]),
    "centre_kappa": np.array(40.0),
    "own_share": np.array(0.0),
}


def naive_centre(rates, flags, decay, weights):
    """mu of one item by loops, percent; None where no other item of its values was seen."""
    means, parts = [], []
    for taxonomy, weight in enumerate(weights):
        ages = [age for age, flag in enumerate(flags[::-1, taxonomy]) if flag < 1]
        if ages:
            each = [decay ** (age - ages[0]) for age in ages]
            found = [rates[::-1][age, taxonomy] for age in ages]
            means.append(sum(e * f for e, f in zip(each, found, strict=True)) / sum(each))
            parts.append(weight)
    return sum(p * m for p, m in zip(parts, means, strict=True)) / sum(parts) if parts else None


def test_around_as_of_means_where_others_were_seen_else_around_its_values():
    found = model(**CENTRE).predict(INPUTS | AS_OF)
    # Category: (¼ · 20 + 60) / 1.25 = 52; tags: (½ · 70 + 90) / 1.5 = 83.33. ¾ and ¼ of them: 59.83
    # percent of 40 clicks, and the window's 6 of 30. Of the second item nobody was seen.
    np.testing.assert_allclose(found, [100 * (23.9333333 + 6) / 70, 50], rtol=1e-6)
    by_loops = naive_centre(*(one[0] for one in AS_OF.values()), 0.5, [0.75, 0.25])
    np.testing.assert_allclose(found[0], (40 * by_loops + 600) / 70, rtol=1e-6)
    assert naive_centre(*(one[1] for one in AS_OF.values()), 0.5, [0.75, 0.25]) is None


def test_a_share_of_the_values_own_priors_is_mixed_in():
    found = model(**CENTRE | {"own_share": 0.5}).predict(INPUTS | AS_OF)
    # Item 1: mu between 59.83 and the 20 of its values, kappa between 40 and 30.
    mu = (0.598333333 + 0.2) / 2
    np.testing.assert_allclose(found, [100 * (35 * mu + 6) / 65, 50], rtol=1e-6)
    everything = model(**CENTRE | {"own_share": 1.0}).predict(INPUTS | AS_OF)
    np.testing.assert_array_equal(everything, model().predict(INPUTS | AS_OF))


def drifting(seed, examples=3000, by_value=0.0):
    """Items around what their category does now, Beta with kappa 30, and few clicks each.

    Args:
        by_value: how far the second of two categories lies above its mean as of now; in logits.
    """
    draw = np.random.default_rng(seed)
    category = draw.integers(2, 4, examples).astype("int32")
    last = draw.uniform(0.05, 0.35, examples)
    level = 1 / (1 + (1 / last - 1) * np.exp(-by_value * (category - 2)))
    truth = draw.beta(30 * level, 30 * (1 - level))
    clicks = draw.integers(20, 100, examples)
    inputs = history(draw, truth, category)
    rates = 100 * np.stack([np.full((examples, 3), 0.9), np.zeros((examples, 3))], axis=-1)
    rates[:, -1, 0] = 100 * last
    flags = np.zeros_like(rates)
    flags[:, :2, 0] = flags[:, :, 1] = 1  # only the last step, and no tags
    inputs |= {
        "taxonomy_rate": (rates * (1 - flags)).astype("float32"),
        "taxonomy_missing_flag": flags.astype("float32"),
    }
    return sample(inputs, draw.binomial(clicks, truth), clicks), truth


def two_lines(inputs):
    """The smoother of two lines: the last mean of the first taxonomy, worth 100 clicks."""
    clicks = inputs["clicks"] * (1 - inputs["missing_flag"])
    shares = (clicks * inputs["share_rate"]).sum(axis=1)
    return (100 * inputs["taxonomy_rate"][:, -1, 0] + shares) / (100 + clicks.sum(axis=1))


def fitted(train, validation, **options):
    found = SmoothedHistory(SPEC, SmoothedHistoryOptions(**options))
    return found, found.fit(train, {"normal": validation, "cold_start": cold(validation)})


def test_where_rates_drift_the_centre_follows_and_beats_two_lines():
    (train, _), (validation, truth) = drifting(1), drifting(2)
    as_of, told = fitted(train, validation, centre="as_of")
    # Planted: one taxonomy, worth 30 clicks. Three standard errors of log kappa, about
    # sqrt(2 / examples) where most of the spread is between items.
    assert told["centre_kappa"] == pytest.approx(30, rel=0.15)
    assert (told["own_share"], told["kappa_scale"]) == (0.0, 1.0)
    by_value, _ = fitted(train, validation)
    mixed, _ = fitted(train, validation, centre="fitted")

    def errors(predict):
        return [np.mean((predict(one.inputs) - 100 * truth) ** 2) for one in shown]

    shown = validation, cold(validation)
    normal, hidden = errors(as_of.predict)
    assert normal < 0.9 * errors(two_lines)[0]
    assert hidden == pytest.approx(errors(two_lines)[1], rel=1e-5)  # the same mean, in float32
    assert hidden < 0.5 * errors(by_value.predict)[1]
    # Whatever mix it chooses, it was not worse on validation.
    told = [
        sum(
            np.log(np.mean((found.predict(one.inputs) - one.share_rate) ** 2))
            for one in (validation, cold(validation))
        )
        for found in (mixed, as_of, by_value)
    ]
    assert told[0] <= min(told[1:])


def test_what_values_say_beyond_the_means_is_mixed_in_where_it_helps():
    (train, _), (validation, _) = drifting(1, by_value=1.5), drifting(2, by_value=1.5)
    _, told = fitted(train, validation, centre="fitted")
    assert 0 < told["own_share"] < 1
    # All of an example's own taxonomies count, none of its window: hiding that changes nothing.
    again, first = fitted(cold(train), validation, centre="fitted")[1], told
    assert again == first


def test_the_state_of_a_centre_restores_every_prediction():
    train, _ = drifting(1, 500, by_value=1.5)
    found, _ = fitted(train, train, centre="fitted")
    restored = SmoothedHistory(SPEC, SmoothedHistoryOptions(centre="fitted"))
    restored.restore(found.state())
    np.testing.assert_array_equal(restored.predict(train.inputs), found.predict(train.inputs))


def test_a_centre_without_taxonomies_or_means_is_the_prior_of_all():
    train = world(1, 500)
    bare = FeatureSpec(window=3, horizon=1)
    unseen = {"taxonomy_rate": np.zeros((500, 3, 2)), "taxonomy_missing_flag": np.ones((500, 3, 2))}
    nobody = Sample(train.inputs | unseen, train.share_rate, train.clicks, train.weight)
    for spec, one in ((bare, train), (SPEC, nobody)):
        predicted = []
        for centre in ("value", "as_of", "fitted"):
            found = SmoothedHistory(spec, SmoothedHistoryOptions(centre=centre))
            found.fit(one, {"normal": one})
            predicted.append(found.predict(one.inputs))
        np.testing.assert_array_equal(predicted[1:], [predicted[0]] * 2)


# --------------------------------------------------------------------------------- network


@pytest.mark.parametrize("centre", ["value", "as_of", "fitted"])
@pytest.mark.parametrize("max_rate", [100.0, None])
def test_the_network_scores_as_predict_does(centre, max_rate):
    spec = SPEC.model_copy(update={"max_rate": max_rate})
    found = SmoothedHistory(spec, SmoothedHistoryOptions(centre=centre))
    train, _ = drifting(1, 400, by_value=1.5)
    train.inputs["field_author"] = np.full((400, 1), 3, "int32")
    found.fit(train, {"normal": train, "cold_start": cold(train)})
    network = found.network()
    assert set(network.input) == set(spec.tensors())
    assert not network.trainable_variables
    for one in (train.inputs, cold(train).inputs):
        odd = one | {"field_category": np.where(one["clicks"][:, :1] > 90, 99, 1).astype("int32")}
        for inputs in (one, odd):
            wanted = found.predict(inputs)
            np.testing.assert_allclose(network(inputs), wanted, rtol=SAME_SCORE)


def test_the_network_of_a_dataset_without_taxonomies_is_one_prior():
    spec = FeatureSpec(window=3, horizon=1)
    found = SmoothedHistory(spec, SmoothedHistoryOptions())
    inputs = {name: INPUTS[name] for name in spec.tensors()}
    found.restore({"prior": STATE["prior"], "decay": np.array(0.9), "kappa_scale": np.array(2.0)})
    np.testing.assert_allclose(found.network()(inputs), found.predict(inputs), rtol=SAME_SCORE)


def test_the_network_is_made_of_layers_that_can_be_saved(tmp_path):
    inputs = INPUTS | AS_OF
    network = model(**CENTRE | {"own_share": 0.25}).network()
    check_config(network)
    network.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(inputs), network(inputs))


@pytest.mark.parametrize("options", [{"decay": 1.5}, {"kappa_scale": 0}])
def test_refuses_options_out_of_range(options):
    with pytest.raises(ValueError, match=rf"`{next(iter(options))}` must be"):
        SmoothedHistory(SPEC, SmoothedHistoryOptions(**options))


def test_refuses_a_centre_of_hidden_means():
    options = SmoothedHistoryOptions(centre="as_of", coarse_granularity=False)
    with pytest.raises(ValueError, match=r'`centre` must be "value" with coarse_granularity=False'):
        SmoothedHistory(SPEC, options)
