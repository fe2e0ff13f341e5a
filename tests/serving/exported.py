"""Small untrained models as exports, for tests of what reads exports."""

import importlib.util

import numpy as np
import pytest

from mmnet.config import TableFlags, TaskFlags
from mmnet.data.counts import Calendar
from mmnet.data.dataset import Fitted
from mmnet.models import REGISTRY
from mmnet.schema import OF_PERIODS
from mmnet.serving import export
from tests.models.tiny import SPEC

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


def in_two_steps(signatures, batch):
    """The inputs of `from_static`, made of a batch by the signature `static`."""
    kept = signatures["static"](
        **{name: one for name, one in batch.items() if name not in OF_PERIODS}
    )
    return {
        **{name: one for name, one in batch.items() if name in OF_PERIODS},
        **{name: np.asarray(one) for name, one in kept.items()},
    }


def needs(runtime):
    """Skips a test where a runtime is not installed."""
    for package in NEEDS.get(runtime, ()):
        if importlib.util.find_spec(package) is None:  # not an import: OpenVINO's tells its makers
            pytest.skip(f"{package} is not installed")
