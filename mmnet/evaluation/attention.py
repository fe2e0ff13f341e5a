"""Attention and gate weights of a network, per scenario and per example."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pandas as pd

from mmnet.evaluation.predicting import Predict, Predicted, Predictor, ScenarioSet
from mmnet.models.meta_info import texts_of
from mmnet.models.mmnet import (
    attention_probe,
    fusion_names,
    granularity_names,
    head_weights,
)
from mmnet.schema import FeatureSpec

Looks = dict[str, dict[str, np.ndarray]]
"""Scenario -> kind of attention -> its weights, [examples, ...]; see `attention_probe`."""
Means = dict[str, dict[str, dict[str, float]]]
"""Scenario -> kind of attention -> name of the input -> mean weight."""


class Attention:
    """Attention and gate weights of a network.

    A modality that an example lacks has weight 0 and enters the means with that value.

    Args:
        model: the network; every call uses its current weights.
        spec: the dataset's specification, for the names of taxonomies and texts.
        jit: compile with XLA.

    Attributes:
        kinds: "granularity", "temporal", "context", "fusion", "prior_fusion" and "head", as far
            as the model has them.
    """

    def __init__(self, model: keras.Model, spec: FeatureSpec, jit: bool):
        probe = attention_probe(model)
        self.kinds = () if probe is None else tuple(probe.output)
        # One program for both: compiling takes longer than all predictions.
        outputs = {"weights": {} if probe is None else probe.output, "predicted": model.output}
        self._outputs = Predictor(keras.Model(model.input, outputs, name="attending"), jit)
        self._names = {
            "granularity": granularity_names(model, spec.taxonomies),
            "temporal": [f"t-{back}" for back in reversed(range(spec.window))],
            "context": [text.name for text in texts_of(spec)],
            "fusion": fusion_names(model),
            "prior_fusion": fusion_names(model, "prior_fusion"),
            "head": list(head_weights(model)),
        }

    @property
    def predict(self) -> Predict:
        """Predict without weights, with the same compiled program that returns the weights."""
        return functools.partial(self._outputs, of="predicted")

    def look(self, examples: ScenarioSet) -> tuple[Predicted, Looks]:
        """Predictions and weights of all examples in every scenario, in one pass."""
        found = {name: examples.outputs(name, self._outputs) for name in examples.hidden}
        return (
            {scenario: outputs["predicted"] for scenario, outputs in found.items()},
            {scenario: outputs["weights"] for scenario, outputs in found.items()},
        )

    def named(self, looks: Looks) -> dict[str, float]:
        """Means by name: `fusion/cold_start/history`, `temporal/normal/t-0` and so on."""
        return {
            f"{kind}/{scenario}/{name}": mean
            for scenario, kinds in self.means(looks).items()
            for kind, named in kinds.items()
            for name, mean in named.items()
        }

    def means(self, looks: Looks) -> Means:
        """Means over examples, for granularity over steps too."""
        return {
            scenario: {
                kind: dict(
                    zip(
                        self._names[kind],
                        weights.reshape(-1, weights.shape[-1]).mean(axis=0).tolist(),
                        strict=True,
                    )
                )
                for kind, weights in kinds.items()
            }
            for scenario, kinds in looks.items()
        }

    def frame(self, examples: ScenarioSet, looks: Looks) -> pd.DataFrame:
        """One row per scenario and example, in the order of the predictions table.

        Returns:
            scenario, item_id, period, and a column per weight: `head_<part>` of a head of several
            parts, `fusion_<modality>`, `prior_fusion_<modality>` of the mixed head,
            `temporal_t-5`... `temporal_t-0` (the last step seen), `granularity_item_t-5`... and
            the same for each taxonomy, `context_<text>`.
        """
        keys, parts = examples.keys(), []
        for scenario, kinds in looks.items():
            part = keys.copy()
            part.insert(0, "scenario", scenario)
            columns: dict[str, np.ndarray] = {}
            for kind in ("head", "fusion", "prior_fusion", "temporal", "context"):
                if kind in kinds:
                    named = zip(self._names[kind], kinds[kind].T, strict=True)
                    columns |= {f"{kind}_{name}": weights for name, weights in named}
            if "granularity" in kinds:
                steps = self._names["temporal"]
                for number, name in enumerate(self._names["granularity"]):
                    named = zip(steps, kinds["granularity"][..., number].T, strict=True)
                    columns |= {f"granularity_{name}_{step}": weights for step, weights in named}
            parts.append(pd.concat([part, pd.DataFrame(columns)], axis=1))
        return pd.concat(parts, ignore_index=True)
