"""Baselines built for tests, and what they return."""

import numpy as np

from mmnet.mma4ctr.models import REGISTRY, NumberSpec
from mmnet.mma4ctr.models.baselines.model import Baseline


def baseline(name, users, items, pairs=((0,), (1,)), states=3, history=None, others=None, **given):
    """A model by name, whose state n is of user n, and n + users, and so on.

    `given` are further attributes of its spec; `deviations` may be any iterable.
    """
    builder = REGISTRY[name]
    if history is None:
        history = np.zeros((states, builder.history), np.int32)
    given["deviations"] = frozenset(given.get("deviations", ()))
    spec = NumberSpec(
        users,
        items,
        history.shape[1],
        np.array(pairs),
        **({"batch_size": 1, "seed": 0} | given),
        others=others is not None,
    )
    state_user = np.arange(len(history), dtype=np.int32) % users
    return Baseline(builder(spec), state_user, history, builder.score_rows, others)


def parameters(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def inputs(state, item):
    return {"state": np.array(state, "int32"), "item": np.array(item, "int32")}


def probabilities(model, state, item):
    return model(inputs(state, item)).numpy()


def redrawn(model, size=0.3, seed=1):
    """Weights of a size that lets every part of a network be seen; not the means and variances."""
    draw = np.random.default_rng(seed)
    for weight in model.net.trainable_weights:
        weight.assign(draw.normal(0, size, weight.shape) + (weight.path.endswith("gamma")))


def weight(model, path):
    """The one weight of that path in the network."""
    (found,) = (one for one in model.net.weights if one.path == path)
    return found


def named(model, path):
    return weight(model, path).numpy().astype("float64")


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x)))
