"""Requests to the signatures of an exported model: a score, or what TF Serving answers with 400."""

import random

import numpy as np
import tensorflow as tf

from mmnet.serving import examples, export, exported, golden
from tests.fuzz.outcomes import REFUSED, WELL

REFUSALS = (tf.errors.InvalidArgumentError, TypeError, ValueError)
"""What TensorFlow Serving answers with 400."""

SIGNATURES = ["decide", "examples", "raw_columns", "serving_default"]
VALUES = [-1, 0, 1, 2**31 - 1, -(2**31)]
FLOATS = [float("nan"), float("inf"), -float("inf"), -0.0, 1e-45, -3.4e38, 3.4e38, 0.5, 100.0]
TEXTS = ["", " ", "\x00", "猫" * 7, "a;b", "None", "x" * 5000, "\u2028", '"', "i0"]


def ready(world):
    """The signatures of a run's export, and golden inputs of each."""
    run_dir = world / "run"
    loaded, _ = export.load(run_dir / "export")
    batches = golden.read(run_dir / "export" / "1" / golden.FILE)
    return loaded.signatures, {batch.signature: batch.inputs for batch in batches}


def check(seed, place, served):
    """Sends one request that is wrong in one place."""
    del place
    draws = random.Random(seed)
    signature = draws.choice(SIGNATURES)
    send = example if signature == "examples" else columns
    signatures, inputs = served
    request = send(draws, dict(inputs[signature]))
    try:
        found = signatures[signature](**{key: tf.constant(one) for key, one in request.items()})
    except REFUSALS:
        return REFUSED
    score = found[exported.OUTPUT].numpy()
    assert score.dtype == np.float32
    if signature == "examples":
        assert np.isnan(score).all() or ((score >= 0) & (score <= 100)).all(), score
    return WELL


def example(draws, inputs):
    """Bytes that may be no tf.Example."""
    whole = bytes(inputs[examples.INPUT][0])
    place = draws.randrange(len(whole))
    noise = draws.randbytes(draws.randint(1, 4))
    kinds = {
        "noise": draws.randbytes(draws.randrange(60)),
        "cut": whole[:place],
        "flip": whole[:place] + noise + whole[place + 1 :],
    }
    return {"examples": [kinds[draws.choice(sorted(kinds))]]}


def columns(draws, request):
    """A request of tensors with one that is gone, or of another shape, type or value."""
    name = draws.choice(sorted(request))
    array = request[name]
    kind = draws.choice(["gone", "shape", "type", "values", "values", "rows", "more"])
    if kind == "gone":
        del request[name]
    elif kind == "more":
        request["nobody_knows"] = array
    elif kind == "shape":
        request[name] = array[..., None]
    elif kind == "rows":
        request[name] = array[: draws.randrange(len(array))]
    elif kind == "type":
        request[name] = np.zeros(array.shape, draws.choice(["f8", "i1", "?", "O"]))
        if request[name].dtype == object:
            request[name][...] = "text"
    elif array.dtype == object:
        request[name] = np.full(array.shape, draws.choice(TEXTS), object)
    else:
        value = draws.choice(FLOATS if array.dtype.kind == "f" else VALUES)
        request[name] = np.full(array.shape, value, array.dtype)
    return request
