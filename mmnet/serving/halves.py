"""Division of a trained network in two: a part per item, and a part per period.

An item's fields, texts and images do not change between periods. The half of a network that reads
nothing else is computed once per item and cached; each further period only needs the other half.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import keras
from keras import ops

from mmnet.layers.bounds import Bounded
from mmnet.layers.disturbance import ModalityDropout
from mmnet.layers.presence import Presence
from mmnet.schema import FeatureSpec
from mmnet.serving.exported import STATIC

WIDEST = 2048
"""Maximum floats to cache per item: 8 kB, so 80 GB for ten million items. A wider cut would cost
about as much to store and read as the content itself."""

LARGEST_PART = 1e30
"""Maximum output of a static half. Bounded content stays far below it, and the dynamic half, which
multiplies parts by weights and flags but not by each other, does not overflow at it."""


def halves(model: keras.Model, spec: FeatureSpec) -> tuple[keras.Model, keras.Model] | None:
    """Cuts a functional model where static and dynamic inputs meet.

    The cut consists of every tensor that depends on static inputs only and is read by an operation
    that depends on a dynamic input. In MMNet these are the vectors u, c and v of the modalities
    and their presence flags: 64 + 1 floats each.

        model(inputs) = dynamic({history, taxonomies, "static": static(content)})

    Args:
        model: functional model, from a dict of all tensors of `spec`; any structure of outputs,
            such as that of `models.mmnet.explained`.
        spec: its inputs.

    Returns:
        `(static, dynamic)`, which share the layers of `model` and have no layers of their own.
        static: from a dict of the static tensors to one float32 tensor, [batch, width]; float32
        under any policy, so that it represents bfloat16 tensors exactly. dynamic: from a dict of
        the dynamic tensors and "static" to the outputs of `model`. None if a cut saves nothing:
        the data have no static tensors, the network does not read them, it computes nothing from
        them alone or returns some of that, or the cut is wider than `WIDEST`.

    Raises:
        ValueError: `model` is not functional, or its inputs are not the tensors of `spec`.
    """
    if not isinstance(getattr(model, "input", None), dict) or set(model.input) != set(
        spec.tensors()
    ):
        raise ValueError("`model` must be functional, with the tensors of `spec` as its inputs")
    of_periods = spec.of_periods()
    dynamic = {name: tensor for name, tensor in model.input.items() if name in of_periods}
    static = {name: tensor for name, tensor in model.input.items() if name not in of_periods}
    cut, calls = _cut(model, dynamic.values())
    if all(map(_is_input, cut)) or not all(map(_is_kept_exactly, cut)):
        return None
    made = {id(tensor) for call in calls for tensor in call.output_tensors}
    widths = [math.prod(tensor.shape[1:]) for tensor in cut]
    if sum(widths) > WIDEST or not made.issuperset(map(id, keras.tree.flatten(model.output))):
        return None

    flat = [
        ops.reshape(ops.cast(tensor, "float32"), (-1, width))
        for tensor, width in zip(cut, widths, strict=True)
    ]
    joined = ops.concatenate(flat, axis=-1) if len(flat) > 1 else flat[0]
    first = keras.Model(static, joined, name=f"{model.name}_static")

    inputs = {
        name: keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=name)
        for name, tensor in dynamic.items()
    }
    kept = keras.Input((sum(widths),), dtype="float32", name=STATIC)
    known = {id(tensor): inputs[name] for name, tensor in dynamic.items()}
    start = 0
    for tensor, width in zip(cut, widths, strict=True):
        part = Bounded(*_limits(tensor))(kept[:, start : start + width])
        part = ops.reshape(part, (-1, *tensor.shape[1:]))
        known[id(tensor)] = ops.cast(part, tensor.dtype)
        start += width
    # Layers are called again. `keras.Model(tensors, model.output)` would break the history of
    # tensors that are the model's own inputs, and the model could not be saved any more.
    for call in calls:
        arguments, keywords = call.arguments.fill_in(known)
        results = keras.tree.flatten(call.operation(*arguments, **keywords))
        known |= {id(old): new for old, new in zip(call.output_tensors, results, strict=True)}
    predicted = keras.tree.map_structure(lambda tensor: known[id(tensor)], model.output)
    second = keras.Model({**inputs, STATIC: kept}, predicted, name=f"{model.name}_dynamic")
    return first, second


def _cut(
    model: keras.Model, dynamic: Iterable[keras.KerasTensor]
) -> tuple[list[keras.KerasTensor], list[Any]]:
    """Finds where static and dynamic inputs of a functional model meet.

    Returns:
        The static tensors that dynamic calls read, and the calls ("nodes" of Keras) that depend on
        a dynamic tensor; both in the order of the graph.
    """
    depends = {id(tensor) for tensor in dynamic}
    read: dict[int, keras.KerasTensor] = {}
    calls = []
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for call in model._nodes_by_depth[depth]:
            if any(id(tensor) in depends for tensor in call.input_tensors):
                calls.append(call)
                depends |= {id(tensor) for tensor in call.output_tensors}
                read |= {id(tensor): tensor for tensor in call.input_tensors}
    return [tensor for key, tensor in read.items() if key not in depends], calls


def _limits(tensor: keras.KerasTensor) -> tuple[float, float]:
    """Returns the range of a part of `STATIC`: flags, or vectors within `LARGEST_PART`."""
    flags = isinstance(tensor._keras_history.operation, Presence | ModalityDropout)
    return (0.0, 1.0) if flags else (-LARGEST_PART, LARGEST_PART)


def _is_input(tensor: keras.KerasTensor) -> bool:
    return isinstance(tensor._keras_history.operation, keras.layers.InputLayer)


def _is_kept_exactly(tensor: Any) -> bool:
    """Checks whether float32 represents a tensor exactly, and its shape is known."""
    exact = ("float32", "bfloat16", "float16", "bool")
    return tensor.dtype in exact and None not in tensor.shape[1:]
