"""Builder of networks that read numbers: their inputs, and the seeds of their weights."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import keras
import numpy as np

from mmnet.mma4ctr.models import NumberSpec
from mmnet.models.seeding import seeded


class Inputs(NamedTuple):
    """Inputs of a model that reads the numbers of users and items.

    Attributes:
        user: number of the user, int32 [batch].
        item: number of the item, int32 [batch].
        history: the items that the user took last, counted from 1, the newest at the right and 0
            for nothing, int32 [batch, history].
        others: another item for each, drawn once, int32 [batch, history]; None where the model
            draws them itself, or none.
    """

    user: keras.KerasTensor
    item: keras.KerasTensor
    history: keras.KerasTensor
    others: keras.KerasTensor | None = None


Outputs = Callable[[Inputs, NumberSpec, Iterator[int]], keras.KerasTensor]


def reads_numbers(outputs: Outputs) -> Callable[[NumberSpec], keras.Model]:
    """Makes a builder of a network from a function that connects its inputs and its output.

    The network's name is the function's.

    Args:
        outputs: from inputs, spec and seeds of the weights to scores, [batch]; see `Baseline`.
    """

    @functools.wraps(outputs)
    def build(spec: NumberSpec) -> keras.Model:
        inputs = Inputs(
            keras.Input([], dtype="int32", name="user"),
            keras.Input([], dtype="int32", name="item"),
            keras.Input([spec.history], dtype="int32", name="history"),
        )
        if spec.others:
            inputs = inputs._replace(
                others=keras.Input([spec.history], dtype="int32", name="others")
            )
        seeds = iter(np.random.default_rng([spec.seed, 5]).integers(0, 2**31, 40).tolist())
        with seeded(spec.seed):  # initialisers inside Keras' attention take no seeds of their own
            found = outputs(inputs, spec, seeds)
        given = [one for one in inputs if one is not None]
        return keras.Model(given, found, name=outputs.__name__)

    return build
