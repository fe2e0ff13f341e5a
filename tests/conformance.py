"""What every layer and model must pass, and the golden files that keep their weights in place.

A golden file holds the names and shapes of the weights and one prediction on given inputs, with
weights drawn from seed 0. After an intended change: `MMNET_UPDATE_GOLDEN=1 pytest tests/...`.
"""

import json
import os
import pathlib

import keras
import numpy as np
import tensorflow as tf

from mmnet.models.seeding import seeded

GOLDEN = pathlib.Path(__file__).parent / "golden"

# Same operations in another order: a few units in the last place of float32.
SAME = {"rtol": 1e-5, "atol": 1e-6}
# Another machine's matrix products too.
SAME_ANYWHERE = {"rtol": 1e-3, "atol": 1e-4}


def check_layer(layer, *inputs, tmp_path, golden=None):
    """Config round trip, eager = graph, save and load, export, golden; inference only.

    `inputs` are the layer's call arguments: arrays, or lists of arrays.
    """
    with seeded(0):
        symbols = keras.tree.map_structure(
            lambda x: keras.Input(x.shape[1:], dtype=x.dtype), inputs
        )
        outputs = layer(*symbols)
    check_config(layer)
    model = keras.Model(keras.tree.flatten(symbols), outputs)
    expected = keras.tree.flatten(layer(*inputs))
    for symbol, value in zip(keras.tree.flatten(outputs), expected, strict=True):
        assert symbol.shape[1:] == value.shape[1:]
        assert symbol.dtype == keras.backend.standardize_dtype(value.dtype)
    _check_saving(model, keras.tree.flatten(inputs), expected, tmp_path)
    check_golden(golden or type(layer).__name__, layer, expected)


def check_model(model, inputs, *, tmp_path, golden=None):
    """The same for a functional model; `inputs` is its dict of arrays."""
    check_config(model)
    expected = keras.tree.flatten(model(inputs))
    _check_saving(model, inputs, expected, tmp_path)
    check_golden(golden or model.name, model, expected)


def check_config(of):
    """What `get_config` tells is enough to make the same thing again."""
    json.dumps(keras.saving.serialize_keras_object(of))  # holds nothing but plain values
    assert type(of).from_config(of.get_config()).get_config() == of.get_config()


def check_golden(name, of, outputs):
    """Compares weights and outputs with `golden/<name>.json`."""
    file = GOLDEN / f"{name}.json"
    # The name of a layer under test differs from run to run; those inside it are its own.
    weights = {
        weight.path.removeprefix(f"{of.name}/"): " x ".join(map(str, weight.shape))
        for weight in of.weights
    }
    assert len(weights) == len(of.weights)  # no two weights share a name
    shown = [np.asarray(output, "float64").ravel()[:8].round(5).tolist() for output in outputs]
    if os.environ.get("MMNET_UPDATE_GOLDEN"):
        file.write_text(json.dumps({"weights": weights, "outputs": shown}, indent=1) + "\n")
    assert file.exists(), f"No golden file for {name}: run with MMNET_UPDATE_GOLDEN=1"
    golden = json.loads(file.read_text())
    assert golden["weights"] == weights
    for was, now in zip(golden["outputs"], shown, strict=True):
        np.testing.assert_allclose(now, was, **SAME_ANYWHERE)


def _check_saving(model, inputs, expected, tmp_path):
    def same(outputs):
        for output, value in zip(keras.tree.flatten(outputs), expected, strict=True):
            np.testing.assert_allclose(output, value, **SAME)

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    same(loaded(inputs))
    assert [w.shape for w in loaded.weights] == [w.shape for w in model.weights]

    # `Model.export` would trace the model three times more and take twice as long.
    arrays = {f"input_{n}": array for n, array in enumerate(keras.tree.flatten(inputs))}
    signature = {
        name: tf.TensorSpec([None, *array.shape[1:]], array.dtype, name)
        for name, array in arrays.items()
    }

    def call(**named):
        outputs = model(
            keras.tree.pack_sequence_as(inputs, [named[name] for name in arrays]), training=False
        )
        return {f"output_{n}": one for n, one in enumerate(keras.tree.flatten(outputs))}

    def in_order(named):
        return [named[f"output_{n}"] for n in range(len(expected))]

    graph = tf.function(call, autograph=False).get_concrete_function(**signature)
    tensors = keras.tree.map_structure(tf.constant, arrays)
    same(in_order(graph(**tensors)))

    module = tf.Module()
    module.kept = [variable.value for variable in model.variables]
    tf.saved_model.save(module, tmp_path / "export", graph)
    served = tf.saved_model.load(tmp_path / "export").signatures["serving_default"]
    same(in_order(served(**tensors)))
