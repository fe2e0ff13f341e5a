"""What is served is what was trained: every network, every signature, 10,000 rows and more."""

import numpy as np
import pytest
import tensorflow as tf

from mmnet import models
from mmnet.data import dataset as datasets
from mmnet.data import input_tables
from mmnet.data.splits import Examples
from mmnet.data.windows import Windows
from mmnet.schema import OF_PERIODS
from mmnet.serving import examples, export, exported, golden
from mmnet.serving.halves import STATIC

NETWORKS = [name for name, builder in models.REGISTRY.items() if builder.kind == "network"]
SMALL = {"units": 8, "field_width": 4, "seed": 0}


@pytest.fixture(scope="module")
def everything(run_dir):
    """Every (item, period) of the small log: the dataset, the tensors and the raw columns."""
    dataset = datasets.load(run_dir / "dataset")
    items, times = np.divmod(np.arange(dataset.share_rate.size), dataset.share_rate.shape[1])
    pairs = Examples(items.astype(np.int32), times.astype(np.int32))
    rows = golden.rows(dataset, Windows(dataset), pairs, len(pairs))
    # Raw columns as users have them, not read back from the tensors.
    table = input_tables.load_tables(dataset.fitted.tables).items.data.to_pandas().iloc[items]
    own = {f"item_{c}": table[c].to_numpy(object) for c in ("category", "tags", "author", "title")}
    own["number_duration"] = table["duration"].to_numpy("float32")
    assert set(own) < set(rows.columns)
    return dataset, rows.tensors, rows.columns | own


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_signature_scores_as_the_keras_model_does(everything, tmp_path, name):
    dataset, tensors, columns = everything
    assert len(columns["clicks"]) >= 10_000
    builder = models.REGISTRY[name]
    model = builder(dataset.fitted.spec, **builder.accepted(SMALL))
    # Untrained biases are 0: others make every part of the network matter.
    draws = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(variable + draws.normal(0, 0.05, variable.shape))
    wanted = model.predict({k: tf.constant(v) for k, v in tensors.items()}, 1024, verbose=0)
    assert np.std(wanted) > 0.01
    export.export(model, dataset.fitted, tmp_path)
    loaded, _ = export.load(tmp_path)
    static = {name: array for name, array in tensors.items() if name not in OF_PERIODS}
    inputs = {
        "serving_default": tensors,
        "explained": tensors,
        "raw_columns": columns,
        "examples": {examples.INPUT: examples.serialize(columns)},
        "static": static,
    }
    kept = called(loaded.signatures["static"], static, STATIC)
    inputs["from_static"] = {name: tensors[name] for name in tensors if name in OF_PERIODS}
    inputs["from_static"][STATIC] = kept
    assert set(loaded.signatures) <= set(inputs)
    for signature in set(loaded.signatures) - {"static"}:  # which gives no scores
        found = called(loaded.signatures[signature], inputs[signature], exported.OUTPUT)
        # Relative to the prediction, or to the sd of the rates where that is more.
        scale = np.maximum(np.abs(wanted), dataset.fitted.spec.rate_scale)
        worst = float(np.max(np.abs(found - wanted) / scale))
        print(f"{name} {signature}: {worst:.1e}")
        assert worst <= 1e-5, signature


def called(signature, arrays, output):
    """One output of a signature for all rows, 1,024 at a time."""
    rows = len(next(iter(arrays.values())))
    parts = [
        {name: tf.constant(array[at : at + 1024]) for name, array in arrays.items()}
        for at in range(0, rows, 1024)
    ]
    return np.concatenate([signature(**part)[output] for part in parts])
