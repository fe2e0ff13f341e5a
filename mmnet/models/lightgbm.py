"""Gradient-boosted trees by LightGBM, the usual first choice for tabular data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mmnet.layers.trees import Forest
from mmnet.models.boosted_trees import PATIENCE, BoostedTrees, Rows
from mmnet.models.forests import lightgbm_forest
from mmnet.models.options import LightGbmOptions
from mmnet.models.tree_features import extra
from mmnet.schema import FeatureSpec

CATEGORIES = ("field_", "target_")
"""Prefix of the names of LightGBM's categories; their suffix is _category."""
PARAMETERS = (
    *("num_leaves", "learning_rate", "min_data_in_leaf"),
    *("feature_fraction", "bagging_fraction", "lambda_l2"),
)
"""Options that are LightGBM's own."""


class LightGbm(BoostedTrees):
    """LightGBM's trees, which grow leaf by leaf and split categories into sets.

    Args:
        spec: see `BoostedTrees`.
        options: see `LightGbmOptions`.

    Raises:
        ValueError: an argument out of range, or cross entropy where rates may exceed one.
    """

    library = "lightgbm"
    options: LightGbmOptions

    def __init__(self, spec: FeatureSpec, options: LightGbmOptions):
        super().__init__(spec, options)
        self._booster: Any = None

    def grow(
        self, train: Rows, validation: Rows, error: Callable[[np.ndarray], float]
    ) -> tuple[str, int, float]:
        lightgbm = extra(self.library, f"--model={self.library}")
        names = self.features.names()
        fitted_on = lightgbm.Dataset(
            train.columns,
            train.label,
            init_score=train.start,
            weight=train.weight,
            feature_name=names,
            categorical_feature=[
                name for name in names if name.startswith(CATEGORIES) and name.endswith("_category")
            ],
        )
        shown = fitted_on.create_valid(
            validation.columns, validation.label, init_score=validation.start
        )

        def metric(predicted: np.ndarray, _: Any) -> tuple[str, float, bool]:
            return "error", error(predicted if self.link == "identity" else 100 * predicted), False

        booster = lightgbm.train(
            self.parameters,
            fitted_on,
            self.options.num_trees,
            valid_sets=[shown],
            feval=metric,
            callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
        )
        trees = booster.best_iteration
        text = booster.model_to_string(num_iteration=trees)
        return text, trees, float(booster.best_score["valid_0"]["error"])

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameters that are passed to LightGBM."""
        return self.options.model_dump(include=set(PARAMETERS)) | {
            "bagging_freq": 1,
            "objective": self.options.objective,
            "metric": "None",
            "seed": self.options.seed,
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
        }

    def read(self) -> None:
        self._booster = extra(self.library, f"--model={self.library}").Booster(model_str=self.text)

    def score(self, columns: np.ndarray) -> np.ndarray:
        return self._booster.predict(columns, raw_score=True)

    def forest(self, logged: list[bool]) -> Forest:
        return lightgbm_forest(self.text, logged)
