"""Training on several devices: each one has a copy of the weights and takes its part of each batch.

`tf.distribute.MirroredStrategy` keeps the copies. A step is that of the whole batch: the loss is
computed from the predictions of all devices, gradients are summed, and every copy takes the same
step. So the number of devices changes the result by rounding only, random draws aside: each device
draws for its own part.
"""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from mmnet.startup import devices_for
from mmnet.training import resume
from mmnet.training.adam import Adam
from mmnet.training.averaging import WeightAverage
from mmnet.training.stepping import Batches, affordable, stacked

SEED_STATE = "seed_generator_state"
"""Name of the state of a `keras.random.SeedGenerator`, [seed, number of draws]."""

FOLD = 0x9E3779B1
"""Added to a seed once per device: far from the differences between the seeds of layers, which
count from `--seed`."""


def twin_of(model: keras.Model, build: Callable[[], keras.Model], number: int) -> keras.Model:
    """A copy of a model for training on several devices.

    The copy is trained, and its arrays are copied back with `resume.copy_model`; so whatever else
    reads the model meets variables of one device.

    Args:
        model: the model; with its weights, random states and statistics.
        build: builds a model of the same architecture.
        number: number of devices.

    Returns:
        A model whose variables are on each device. Batch normalization in it computes the mean
        and variance of the whole batch.

    Raises:
        InputError: there are fewer devices.
    """
    with _strategy(*devices_for(number)).scope():
        twin = build()
    for layer in twin._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
    resume.copy_model(model, twin)
    return twin


@functools.cache
def _strategy(*devices: str) -> tf.distribute.Strategy:
    """The strategy of some devices, the same one in the whole process.

    Two strategies would number their exchanges alike, and TensorFlow would take those of one for
    those of the other.
    """
    return tf.distribute.MirroredStrategy(devices)


def scope_of(model: keras.Model) -> contextlib.AbstractContextManager[Any]:
    """The scope in which to create what is trained along with a model, such as its optimizer."""
    return model.distribute_strategy.scope() if is_mirrored(model) else contextlib.nullcontext()


def is_mirrored(model: keras.Model) -> bool:
    """Return whether the variables of a model are on several devices."""
    return bool(model.distribute_strategy.num_replicas_in_sync > 1)


# ------------------------------------------------------------------------------------ steps


class MirroredSteps:
    """Takes the training steps of a model of `twin_of`, up to `size` of them per call.

    XLA compiles the forward and backward pass of each device, and the update of its weights. With
    batch normalization the passes are not compiled: the devices exchange sums in the middle of
    them.

    Args:
        model: compiled (`Model.compile`), with the optimizer `adam.Adam`.
        loss: function of the targets and the outputs, which are one tensor [batch, ...].
        batches: if their sizes differ, a call takes one step.
        jit: whether to use XLA.
        size: most steps per call, as far as the memory for their batches allows.
        average: updated at each step; None: no average.

    Attributes:
        size: see above.

    Raises:
        ValueError: the optimizer is another one.
    """

    def __init__(
        self,
        model: keras.Model,
        loss: keras.losses.Loss,
        batches: Batches,
        jit: bool,
        size: int,
        average: WeightAverage | None = None,
    ):
        if not isinstance(model.optimizer, Adam):
            raise ValueError(
                "`model` must have the optimizer `mmnet.training.adam.Adam`. Received: "
                f"{type(model.optimizer).__name__}"
            )
        element = batches(0).element_spec
        self._alike = all(spec.shape.is_fully_defined() for spec in tf.nest.flatten(element))
        self.size = affordable(element, size) if self._alike else 1
        self._model, self._loss, self._average = model, loss, average
        self._strategy = model.distribute_strategy
        self._tracker = next(metric for metric in model.metrics if metric.name == "loss")
        self._weights = list(model.trainable_variables)
        trained = {id(weight) for weight in self._weights}
        self._states = [v for v in resume.model_variables(model) if id(v) not in trained]
        norms = [
            layer
            for layer in model._flatten_layers()
            if isinstance(layer, keras.layers.BatchNormalization)
        ]
        self._statistics = {id(v) for layer in norms for v in layer.non_trainable_variables}
        self._jit, self._jit_passes = jit, jit and not norms
        self._compiled: dict[Any, Callable] = {}
        self._changed: list[int] = []
        self._program = tf.function(self._loop, autograph=False)

    def executions(self, batches: Batches, first_step: int, num_steps: int) -> Iterable[Any]:
        """Stacks of the batches of some steps, each for one call."""
        if self._alike:
            return stacked(batches, first_step, num_steps, self.size)
        return (
            tf.nest.map_structure(lambda tensor: tensor[None], batch)
            for batch in batches(first_step).take(num_steps)
        )

    def __call__(self, batches: Any) -> int:
        """Trains on stacked batches; returns how many steps these were.

        Args:
            batches: a nest of tensors [steps, batch, ...], with 1 to `size` steps.
        """
        num_steps = len(tf.nest.flatten(batches)[0])
        missing = self.size - num_steps
        if missing:  # one shape means that it is traced once
            batches = tf.nest.map_structure(
                lambda one: tf.pad(one, [[0, missing]] + [[0, 0]] * (one.shape.rank - 1)), batches
            )
        self._program(batches, tf.constant(num_steps))
        return num_steps

    def _loop(self, batches, num_steps):
        def take(step):
            batch = tf.nest.map_structure(operator.itemgetter(step), batches)
            losses = self._strategy.run(_as_it_is(self._step_of_replica), args=(batch,))
            loss = self._strategy.experimental_local_results(losses)[0]  # all have the same one
            self._tracker.update_state(loss, sample_weight=tf.nest.flatten(batch)[0].shape[0])
            return (step + 1,)

        # Steps in order: the devices must meet in the same one.
        tf.while_loop(lambda step: step < num_steps, take, (tf.constant(0),), parallel_iterations=1)

    # ------------------------------------------------------------------ on each device

    def _step_of_replica(self, batch: Any) -> tf.Tensor:
        """One device's part of a step; returns the loss of the whole batch."""
        inputs, target, *weight = batch
        context = tf.distribute.get_replica_context()
        number = int(tf.get_static_value(context.replica_id_in_sync_group))
        replicas = context.num_replicas_in_sync
        rows = target.shape[0]
        unit = 1 if rows % 2 else 2  # rows that come in pairs stay together
        start, end = (rows // unit * n // replicas * unit for n in (number, number + 1))
        # A batch of fewer rows than devices leaves some without one; they compute any row, and
        # nothing comes of it.
        own = slice(start, end) if end > start else slice(0, unit)
        share = (end - start) / rows
        weights = [tf.convert_to_tensor(weight) for weight in self._weights]
        before = [tf.convert_to_tensor(state) for state in self._states]
        given = [self._folded(n, value, number) for n, value in enumerate(before)]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(weights)
            outputs, added, changed = self._run(
                self._forward, (weights, given, _rows(inputs, own)), number, self._jit_passes
            )
            placed = tf.pad(
                outputs[: end - start],
                [[start, rows - end]] + [[0, 0]] * (outputs.shape.rank - 1),
            )
            others = context.all_reduce("sum", tf.stop_gradient(placed)) - placed
            loss = self._loss(target, placed + tf.stop_gradient(others), *weight)
            if self._loss.reduction not in (None, "none", "sum"):
                loss *= replicas  # Keras divides a mean by the number of replicas
            whole = tf.cast(loss, "float32") + share * added
        slopes = tape.gradient(whole, weights)
        added = self._learn(weights, slopes, share * added, number, context)
        for place, value in zip(self._changed, changed, strict=True):
            self._assign_state(place, before[place], given[place], value, context)
        self._model.optimizer.iterations.assign_add(1)
        if self._average is not None:
            self._average.update()
        return tf.cast(loss, "float32") + added

    def _run(self, function: Callable, arguments: tuple, number: int, jit: bool) -> Any:
        """Calls a function of tensors, compiled for this device if `jit`."""
        if not jit:
            return function(*arguments)
        key = (function.__name__, number)
        if key not in self._compiled:
            self._compiled[key] = tf.function(function, jit_compile=True, autograph=False)
        return self._compiled[key](*arguments)

    def _forward(
        self, weights: Sequence[tf.Tensor], states: Sequence[tf.Tensor], inputs: Any
    ) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        """Outputs, sum of the losses that layers add, and states that differ afterwards."""
        mapping = [*zip(self._weights, weights, strict=True)]
        mapping += zip(self._states, states, strict=True)
        with keras.StatelessScope(mapping, collect_losses=True) as scope:
            outputs = self._model(inputs, training=True)
            added = sum((tf.cast(one, "float32") for one in self._model.losses), tf.constant(0.0))
        found = [scope.get_current_value(state) for state in self._states]
        self._changed = [n for n, value in enumerate(found) if value is not states[n]]
        return outputs, added, [found[n] for n in self._changed]

    def _folded(self, place: int, state: tf.Tensor, number: int) -> tf.Tensor:
        """A state as a device reads it: the seeds of random streams are its own."""
        if not number or self._states[place].name != SEED_STATE:
            return state
        return state + tf.constant([FOLD * number, 0], state.dtype)

    def _assign_state(
        self, place: int, before: tf.Tensor, given: tf.Tensor, after: tf.Tensor, context: Any
    ) -> None:
        """Gives all copies of a state the same new value."""
        state = self._states[place]
        if state.name == SEED_STATE:  # each device has made as many draws
            state.assign(before + (after - given))
        elif id(state) in self._statistics:  # of the whole batch
            state.assign(after)
        elif keras.backend.is_int_dtype(state.dtype):  # a counter
            state.assign(before + context.all_reduce("sum", after - before))
        else:
            raise ValueError(f"`model` must not change {state.path} in training on several devices")

    def _learn(
        self,
        weights: Sequence[tf.Tensor],
        slopes: Sequence[Any],
        added: tf.Tensor,
        number: int,
        context: Any,
    ) -> tf.Tensor:
        """Takes the optimizer's step on this device's copy of the weights.

        Args:
            weights: before the step.
            slopes: this device's part of their gradients; None where the loss does not depend on
                them.
            added: this device's part of the losses that layers add.
            number: of the device.
            context: where devices exchange sums.

        Returns:
            The losses that layers add, of all devices.
        """
        learned = [n for n, slope in enumerate(slopes) if slope is not None]
        # The gradient of a table is that of some rows, which may occur repeatedly.
        tables = [n for n in learned if isinstance(slopes[n], tf.IndexedSlices)]
        parts = [tf.convert_to_tensor(slopes[n]) for n in learned]
        parts += [_squared(slopes[n]) for n in tables]
        # XLA's functions return gradients without a static shape.
        for part, n in zip(parts, [*learned, *tables], strict=True):
            part.set_shape(weights[n].shape)
        *sums, added = _sum([*parts, added], context)
        squares = dict(zip(tables, sums[len(learned) :], strict=True))
        optimizer = self._model.optimizer
        variables = [self._weights[n] for n in learned]
        first, second = optimizer.moments_of(variables)
        found = self._run(
            optimizer.stepped,
            (
                [weights[n] for n in learned],
                sums[: len(learned)],
                [squares.get(n) for n in learned],
                [tf.convert_to_tensor(m) for m in first],
                [tf.convert_to_tensor(v) for v in second],
                tf.convert_to_tensor(optimizer.learning_rate),
                tf.convert_to_tensor(optimizer.iterations),
            ),
            number,
            self._jit,
        )
        for kind, values in zip((variables, first, second), found, strict=True):
            for variable, value in zip(kind, values, strict=True):
                variable.assign(value)
        return added


def _as_it_is(function: Callable) -> Callable:
    """A function that AutoGraph need not convert."""
    return tf.autograph.experimental.do_not_convert(function)


def _rows(inputs: Mapping[str, tf.Tensor], own: slice) -> Any:
    return tf.nest.map_structure(operator.itemgetter(own), inputs)


def _squared(slope: tf.IndexedSlices) -> tf.Tensor:
    """Sum of the squares of a table's gradients, row of the batch by row."""
    squares = tf.IndexedSlices(tf.square(slope.values), slope.indices, slope.dense_shape)
    return tf.convert_to_tensor(squares)


def _sum(tensors: Sequence[tf.Tensor], context: Any) -> list[tf.Tensor]:
    """Sums float32 tensors over all devices, in one exchange."""
    sizes = [tensor.shape.num_elements() for tensor in tensors]
    flat = tf.concat([tf.reshape(tensor, [-1]) for tensor in tensors], 0)
    parts = tf.split(context.all_reduce("sum", flat), sizes)
    return [tf.reshape(part, one.shape) for part, one in zip(parts, tensors, strict=True)]
