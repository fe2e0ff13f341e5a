"""The network: three tanh layers, a sigmoid, and rows gathered from tables inside the model."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from mmnet import checks
from mmnet.mma4ctr.data.features import Features
from mmnet.mma4ctr.data.fusion import LARGEST_SCALED
from mmnet.mma4ctr.models import RowSpec


def mma4ctr(spec: RowSpec) -> keras.Model:
    """The method's network; see `network`."""
    return network(spec.in_features, arch=spec.arch, seed=spec.seed, output_bias=spec.output_bias)


def lr(spec: RowSpec) -> keras.Model:
    """A logistic regression; see `network`."""
    return network(spec.in_features, arch="linear", seed=spec.seed, output_bias=spec.output_bias)


PUBLISHED = (128, 32, 4)
"""Hidden widths of the authors' README."""

_HEAD: tuple[tuple[int, tuple[int, ...]], ...] = (
    *((200, (256, 64, 16, 4)), (100, (256, 128, 64, 16, 4)), (60, (64, 16, 4))),
    *((30, (32, 16, 4)), (10, (16, 4)), (4, (8, 4))),
)
MOST_FEATURES = 500


def hidden_widths(in_features: int, arch: str) -> tuple[int, ...]:
    """Hidden widths of an architecture.

    The README's do not depend on the input; the authors' code, which contradicts it, has others
    for each width.

    `linear` has none: a logistic regression.

    >>> hidden_widths(194, "readme"), hidden_widths(194, "head_adaptive")
    ((128, 32, 4), (256, 128, 64, 16, 4))

    Raises:
        ValueError: an unknown architecture, or a width that the authors' code refuses.
    """
    checks.one_of(("readme", "head_adaptive", "linear"), arch=arch)
    if arch != "head_adaptive":
        return PUBLISHED if arch == "readme" else ()
    for above, widths in _HEAD:
        if above < in_features <= MOST_FEATURES:
            return widths
    raise ValueError(
        f"`arch`=head_adaptive is for 5 to {MOST_FEATURES} features. Received: {in_features}"
    )


def network(
    in_features: int, *, arch: str, seed: int, output_bias: float | None = None
) -> keras.Model:
    """Rows of features to (probability [batch], hidden [batch, 4]).

    Weights and biases start uniform within 1/sqrt(fan in), as PyTorch's linear layers do.

    Args:
        in_features: columns of a row.
        arch: see `hidden_widths`.
        seed: seed of the weights.
        output_bias: the last layer's at the start; None draws it like the others.

    Raises:
        ValueError: see `hidden_widths`.
    """
    checks.at_least(1, in_features=in_features)
    features = keras.Input([in_features], name="features")
    outputs = features
    seeds = np.random.default_rng([seed, 3]).integers(0, 2**31, 20).tolist()
    for number, width in enumerate(hidden_widths(in_features, arch)):
        outputs = _dense(width, outputs, seeds, f"hidden_{number}", "tanh")(outputs)
    hidden = outputs
    last = _dense(1, hidden, seeds, "probability", "sigmoid")
    if output_bias is not None:
        last.bias_initializer = keras.initializers.Constant(output_bias)
    return keras.Model(features, (ops.squeeze(last(hidden), -1), hidden), name="mma4ctr")


def _dense(width: int, inputs, seeds: list[int], name: str, activation: str):
    fan_in = inputs.shape[-1]
    return keras.layers.Dense(
        width,
        activation,
        kernel_initializer=keras.initializers.VarianceScaling(
            1 / 3, "fan_in", "uniform", seed=seeds.pop()
        ),
        bias_initializer=keras.initializers.RandomUniform(
            -(fan_in**-0.5), fan_in**-0.5, seed=seeds.pop()
        ),
        name=name,
    )


@keras.saving.register_keras_serializable(package="mmnet")
class GatheredRows(keras.layers.Layer):
    """Rows of features from tables: [state's columns, item's columns, moment's columns], scaled.

    The tables are variables that training never changes, so a row's features exist only inside a
    step. The scaling, x' = (x - low) · factor, can be replaced: as published, each split has its
    own. Scaled values are clipped to `fusion.LARGEST_SCALED`.

    Args:
        states: number of states and of their columns.
        items: number of items and of their columns.
        moments: number of items times that of moments, and of their columns; None where rows have
            none of them. The moment of a state is its place among those of its user.

    Call arguments:
        state: int32 [batch].
        item: int32 [batch].

    Returns:
        float32 [batch, state columns + item columns + moment columns].
    """

    def __init__(
        self,
        states: tuple[int, int],
        items: tuple[int, int],
        moments: tuple[int, int] | None = None,
        **kwargs,
    ):
        kwargs.setdefault("trainable", False)
        super().__init__(**kwargs)
        self.states, self.items = tuple(states), tuple(items)
        self.moments = None if moments is None else tuple(moments)
        columns = self.states[1] + self.items[1]
        self.state_table = self.add_weight(self.states, "zeros", name="state_table")
        self.item_table = self.add_weight(self.items, "zeros", name="item_table")
        self.moment_table = None
        if self.moments is not None:
            columns += self.moments[1]
            self.moment_table = self.add_weight(self.moments, "zeros", name="moment_table")
        self.low = self.add_weight([columns], "zeros", name="low")
        self.factor = self.add_weight([columns], "ones", name="factor")

    @property
    def moments_per_item(self) -> int:
        """Number of moments of an item, or of states of a user; 0 where rows have none."""
        return 0 if self.moments is None else self.moments[0] // self.items[0]

    def call(self, state, item):
        """Gathers and scales."""
        parts = [ops.take(self.state_table, state, axis=0), ops.take(self.item_table, item, axis=0)]
        if self.moment_table is not None:
            each = self.moments_per_item
            parts.append(ops.take(self.moment_table, item * each + state % each, axis=0))
        rows = ops.concatenate(parts, axis=-1)
        return ops.clip((rows - self.low) * self.factor, -LARGEST_SCALED, LARGEST_SCALED)

    def compute_output_spec(self, state, item):
        """float32 [batch, columns]."""
        return keras.KerasTensor([*state.shape, self.low.shape[0]], self.compute_dtype)

    def get_config(self):
        """The arguments."""
        own = {"states": self.states, "items": self.items, "moments": self.moments}
        return {**super().get_config(), **own}


class Clicks(keras.Model):
    """(state, item) to the probability of a positive, with the tables inside.

    Args:
        features: the tables.
        net: see `network`.

    Attributes:
        score_rows: how many are scored at a time.
    """

    score_rows = 65_536

    def __init__(self, features: Features, net: keras.Model):
        super().__init__(name="clicks")
        moments = None if features.moments is None else features.moments.shape
        self.rows = GatheredRows(features.states.shape, features.items.shape, moments, name="rows")
        self.rows.state_table.assign(features.states)
        self.rows.item_table.assign(features.items)
        if self.rows.moment_table is not None:
            self.rows.moment_table.assign(features.moments)
        self.net = net
        self._features = features
        self.scale_for("train")

    def scale_for(self, split: str) -> None:
        """Scales rows as those of a split are."""
        scaler = self._features.scalers[split]
        self.rows.low.assign(scaler.low)
        self.rows.factor.assign(scaler.factor)

    def call(self, inputs):
        """Probabilities, [batch]."""
        return self.net(self.rows(inputs["state"], inputs["item"]))[0]

    def hidden(self, inputs):
        """The last hidden layer, [batch, 4]."""
        return self.net(self.rows(inputs["state"], inputs["item"]))[1]


@keras.saving.register_keras_serializable(package="mmnet")
class ListwiseCrossEntropy(keras.losses.Loss):
    """The published loss: the whole batch is one example, its rows are the classes.

        L = - sum over rows b of y_b · log softmax(p)_b

    with p the *sigmoid outputs* in (0, 1). Positives pull as hard as negatives push in all,
    whatever their numbers; a batch without a positive has no gradient; and L does not change when
    a constant is added to all p, so p is not calibrated.

    Call arguments:
        y_true: labels, [batch], 0 or 1.
        y_pred: p, [batch].

    Raises:
        ValueError: the two shapes differ.
    """

    def __init__(self, name: str = "listwise_cross_entropy", **kwargs):
        kwargs.pop("reduction", None)
        super().__init__(name=name, reduction="sum", **kwargs)

    def call(self, y_true, y_pred):
        """Summands of the loss, [batch]."""
        checks.same_shape(y_true=y_true, y_pred=y_pred)
        return -ops.cast(y_true, y_pred.dtype) * ops.log_softmax(y_pred, axis=0)
