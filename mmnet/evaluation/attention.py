"""Where a model looks in each scenario: mean attention and gate weights."""

from __future__ import annotations

import keras

from mmnet.evaluation.predicting import Predictor, ScenarioSet
from mmnet.models.mmnet import attention_probe, fusion_names
from mmnet.schema import FeatureSpec


class AttentionMeans:
    """Means over examples of all attention and gate weights.

    Args:
        model: its weights are read anew at each call.
        spec: of the dataset, for the names of taxonomies and texts.
        jit: compile with XLA.
    """

    def __init__(self, model: keras.Model, spec: FeatureSpec, jit: bool = True):
        probe = attention_probe(model)
        self._predict = None if probe is None else Predictor(probe, jit)
        self._names = {
            "granularity": ["item", *spec.taxonomies],
            "temporal": [f"t-{back}" for back in reversed(range(spec.window))],
            "context": [text.name for text in spec.texts],
            "fusion": fusion_names(model),
        }

    def __call__(self, examples: ScenarioSet) -> dict[str, float]:
        """Named means: `fusion/cold_start/history`, `temporal/normal/t-0` and so on.

        Nothing for a model that attends to nothing.
        """
        found: dict[str, float] = {}
        if self._predict is None:
            return found
        for scenario in examples.hidden:
            for kind, weights in examples.outputs(scenario, self._predict).items():
                means = weights.reshape(-1, weights.shape[-1]).mean(axis=0)
                for name, mean in zip(self._names[kind], means, strict=True):
                    found[f"{kind}/{scenario}/{name}"] = float(mean)
        return found
