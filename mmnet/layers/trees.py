"""Regression trees as arrays, walked by gathers: boosted trees without their library."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args

import keras
import numpy as np
from keras import ops

from mmnet import checks
from mmnet.layers.evidence import clipped

PIECE = 64
"""Rows processed at a time, whatever the batch size: a row needs some bytes for every split."""
SMALLEST = 1e-35
"""Values closer to 0 are read as 0, as in LightGBM, so that no subnormal number is compared."""
WORD = 31
"""Categories per word of a bitset: the bits of an int32 without its sign."""

ScoreLink = Literal["identity", "logistic"]
"""Link from a score to a rate; see `TreeRate`."""
LEAST_PROBABILITY = 1e-7
"""Minimum distance of rates from 0 and 100 % before their log odds are computed."""


@dataclass(frozen=True)
class Forest:
    """Trees as arrays.

    A condition is the test of a node; many nodes share one. Condition c, numbered through both
    kinds, sends a row to the left

        numeric       x[feature[c]] <= threshold[c], or missing_left[c] where x is NaN
        categorical   if the bitset of c holds trunc(x[category_feature[c]]); never where it is NaN

    Places are the nodes of all trees, and after them all leaves; a leaf leads to itself, whatever
    its condition. No array is empty, as a weight without entries could not be saved.

    Attributes:
        feature, threshold, missing_left: int32, float32 and bool [numeric conditions].
        category_feature: int32 [categorical conditions].
        first_word, num_words: position of each bitset in `words`, int32 [categorical conditions].
        words: bitsets of `WORD` categories each, int32 [words].
        condition: condition of each place, int32 [places].
        left, right: the place after it, int32 [places].
        root: the place where each tree begins, int32 [trees]; the deepest tree first.
        value: value of each leaf, float64 [leaves].
        alive: how many trees are deeper than 0, 1, 2, ... steps; all above 0.
    """

    feature: np.ndarray
    threshold: np.ndarray
    missing_left: np.ndarray
    category_feature: np.ndarray
    first_word: np.ndarray
    num_words: np.ndarray
    words: np.ndarray
    condition: np.ndarray
    left: np.ndarray
    right: np.ndarray
    root: np.ndarray
    value: np.ndarray
    alive: tuple[int, ...]

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name, of the dtypes above."""
        return {name: getattr(self, name).astype(dtype) for name, dtype in DTYPES.items()}


DTYPES = {one.name: "int32" for one in fields(Forest) if one.name != "alive"} | {
    "threshold": "float32",
    "missing_left": "bool",
    "value": "float64",
}


@keras.saving.register_keras_serializable(package="mmnet")
class Trees(keras.layers.Layer):
    """Sums the leaves that an example falls into.

    Every condition is computed once for all rows of a piece, and with it where each node leads;
    then all trees are walked together, one step at a time, the shallow ones for fewer steps.

    Args:
        sizes: length of each array of a `Forest`, by its name. `Trees.of` makes a layer that holds
            a forest.
        alive: see `Forest`.

    Call arguments:
        features: float32 [batch, features]; NaN where missing.

    Returns:
        The sum over the trees, float64 [batch].

    Raises:
        ValueError: `sizes` names other arrays, or one of them is below 1.
    """

    def __init__(self, sizes: dict[str, int], alive: tuple[int, ...], **kwargs):
        # Rounded to bfloat16 first, a feature would fall on the other side of a threshold.
        super().__init__(autocast=False, **kwargs)
        if set(sizes) != set(DTYPES):
            raise ValueError(f"`sizes` must have the arrays of a forest. Received: {[*sizes]}")
        for name, size in sizes.items():
            checks.at_least(1, **{name: size})
        self.sizes, self.alive = dict(sizes), tuple(alive)
        self.forest = {
            name: self.add_weight((self.sizes[name],), "zeros", dtype, trainable=False, name=name)
            for name, dtype in DTYPES.items()
        }

    @classmethod
    def of(cls, forest: Forest, **kwargs) -> Trees:
        """Make a layer that holds a forest."""
        arrays = forest.arrays()
        layer = cls({name: len(array) for name, array in arrays.items()}, forest.alive, **kwargs)
        for name, array in arrays.items():
            layer.forest[name].assign(array)
        return layer

    def call(self, features):
        rows, width = ops.shape(features)
        pieces = ops.maximum((rows + PIECE - 1) // PIECE, 1)
        size = (rows + pieces - 1) // pieces
        features = ops.where(ops.abs(features) <= SMALLEST, 0.0, features)
        filled = ops.pad(features, [[0, pieces * size - rows], [0, 0]])
        found = ops.map(self._walked, ops.reshape(filled, (pieces, size, width)))
        return ops.reshape(found, (-1,))[:rows]

    def compute_output_spec(self, features):
        return keras.KerasTensor(features.shape[:1], "float64")

    def _walked(self, features):
        """[rows, features] -> the sums, [rows]."""
        forest, rows = self.forest, ops.shape(features)[0]
        # What is true of which row. [conditions, rows]
        by_feature = ops.transpose(features)
        true = ops.concatenate([self._numeric(by_feature), self._categorical(by_feature)], axis=0)
        # Where each row goes from each place, as an index of this vector: so a step is one gather,
        # and that from the few places of a tree. [places * rows]
        row = ops.arange(rows, dtype="int32")
        left, right = (forest[side][:, None] * rows for side in ("left", "right"))
        after = ops.where(ops.take(true, forest["condition"], axis=0), left, right)
        after = ops.reshape(after, (-1,))
        # Where each row is in each tree. [trees, rows]
        place = forest["root"][:, None] * rows + row
        done: list[keras.KerasTensor] = []
        for step, alive in enumerate((*self.alive, 0)):
            # Trees without another step are set aside; the deepest come first.
            if alive < (self.alive[step - 1] if step else self.sizes["root"]):
                done.insert(0, place[alive:])
                place = place[:alive]
            if alive:
                place = ops.take(after, place) + row
        first_leaf = self.sizes["condition"] - self.sizes["value"]
        leaf = ops.concatenate(done, axis=0) // ops.maximum(rows, 1) - first_leaf
        return ops.sum(ops.take(forest["value"], leaf), axis=0)

    def _numeric(self, by_feature):
        x = ops.take(by_feature, self.forest["feature"], axis=0)
        below = x <= self.forest["threshold"][:, None]
        return ops.where(ops.isnan(x), self.forest["missing_left"][:, None], below)

    def _categorical(self, by_feature):
        forest = self.forest
        known = by_feature > -1  # and not NaN; -0.5 is category 0
        category = ops.cast(ops.where(known, ops.minimum(by_feature, 2.0**24), 0.0), "int32")
        bits = ops.convert_to_tensor([2**n for n in range(WORD)], "int32")
        bit = ops.where(known, ops.take(bits, category % WORD), 0)
        bit, word = (
            ops.take(one, forest["category_feature"], axis=0) for one in (bit, category // WORD)
        )
        inside = word < forest["num_words"][:, None]
        held = ops.take(forest["words"], ops.where(inside, forest["first_word"][:, None] + word, 0))
        return ops.logical_and(inside, ops.bitwise_and(held, bit) > 0)

    def get_config(self):
        return {**super().get_config(), "sizes": self.sizes, "alive": list(self.alive)}


def log_odds(rate, xp=ops):
    """Log odds of rates in percent, any shape; `xp` is NumPy or keras.ops."""
    probability = xp.clip(rate / 100, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    return xp.log(probability / (1 - probability))


@keras.saving.register_keras_serializable(package="mmnet")
class TreeRate(keras.layers.Layer):
    """Turns the score of trees into a rate; the score may correct another rate.

        identity    start + score
        logistic    100 / (1 + exp(-(log odds of start + score)))

    Without a start both terms of it are 0.

    Args:
        link: "identity" or "logistic".
        max_rate: clips to [0, max_rate]; None sets no upper limit.

    Call arguments:
        score: float64 [batch].
        start: the rate that the score corrects, percent, [batch]; None corrects no rate.

    Returns:
        Percent, float32 [batch].

    Raises:
        ValueError: `link` is unknown.
    """

    def __init__(self, link: ScoreLink, max_rate: float | None = 100.0, **kwargs):
        super().__init__(autocast=False, **kwargs)
        checks.one_of(get_args(ScoreLink), link=link)
        self.link, self.max_rate = link, max_rate

    def call(self, score, start=None):
        if start is not None:
            start = ops.cast(start, "float64")
            score = score + (start if self.link == "identity" else log_odds(start))
        rate = score if self.link == "identity" else 100 / (1 + ops.exp(-score))
        return ops.cast(clipped(rate, self.max_rate), "float32")

    def compute_output_spec(self, score, start=None):
        return keras.KerasTensor(score.shape, "float32")

    def get_config(self):
        return {**super().get_config(), "link": self.link, "max_rate": self.max_rate}
