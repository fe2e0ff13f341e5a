"""The signature `decide`: raw columns in; score, interval, decision and reasons out.

It is the computation of `raw_columns`, then that of `decision` for the export's first rule, with
the same draws (`draws`), then that of `reasons`. All of it is one graph, which TensorFlow Serving
runs without Python. The network scores the rows once for the score and once per reason, in one
batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa
import tensorflow as tf

from mmnet import schema
from mmnet.data.counts import NO_PERIOD
from mmnet.data.dataset import Fitted
from mmnet.evaluation.conformal import Group
from mmnet.serving import decision, draws, period_texts, reasons
from mmnet.serving.decision import DROP, EXPLORE, KEEP, Asked, Decisions
from mmnet.serving.exported import DECISION, HIGH, ITEM, LOW, OUTPUT, PROPENSITY, Tolerance

Tensors = Mapping[str, tf.Tensor]
Arrays = dict[str, np.ndarray]


class Decider:
    """Decides on the first rule of an export, inside a graph.

    Args:
        fitted: values that the model was fitted with.
        decisions: decisions of the export.

    Attributes:
        fitted: see above.
        rule: text of the rule.
    """

    def __init__(self, fitted: Fitted, decisions: Decisions):
        self.rule = next(iter(decisions.rules))
        self.fitted, self._decisions = fitted, decisions
        self._probability = decisions.explore_probability(self.rule)
        self._groups = _merged(decisions)
        self._field, self._thresholds = None, np.array([decisions.rule(self.rule).threshold])
        if (quota := decisions.quota(self.rule, fitted)) is not None:
            self._field, self._thresholds = quota

    @staticmethod
    def keys() -> dict[str, tf.TensorSpec]:
        """Returns the inputs in addition to raw columns.

        `id`: the item's id as in the tables, string [batch]. `target_period`: the predicted period
        in the format of the tables, string [batch].
        """
        return {
            name: tf.TensorSpec([None], tf.string, name) for name in (ITEM, period_texts.TARGET)
        }

    def __call__(
        self, score: Callable[[Tensors], tf.Tensor], inputs: Tensors, keys: Tensors
    ) -> dict[str, tf.Tensor]:
        """Decides on a batch.

        Args:
            score: the network, from tensors of `FeatureSpec` to percent, [batch].
            inputs: the tensors.
            keys: see `keys`.

        Returns:
            `predicted_share_rate`, `share_rate_low`, `share_rate_high`: percent, float32 [batch];
            an interval without an upper end ends at `schema.LARGEST_RATE`. `decision`: keep, drop
            or explore, string [batch]. `propensity`: probability that the item is kept or
            explored, float32 [batch]. `reason_<input>`: percentage points, float32 [batch].

        Raises:
            tf.errors.InvalidArgumentError: during execution, if an id or a period is missing that
                a draw depends on.
        """
        predicted, found = self._reasons(score, inputs)
        exact = tf.cast(predicted, tf.float64)
        low, high = self._bounds(tf.cast(inputs[schema.CLICKS.name], tf.float64), exact)
        thresholds = tf.constant(self._thresholds, tf.float64)
        at = tf.zeros_like(predicted, tf.int32)
        if self._field is not None:
            at = inputs[self._field.tensor][:, 0]
        threshold = tf.gather(thresholds, at)
        kept = exact >= threshold
        band = tf.logical_not(kept) & (high >= threshold)
        explored = tf.where(band, self._drawn(keys) < self._probability, False)
        below = tf.where(explored, EXPLORE, DROP)
        chance = tf.where(band, tf.constant(self._probability, tf.float32), 0.0)
        return {
            OUTPUT: predicted,
            LOW: tf.cast(low, tf.float32),
            HIGH: tf.cast(high, tf.float32),
            DECISION: tf.where(kept, KEEP, below),
            PROPENSITY: tf.where(kept, 1.0, chance),
            **found,
        }

    def _reasons(
        self, score: Callable[[Tensors], tf.Tensor], inputs: Tensors
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Scores the rows as they are, and with each input hidden in turn."""
        hidden = reasons.hidden(self.fitted.spec)
        variants = [inputs, *(_without(inputs, gone) for gone in hidden.values())]
        joined = {name: tf.concat([one[name] for one in variants], 0) for name in inputs}
        scores = tf.reshape(score(joined), [len(variants), -1])
        names = reasons.columns(self.fitted.spec)
        found = {name: scores[0] - scores[number] for number, name in enumerate(names, 1)}
        return scores[0], found

    def _bounds(self, clicks: tf.Tensor, predicted: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """As `Decisions.bounds`, in float64; clicks [batch, window]."""
        starts = tf.constant([start for start, _ in self._groups], tf.float64)
        place = tf.searchsorted(starts, tf.reduce_sum(clicks, axis=1), side="right") - 1
        intervals = self._decisions.intervals
        top = intervals.max_rate or schema.LARGEST_RATE
        spread = tf.sqrt(tf.maximum(predicted, intervals.floor))
        ends = []
        for open_end, bounds in (
            (-np.inf, [group.low for _, group in self._groups]),
            (np.inf, [group.high for _, group in self._groups]),
        ):
            known = tf.constant([open_end if one is None else one for one in bounds], tf.float64)
            end = predicted + tf.gather(known, place) * spread
            ends.append(tf.clip_by_value(end, 0.0, top))
        return ends[0], ends[1]

    def _drawn(self, keys: Tensors) -> tf.Tensor:
        """Draws of the rows; they are only needed where not all or none of the band is explored."""
        text = keys[period_texts.TARGET]
        periods = period_texts.numbers(text, self.fitted.calendar, period_texts.TARGET)
        explore = self._decisions.explore
        if explore is None or not 0 < self._probability < 1:
            return tf.zeros_like(periods, tf.float64)
        missing = tf.reduce_any((keys[ITEM] == "") | (periods == NO_PERIOD))
        message = (
            f"{ITEM} and {period_texts.TARGET} must not be empty: what is explored is drawn by them"
        )
        with tf.control_dependencies([tf.debugging.Assert(tf.logical_not(missing), [message])]):
            return draws.uniform(keys[ITEM], periods, explore.salt)

    def expected(
        self, predicted: np.ndarray, inputs: Arrays, keys: Arrays, tolerance: Tolerance
    ) -> tuple[Arrays, np.ndarray]:
        """Computes the outputs in NumPy, as `predict` does, for golden rows.

        Args:
            predicted: the score of each row, then the scores with each input hidden in turn,
                percent, float32 [1 + reasons, rows].
            inputs: tensors of `FeatureSpec`.
            keys: see `keys`.
            tolerance: of scores.

        Returns:
            The outputs, and which rows are so far from a threshold that no rounding within the
            tolerance changes their decision, bool [rows].
        """
        at = (
            np.zeros(predicted.shape[1], int)
            if self._field is None
            else inputs[self._field.tensor][:, 0]
        )
        threshold = self._thresholds[at]
        periods = [
            self.fitted.calendar.number(one, period_texts.TARGET)
            for one in keys[period_texts.TARGET]
        ]
        scores = pa.table(
            {
                "item_id": pa.array(keys[ITEM], pa.string()),
                "predicted_share_rate": predicted[0].astype(np.float64),
                "seen_clicks": inputs[schema.CLICKS.name].sum(axis=1, dtype=np.float64),
            }
        )
        asked = Asked(self.rule, threshold, explore=True, period=np.array(periods))
        found = decision.add(scores, self._decisions, asked)
        ends = {name: found[name].to_numpy() for name in (LOW, HIGH)}
        outputs = {
            OUTPUT: predicted[0],
            **{
                name: np.minimum(end, schema.LARGEST_RATE).astype(np.float32)
                for name, end in ends.items()
            },
            DECISION: np.array([one.encode() for one in found[DECISION].to_pylist()], object),
            PROPENSITY: found[PROPENSITY].to_numpy().astype(np.float32),
        }
        for number, name in enumerate(reasons.columns(self.fitted.spec), 1):
            outputs[name] = predicted[0] - predicted[number]
        far = np.ones(predicted.shape[1], bool)
        for name in (OUTPUT, HIGH):
            scale = np.maximum(np.abs(outputs[name]), tolerance.least[name])
            far &= np.abs(outputs[name] - threshold) > 2 * tolerance.relative * scale
        return outputs, far


def _without(inputs: Tensors, gone: Mapping[str, float]) -> dict[str, tf.Tensor]:
    fill = {
        name: tf.cast(tf.fill(tf.shape(inputs[name]), value), inputs[name].dtype)
        for name, value in gone.items()
    }
    return {**inputs, **fill}


def _merged(decisions: Decisions) -> list[tuple[int, Group]]:
    """Returns the first clicks of each group of live rows, and the group; see `bounds`."""
    groups = decisions.intervals.groups
    found = [(group.clicks, group) for group in groups if group.scenario == "normal"]
    new = [group for group in groups if group.scenario == "cold_start"]
    if new and 1 not in [start for start, _ in found]:
        first, *others = found
        found = [(0, new[0]), (1, first[1]), *others]
    return found
