"""Networks that predict several rates at several horizons."""

import json

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from mmnet.checks import InputError
from mmnet.config import TrainConfig, TrainingFlags
from mmnet.data import dataset as datasets
from mmnet.data.windows import Windows
from mmnet.evaluation.output_sets import metric_of, parts_of
from mmnet.evaluation.predicting import Predictor
from mmnet.experiments import comparison
from mmnet.flags import parse
from mmnet.layers.disturbance import ColdStartDisturbance, MultiMode, NoisyDisturbance
from mmnet.layers.evidence import LOG_CLICKS
from mmnet.models import REGISTRY
from mmnet.models.ensemble import ensemble
from mmnet.models.fine_granularity import model_inputs
from mmnet.models.mmnet import attention_probe, explained, explained_names, head_weights
from mmnet.models.seeding import seeded
from mmnet.schema import RateSpec
from mmnet.tasks import evaluating, starting
from mmnet.training import losses, share_rates
from mmnet.training.run_directory import SHARE_RATES
from tests import extremes, two_rates
from tests.conformance import check_config, check_layer, check_model
from tests.models.tiny import SEVERAL, SPEC, batch

SMALL = {"units": 4, "field_width": 2}
OUTPUTS = [output.name for output in SEVERAL.outputs()]
MAIN, _, LIKE, LIKE_LATER = OUTPUTS
NETWORKS = {
    "mmnet": {"evidence": True},
    "gru": {"head": "mixed"},
    "encoder_decoder": {},
    "mmved": {},
    "dftc": {"evidence": True},
    "transformer": {"head": "smoothed", "num_layers": 1, "num_heads": 2},
}


def awake(model):
    """Gives every weight a value, so that everything that is read counts."""
    draw = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign_add(0.1 * draw.normal(size=variable.shape))
    return model


def built(name, spec=SEVERAL, **options):
    return awake(REGISTRY[name](spec, **SMALL, **{**NETWORKS[name], **options}))


@pytest.fixture(scope="module")
def mixed():
    return built("mmnet", head="mixed")


@pytest.fixture(scope="module")
def smoothed():
    return built("mmnet", head="smoothed")


def changed(inputs, rate, draw):
    """The same batch with another history of one rate."""
    names = SEVERAL.sequences(rate)
    return {
        **inputs,
        **{
            names[name]: draw.gamma(3, 1, inputs[names[name]].shape).astype("float32")
            for name in ("share_rate", "clicks")
        },
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_has_a_column_per_output_and_reads_all_rates(name):
    model, inputs = built(name), batch(SEVERAL)
    assert set(model.input) == set(SEVERAL.tensors())
    check_config(model)
    with tf.GradientTape() as tape:
        predicted = model(inputs, training=True)
    gradients = tape.gradient(predicted, model.trainable_variables)
    assert predicted.shape == (4, len(OUTPUTS))
    assert predicted.dtype == "float32"
    assert all(gradient is not None for gradient in gradients)
    before = np.asarray(model(inputs))
    assert len(np.unique(before[0])) == len(OUTPUTS)
    for name in ("share_rate_like", "taxonomy_rate_like"):
        after = np.asarray(model({**inputs, name: 5 + inputs[name]}))
        assert np.all(np.any(after != before, axis=0)[2:]), name


def test_a_network_of_several_outputs_conforms(mixed, tmp_path):
    model = REGISTRY["mmnet"](SEVERAL, **SMALL, head="mixed")
    check_model(model, batch(SEVERAL), tmp_path=tmp_path, golden="mmnet_several_outputs")


def test_further_rates_add_vectors_but_no_positions_to_attend_to(mixed):
    weights = attention_probe(mixed)(batch(SEVERAL))
    assert weights["granularity"].shape == (4, 6, 1 + len(SEVERAL.taxonomies))
    assert weights["temporal"].shape == (4, 6)


# ------------------------------------------------------------------------------- disturbance


HISTORY = ("share_rate", "missing_flag", "clicks")


def histories(inputs):
    """The history of the main rate and that of the further one."""
    rates = [SEVERAL.sequences(rate) for rate in ("", "like")]
    return [[inputs[names[name]] for name in HISTORY] for names in rates]


@pytest.mark.parametrize(
    "layer",
    [
        ColdStartDisturbance(),
        NoisyDisturbance(0.4, seed=1),
        MultiMode((1, 1, 2), 0.4, "none", 50, seed=2),
        MultiMode((1, 1, 2), 0.4, "evidence", 50, seed=3),
    ],
    ids=["cold", "noisy", "modes", "adaptive"],
)
def test_one_draw_hides_the_same_steps_of_all_rates(layer):
    inputs = batch(SEVERAL, examples=64)
    for name in ("missing_flag", "missing_flag_like"):
        inputs[name] = np.zeros_like(inputs[name])
    main, like = histories(inputs)
    shown = layer(*main, further=[like], training=True)
    rate, flag, clicks, *further = map(np.asarray, shown)
    assert flag.mean() > 0
    np.testing.assert_array_equal(further[1], flag)
    np.testing.assert_array_equal(further[0], (1 - flag) * inputs["share_rate_like"])
    np.testing.assert_array_equal(further[2], (1 - flag) * inputs["clicks_like"])
    np.testing.assert_array_equal(rate, (1 - flag) * inputs["share_rate"])
    np.testing.assert_array_equal(clicks, (1 - flag) * inputs["clicks"])


def test_further_rates_do_not_change_what_is_drawn():
    (main, like), found = histories(batch(SEVERAL, examples=64)), []
    for further in ([], [like]):
        layer = MultiMode((1, 1, 2), 0.4, "none", 50, seed=2)
        found.append(np.asarray(layer(*main, further=further, training=True)[1]))
    np.testing.assert_array_equal(*found)


def test_a_disturbance_of_two_rates_conforms(tmp_path):
    main, like = histories(batch(SEVERAL))
    layer = MultiMode((1, 1, 1), 0.3, "none", 50, seed=0)
    check_layer(layer, *main, [like], tmp_path=tmp_path, golden="MultiMode_further")


# ------------------------------------------------------------------------------------- heads


def test_a_posterior_uses_the_clicks_of_its_own_rate_alone(smoothed):
    inputs, draw = batch(SEVERAL, examples=16), np.random.default_rng(2)
    before = np.asarray(smoothed(inputs))
    of_like = np.array([name.startswith(LIKE) for name in OUTPUTS])
    for rate, moved in (("", ~of_like), ("like", of_like)):
        after = np.asarray(smoothed(changed(inputs, rate, draw)))
        assert np.all(after[:, moved] != before[:, moved])
        np.testing.assert_array_equal(after[:, ~moved], before[:, ~moved])


def test_a_posterior_of_a_further_rate_is_that_of_a_loop(smoothed):
    inputs = batch(SEVERAL, examples=8)
    names = ("prior_share_rate_of_like_h3", "prior_clicks_of_like_h3")
    parts = [smoothed.get_layer(name).output for name in names]
    prior, worth = map(np.asarray, keras.Model(smoothed.input, parts)(inputs))
    layer = smoothed.get_layer(LIKE_LATER)
    weights = 1 / (1 + np.exp(-np.asarray(layer.step_logits)))
    half = np.exp(np.asarray(layer.log_half_clicks))
    assert np.all((np.log(worth) > LOG_CLICKS[0]) & (np.log(worth) < LOG_CLICKS[1]))
    for example, found in enumerate(np.asarray(smoothed(inputs))[:, OUTPUTS.index(LIKE_LATER)]):
        shares, clicks = worth[example] * prior[example], worth[example]
        for step in range(SEVERAL.window):
            n = inputs["clicks_like"][example, step]
            evidence = weights[step] * n / (1 + n / half[step])
            shares += evidence * inputs["share_rate_like"][example, step]
            clicks += evidence
        assert found == pytest.approx(shares / clicks, rel=1e-5)


def test_the_main_prediction_of_a_prior_is_named_as_that_of_a_single_output(mixed):
    one = {layer.name for layer in REGISTRY["mmnet"](SPEC, **SMALL, head="mixed").layers}
    assert one <= {layer.name for layer in mixed.layers}


def test_the_weights_behind_a_prediction_are_those_of_its_output(mixed):
    inputs, draw = batch(SEVERAL, examples=8), np.random.default_rng(3)
    other = changed(inputs, "like", draw)
    for output in (MAIN, LIKE):
        parts = head_weights(mixed, output)
        assert set(parts) == {"own_clicks", "prior", "direct"}
        model = keras.Model(mixed.input, list(parts.values()))
        np.testing.assert_allclose(sum(map(np.asarray, model(inputs))), 1, rtol=1e-5)
    predicted, main = explained(mixed)(inputs)
    _, like = explained(mixed, LIKE)(inputs)
    np.testing.assert_array_equal(predicted, mixed(inputs))
    assert main.shape == like.shape == (8, len(explained_names(mixed)))
    np.testing.assert_allclose(np.sum(like, axis=-1), 1, rtol=1e-5)
    assert np.all(np.asarray(main) != np.asarray(like))
    # The clicks of a rate weigh in its own prediction.
    own = keras.Model(mixed.input, [head_weights(mixed, one)["own_clicks"] for one in (MAIN, LIKE)])
    moved = [np.abs(np.subtract(*pair)).max() for pair in zip(own(inputs), own(other), strict=True)]
    assert moved[1] > 10 * moved[0]


def test_a_direct_head_has_no_parts_in_any_output():
    assert head_weights(built("gru", head="direct"), LIKE) == {}


def test_an_ensemble_averages_every_output():
    members = [built("gru", seed=seed) for seed in range(2)]
    for variable in members[1].trainable_variables:
        variable.assign_add(0.1 * np.ones(variable.shape))
    model, inputs = ensemble(members), batch(SEVERAL)
    alone = [np.asarray(member(inputs)) for member in members]
    np.testing.assert_allclose(model(inputs), sum(alone) / 2, rtol=1e-6, atol=1e-6)
    assert set(head_weights(model, LIKE)) == {"own_clicks", "prior", "direct"}


def test_extreme_numbers_of_any_rate_score_finite_ones(mixed):
    inputs = batch(SEVERAL, examples=extremes.ROWS)
    for seed in range(4):
        drawn = [name for name in inputs if seed % 2 or name.endswith("_like")], seed
        assert np.isfinite(mixed(extremes.made_extreme(inputs, drawn))).all()


# ------------------------------------------------------------------------------------ losses


@pytest.mark.parametrize("loss", ["mse", "binomial", "poisson"])
def test_a_target_that_is_not_eligible_has_no_gradient_at_all(loss):
    link = {"mse": "identity", "binomial": "logit", "poisson": "log"}[loss]
    model, inputs = built("gru", link=link), batch(SEVERAL, examples=8)
    target = np.full((8, len(OUTPUTS)), 3.0, "float32")
    weights = np.ones_like(target)
    weights[:, OUTPUTS.index(LIKE)] = 0
    weights[0] = 0

    def gradients(target):
        loss_of = losses.loss_named(loss, SEVERAL.rate_scale, SEVERAL)
        with tf.GradientTape() as tape:
            predicted = model(inputs, training=False)
            tape.watch(predicted)
            value = loss_of(target, predicted, weights)
        every = tape.gradient(value, [predicted, *model.trainable_variables])
        return [np.asarray(tf.convert_to_tensor(one)) for one in every]

    found = gradients(target)
    assert np.all(found[0][1:, [0, 1, 3]] != 0)
    np.testing.assert_array_equal(found[0][weights == 0], 0)
    own = [variable.path for variable in model.trainable_variables]
    of_like = [n for n, path in enumerate(own) if path.split("/")[0].endswith("_of_like")]
    assert len(of_like) > 3
    for number in of_like:
        np.testing.assert_array_equal(found[1 + number], 0)
    target[weights == 0] = 77.0  # whatever stands there
    for before, after in zip(found, gradients(target), strict=True):
        np.testing.assert_array_equal(after, before)


def test_each_error_counts_in_units_of_its_own_rate():
    loss = losses.loss_named("mse", SEVERAL.rate_scale, SEVERAL)  # scales 2 and 0.5
    target, predicted = np.zeros((1, 4), "float32"), np.array([[2, 4, 0.5, 1]], "float32")
    np.testing.assert_array_equal(loss.call(target, predicted), [[1, 4, 1, 4]])
    assert type(loss).from_config(loss.get_config()).get_config() == loss.get_config()


@pytest.mark.parametrize(
    ("loss", "factor"), [("binomial", 0.03 * 0.97 / (0.01 * 0.99)), ("poisson", 3)]
)
def test_a_rare_rate_is_heard_under_a_likelihood(loss, factor):
    several = losses.loss_named(loss, 2.0, SEVERAL)
    alone = losses.loss_named(loss, 2.0)
    target, predicted = np.full((1, 4), 3, "float32"), np.full((1, 4), 5, "float32")
    of_one = alone.call(target, predicted).numpy()
    expected = of_one * [1, 1, factor, factor]
    np.testing.assert_allclose(several.call(target, predicted), expected, rtol=1e-5)
    assert type(several).from_config(several.get_config()).get_config() == several.get_config()


def test_a_rate_that_never_occurs_does_not_outweigh_all():
    never = SEVERAL.model_copy(
        update={"rates": (RateSpec(name="like", rate_scale=1, rate_mean=0, max_rate=None),)}
    )
    assert max(losses.output_factors("poisson", never)) == pytest.approx(3e4)


def test_the_monitor_is_the_mean_over_outputs_in_units_of_the_main_rate():
    units = share_rates.mse_units(SEVERAL)  # (2 / 0.5)² = 16 for the further rate
    metrics = {
        metric_of(output, f"{scenario}_mse"): value
        for output, value in zip(OUTPUTS, (4.0, 8.0, 0.25, 1.0), strict=True)
        for scenario in ("normal", "cold_start", "noisy")
    }
    assert share_rates.monitored("normal", metrics, units) == pytest.approx((4 + 8 + 4 + 16) / 4)
    logs = np.log([4, 8, 4, 16])
    assert share_rates.monitored("mean_log_mse", metrics, units) == pytest.approx(logs.mean())
    assert share_rates.mse_units(SPEC) == {}


# -------------------------------------------------------------------------------- whole runs

RULES = ["keep=0.3", "keep=0.5 of like at 2", "keep=0.4 per category of like"]


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    return two_rates.write(tmp_path_factory.mktemp("two_rates"))


@pytest.fixture(scope="module")
def run(given, tmp_path_factory):
    """One epoch of a small network with every output, and all that is made of it."""
    run_dir = tmp_path_factory.mktemp("runs") / "run"
    options = ["--model=gru", "--set=units=4", "--set=field_width=2"]
    rules = f"--rules={','.join(RULES)}"
    starting.train(
        parse(
            TrainConfig,
            [*given, *options, rules, "--epochs=1", "--nojit", f"--run_dir={run_dir}"],
        )
    )
    return run_dir


@pytest.fixture(scope="module")
def predictions(run):
    return pd.read_parquet(run / "evaluation" / "predictions.parquet")


def test_metrics_of_every_output_are_those_of_its_predictions(run, predictions):
    found = json.loads((run / "evaluation" / "metrics.json").read_text())
    nested = {
        ("share_rate", 1): found,
        ("share_rate", 2): found["horizons"]["2"],
        ("share_rate_like", 1): found["rates"]["like"],
        ("share_rate_like", 2): found["rates"]["like"]["horizons"]["2"],
    }
    for (truth, horizon), metrics in nested.items():
        predicted = "predicted_like" if truth.endswith("like") else "predicted_share_rate"
        rows = predictions[(predictions["horizon"] == horizon) & predictions[truth].notna()]
        for scenario, part in rows.groupby("scenario"):
            assert metrics[scenario]["n"] == len(part)
            mse = np.mean(np.square(part[truth] - part[predicted]))
            assert metrics[scenario]["mse"] == pytest.approx(mse, rel=1e-6)
    recorded = json.loads((run / "record.json").read_text())["metrics"]
    assert recorded["rates"] == found["rates"]


def test_the_reports_show_the_further_outputs(run):
    evaluation = run / "evaluation"
    table = (evaluation / "table.md").read_text().split("## Other horizons and rates")[1]
    assert [line.split(" | ")[0] for line in table.split("\n")[4:7]] == [
        "| at horizon 2",
        "| like",
        "| like at horizon 2",
    ]
    page = (evaluation / "report.html").read_text()
    assert "Other horizons and rates" in page
    assert "like at horizon 2" in page
    assert set(json.loads((evaluation / "systems.json").read_text())["gru"]) >= {"normal"}


def test_rules_decide_by_the_output_that_they_name(run):
    stored = json.loads((run / "export" / "1" / "assets.extra" / "decision.json").read_text())
    assert list(stored["rules"]) == RULES
    assert set(stored["others"]) == {
        "predicted_share_rate_h2",
        "predicted_like",
        "predicted_like_h2",
    }
    evaluated = json.loads((run / "evaluation" / "decision.json").read_text())
    assert [rule["rule"] for rule in evaluated["rules"]["normal"]] == RULES[:1]
    others = {
        name: [rule["rule"] for rule in rules["normal"]]
        for name, rules in evaluated["others"].items()
    }
    assert others == {"predicted_like_h2": RULES[1:2], "predicted_like": RULES[2:]}


def test_the_decisions_page_has_a_table_of_each_output_with_rules(run):
    text = (run / "evaluation" / "decision.md").read_text()
    for output, rule in (("predicted_like", RULES[2]), ("predicted_like_h2", RULES[1])):
        part = text.split(f"## The rules of {output}\n")[1].split("## ")[0]
        assert f"| {rule} |" in part
    assert RULES[1] not in text.split("## The rules of")[0]


def test_a_threshold_of_another_output_is_solved_on_its_own_predictions(run):
    flags, dataset = SHARE_RATES.read(run), datasets.load(run / "dataset")
    system = evaluating.System.of(evaluating.restored(dataset, flags, run), dataset, flags)
    windows = Windows(dataset)
    split = evaluating.scenario_set(dataset, windows, "validation", flags)
    later = parts_of(split)[3]
    predicted = np.sort(later.of(split.predictions(system.predict))["normal"])
    found = evaluating.validation_of(system.predict, dataset, windows, flags).decisions
    rule = found.rules["keep=0.5 of like at 2"]
    assert rule.n == len(predicted)
    assert np.mean(predicted >= rule.threshold) == pytest.approx(0.5, abs=1 / len(predicted))


def dense(spec):
    """A network that compiles in no time, with a random state."""
    inputs = model_inputs(spec)
    with seeded(3):
        both = keras.layers.Concatenate()([inputs["share_rate"], inputs["share_rate_like"]])
        hidden = keras.layers.Dropout(0.3, seed=4)(keras.layers.Dense(8, "relu")(both))
        return keras.Model(inputs, keras.layers.Dense(len(spec.outputs()))(hidden))


def test_training_of_several_outputs_resumes_bit_for_bit(run, tmp_path):
    flags, dataset = SHARE_RATES.read(run), datasets.load(run / "dataset")
    spec, windows = dataset.fitted.spec, Windows(dataset)
    batches, steps = windows.training_batches(dataset.examples("train"), 64, 0)
    _, target, weight = next(iter(batches(0)))
    assert target.shape == weight.shape == (64, 4)
    assert 0 < float(tf.reduce_mean(tf.cast(weight == 0, "float32"))) < 1
    validation = evaluating.choosing_set(dataset, windows, flags)

    def trained(place, epochs):
        for until in epochs:
            model = dense(spec)
            settings = TrainingFlags(epochs=until, jit=False, seed=3, monitor="mean_log_mse")
            trainer = share_rates.trainer(
                model, batches, steps, settings, rate_scale=spec.rate_scale, spec=spec
            )
            predict = Predictor(model, jit=False)
            trainer.fit(
                batches,
                lambda _, predict=predict: validation.mse(validation.predictions(predict)),
                run_dir=place,
                resume=until != epochs[0],
            )
        return model.get_weights()

    whole, resumed = trained(tmp_path / "whole", [2]), trained(tmp_path / "resumed", [1, 2])
    for one, other in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("model", ["lightgbm", "smoothed_history", "ha"])
def test_a_model_of_one_output_is_refused_before_anything_is_read(given, model, tmp_path):
    for flags in (["--horizon=1"], ["--also_predict="]):
        with pytest.raises(InputError) as error:
            starting.train(
                parse(
                    TrainConfig, [*given, *flags, f"--model={model}", f"--run_dir={tmp_path}/run"]
                )
            )
        assert str(error.value) == (
            f"--model={model} predicts one rate at one horizon; give one --horizon and no "
            "--also_predict, or use one of the networks: mmnet, gru, encoder_decoder, mmved, dftc, "
            "transformer"
        )
    assert not (tmp_path / "run").exists()


def test_the_search_for_a_recipe_is_refused(given, tmp_path):
    with pytest.raises(InputError, match=r"^--recipe=auto compares models of one rate at one"):
        starting.train(parse(TrainConfig, [*given, "--recipe=auto", f"--run_dir={tmp_path}/run"]))
    assert not (tmp_path / "run").exists()


def test_a_rule_of_an_unknown_output_is_refused_before_training(given, run, tmp_path):
    flags = [f"--dataset_dir={run}/dataset", "--rules=keep=0.3 of shop", f"--run_dir={tmp_path}/r"]
    with pytest.raises(InputError, match=r"^--rules=keep=0\.3 of shop: the model does not predict"):
        starting.train(parse(TrainConfig, flags))


def test_experiments_compare_the_main_output(run, predictions):
    read = comparison._read(run / "evaluation" / "predictions.parquet")
    main = predictions[(predictions["horizon"] == 1) & predictions["share_rate"].notna()]
    np.testing.assert_array_equal(read["share_rate"], main["share_rate"])
    assert read["share_rate"].notna().all()
