"""Examples with several targets: predicted in one pass, then each output by itself.

A network of several outputs predicts all of them at once. Each output is then evaluated as if it
were the only one, on the examples whose target of it belongs to the split.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mmnet.data.dataset import Dataset
from mmnet.data.splits import Examples
from mmnet.data.windows import Windows
from mmnet.evaluation.predicting import Predict, Predicted, ScenarioSet
from mmnet.evaluation.scenarios import SCENARIOS
from mmnet.schema import PREDICTED, Output


def metric_of(output: str, metric: str) -> str:
    """Name a validation metric of one of several outputs: as it is for the main one.

    >>> metric_of("predicted_like_h2", "normal_mse")
    'predicted_like_h2/normal_mse'
    """
    return metric if output == PREDICTED else f"{output}/{metric}"


class Part(NamedTuple):
    """The examples of one output.

    Attributes:
        output: the output.
        number: its place in the last axis of the predictions; None where they have none.
        rows: its examples among those of all outputs.
        examples: its examples, with its targets.
    """

    output: Output
    number: int | None
    rows: np.ndarray | slice
    examples: ScenarioSet

    def of(self, predicted: Predicted) -> Predicted:
        """Returns the predictions of this output, from those of all examples and outputs."""
        if self.number is None:
            return predicted
        return {scenario: found[self.rows, self.number] for scenario, found in predicted.items()}

    def looks(self, looks: dict[str, dict[str, np.ndarray]]) -> dict[str, dict[str, np.ndarray]]:
        """Returns the attention weights of its examples."""
        if self.number is None:
            return looks
        return {
            scenario: {kind: weights[self.rows] for kind, weights in kinds.items()}
            for scenario, kinds in looks.items()
        }

    def alone(self, predict: Predict) -> Predict:
        """Returns a function that predicts this output, [batch], from one that predicts all."""
        if self.number is None:
            return predict
        return lambda inputs: predict(inputs)[:, self.number]


class OutputSet(ScenarioSet):
    """The examples of one split that have a target of any output.

    All outputs of an example see the same steps hidden: those that are drawn for the target of the
    main output.

    Args:
        dataset: dataset with several outputs.
        windows: windows of the dataset.
        examples: examples of one split.
        missing_rate: see `ScenarioSet`.
        scenario_seed: see `ScenarioSet`.

    Attributes:
        parts: the examples of each output, in the order of the predictions.
    """

    def __init__(
        self,
        dataset: Dataset,
        windows: Windows,
        examples: Examples,
        *,
        missing_rate: float,
        scenario_seed: int,
    ):
        super().__init__(
            dataset, windows, examples, missing_rate=missing_rate, scenario_seed=scenario_seed
        )
        if examples.eligible is None:
            raise ValueError("`examples` must have the eligibility of their targets")
        self._eligible = examples.eligible
        self._missing_rate = missing_rate
        self.parts = []
        for number, output in enumerate(dataset.fitted.spec.outputs()):
            rows = np.flatnonzero(examples.eligible[:, number])
            self.parts.append(Part(output, number, rows, self._of(output, rows)))

    def _of(self, output: Output, rows: np.ndarray) -> ScenarioSet:
        """Some of the examples, with the targets of one output."""
        view = self.dataset.of_output(output)
        return ScenarioSet(
            view,
            Windows(view),
            Examples(self.examples.items[rows], self.examples.times[rows]),
            missing_rate=self._missing_rate,
            scenario_seed=self.scenario_seed,
            drawn_for=self.target_column[rows],
        )

    def mse(self, predicted: Predicted) -> dict[str, float]:
        """Validation metrics of all outputs, by `metric_of`; see `ScenarioSet.mse`."""
        return {
            metric_of(part.output.name, name): value
            for part in self.parts
            for name, value in part.examples.mse(part.of(predicted)).items()
        }

    def table(self, predicted: Predicted) -> pd.DataFrame:
        """The predictions table of all outputs.

        Returns:
            The rows of `ScenarioSet.frame` at each horizon in turn, with a column `horizon`, and
            for each further rate its `clicks_<rate>`, `share_rate_<rate>` and `predicted_<rate>`.
            A rate is empty where its target does not belong to the split.
        """
        spec = self.dataset.fitted.spec
        found = []
        for horizon in (spec.horizon, *spec.horizons):
            outputs = {
                output.rate: (number, output)
                for number, output in enumerate(spec.outputs())
                if output.horizon == horizon
            }
            numbers = [number for number, _ in outputs.values()]
            rows = np.flatnonzero(self._eligible[:, numbers].any(axis=1))
            columns: dict[str, Any] = {"horizon": horizon}
            frame = pd.DataFrame()
            for rate, (number, output) in outputs.items():
                part = Part(output, number, rows, self._of(output, rows))
                eligible = self._eligible[rows, number]
                truth = np.where(eligible, part.examples.truth, np.nan)
                if not rate:
                    frame = part.examples.frame(part.of(predicted))
                    frame["share_rate"] = np.tile(truth, len(SCENARIOS))
                    continue
                own = spec.sequences(rate)
                items, column = part.examples.examples.items, part.examples.target_column
                clicks = part.examples.dataset.panel.clicks[items, column]
                columns[own["clicks"]] = np.tile(clicks, len(SCENARIOS))
                columns[own["share_rate"]] = np.tile(truth, len(SCENARIOS))
                name = next(one.name for one in spec.outputs() if one.rate == rate)
                columns[name] = np.concatenate(
                    [part.of(predicted)[scenario].astype(np.float64) for scenario in SCENARIOS]
                )
            found.append(frame.assign(**columns))
        return pd.concat(found, ignore_index=True)


def set_of(
    dataset: Dataset,
    windows: Windows,
    examples: Examples,
    *,
    missing_rate: float,
    scenario_seed: int,
) -> ScenarioSet:
    """Returns the examples of a split in all scenarios, with the targets of all outputs.

    Args:
        dataset: dataset of the examples.
        windows: windows of the dataset.
        examples: examples of one split.
        missing_rate: see `ScenarioSet`.
        scenario_seed: see `ScenarioSet`.
    """
    of = ScenarioSet if len(dataset.fitted.spec.outputs()) == 1 else OutputSet
    return of(dataset, windows, examples, missing_rate=missing_rate, scenario_seed=scenario_seed)


def parts_of(examples: ScenarioSet) -> list[Part]:
    """Returns the examples of each output; those of a single output are all of them."""
    if isinstance(examples, OutputSet):
        return examples.parts
    return [Part(examples.dataset.fitted.spec.outputs()[0], None, slice(None), examples)]
