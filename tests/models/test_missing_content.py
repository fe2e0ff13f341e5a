"""What every network does where an item lacks some of its content."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from mmnet.evaluation import scenarios
from mmnet.models import REGISTRY
from mmnet.models.meta_info import texts_of
from mmnet.models.mmnet import attention_probe, explained, fusion_names, mmnet
from mmnet.models.options import MMNetOptions
from mmnet.schema import FeatureSpec, TextSpec, VectorSpec
from tests.models.tiny import SPEC, batch

NETWORKS = tuple(name for name, one in REGISTRY.items() if one.kind == "network")
GATED = tuple(name for name in NETWORKS if name != "mmved")
SMALL = {"units": 4, "field_width": 2}
ENCODERS = {
    "meta": "xdeepfm",
    "text_title": "encoded_text_title",
    "vector_cover": "encoded_vector_cover",
}
TITLE, BODY = (TextSpec(name=name, size=9, max_tokens=3) for name in ("title", "body"))
FROZEN = VectorSpec(name="abstract", dim=3, of="text")
COVER = VectorSpec(name="cover", dim=3, of="image")

every_network = pytest.mark.parametrize("name", NETWORKS)


@functools.cache
def small(name, **options):
    """A small model that no test changes."""
    return REGISTRY[name](SPEC, **SMALL, **options)


def complete(spec=SPEC, examples=6):
    """A batch in which no example lacks anything."""
    inputs = batch(spec, examples)
    for name, values in inputs.items():
        if values.dtype == "int32":
            values[:, 0] = np.maximum(values[:, 0], 2)
        assert values.dtype != "int32" or np.all(values.any(axis=-1)), name
    return inputs


def remove(inputs, tensors):
    """`scenarios.remove`, of arrays."""
    return {name: np.asarray(x) for name, x in scenarios.remove(inputs, tensors).items()}


def lacking(inputs, *modalities, rows=slice(None, None, 2), spec=SPEC):
    """The batch, of which every second example lacks the modalities."""
    names = [name for modality in modalities for name in spec.modalities()[modality]]
    without = remove(inputs, names)
    found = {name: np.array(values) for name, values in inputs.items()}
    for name in names:
        found[name][rows] = without[name][rows]
    return found


def shaken(layer):
    """Gives a layer other weights."""
    draw = np.random.default_rng(5)
    layer.set_weights([draw.uniform(0.5, 1.5, one.shape) for one in layer.get_weights()])


@every_network
@pytest.mark.parametrize("modality", ENCODERS)
def test_what_an_example_lacks_cannot_move_its_prediction(name, modality):
    model = REGISTRY[name](SPEC, **SMALL)
    inputs = lacking(complete(), modality)
    before = np.asarray(model(inputs))
    shaken(model.get_layer(ENCODERS[modality]))
    after = np.asarray(model(inputs))
    np.testing.assert_array_equal(after[::2], before[::2])
    assert np.any(after[1::2] != before[1::2])


@pytest.mark.parametrize("name", GATED)
def test_the_gate_weighs_what_is_there_and_nothing_else(name):
    weights = attention_probe(small(name))
    inputs = lacking(complete(), "meta", "vector_cover")
    named = dict(
        zip(fusion_names(small(name)), np.asarray(weights(inputs)["fusion"]).T, strict=True)
    )
    for modality in ("meta", "vector_cover"):
        np.testing.assert_array_equal(named[modality][::2], 0)
        assert np.all(named[modality][1::2] > 0)
    assert np.all(named["text_title"] > 0)
    # Four or five float32 weights.
    np.testing.assert_allclose(sum(named.values()), 1, rtol=1e-6)


def test_without_any_content_the_history_decides_alone():
    inputs = remove(complete(), [n for names in SPEC.modalities().values() for n in names])
    weights = attention_probe(small("mmnet"))(inputs)["fusion"]
    np.testing.assert_array_equal(weights, np.tile([1, 0, 0, 0], (6, 1)))


@pytest.mark.parametrize("name", GATED)
def test_the_head_learns_what_absence_means_from_those_who_lack_it(name):
    model = REGISTRY[name](SPEC, **SMALL)
    layer = model.get_layer("absent_modalities")
    whole, inputs = complete(), lacking(complete(), "text_title")
    with tf.GradientTape(persistent=True) as tape:
        there, gone = (tf.reduce_sum(model(one)) for one in (whole, inputs))
    np.testing.assert_array_equal(tape.gradient(there, layer.vectors.value), np.zeros((3, 4)))
    gradient = np.asarray(tape.gradient(gone, layer.vectors.value))
    assert np.any(gradient[1] != 0)  # meta, title, cover
    np.testing.assert_array_equal(gradient[[0, 2]], np.zeros((2, 4)))

    before = [np.asarray(model(one)) for one in (whole, inputs)]
    layer.set_weights([np.full((3, 4), 7.0)])
    after = [np.asarray(model(one)) for one in (whole, inputs)]
    np.testing.assert_array_equal(after[0], before[0])
    np.testing.assert_array_equal(after[1][1::2], before[1][1::2])
    assert np.all(after[1][::2] != before[1][::2])


# ------------------------------------------------------------------------ several texts


def both_texts(*texts, **others):
    vectors = tuple(one for one in texts if isinstance(one, VectorSpec))
    tokens = tuple(one for one in texts if isinstance(one, TextSpec))
    return FeatureSpec(window=6, horizon=1, texts=tokens, vectors=(*vectors, COVER), **others)


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        ((TITLE, BODY), ("history", "context", "vector_cover")),
        ((TITLE, FROZEN), ("history", "context", "vector_cover")),
        ((FROZEN,), ("history", "vector_abstract", "vector_cover")),
        ((TITLE,), ("history", "text_title", "vector_cover")),
    ],
)
def test_texts_are_fused_as_one_context_however_they_are_encoded(texts, names):
    spec = both_texts(*texts)
    model = mmnet(spec, MMNetOptions(**SMALL))
    assert tuple(fusion_names(model)) == names
    assert [one.name for one in texts_of(spec)] == [one.name for one in texts]
    assert model.get_layer(f"encoded_{texts[-1].tensor}").output.shape == (None, 4)
    if len(texts) > 1:
        weights = attention_probe(model)(complete(spec))["context"]
        assert weights.shape == (6, 2)
        np.testing.assert_allclose(np.sum(weights, axis=-1), 1, rtol=1e-6)


@pytest.mark.parametrize("second", [BODY, FROZEN])
def test_the_context_is_there_as_long_as_one_text_is(second):
    spec = both_texts(TITLE, second)
    model = mmnet(spec, MMNetOptions(**SMALL))
    inputs = lacking(complete(spec), "text_title", rows=slice(0, 4), spec=spec)
    inputs = lacking(inputs, second.tensor, rows=slice(2, 6), spec=spec)
    weights = attention_probe(model)(inputs)
    context = np.asarray(weights["context"])
    # Two examples with the second text, two with none, two with the title.
    np.testing.assert_array_equal(context, [[0, 1]] * 2 + [[0, 0]] * 2 + [[1, 0]] * 2)
    there = np.asarray(weights["fusion"])[:, fusion_names(model).index("context")] > 0
    np.testing.assert_array_equal(there, [True, True, False, False, True, True])


def test_what_the_absence_of_one_text_means_is_learned_too():
    spec = both_texts(TITLE, BODY)
    model = mmnet(spec, MMNetOptions(**SMALL))
    context = keras.Model(model.input, model.get_layer("absent_texts").output)
    inputs = lacking(complete(spec), "text_body", spec=spec)
    before = np.asarray(context(inputs))
    model.get_layer("absent_texts").set_weights([np.array([[5.0] * 4, [8.0] * 4])])
    added = np.asarray(context(inputs)) - before
    # A float32 of up to 9, less one of up to 1.
    np.testing.assert_allclose(added[::2], 8, atol=1e-5)
    np.testing.assert_array_equal(added[1::2], np.zeros((3, 4)))


# --------------------------------------------------------------------- modality dropout


@every_network
def test_modality_dropout_acts_in_training_only(name):
    inputs = complete()
    plain, dropping = small(name), small(name, modality_dropout=0.9)
    np.testing.assert_array_equal(dropping(inputs), plain(inputs))
    added = {layer.name for layer in dropping.layers} - {layer.name for layer in plain.layers}
    assert added == {"modality_dropout"}


@pytest.mark.parametrize("name", GATED)
def test_a_lost_modality_is_one_that_the_example_does_not_have(name):
    model = REGISTRY[name](SPEC, modality_dropout=1.0, mode_weights=(1, 0, 0), **SMALL)
    model.get_layer("absent_modalities").set_weights([np.full((3, 4), 0.1)])
    inputs = complete()
    nothing = remove(inputs, [n for names in SPEC.modalities().values() for n in names])
    # One is the training graph: a few units in the last place of float32.
    np.testing.assert_allclose(model(inputs, training=True), model(nothing), rtol=1e-5)


def test_each_modality_is_lost_on_its_own():
    model = mmnet(SPEC, MMNetOptions(modality_dropout=0.4, **SMALL))
    flags = model.get_layer("modality_dropout")([np.ones(5000, "float32")] * 3, training=True)
    lost = 1 - np.stack(flags)
    # Three standard errors of a Bernoulli(0.4) mean, and of the mean of a product of two.
    np.testing.assert_allclose(lost.mean(axis=1), 0.4, atol=3 * (0.24 / 5000) ** 0.5)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        both = (lost[one] * lost[other]).mean()
        assert both == pytest.approx(0.16, abs=3 * (0.1344 / 5000) ** 0.5)


def test_the_modes_and_the_lost_modalities_are_drawn_apart():
    model = mmnet(SPEC, MMNetOptions(modality_dropout=0.5, mode_weights=(1, 1, 0), **SMALL))
    ones, zeros = np.ones((5000, 6), "float32"), np.zeros((5000, 6), "float32")
    cold = np.asarray(model.get_layer("multi_mode")(ones, zeros, ones, training=True)[1])[:, 0]
    flags = model.get_layer("modality_dropout")([np.ones(5000, "float32")] * 3, training=True)
    for flag in flags:
        # The correlation of 5000 independent pairs has sd 1 / sqrt(5000): three of them.
        assert abs(np.corrcoef(cold, flag)[0, 1]) < 3 / 5000**0.5


@every_network
def test_refuses_a_rate_outside_its_range(name):
    with pytest.raises(ValueError, match="`rate` must be in"):
        REGISTRY[name](SPEC, modality_dropout=1.5, **SMALL)


def test_learns_to_do_without_a_modality_that_training_took_away():
    # Title and cover add up to the rate; at test the cover is gone.
    spec = FeatureSpec(window=2, horizon=1, texts=(TITLE,), vectors=(COVER,))
    draw, examples = np.random.default_rng(0), 512
    title, cover = draw.integers(0, 3, (2, examples))
    inputs = {
        "share_rate": np.zeros((examples, 2), "float32"),
        "missing_flag": np.ones((examples, 2), "float32"),
        "clicks": np.zeros((examples, 2), "float32"),
        "text_title": np.stack([2 + title, 0 * title, 0 * title], axis=1).astype("int32"),
        "vector_cover": np.eye(3, dtype="float32")[cover],
    }
    target = (title + 2 * cover).astype("float32")
    without, errors = remove(inputs, ["vector_cover"]), {}
    keras.utils.set_random_seed(0)  # the order in which `fit` takes the examples
    for rate in (0.0, 0.5):
        model = mmnet(spec, MMNetOptions(units=8, modality_dropout=rate, mode_weights=(1, 0, 0)))
        model.compile(keras.optimizers.Adam(0.02), "mse", jit_compile=False)
        model.fit(inputs, target, batch_size=64, epochs=15, verbose=0)
        errors[rate] = float(np.mean((np.asarray(model(without)) - target) ** 2))
    # What the title cannot tell, and less than half of what it can.
    assert errors[0.5] < np.var(2 * cover) + np.var(title) / 2
    assert errors[0.0] > 2 * errors[0.5]


# ---------------------------------------------------------------------------- explained


@pytest.mark.parametrize("name", GATED)
def test_the_explained_model_gives_the_prediction_and_the_probes_weights(name):
    inputs = lacking(complete(), "text_title")
    predicted, weights = explained(small(name))(inputs)
    np.testing.assert_array_equal(predicted, small(name)(inputs))
    np.testing.assert_array_equal(weights, attention_probe(small(name))(inputs)["fusion"])


def test_what_has_no_gate_cannot_be_explained():
    assert explained(small("mmved")) is None
