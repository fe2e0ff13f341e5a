import keras
import numpy as np
import pytest
import tensorflow as tf

from mmnet.layers.disturbance import hide_all
from mmnet.models.mmnet import attention_probe, fusion_names, mmnet
from mmnet.models.options import MMNetOptions
from mmnet.schema import FeatureSpec, FieldSpec, TextSpec
from tests.conformance import check_model
from tests.models.tiny import SPEC, batch

SMALL = {"units": 4, "field_width": 2}
COARSE = {"taxonomy_embedding", "granularity_attention"}


def changed(inputs, **values):
    return {**inputs, **{name: np.asarray(value, "float32") for name, value in values.items()}}


def layer_names(model):
    return {layer.name for layer in model.layers}


def test_reads_every_tensor_of_the_dataset_and_predicts_percent():
    model = mmnet(SPEC, MMNetOptions(**SMALL))
    assert set(model.input) == set(SPEC.tensors())
    predicted = model(batch(examples=4))
    assert (predicted.shape, predicted.dtype) == ((4,), "float32")


def test_the_papers_sizes_are_the_default():
    model = mmnet(SPEC, MMNetOptions())
    assert model.get_layer("tcn").count_params() == 345_408
    assert model.get_layer("gated_fusion").count_params() == 4_224
    mlp = model.get_layer("mlp").count_params()
    assert mlp + model.get_layer("standardised_share_rate").count_params() == 4_225


def test_without_coarse_granularity_there_is_no_layer_of_it():
    assert layer_names(mmnet(SPEC, MMNetOptions(**SMALL))) >= COARSE
    model = mmnet(SPEC, MMNetOptions(coarse_granularity=False, **SMALL))
    assert not layer_names(model) & COARSE
    inputs = batch()
    np.testing.assert_array_equal(
        model(inputs), model(changed(inputs, taxonomy_rate=9 + inputs["taxonomy_rate"]))
    )


def test_an_absent_modality_is_not_in_the_fusion():
    both = (
        TextSpec(name="title", size=9, max_tokens=3),
        TextSpec(name="body", size=9, max_tokens=3),
    )
    cases = {
        ("history",): FeatureSpec(window=6, horizon=1),
        ("history", "meta"): FeatureSpec(
            window=6, horizon=1, fields=(FieldSpec(name="category", size=5),)
        ),
        ("history", "text_title"): FeatureSpec(window=6, horizon=1, texts=both[:1]),
        ("history", "context"): FeatureSpec(window=6, horizon=1, texts=both),
        ("history", "meta", "text_title", "vector_cover"): SPEC,
    }
    for names, spec in cases.items():
        model = mmnet(spec, MMNetOptions(**SMALL))
        assert tuple(fusion_names(model)) == names
        assert np.all(np.isfinite(model(batch(spec))))


def test_the_attention_probe_shows_weights_that_sum_to_one():
    model = mmnet(SPEC, MMNetOptions(**SMALL))
    weights = attention_probe(model)(batch(examples=4))
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    assert shapes == {"granularity": (4, 6, 3), "temporal": (4, 6), "fusion": (4, 4)}
    for weight in weights.values():
        np.testing.assert_allclose(np.sum(weight, axis=-1), 1, rtol=1e-5)


def test_the_authors_softmax_sums_to_one_over_time():
    weights = attention_probe(mmnet(SPEC, MMNetOptions(softmax_axis="time", **SMALL)))(batch())[
        "granularity"
    ]
    np.testing.assert_allclose(np.sum(weights, axis=1), 1, rtol=1e-5)


def test_an_example_is_predicted_alone_as_in_a_batch():
    model, inputs = mmnet(SPEC, MMNetOptions(**SMALL)), batch(examples=4)
    alone = [model({name: x[n : n + 1] for name, x in inputs.items()})[0] for n in range(4)]
    np.testing.assert_allclose(model(inputs), alone, rtol=1e-5)


def test_the_order_of_tags_changes_nothing():
    model, inputs = mmnet(SPEC, MMNetOptions(**SMALL)), batch()
    shuffled = {**inputs, "field_tags": inputs["field_tags"][:, [2, 0, 1]]}
    np.testing.assert_array_equal(model(inputs), model(shuffled))


def test_clicks_are_read_only_with_evidence():
    inputs = batch()
    more = changed(inputs, clicks=10 * inputs["clicks"])
    model = mmnet(SPEC, MMNetOptions(**SMALL))
    np.testing.assert_array_equal(model(inputs), model(more))
    model = mmnet(SPEC, MMNetOptions(evidence=True, **SMALL))
    assert np.any(np.asarray(model(inputs)) != model(more))


def test_two_cold_items_with_the_same_content_are_predicted_alike():
    model, inputs = mmnet(SPEC, MMNetOptions(evidence=True, **SMALL)), batch(examples=2)
    same = {name: np.repeat(x[:1], 2, axis=0) for name, x in inputs.items()}
    for name in ("share_rate", "missing_flag", "clicks"):
        same[name] = inputs[name]
    missing, rate, clicks = hide_all(same["missing_flag"], same["share_rate"], same["clicks"])
    first, second = model(changed(same, share_rate=rate, missing_flag=missing, clicks=clicks))
    assert float(first) == float(second)


def test_every_trainable_weight_gets_a_gradient():
    # Some content must be absent: the vectors that say so learn from nothing else.
    model = mmnet(SPEC, MMNetOptions(evidence=True, modality_dropout=0.3, seed=1, **SMALL))
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model(batch(examples=64), training=True) ** 2)
    gradients = tape.gradient(loss, model.trainable_weights)
    for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
        assert gradient is not None, weight.path
        assert np.any(tf.convert_to_tensor(gradient).numpy() != 0), weight.path


def test_the_seed_fixes_the_weights_and_nothing_else_is_touched():
    keras.utils.set_random_seed(5)
    first = mmnet(SPEC, MMNetOptions(seed=3, **SMALL))
    keras.utils.set_random_seed(6)
    second, other = (
        mmnet(SPEC, MMNetOptions(seed=3, **SMALL)),
        mmnet(SPEC, MMNetOptions(seed=4, **SMALL)),
    )
    for one, two in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    kernel = "gated_fusion"
    assert np.any(
        first.get_layer(kernel).get_weights()[0] != other.get_layer(kernel).get_weights()[0]
    )


def test_mixed_precision_predicts_float32():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = mmnet(SPEC, MMNetOptions(**SMALL))
    finally:
        keras.config.set_dtype_policy(policy)
    inputs = batch()
    assert half(inputs).dtype == "float32"
    # bfloat16 keeps 8 bits: about 1 % of the sd per operation.
    np.testing.assert_allclose(half(inputs), mmnet(SPEC, MMNetOptions(**SMALL))(inputs), atol=0.2)


def test_learns_a_planted_rule_under_xla():
    # An item's rate is 2, 4 or 6 by its category where nothing is seen, else its last rate.
    spec = FeatureSpec(window=3, horizon=1, fields=(FieldSpec(name="category", size=5),))
    draw, examples = np.random.default_rng(0), 1024
    category = draw.integers(2, 5, (examples, 1)).astype("int32")
    rate = draw.uniform(0, 4, (examples, 3)).astype("float32")
    cold = draw.random((examples, 1)) < 0.5
    seen = np.where(cold, 0, 1).astype("float32")
    inputs = {
        "share_rate": rate * seen,
        "missing_flag": np.repeat(1 - seen, 3, axis=1),
        "clicks": np.zeros_like(rate),
        "field_category": category,
    }
    target = np.where(cold[:, 0], 2.0 * (category[:, 0] - 1), rate[:, -1])
    model = mmnet(spec, MMNetOptions(mode_weights=(1, 0, 0), units=16, field_width=4))
    model.compile(keras.optimizers.Adam(0.01), "mse", jit_compile=True, steps_per_execution=8)
    model.fit(inputs, target, batch_size=64, epochs=10, verbose=0)
    # The best constant leaves the variance; a rule that is learnt, nearly nothing.
    assert np.mean((np.asarray(model(inputs)) - target) ** 2) < 0.05 * np.var(target)


def test_refuses_filters_that_do_not_end_in_units():
    with pytest.raises(ValueError, match="`tcn_filters` must end in `units`"):
        mmnet(SPEC, MMNetOptions(units=8, tcn_filters=(8, 4)))


def test_conforms(tmp_path):
    check_model(mmnet(SPEC, MMNetOptions(seed=0, **SMALL)), batch(), tmp_path=tmp_path)


def test_conforms_without_coarse_granularity(tmp_path):
    model = mmnet(SPEC, MMNetOptions(coarse_granularity=False, **SMALL))
    check_model(model, batch(), tmp_path=tmp_path, golden="mmnet_without_coarse_granularity")


def test_content_dropout_acts_in_training_only_and_on_content_only():
    plain, disturbed = (
        mmnet(SPEC, MMNetOptions(**SMALL, content_dropout=rate)) for rate in (0.0, 0.9)
    )
    inputs = batch()
    np.testing.assert_array_equal(disturbed(inputs), plain(inputs))
    added = {layer.name for layer in disturbed.layers} - {layer.name for layer in plain.layers}
    assert added == {
        "known_field_category",
        "known_field_tags",
        "known_text_title",
        "known_vector_cover",
    }


def test_content_dropout_hides_two_fields_independently():
    model = mmnet(SPEC, MMNetOptions(**SMALL, content_dropout=0.5))
    ids = np.full((200, 1), 3, "int32")
    first, second = (
        np.asarray(model.get_layer(f"known_field_{name}")(ids, training=True)) == 1
        for name in ("category", "tags")
    )
    # Independent halves agree on 200 draws about half the time: 4 standard errors are 0.14.
    assert np.mean(first == second) == pytest.approx(0.5, abs=0.15)


# ------------------------------------------------------------------------- beyond the paper


def cold(inputs):
    missing, rate, clicks = hide_all(*(inputs[n] for n in ("missing_flag", "share_rate", "clicks")))
    return changed(inputs, missing_flag=missing, share_rate=rate, clicks=clicks)


def prior_and_prediction(model):
    return keras.Model(model.input, [model.get_layer("prior_share_rate").output, model.output])


def test_with_smoothed_history_the_network_predicts_a_prior_that_clicks_correct():
    model = mmnet(SPEC, MMNetOptions(smoothed_history=True, **SMALL))
    inputs = batch(examples=8)
    for step in range(6):  # the same rate and clicks at every step
        inputs["share_rate"][:, step] = 50.0
    inputs = changed(inputs, missing_flag=0 * inputs["clicks"], clicks=100 + 0 * inputs["clicks"])
    prior, predicted = map(np.asarray, prior_and_prediction(model)(inputs))
    layer = model.get_layer("predicted_share_rate")
    logits, log_half = (weight.numpy() for weight in layer.weights)
    evidence = np.sum(100 / (1 + 100 / np.exp(log_half)) / (1 + np.exp(-logits)))
    # 30 clicks of the prior at the start; float32.
    expected = np.clip((30 * prior + evidence * 50) / (30 + evidence), 0, 100)
    np.testing.assert_allclose(predicted, expected, rtol=1e-5)


def test_a_cold_start_is_predicted_by_the_prior_alone():
    inputs = cold(batch(examples=16))
    prior, predicted = prior_and_prediction(
        mmnet(SPEC, MMNetOptions(smoothed_history=True, **SMALL))
    )(inputs)
    np.testing.assert_array_equal(predicted, np.clip(prior, 0, 100))


def test_the_prior_does_not_read_the_history_that_corrects_it():
    model = prior_and_prediction(
        mmnet(SPEC, MMNetOptions(smoothed_history=True, evidence=True, **SMALL))
    )
    inputs = batch(examples=8)
    prior, predicted = model(inputs)
    cold_prior, cold_predicted = model(cold(inputs))
    np.testing.assert_array_equal(prior, cold_prior)
    assert np.all(np.asarray(predicted) != cold_predicted)


def test_what_the_disturbance_hides_corrects_no_prior():
    model = mmnet(SPEC, MMNetOptions(smoothed_history=True, mode_weights=(0, 1, 0), **SMALL))
    prior, predicted = prior_and_prediction(model)(batch(examples=16), training=True)
    np.testing.assert_array_equal(predicted, prior)


def test_modes_may_adapt_to_the_clicks_of_a_window():
    model, inputs = (
        mmnet(SPEC, MMNetOptions(adaptive_modes="evidence", **SMALL)),
        batch(examples=64),
    )
    modes = model.get_layer("multi_mode")
    model(changed(inputs, clicks=0 * inputs["clicks"]), training=True)
    np.testing.assert_array_equal(modes.mode_counts, [64, 0, 0])  # there was nothing to hide
    model(changed(inputs, clicks=1000 + inputs["clicks"]), training=True)
    assert modes.mode_counts.numpy()[1:].min() > 0


EVERYTHING = {
    "evidence": True,
    "smoothed_history": True,
    "link": "logit",
    "adaptive_modes": "evidence",
    "adaptive_clicks": 200,
}


def test_every_trainable_weight_gets_a_gradient_beyond_the_paper():
    model = mmnet(SPEC, MMNetOptions(seed=1, modality_dropout=0.3, **EVERYTHING, **SMALL))
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model(batch(examples=64), training=True) ** 2)
    gradients = tape.gradient(loss, model.trainable_weights)
    for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
        assert gradient is not None, weight.path
        # Of the history's own vectors the prior reads those of missing steps only.
        if weight.path not in (f"sequence_embedding/{x}_vectors" for x in ("value", "evidence")):
            assert np.any(tf.convert_to_tensor(gradient).numpy() != 0), weight.path


def test_conforms_beyond_the_paper(tmp_path):
    model = mmnet(SPEC, MMNetOptions(seed=0, **EVERYTHING, **SMALL))
    check_model(model, batch(), tmp_path=tmp_path, golden="mmnet_beyond_the_paper")
