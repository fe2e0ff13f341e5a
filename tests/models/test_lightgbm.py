import re
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mmnet import config, driver, tasks
from mmnet.checks import InputError
from mmnet.evaluation.scenarios import disturb
from mmnet.flags import parse
from mmnet.models import REGISTRY, resolve_options
from mmnet.models.estimator import SAME_SCORE, Sample, check_network
from mmnet.models.lightgbm import LightGbm
from mmnet.models.options import LightGbmOptions
from mmnet.schema import FeatureSpec, FieldSpec
from tests.conftest import SIMULATED, without_drawing
from tests.models import tiny

pytest.importorskip("lightgbm", reason="the extra [baselines] is not installed")
pytest.importorskip("sklearn", reason="the extra [baselines] is not installed")
threadpool_limits = pytest.importorskip("threadpoolctl").threadpool_limits  # scikit-learn needs it

FAST = {"num_trees": 40, "learning_rate": 0.2, "min_data_in_leaf": 5, "num_leaves": 7}


def sample(inputs, share_rate, weight=None):
    ones = np.ones(len(share_rate), "float32")
    rate = np.asarray(share_rate, "float32")
    return Sample(inputs, rate, 50 * ones, ones if weight is None else weight)


def tiny_samples(examples=400):
    """Every kind of tensor; the rate rests on the history, the category and a title's word."""
    found = []
    for seed in (1, 2):
        inputs = tiny.batch(examples=examples, seed=seed)
        noise = np.random.default_rng(seed).normal(0, 0.1, examples)
        words = (inputs["text_title"] == 3).any(axis=1)
        rate = 2 + inputs["share_rate"][:, -1] + inputs["field_category"][:, 0] + words + noise
        found.append(sample(inputs, np.maximum(rate, 0)))
    train, validation = found
    return train, in_scenarios(validation)


def in_scenarios(one):
    draw = np.random.default_rng(0).random(one.inputs["share_rate"].shape)
    return {
        name: Sample(
            disturb_arrays(one.inputs, draw < rate), one.share_rate, one.clicks, one.weight
        )
        for name, rate in (("normal", 0.0), ("cold_start", 1.0), ("noisy", 0.5))
    }


def disturb_arrays(inputs, hidden):
    return {name: np.asarray(tensor) for name, tensor in disturb(inputs, hidden).items()}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads that wait for each other on a busy machine take far longer than these few rows."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def samples():
    return tiny_samples()


@pytest.fixture(scope="module")
def fitted(samples):
    train, validation = samples
    model = LightGbm(tiny.SPEC, LightGbmOptions(mode_weights=(1, 1, 1), text_components=4, **FAST))
    return model, model.fit(train, validation)


def test_features_of_a_window_worked_by_hand():
    spec = FeatureSpec(window=3, horizon=1, taxonomies=("category",))
    model = LightGbm(spec, LightGbmOptions())
    model.features.state = {"prior": np.array([0.1, 30.0])}
    inputs = {
        "share_rate": np.array([[10, 40, 0], [0, 0, 0]], "float32"),
        "missing_flag": np.array([[0, 0, 1], [1, 1, 1]], "float32"),
        "clicks": np.array([[20, 10, 0], [0, 0, 0]], "float32"),
        "taxonomy_rate": np.array([[[4], [6], [8]], [[4], [6], [8]]], "float32"),
        "taxonomy_missing_flag": np.array([[[0], [0], [1]], [[1], [1], [1]]], "float32"),
    }
    found = {name: column.tolist() for name, column in model.features.columns(inputs).items()}
    nan = pytest.approx(np.nan, nan_ok=True)
    expected = {
        "share_rate_1": [40, nan],
        "share_rate_2": [nan, nan],
        "missing_flag_2": [1, 1],
        "log_clicks_0": [pytest.approx(np.log(21)), nan],
        "observed": [2, 0],
        "last_age": [1, nan],
        "last_rate": [40, nan],
        "mean_rate": [25, nan],
        "pooled_rate": [20, nan],  # 2 and 4 shares of 30 clicks
        "log_total_clicks": [pytest.approx(np.log(31)), 0],
        "smoothed_rate": [pytest.approx(15), pytest.approx(10)],  # 3 + 6 of 30 + 30; the prior
        "taxonomy_category_rate_1": [6, nan],
        "taxonomy_category_rate_2": [nan, nan],
        "taxonomy_category_flag_2": [1, 1],
        "taxonomy_category_mean": [5, nan],
    }
    assert {name: found[name] for name in expected} == expected


MASKS = arrays("bool", (4, 6))


@settings(max_examples=25, deadline=None)
@given(hidden=MASKS, rates=arrays("float32", (4, 6), elements=st.floats(0, 100, width=32)))
def test_no_feature_sees_what_a_mask_hides(fitted, hidden, rates):
    model, _ = fitted
    inputs = tiny.batch(examples=4)
    never = disturb_arrays(inputs, hidden)  # as if nobody had clicked in the hidden steps
    # Other rates and clicks in the hidden steps; and what they are left to say under the flag.
    other = {
        **inputs,
        "share_rate": np.where(hidden, rates, inputs["share_rate"]),
        "clicks": np.where(hidden, 1 + rates, inputs["clicks"]),
    }
    flagged = {**other, "missing_flag": never["missing_flag"]}
    for told in (disturb_arrays(other, hidden), flagged):
        np.testing.assert_array_equal(model.features.array(told), model.features.array(never))


def test_hiding_everything_leaves_what_does_not_rest_on_the_history(fitted):
    model, _ = fitted
    first, second = (tiny.batch(examples=4, seed=seed) for seed in (3, 4))
    history = {name: second[name] for name in ("share_rate", "missing_flag", "clicks")}
    everything = np.ones((4, 6), bool)
    np.testing.assert_array_equal(
        model.features.array(disturb_arrays(first, everything)),
        model.features.array(disturb_arrays({**first, **history}, everything)),
    )


def test_unknown_values_are_missing_and_unknown_words_left_out(fitted):
    model, _ = fitted
    inputs = tiny.batch(examples=4)
    category = np.array([[0], [1], [2], [1]], "int32")
    columns = model.features.columns({**inputs, "field_category": category})
    np.testing.assert_array_equal(columns["field_category_category"], [0, np.nan, 2, np.nan])
    title = np.array([[2, 3, 0, 0], [2, 3, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]], "int32")
    columns = model.features.columns({**inputs, "text_title": title})
    words = np.stack([columns[f"text_title_{number}"] for number in range(3)], axis=1)
    np.testing.assert_array_equal(words[0], words[1])
    np.testing.assert_array_equal(words[2], np.nan)  # no title is not a title of unknown words
    np.testing.assert_array_equal(words[3], 0)
    assert np.any(words[0])


def test_an_absent_vector_is_missing(fitted):
    cover = np.array([[0, 0, 0], [0, 2, 0], [1, 2, 3], [0, 0, 0]], "float32")
    columns = fitted[0].features.columns({**tiny.batch(examples=4), "vector_cover": cover})
    np.testing.assert_array_equal(columns["vector_cover_0"], [np.nan, 0, 1, np.nan])


def test_texts_are_fitted_on_the_distinct_texts_of_training(samples, fitted):
    train, validation = samples
    again = {name: np.concatenate([array, array[:99]]) for name, array in train.inputs.items()}
    repeated = sample(again, np.concatenate([train.share_rate, train.share_rate[:99]]))
    model = LightGbm(tiny.SPEC, LightGbmOptions(text_components=4, **FAST))
    model.fit(repeated, validation)
    for name in ("idf_text_title", "components_text_title"):
        np.testing.assert_array_equal(model.state()[name], fitted[0].state()[name])


def test_only_values_of_training_get_a_column(fitted):
    model, _ = fitted
    # Drawn from 0 to 4, of which 2, 3 and 4 are values; 5 and 6 exist and were never met.
    np.testing.assert_array_equal(model.state()["frequent_field_tags"], [2, 3, 4])


def test_equal_seeds_give_equal_states_on_two_threads_and_other_seeds_others(samples, fitted):
    states = []
    with threadpool_limits(2):
        for seed in (0, 0, 1):
            options = {"mode_weights": (1, 1, 1), "text_components": 4, "seed": seed}
            model = LightGbm(tiny.SPEC, LightGbmOptions(**options, **FAST))
            model.fit(*samples)
            states.append(model.state())
    first, again, other = states
    assert set(again) == set(first) == set(fitted[0].state())
    for name, array in first.items():
        np.testing.assert_array_equal(again[name], array)
    assert not np.array_equal(other["trees"], first["trees"])


def test_the_state_restores_every_prediction_to_the_bit(samples, fitted, tmp_path):
    model, _ = fitted
    np.savez(tmp_path / "state.npz", **model.state())
    restored = LightGbm(tiny.SPEC, LightGbmOptions())
    with np.load(tmp_path / "state.npz", allow_pickle=False) as stored:
        restored.restore(dict(stored))
    for one in samples[1].values():
        predicted = restored.predict(one.inputs)
        assert predicted.dtype == np.float32
        np.testing.assert_array_equal(predicted, model.predict(one.inputs))


def test_tells_the_validation_value_of_the_trees_it_keeps(samples, fitted):
    model, told = fitted
    mse = [
        np.mean(np.square(model.predict(one.inputs) - one.share_rate))
        for one in samples[1].values()
    ]
    # float32 predictions: relative rounding 6e-8 of each, far less of their mean.
    assert told["best_mean_log_mse"] == pytest.approx(np.mean(np.log(mse)), abs=1e-5)
    assert (
        len(re.findall(r"^Tree=", model.state()["trees"].tobytes().decode(), re.M)) == told["trees"]
    )


def test_validation_decides_the_number_of_trees_and_nothing_else(samples):
    train, validation = samples
    shuffled = np.random.default_rng(0).permutation(len(train))
    senseless = {
        name: Sample(one.inputs, one.share_rate[shuffled], one.clicks, one.weight)
        for name, one in validation.items()
    }
    trees = {}
    for name, shown in (("own", validation), ("senseless", senseless)):
        model = LightGbm(tiny.SPEC, LightGbmOptions(text_components=0, **FAST))
        told = model.fit(train, shown)
        state = model.state()
        parts = state.pop("trees").tobytes().decode().split("\n\n\n")
        trees[name] = [part for part in parts if "Tree=" in part]
        assert told["trees"] == sum(part.count("Tree=") for part in trees[name])
        trees[name + " state"] = state
    assert len(trees["senseless"]) < len(trees["own"])
    shared = len(trees["senseless"])
    bodies = [[part[part.index("Tree=") :] for part in trees[n]] for n in ("own", "senseless")]
    assert bodies[0][:shared] == bodies[1]
    for name, array in trees["own state"].items():
        np.testing.assert_array_equal(array, trees["senseless state"][name])


def planted(seed, examples=600):
    """A category decides the rate, and the history shows it all the same."""
    draw = np.random.default_rng(seed)
    spec = FeatureSpec(window=6, horizon=1, fields=(FieldSpec(name="category", size=6),))
    category = draw.integers(2, 6, examples)
    truth = 5.0 * category
    inputs = {
        "share_rate": (truth[:, None] + draw.normal(0, 0.5, (examples, 6))).astype("float32"),
        "missing_flag": np.zeros((examples, 6), "float32"),
        "clicks": np.full((examples, 6), 50, "float32"),
        "field_category": category[:, None].astype("int32"),
    }
    return spec, sample(inputs, truth + draw.normal(0, 0.5, examples))


def test_modes_teach_the_trees_to_read_content_when_the_history_is_hidden():
    spec, train = planted(1)
    validation = in_scenarios(planted(2)[1])
    mse = {}
    for weights in ((1, 0, 0), (1, 1, 1)):
        model = LightGbm(spec, LightGbmOptions(mode_weights=weights, **FAST))
        model.fit(train, validation)
        mse[weights] = {
            name: np.mean(np.square(model.predict(one.inputs) - one.share_rate))
            for name, one in validation.items()
        }
    # The categories' variance is 25 · 1.25 = 31; the noise, which nobody can predict, 0.25.
    assert mse[1, 1, 1]["cold_start"] < 1
    assert mse[1, 0, 0]["cold_start"] > 3 * mse[1, 1, 1]["cold_start"]


def test_copies_are_drawn_as_the_networks_draw(samples):
    train, _ = samples
    model = LightGbm(tiny.SPEC, LightGbmOptions(mode_weights=(1, 1, 2), noisy_rate=1.0, copies=5))
    copies = model._copies(train)
    assert len(copies) == 5
    hidden = np.array([copy["missing_flag"].all(axis=1) for copy in copies])
    naturally = train.inputs["missing_flag"].all(axis=1).mean()
    # 3 in 4 rows are hidden whole; three standard errors of 2000 draws.
    assert hidden.mean() == pytest.approx(0.75 + 0.25 * naturally, abs=0.029)
    assert len(np.unique(hidden, axis=0)) == 5  # each copy has draws of its own
    for copy in copies:
        assert not copy["share_rate"][copy["missing_flag"] == 1].any()
        assert copy["field_tags"] is train.inputs["field_tags"]
    (same,) = LightGbm(tiny.SPEC, LightGbmOptions(mode_weights=(2, 0, 0)))._copies(train)
    assert same is train.inputs


def test_a_row_without_weight_teaches_nothing(samples):
    train, validation = samples
    keep = np.arange(len(train)) % 2 == 0
    spoilt = np.where(keep, train.share_rate, 90)
    predicted = []
    for weight in (np.ones(len(train), "float32"), 2 * keep.astype("float32")):
        model = LightGbm(tiny.SPEC, LightGbmOptions(text_components=0, **FAST))
        model.fit(sample(train.inputs, spoilt, weight), validation)
        predicted.append(model.predict(validation["normal"].inputs).mean())
    assert predicted[0] > 30
    assert predicted[1] < 15  # targets that count are about 8 percent


def test_predictions_stay_within_the_range_of_rates(samples):
    train, _ = samples
    far = sample(train.inputs, np.where(train.share_rate > 7, 400, -200))
    narrow, wide = (tiny.SPEC.model_copy(update={"max_rate": top}) for top in (100.0, None))
    for spec, top in ((narrow, 100), (wide, np.inf)):
        model = LightGbm(spec, LightGbmOptions(text_components=0, **FAST))
        model.fit(far, {"normal": far})
        predicted = model.predict(far.inputs)
        assert predicted.min() == 0
        assert min(top, 200) <= predicted.max() <= top


def test_taxonomy_sequences_can_be_left_out(samples):
    train, _ = samples
    model = LightGbm(tiny.SPEC, LightGbmOptions(coarse_granularity=False))
    model.features.fit(train, "lightgbm")
    assert not [name for name in model.features.names() if name.startswith("taxonomy")]


@pytest.mark.parametrize("missing", ["lightgbm", "sklearn.feature_extraction.text"])
def test_without_the_extra_it_says_what_to_install(samples, missing, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    model = REGISTRY["lightgbm"](tiny.SPEC)
    with pytest.raises(InputError, match=r"--model=lightgbm needs the extra: pip install 'mmnet\["):
        model.fit(*samples)


def test_the_options_of_a_tuner_are_read():
    settings = ["num_leaves=15", "learning_rate=.1", "min_data_in_leaf=9", "lambda_l2=0"]
    found = resolve_options("lightgbm", [*settings, "feature_fraction=.5"])
    model = REGISTRY["lightgbm"](tiny.SPEC, **found)
    assert model.parameters == {**model.parameters, **found}


@pytest.mark.parametrize(
    "options", [{"copies": 0}, {"num_trees": 0}, {"text_components": -1}, {"noisy_rate": 2.0}]
)
def test_refuses_options_out_of_range(options):
    with pytest.raises(ValueError, match=rf"`{next(iter(options))}` must be"):
        LightGbm(tiny.SPEC, LightGbmOptions(**options))


# -------------------------------------------------------------------------------- exported


@pytest.fixture(scope="module")
def network(fitted):
    return fitted[0].network()


def test_the_network_scores_as_the_trees_do(samples, fitted, network):
    model, _ = fitted
    for one in samples[1].values():
        # The same leaves, summed in another order and rounded to float32 once.
        np.testing.assert_allclose(network(one.inputs), model.predict(one.inputs), rtol=2e-7)
    check_network(network, model, samples[0].inputs, 1e-3)


def test_another_network_is_found_out(samples, fitted, network):
    other = LightGbm(tiny.SPEC, LightGbmOptions(text_components=0, **FAST))
    other.fit(samples[0], samples[1])
    with pytest.raises(RuntimeError, match=r"the network of the estimator lightgbm .* differently"):
        check_network(network, other, samples[0].inputs, 1.0)
    assert SAME_SCORE <= 1e-6


@pytest.fixture(scope="module")
def run_of_trees(tmp_path_factory):
    """A run directory of trees, with an export."""
    directory = tmp_path_factory.mktemp("trees") / "run"
    flags = ["--model=lightgbm", "--mode_weights=1,1,1", "--set=num_trees=20", "--set=copies=1"]
    with without_drawing():
        tasks.train(parse(config.TrainConfig, [*SIMULATED, *flags, f"--run_dir={directory}"]))
    return directory


def test_an_export_is_verified_scores_and_watches_without_the_library(
    run_of_trees, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    saved_model = f"--saved_model={run_of_trees / 'export'}"
    dataset = f"--dataset_dir={run_of_trees / 'dataset'}"

    def run(task, flags, *arguments):
        return driver.run(flags, "", task, [saved_model, *arguments])

    assert run("predict", config.PredictConfig, "--verify") == driver.OK
    assert "raw_columns" in capsys.readouterr().out
    output = tmp_path / "scores.parquet"
    more = [f"--output={output}", "--rule=stored", f"--static_cache={tmp_path / 'cache'}"]
    assert run("predict", config.PredictConfig, dataset, *more) == driver.OK
    scores = pd.read_parquet(output)
    assert len(scores) == 500
    assert scores["predicted_share_rate"].between(0, 100).all()
    assert scores["predicted_share_rate"].nunique() > 100
    capsys.readouterr()
    explained = tmp_path / "explained.parquet"
    more = [f"--output={explained}", "--explain"]
    assert run("predict", config.PredictConfig, dataset, *more) == driver.OK
    reasons = pd.read_parquet(explained).filter(like="reason_")
    assert "reason_own_clicks" in reasons
    assert (reasons.std() > 0).any()
    report = [f"--output={tmp_path / 'drift'}", "--checked=20"]
    assert run("drift", config.DriftConfig, dataset, *report) in (driver.OK, 3)
    assert (tmp_path / "drift" / "drift.md").exists()
