"""Training steps, many per call: one compiled program loops over several batches."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

import keras
import tensorflow as tf

Batches = Callable[[int], tf.data.Dataset]
"""Maps a global step to the training batches from that step on; a pure function of the step."""


@runtime_checkable
class StackedBatches(Protocol):
    """Batches that can be read several at a time, which is faster than one by one."""

    def __call__(self, first_step: int) -> tf.data.Dataset:
        """One element per batch."""

    def stacked(self, first_step: int, num_steps: int, size: int) -> tf.data.Dataset:
        """The next `num_steps` batches, `size` per element; the last element may hold fewer.

        Returns:
            Elements whose tensors are [steps, batch, ...]; all steps belong to one epoch.
        """


MOST_STACKED_BYTES = 64 << 20
"""Largest size of the batches of one call. With larger batches the steps are long, so that a call
of fewer steps costs nothing."""


def steps_for(model: keras.Model, batches: Batches, jit: bool, size: int) -> Steps | KerasSteps:
    """Choose the object that takes the training steps of a compiled model on these batches.

    Args:
        model: see `Steps`.
        batches: the batches; if their sizes differ, Keras' own loop takes the steps.
        jit: see `Steps`.
        size: most steps per call, as far as the memory for their batches allows.
    """
    element = batches(0).element_spec
    if not all(spec.shape.is_fully_defined() for spec in tf.nest.flatten(element)):
        model.jit_compile = jit
        return KerasSteps(model, size)
    return Steps(model, jit, affordable(element, size))


def affordable(element: Any, steps: int) -> int:
    """Number of steps per call that memory allows: at most `steps`, at least one.

    Args:
        element: the `element_spec` of the batches.
        steps: most steps.
    """
    one = sum(
        (spec.shape.num_elements() or 0) * spec.dtype.size for spec in tf.nest.flatten(element)
    )
    return max(1, min(steps, MOST_STACKED_BYTES // max(one, 1)))


def stacked(batches: Batches, first_step: int, num_steps: int, size: int) -> tf.data.Dataset:
    """Batches of any kind as `StackedBatches.stacked` returns them."""
    if isinstance(batches, StackedBatches):
        return batches.stacked(first_step, num_steps, size)
    return batches(first_step).take(num_steps).batch(size)


class Steps:
    """Takes the training steps of a compiled model, up to `size` of them per call.

    Keras' `fit` with `steps_per_execution` compiles a single step, and TensorFlow hands every
    variable in and out of it. Here the loop itself is part of the program, so that variables stay
    where they are from one step to the next.

    Args:
        model: compiled (`Model.compile`); its `train_step` is what each step does.
        jit: compiles the program with XLA.
        size: most steps per call; every number of steps up to it runs the same program.

    Attributes:
        size: see above.
    """

    def __init__(self, model: keras.Model, jit: bool, size: int):
        self._model, self.size = model, size
        self._program = tf.function(self._loop, jit_compile=jit, autograph=False)

    def executions(self, batches: Batches, first_step: int, num_steps: int) -> Iterable[Any]:
        """Stacks of the batches of some steps, each for one call."""
        return stacked(batches, first_step, num_steps, self.size)

    def __call__(self, batches: Any) -> int:
        """Trains on stacked batches; returns how many steps these were.

        Args:
            batches: a nest of tensors [steps, batch, ...], with 1 to `size` steps.
        """
        num_steps = len(tf.nest.flatten(batches)[0])
        filled = tf.nest.map_structure(self._filled, batches)
        self._program(filled, tf.constant(num_steps))
        return num_steps

    def _filled(self, tensor: tf.Tensor) -> tf.Tensor:
        """Appends steps of zeros up to `size`: one shape means one compilation."""
        missing = self.size - len(tensor)
        if not missing:
            return tensor
        return tf.pad(tensor, [[0, missing]] + [[0, 0]] * (tensor.shape.rank - 1))

    def _loop(self, batches, num_steps):
        def take(step):
            one = operator.itemgetter(step)
            self._model.train_step(tf.nest.map_structure(one, batches))
            return (step + 1,)

        # Not over `tf.range`: XLA would compile for each number of steps.
        tf.while_loop(lambda step: step < num_steps, take, (tf.constant(0),))


class KerasSteps:
    """Takes the training steps of a compiled model as Keras' `fit` does.

    For batches whose sizes differ, as where an epoch's last one is smaller: they cannot be stacked.

    Args:
        model: compiled (`Model.compile`), with or without XLA.
        size: most steps per call.
    """

    def __init__(self, model: keras.Model, size: int):
        self._model, self.size = model, size
        model.steps_per_execution = size
        model.make_train_function(force=True)

    def executions(
        self, batches: Batches, first_step: int, num_steps: int
    ) -> Iterator[tuple[Any, int]]:
        """The batches of some steps as one iterator, with the steps of each call."""
        left = iter(batches(first_step).take(num_steps))
        for done in range(0, num_steps, self.size):
            yield left, min(self.size, num_steps - done)

    def __call__(self, execution: tuple[Any, int]) -> int:
        """Trains on the next batches; returns how many steps these were."""
        left, num_steps = execution
        self._model.train_function(left)
        return num_steps
