"""Small untrained models as exports, for tests of what reads exports."""

import importlib.util

import numpy as np
import pytest
import tensorflow as tf

from mmnet.config import TableFlags, TaskFlags
from mmnet.data.counts import Calendar
from mmnet.data.dataset import Fitted
from mmnet.models import REGISTRY
from mmnet.schema import OF_PERIODS
from mmnet.serving import examples, export, golden
from tests.models.tiny import SPEC, batch

NEEDS = {"onnx": ("onnxruntime", "tf2onnx"), "openvino": ("openvino", "tf2onnx")}
SMALL = {"units": 8, "field_width": 4}


def fitted(spec=SPEC):
    """What such a model would have been trained with."""
    words = {
        one.tensor: [f"w{n}" for n in range(one.size - 2)] for one in (*spec.fields, *spec.texts)
    }
    return Fitted(
        spec=spec,
        calendar=Calendar(kind="integer"),
        vocabularies=words,
        tables=TableFlags(),
        task=TaskFlags(),
    )


def write(directory, name="mmnet", spec=SPEC, **options):
    """Exports a model whose weights all have a value; returns the version's directory."""
    model = REGISTRY[name](spec, **SMALL, **options)
    draw = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign_add(0.1 * draw.normal(size=variable.shape))
    return export.export(model, fitted(spec), directory)


def in_two_steps(signatures, inputs):
    """The inputs of `from_static`, made of a batch by the signature `static`."""
    kept = signatures["static"](
        **{name: one for name, one in inputs.items() if name not in OF_PERIODS}
    )
    return {
        **{name: one for name, one in inputs.items() if name in OF_PERIODS},
        **{name: np.asarray(one) for name, one in kept.items()},
    }


def golden_rows(loaded):
    """A batch of every signature of an export of `SPEC`, with what it returns."""
    tensors = batch(SPEC, 5)
    columns = {
        "clicks": np.arange(30, dtype=np.int64).reshape(5, 6),
        "shares": np.arange(30, dtype=np.int64).reshape(5, 6) // 7,
        "item_category": np.array([b"w0", b"w1", b"", b"new", b"w2"], object),
        "item_tags": np.array([b"w0;w1", b"w3", b"", b"w4;new", b"w2"], object),
        "item_title": np.array([b"w1 w2", b"", b"w5 w6 w7 w8 w9", b"new", b"w3"], object),
        "number_duration": np.array([0, 1, np.nan, -3, 40], np.float32),
        **{name: tensors[name] for name in ("taxonomy_rate", "taxonomy_missing_flag")},
        "vector_cover": tensors["vector_cover"],
    }
    rows = {**tensors, **in_two_steps(loaded.signatures, tensors)}
    found = []
    for name, function in loaded.signatures.items():
        if name == "examples":
            inputs = {examples.INPUT: examples.serialize(columns)}
        else:
            of = columns if name == "raw_columns" else rows
            inputs = {one: of[one] for one in function.structured_input_signature[1]}
        read = {one: tf.constant(array) for one, array in inputs.items()}
        outputs = {one: tensor.numpy() for one, tensor in function(**read).items()}
        found.append(golden.Golden(name, inputs, outputs))
    return found


def needs(runtime):
    """Skips a test where a runtime is not installed."""
    for package in NEEDS.get(runtime, ()):
        if importlib.util.find_spec(package) is None:  # not an import: OpenVINO's tells its makers
            pytest.skip(f"{package} is not installed")
