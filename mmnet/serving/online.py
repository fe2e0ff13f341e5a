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
from mmnet.schema import Output
from mmnet.serving import decision, draws, period_texts, reasons
from mmnet.serving.decision import DROP, EXPLORE, KEEP, Asked, Decisions
from mmnet.serving.exported import (
    DECISION,
    HIGH,
    ITEM,
    LOW,
    OUTPUT,
    PROPENSITY,
    Tolerance,
    bounds_of,
    named,
)
from mmnet.serving.rules import output_of

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
        output: what it decides by.
    """

    def __init__(self, fitted: Fitted, decisions: Decisions):
        self.rule = next(iter(decisions.rules))
        outputs = fitted.spec.outputs()
        self.output = output_of(self.rule, outputs)
        self.fitted, self._decisions = fitted, {one: decisions.of(one) for one in outputs}
        self._probability = decisions.explore_probability(self.rule)
        self._field, self._thresholds = None, np.array([decisions.rule(self.rule).threshold])
        if (quota := decisions.quota(self.rule, fitted)) is not None:
            self._field, self._thresholds = quota

    @staticmethod
    def keys() -> dict[str, tf.TensorSpec]:
        """Returns the inputs in addition to raw columns.

        `id`: the item's id as in the tables, string [batch]. `target_period`: the predicted period
        in the format of the tables, string [batch]; with several horizons, that of the first one.
        """
        return {
            name: tf.TensorSpec([None], tf.string, name) for name in (ITEM, period_texts.TARGET)
        }

    def __call__(
        self, score: Callable[[Tensors], tf.Tensor], inputs: Tensors, keys: Tensors
    ) -> dict[str, tf.Tensor]:
        """Decides on a batch.

        Args:
            score: the network, from tensors of `FeatureSpec` to percent, [batch] or, of several
                outputs, [batch, outputs].
            inputs: the tensors.
            keys: see `keys`.

        Returns:
            `predicted_share_rate`, `share_rate_low`, `share_rate_high`: percent, float32 [batch];
            an interval without an upper end ends at `schema.LARGEST_RATE`; likewise for further
            outputs, see `exported.bounds_of`. `decision`: keep, drop or explore, string [batch].
            `propensity`: probability that the item is kept or explored, float32 [batch].
            `reason_<input>`: percentage points of what the rule decides by, float32 [batch].

        Raises:
            tf.errors.InvalidArgumentError: during execution, if an id or a period is missing that
                a draw depends on.
        """
        predicted, found = self._reasons(score, inputs)
        spec, outputs = self.fitted.spec, {}
        for output in spec.outputs():
            clicks = tf.cast(inputs[spec.sequences(output.rate)[schema.CLICKS.name]], tf.float64)
            score_of = tf.cast(predicted[output.name], tf.float64)
            ends = self._bounds(output, clicks, score_of)
            if output == self.output:
                exact, high = score_of, ends[1]
            names = bounds_of(output)
            outputs[output.name] = predicted[output.name]
            outputs |= {
                name: tf.cast(end, tf.float32) for name, end in zip(names, ends, strict=True)
            }
        thresholds = tf.constant(self._thresholds, tf.float64)
        at = tf.zeros_like(exact, tf.int32)
        if self._field is not None:
            at = inputs[self._field.tensor][:, 0]
        threshold = tf.gather(thresholds, at)
        kept = exact >= threshold
        band = tf.logical_not(kept) & (high >= threshold)
        explored = tf.where(band, self._drawn(keys) < self._probability, False)
        below = tf.where(explored, EXPLORE, DROP)
        chance = tf.where(band, tf.constant(self._probability, tf.float32), 0.0)
        return {
            **outputs,
            DECISION: tf.where(kept, KEEP, below),
            PROPENSITY: tf.where(kept, 1.0, chance),
            **found,
        }

    def _reasons(
        self, score: Callable[[Tensors], tf.Tensor], inputs: Tensors
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Scores the rows as they are, and with each input hidden in turn."""
        hidden = reasons.hidden(self.fitted.spec)
        variants = [inputs, *(_without(inputs, gone) for gone in hidden.values())]
        joined = {name: tf.concat([one[name] for one in variants], 0) for name in inputs}
        scores = {
            name: tf.reshape(predicted, [len(variants), -1])
            for name, predicted in named(self.fitted.spec, score(joined)).items()
        }
        names, own = reasons.columns(self.fitted.spec), scores[self.output.name]
        found = {name: own[0] - own[number] for number, name in enumerate(names, 1)}
        return {name: predicted[0] for name, predicted in scores.items()}, found

    def _bounds(
        self, output: Output, clicks: tf.Tensor, predicted: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """As `Decisions.bounds`, in float64; clicks [batch, window]."""
        groups = _merged(self._decisions[output])
        starts = tf.constant([start for start, _ in groups], tf.float64)
        place = tf.searchsorted(starts, tf.reduce_sum(clicks, axis=1), side="right") - 1
        intervals = self._decisions[output].intervals
        top = intervals.max_rate or schema.LARGEST_RATE
        spread = tf.sqrt(tf.maximum(predicted, intervals.floor))
        ends = []
        for open_end, bounds in (
            (-np.inf, [group.low for _, group in groups]),
            (np.inf, [group.high for _, group in groups]),
        ):
            known = tf.constant([open_end if one is None else one for one in bounds], tf.float64)
            end = predicted + tf.gather(known, place) * spread
            ends.append(tf.clip_by_value(end, 0.0, top))
        return ends[0], ends[1]

    def _drawn(self, keys: Tensors) -> tf.Tensor:
        """Draws of the rows; they are only needed where not all or none of the band is explored."""
        text = keys[period_texts.TARGET]
        periods = period_texts.numbers(text, self.fitted.calendar, period_texts.TARGET)
        explore = self._decisions[self.output].explore
        if explore is None or not 0 < self._probability < 1:
            return tf.zeros_like(periods, tf.float64)
        missing = tf.reduce_any((keys[ITEM] == "") | (periods == NO_PERIOD))
        message = (
            f"{ITEM} and {period_texts.TARGET} must not be empty: what is explored is drawn by them"
        )
        with tf.control_dependencies([tf.debugging.Assert(tf.logical_not(missing), [message])]):
            return draws.uniform(keys[ITEM], periods + self._later, explore.salt)

    @property
    def _later(self) -> int:
        """Periods from the main target to that of the rule."""
        return self.output.horizon - self.fitted.spec.horizon

    def expected(
        self, predicted: Arrays, inputs: Arrays, keys: Arrays, tolerance: Tolerance
    ) -> tuple[Arrays, np.ndarray]:
        """Computes the outputs in NumPy, as `predict` does, for golden rows.

        Args:
            predicted: output by name -> the score of each row, then the scores with each input
                hidden in turn, percent, float32 [1 + reasons, rows].
            inputs: tensors of `FeatureSpec`.
            keys: see `keys`.
            tolerance: of scores.

        Returns:
            The outputs, and which rows are so far from a threshold that no rounding within the
            tolerance changes their decision, bool [rows].
        """
        spec, own = self.fitted.spec, predicted[self.output.name]
        at = (
            np.zeros(own.shape[1], int) if self._field is None else inputs[self._field.tensor][:, 0]
        )
        threshold = self._thresholds[at]
        periods = [
            self.fitted.calendar.number(one, period_texts.TARGET) + self._later
            for one in keys[period_texts.TARGET]
        ]
        asked = Asked(self.rule, threshold, explore=True, period=np.array(periods))
        outputs: Arrays = {}
        for output, decisions in self._decisions.items():
            clicks = inputs[spec.sequences(output.rate)[schema.CLICKS.name]]
            scores = pa.table(
                {
                    "item_id": pa.array(keys[ITEM], pa.string()),
                    OUTPUT: predicted[output.name][0].astype(np.float64),
                    "seen_clicks": clicks.sum(axis=1, dtype=np.float64),
                }
            )
            of_rule = output == self.output
            found = decision.add(scores, decisions, asked if of_rule else None)
            outputs[output.name] = predicted[output.name][0]
            for name, column in zip(bounds_of(output), (LOW, HIGH), strict=True):
                end = np.minimum(found[column].to_numpy(), schema.LARGEST_RATE)
                outputs[name] = end.astype(np.float32)
            if of_rule:
                decided = found
        texts = [one.encode() for one in decided[DECISION].to_pylist()]
        outputs[DECISION] = np.array(texts, object)
        outputs[PROPENSITY] = decided[PROPENSITY].to_numpy().astype(np.float32)
        for number, name in enumerate(reasons.columns(spec), 1):
            outputs[name] = own[0] - own[number]
        far = np.ones(own.shape[1], bool)
        for name in (self.output.name, bounds_of(self.output)[1]):
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
