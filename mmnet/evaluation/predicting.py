"""Predictions of one system on the examples of one split, in all three scenarios."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from mmnet.data.dataset import Dataset
from mmnet.data.splits import Examples
from mmnet.data.windows import Windows
from mmnet.evaluation import intervals, metrics, plots
from mmnet.evaluation.precision import precision_at
from mmnet.evaluation.scenarios import SCENARIOS, disturb, hidden_steps, outages, remove
from mmnet.evaluation.significance import Clusters
from mmnet.hashing import hash_items
from mmnet.models.estimator import Sample

BATCH = 512
Predict = Callable[[Mapping[str, tf.Tensor]], Any]
"""Maps the inputs of a batch to an array [batch], or to a structure of arrays [batch, ...]."""
Predicted = Mapping[str, np.ndarray]
"""Scenario -> predictions of every example of a set, float32 [examples], percent."""


class Predictor:
    """Calls a Keras model on batches of any size without retracing it for each size.

    Args:
        model: maps a dict of tensors to [batch] or a dict of [batch, ...].
        jit: compile with XLA.
    """

    def __init__(self, model: keras.Model, jit: bool):
        def call(inputs):
            return model(inputs, training=False)

        self._call = tf.function(call, jit_compile=jit, autograph=False)

    def __call__(self, inputs: Mapping[str, tf.Tensor], of: str | None = None):
        """Returns arrays; a batch shorter than `BATCH` is filled up, and cut again.

        Args:
            inputs: tensors [batch, ...].
            of: the only one of the model's outputs that is asked for; None: all of them.
        """
        size = len(next(iter(inputs.values())))
        missing = -size % BATCH
        if missing:
            inputs = {
                name: tf.pad(tensor, [[0, missing]] + [[0, 0]] * (tensor.shape.rank - 1))
                for name, tensor in inputs.items()
            }
        found = self._call(inputs)
        return tf.nest.map_structure(
            lambda tensor: tensor.numpy()[:size], found if of is None else found[of]
        )


class ScenarioSet:
    """The examples of one split, with the steps that each scenario hides.

    Args:
        dataset: dataset of the examples.
        windows: windows of the dataset.
        examples: examples of one split.
        missing_rate: probability of hiding a step in noisy.
        scenario_seed: seed of the masks.
        drawn_for: column of the period that the masks of each example are drawn for, [examples];
            None: that of its target.
    """

    def __init__(
        self,
        dataset: Dataset,
        windows: Windows,
        examples: Examples,
        *,
        missing_rate: float,
        scenario_seed: int,
        drawn_for: np.ndarray | None = None,
    ):
        self.dataset, self.windows, self.examples = dataset, windows, examples
        self.target_column = examples.times.astype(np.int64) + dataset.fitted.spec.horizon
        self._drawn_for = self.target_column if drawn_for is None else drawn_for
        self.truth = windows.targets(examples)
        self.scenario_seed = scenario_seed
        # Of the items with an example alone: there may be few of a large table's.
        items, of_examples = np.unique(examples.items, return_inverse=True)
        self.hashes = hash_items(dataset.panel.item_ids[items])[of_examples]
        self.hidden = {scenario: self._hidden(scenario, missing_rate) for scenario in SCENARIOS}

    def outputs(self, scenario: str, predict: Predict):
        """Compute a system's outputs for every example in one scenario, batches joined."""
        return self._predicted(self.hidden[scenario], predict)

    def predictions(self, predict: Predict) -> dict[str, Any]:
        """Compute a system's outputs for every example in every scenario."""
        return {scenario: self.outputs(scenario, predict) for scenario in SCENARIOS}

    def _hidden(self, scenario: str, missing_rate: float) -> np.ndarray:
        return hidden_steps(
            scenario,
            self.hashes,
            self.dataset.panel.first_period + self._drawn_for,
            window=self.dataset.fitted.spec.window,
            missing_rate=missing_rate,
            seed=self.scenario_seed,
        )

    def _predicted(self, hidden: np.ndarray, predict: Predict):
        found = [
            predict(disturb(inputs, hidden[part]))
            for part, inputs in self.windows.batches(self.examples, BATCH)
        ]
        return tf.nest.map_structure(lambda *parts: np.concatenate(parts), *found)

    def sample(self, scenario: str, half_weight_clicks: float = 0) -> Sample:
        """All examples in one scenario as arrays, for models that are fitted in one call.

        Args:
            scenario: one of `SCENARIOS`.
            half_weight_clicks: see `Windows.training_batches`.
        """
        clicks = self.dataset.panel.clicks[self.examples.items, self.target_column]
        weight = clicks / (clicks + half_weight_clicks)
        return Sample(
            self.outputs(scenario, lambda inputs: {k: np.asarray(v) for k, v in inputs.items()}),
            self.truth,
            clicks.astype(np.float32),
            (weight / weight.mean()).astype(np.float32),
        )

    def degradation(
        self,
        predict: Predict,
        rates: Sequence[float],
        known: Predicted | None = None,
        *,
        with_ends: bool = False,
    ) -> list[dict[str, float]]:
        """Measure MSE and P@N over the share of hidden steps, as after the loss of log entries.

        Args:
            predict: the system.
            rates: shares of hidden steps, in [0, 1].
            known: predictions of the same system; a rate that hides the same steps as one of
                these scenarios is scored from them.
            with_ends: adds 95 % intervals of the MSE, by item.

        Returns:
            Rows of `missing_rate`, `mse`, `precision_at_5`, `precision_at_10`; rate 0 is the
            normal scenario, 1 is cold-start. With ends also `mse_low` and `mse_high`, if there
            are two items.
        """
        items = self.examples.items
        clusters = Clusters(items) if with_ends and np.ptp(items) > 0 else None

        def predicted(rate: float) -> np.ndarray:
            hidden = self._hidden("noisy", rate)
            for scenario, found in (known or {}).items():
                if np.array_equal(hidden, self.hidden[scenario]):
                    return found
            return self._predicted(hidden, predict)

        def scores(rate: float) -> dict[str, float]:
            found = predicted(rate)
            ends = {}
            if clusters:
                squared = (found.astype(np.float64) - self.truth) ** 2
                ends = intervals.mse_ends(squared, clusters)
            return self._scores(found) | {f"mse_{end}": value for end, value in ends.items()}

        return [{"missing_rate": rate} | scores(rate) for rate in sorted(rates)]

    def outage(
        self, predict: Predict, known: Predicted | None = None
    ) -> dict[str, dict[str, dict[str, float]]]:
        """Measure MSE and P@N with one input removed at a time, as after the loss of a source.

        The history has no row: with it gone, every scenario is cold-start.

        Args:
            predict: the system.
            known: predictions of the same system with nothing gone.

        Returns:
            Each name of `outages` -> scenario -> `mse`, `precision_at_5`, `precision_at_10`.
        """
        whole = self.dataset.inputs_of or self.dataset  # a network may read further rates
        gone = outages(whole.fitted.spec)
        predicted = {
            (name, scenario): np.empty(len(self.examples), np.float32)
            for name in gone
            for scenario in self.hidden
        }
        asked = dict(gone)
        if known is not None:
            predicted |= {("nothing", scenario): known[scenario] for scenario in self.hidden}
            del asked["nothing"]
        for part, inputs in self.windows.batches(self.examples, BATCH):
            for scenario, hidden in self.hidden.items():
                shown = disturb(inputs, hidden[part])
                for name, tensors in asked.items():
                    predicted[name, scenario][part] = predict(remove(shown, tensors))
        return {
            name: {scenario: self._scores(predicted[name, scenario]) for scenario in self.hidden}
            for name in gone
        }

    def _scores(self, predicted: np.ndarray) -> dict[str, float]:
        return {
            "mse": metrics.mse(self.truth, predicted),
            "precision_at_5": precision_at(5, self.truth, predicted),
            "precision_at_10": precision_at(10, self.truth, predicted),
        }

    def mse(self, predicted: Predicted) -> dict[str, float]:
        """Validation metrics: `<scenario>_mse` and P@5 of each scenario."""
        found = {}
        for scenario in SCENARIOS:
            rates = predicted[scenario]
            found[f"{scenario}_mse"] = metrics.mse(self.truth, rates)
            found[f"{scenario}_precision_at_5"] = precision_at(5, self.truth, rates)
        return found

    def keys(self) -> pd.DataFrame:
        """item_id and period (the target's label) of every example."""
        period = self.dataset.panel.first_period + self.target_column
        return pd.DataFrame(
            {
                "item_id": self.dataset.panel.item_ids[self.examples.items],
                "period": self.dataset.panel.calendar.periods(period),
            }
        )

    def frame(self, predicted: Predicted) -> pd.DataFrame:
        """The predictions table: one row per example and scenario, see `predictions`."""
        panel, items = self.dataset.panel, self.examples.items
        column = self.target_column
        seen = ~self.dataset.missing_flags(self.examples)
        steps = self.examples.times[:, None] + np.arange(1 - self.windows.window, 1)
        clicks = np.where(seen, panel.clicks[items[:, None], np.maximum(steps, 0)], 0)
        base = {
            **self.keys(),
            "clicks": panel.clicks[items, column],
            "shares": panel.shares[items, column],
            "share_rate": self.truth,
            "natural_observed_periods": seen.sum(axis=1),
            "age_periods": column - panel.release[items],
        }
        for name in self.dataset.fitted.spec.taxonomies:
            base[f"{plots.TAXONOMY}{name}"] = self.values(name)
        if self.dataset.true_share_rate is not None:
            base["true_share_rate"] = self.dataset.true_share_rate[items, column]
        parts = []
        for scenario in SCENARIOS:
            part = pd.DataFrame(base)
            part.insert(0, "scenario", scenario)
            part["observed_periods"] = (seen & ~self.hidden[scenario]).sum(axis=1)
            part["seen_clicks"] = np.where(self.hidden[scenario], 0, clicks).sum(axis=1)
            part["predicted_share_rate"] = predicted[scenario].astype(np.float64)
            parts.append(part)
        return pd.concat(parts, ignore_index=True)

    def values(self, name: str) -> np.ndarray:
        """Values of a categorical column as text, several joined by `;`, unknown ones `unknown`."""
        tensor = self.dataset.fitted.spec.column_tensor("field", name)
        vocabulary = self.dataset.fitted.vocabularies[tensor]
        names = np.array(["", "unknown", *vocabulary], object)
        ids, codes = np.unique(
            self.dataset.tensors[tensor][self.examples.items], axis=0, return_inverse=True
        )
        texts = np.array([";".join(names[i] for i in row if i) for row in ids], object)
        return texts[codes.ravel()]
