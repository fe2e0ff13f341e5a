"""DIN and DIEN: earlier items of the user, weighted by their relevance to the target item."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import keras
from keras import ops

from mmnet.checks import InputError
from mmnet.mma4ctr.models import NumberSpec
from mmnet.mma4ctr.models.baselines.numbers import Inputs, reads_numbers
from mmnet.mma4ctr.models.deviations import SILU

WIDTH = 10
MLP = (256, 256, 256)


@reads_numbers
def din(inputs: Inputs, spec: NumberSpec, seeds: Iterator[int]):
    """DIN (Zhou et al., 2018): interest is the sum of the items' vectors, weighted by attention.

    The weights have no softmax, so that a strong interest stays strong. The network reads the
    vectors of user, interest and target.
    """
    of_item = _embedding(spec.items + 1, "items", seeds)  # row 0 is nothing
    target, sequence = of_item(inputs.item + 1), of_item(inputs.history)
    weights = _activation_unit(target, sequence, seeds)
    if "scaled_attention" in spec.deviations:
        weights = weights / WIDTH**0.5
    weights = weights * ops.cast(inputs.history > 0, "float32")
    interest = ops.sum(weights[..., None] * sequence, axis=1)
    vectors = [interest, target]
    if "no_user_vector" not in spec.deviations:
        vectors = [_embedding(spec.users + 1, "users", seeds)(inputs.user + 1), *vectors]
    if "interest_times_target" in spec.deviations:
        vectors = [*vectors, interest * target]
    return _score(vectors, spec, seeds)


@reads_numbers
def dien(inputs: Inputs, spec: NumberSpec, seeds: Iterator[int]):
    """DIEN (Zhou et al., 2019): interests are states of a GRU, and evolve in a second one.

    An auxiliary loss (`NextItem`) makes a state predict the next item. Attention between state and
    target, Eq. 8 of the paper, multiplies the update gate of the second GRU (`EvolvingInterest`).
    The network reads the vectors of evolved interest, target and user.
    """
    if spec.items < 2:
        raise InputError(
            "--model=dien learns from items that were not taken, and the log has a single item; "
            "use a larger log"
        )
    padded = "padding_in_auxiliary" in spec.deviations
    history, others = inputs.history, inputs.others
    if others is None:
        others = OtherItems(spec.items, next(seeds), name="other_items")(history)
    if padded:  # RecBole's padding comes after the items, and its loss reads it
        history, others = left_aligned(history, history), left_aligned(others, history)
    of_item = _embedding(spec.items + 1, "items", seeds)
    target, sequence = of_item(inputs.item + 1), of_item(history)
    there = ops.cast(history > 0, "float32")
    gru = keras.layers.GRU(
        WIDTH, return_sequences=True, zero_output_for_mask=True, seed=next(seeds), name="gru"
    )
    states = gru(sequence, mask=history > 0)
    auxiliary = NextItem(
        [*itertools.islice(seeds, len(MLP) + 1)],
        linear="linear_auxiliary" in spec.deviations,
        padded=padded,
        name="next_item",
    )
    states = auxiliary([states, sequence, of_item(others), there])
    if "unnormalized_attention" in spec.deviations:
        weights = _activation_unit(target, states, seeds) / WIDTH**0.5
    else:
        bilinear = _dense(WIDTH, seeds, "attention", use_bias=False)
        weights = ops.sum(states * bilinear(target)[:, None, :], axis=-1)
        weights = ops.softmax(ops.where(there > 0, weights, -1e9), axis=-1)
    interest = EvolvingInterest(next(seeds), name="evolving_interest")([states, weights * there])
    of_user = _embedding(spec.users + 1, "users", seeds)
    return _score([interest, target, of_user(inputs.user + 1)], spec, seeds)


def _embedding(rows: int, name: str, seeds: Iterator[int]) -> keras.layers.Embedding:
    start = keras.initializers.GlorotNormal(next(seeds))
    return keras.layers.Embedding(rows, WIDTH, embeddings_initializer=start, name=name)


def _dense(width: int, seeds: Iterator[int], name: str, activation=None, **kwargs):
    start = keras.initializers.GlorotNormal(next(seeds))
    return keras.layers.Dense(width, activation, kernel_initializer=start, name=name, **kwargs)


def _activation_unit(target, sequence, seeds: Iterator[int]):
    """How much each step tells of the target: an MLP over both, difference and product."""
    query = ops.repeat(target[:, None, :], sequence.shape[1], axis=1)
    outputs = ops.concatenate([query, sequence, query - sequence, query * sequence], axis=-1)
    for number, width in enumerate(MLP):
        outputs = _dense(width, seeds, f"attention_{number}", "sigmoid")(outputs)
    return ops.squeeze(_dense(1, seeds, f"attention_{len(MLP)}")(outputs), -1)


def _score(vectors: Sequence, spec: NumberSpec, seeds: Iterator[int]):
    """Score of an MLP over some vectors, [batch]."""
    outputs = ops.concatenate(vectors, axis=-1)
    for number, width in enumerate(MLP):
        outputs = _dense(width, seeds, f"dense_{number}")(outputs)
        if SILU in spec.deviations:
            norm = keras.layers.BatchNormalization(
                momentum=0.9, epsilon=1e-5, name=f"normalization_{number}"
            )
            outputs = ops.silu(norm(outputs))
        else:
            outputs = Dice(width, name=f"dice_{number}")(outputs)
    last = _dense(
        1,
        seeds,
        f"dense_{len(MLP)}",
        bias_initializer=keras.initializers.Constant(spec.output_bias),
    )
    return ops.squeeze(last(outputs), -1)


def left_aligned(values, history):
    """Moves the entries of rows to the left, as many places as the row's history has zeros there.

    Args:
        values: int32 [batch, steps].
        history: the entries at the right, and 0 for nothing; int32 [batch, steps].

    Returns:
        int32 [batch, steps], 0 at the right.
    """
    steps = history.shape[1]
    empty = ops.sum(ops.cast(ops.equal(history, 0), "int32"), axis=1, keepdims=True)
    place = ops.arange(steps, dtype="int32")[None, :] + empty
    found = ops.take_along_axis(values, ops.minimum(place, steps - 1), axis=1)
    return found * ops.cast(place < steps, "int32")


@keras.saving.register_keras_serializable(package="mmnet")
class Dice(keras.layers.Layer):
    """DIN's activation (Zhou et al., 2018, Eq. 3): its turning point is the mean of the batch.

        p = sigmoid((s - E[s]) / sqrt(Var[s] + 1e-8))        f(s) = p · s + (1 - p) · a · s

    The slope a is learned, one of each unit, and starts at 0. In training mean and variance are
    the batch's; otherwise moving averages.

    Args:
        width: number of units.

    Call arguments:
        inputs: s, [batch, width].
    """

    def __init__(self, width: int, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.slope = self.add_weight([width], "zeros", name="slope")
        self.norm = keras.layers.BatchNormalization(
            momentum=0.9, epsilon=1e-8, center=False, scale=False, name="normalization"
        )
        self.norm.build([None, width])

    def call(self, inputs, training=False):
        """f(s), [batch, width]."""
        p = ops.sigmoid(self.norm(inputs, training=training))
        return p * inputs + (1 - p) * self.slope * inputs

    def get_config(self):
        """The arguments."""
        return {**super().get_config(), "width": self.width}


@keras.saving.register_keras_serializable(package="mmnet")
class OtherItems(keras.layers.Layer):
    """Draws another item for each one of a history, uniformly.

    Args:
        items: number of items, at least 2.
        seed: seed of the draws.

    Call arguments:
        history: items counted from 1, and 0 for nothing; int32 [batch, steps].

    Returns:
        int32 [batch, steps], 0 for nothing; all 0 except in training, where they are read.
    """

    def __init__(self, items: int, seed: int, **kwargs):
        super().__init__(**kwargs)
        self._config = {"items": items, "seed": seed}
        self.draws = keras.random.SeedGenerator(seed)

    def call(self, history, training=False):
        """See the class."""
        if not training:
            return ops.zeros_like(history)
        drawn = keras.random.randint(
            ops.shape(history), 1, self._config["items"], dtype="int32", seed=self.draws
        )
        drawn = drawn + ops.cast(drawn >= history, "int32")  # passes over the item itself
        return ops.where(history > 0, drawn, 0)

    def get_config(self):
        """The arguments."""
        return {**super().get_config(), **self._config}


@keras.saving.register_keras_serializable(package="mmnet")
class NextItem(keras.layers.Layer):
    """DIEN's auxiliary loss (Zhou et al., 2019, Eq. 6): a state knows the next item from others.

    Adds the mean over steps of -log σ(h · e) - log(1 - σ(h · o)), with h a state, e the vector of
    the next item and o that of another one, and passes the states on.

    Args:
        seeds: seeds of the kernels, one for each of `MLP` and one for the last layer.
        linear: scores [h; e] by linear layers of the widths `MLP` and 1 instead of h · e.
        padded: takes the mean over all steps, also where there is no item, and over both terms.

    Call arguments:
        inputs: states, vectors of items and of other items, [batch, steps, WIDTH] each, and which
            steps there are, 1 or 0, [batch, steps].

    Returns:
        The states.
    """

    def __init__(
        self, seeds: Sequence[int], *, linear: bool = False, padded: bool = False, **kwargs
    ):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.seeds, self.linear, self.padded = list(seeds), linear, padded
        widths = [2 * WIDTH, *MLP, 1]
        self._dense = []
        if linear:
            for number, seed in enumerate(seeds):
                dense = keras.layers.Dense(
                    widths[number + 1],
                    kernel_initializer=keras.initializers.GlorotNormal(seed),
                    name=f"auxiliary_{number}",  # given, so that it stays the same from run to run
                )
                dense.build([None, widths[number]])
                self._dense.append(dense)

    def compute_output_spec(self, inputs, training=False):
        """Those of the states."""
        return keras.KerasTensor(inputs[0].shape, inputs[0].dtype)

    def call(self, inputs, training=False):
        """The states; in training the loss is added."""
        states, sequence, others, there = inputs
        if training:
            right = self._score(states[:, :-1], sequence[:, 1:])
            wrong = self._score(states[:, :-1], others[:, 1:])
            losses = ops.softplus(-right) + ops.softplus(wrong)
            if self.padded:
                self.add_loss(ops.mean(losses) / 2)
            else:
                both = there[:, :-1] * there[:, 1:]
                self.add_loss(ops.sum(losses * both) / ops.maximum(ops.sum(both), 1.0))
        return states

    def get_config(self):
        """The arguments."""
        own = {"seeds": self.seeds, "linear": self.linear, "padded": self.padded}
        return {**super().get_config(), **own}

    def _score(self, states, items):
        if not self.linear:
            return ops.sum(states * items, axis=-1)
        outputs = ops.concatenate([states, items], axis=-1)
        for dense in self._dense:
            outputs = dense(outputs)
        return ops.squeeze(outputs, -1)


@keras.saving.register_keras_serializable(package="mmnet")
class EvolvingInterest(keras.layers.Layer):
    """A GRU whose update gate is multiplied by the attention (AUGRU).

    Args:
        seed: seed of both kernels.

    Call arguments:
        inputs: a sequence, [batch, steps, WIDTH]; and the weight of each step, [batch, steps], 0
            where there is no step, which leaves the state as it is.

    Returns:
        The last state, [batch, WIDTH].
    """

    def __init__(self, seed: int, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.seed = seed
        width = WIDTH
        start = keras.initializers.GlorotNormal(seed)
        self.kernel = self.add_weight([width, 3 * width], start, name="kernel")
        self.recurrent = self.add_weight(
            [width, 3 * width],
            keras.initializers.OrthogonalInitializer(seed=seed),
            name="recurrent",
        )
        self.bias = self.add_weight([2, 3 * width], "zeros", name="bias")
        self._steps = keras.layers.RNN(_WeightedSteps(self._step), name="steps")

    def call(self, inputs):
        """The last state, [batch, WIDTH]."""
        sequence, weights = inputs
        # All steps at once: half of the products do not depend on the state.
        given = ops.matmul(sequence, self.kernel) + self.bias[0]
        return self._steps(ops.concatenate([given, weights[..., None]], axis=-1))

    def compute_output_spec(self, inputs):
        """[batch, WIDTH]."""
        return keras.KerasTensor([inputs[0].shape[0], WIDTH], self.compute_dtype)

    def get_config(self):
        """The arguments."""
        return {**super().get_config(), "seed": self.seed}

    def _step(self, given, state):
        """Next state, from products of the step's input with its weight after them."""
        given, weight = given[:, :-1], given[:, -1:]
        new = ops.split(given, 3, axis=-1)
        kept = ops.split(ops.matmul(state, self.recurrent) + self.bias[1], 3, axis=-1)
        update = ops.sigmoid(new[0] + kept[0]) * weight
        reset = ops.sigmoid(new[1] + kept[1])
        fresh = ops.tanh(new[2] + reset * kept[2])
        return state + update * (fresh - state)


class _WeightedSteps(keras.layers.Layer):
    """A step of `EvolvingInterest`, as Keras' recurrent layers call it.

    Args:
        step: from inputs and state to the next state.
    """

    def __init__(self, step: Callable, **kwargs):
        super().__init__(**kwargs)
        self._step = step
        self.state_size = self.output_size = WIDTH

    def call(self, inputs, states):
        """The next state, as output and as state."""
        state = self._step(inputs, states[0])
        return state, [state]
