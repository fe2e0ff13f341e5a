"""Gradient-boosted trees by CatBoost, whose trees have one condition per level."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmnet.files import scratch_directory
from mmnet.layers.trees import Forest
from mmnet.models.boosted_trees import PATIENCE, BoostedTrees, Rows
from mmnet.models.forests import catboost_forest
from mmnet.models.options import CatBoostOptions
from mmnet.models.tree_features import extra
from mmnet.schema import FeatureSpec

PARAMETERS = ("depth", "learning_rate", "l2_leaf_reg", "subsample")
"""Options that are CatBoost's own."""
LOSSES = {"regression": "RMSE", "cross_entropy": "CrossEntropy"}
"""Names of the objectives."""
MISSING = np.float32(-1e30)
"""Replaces NaN, below all numbers: CatBoost's handling of NaN depends on the training rows."""


class CatBoost(BoostedTrees):
    """CatBoost's oblivious trees.

    Categories are numbers to it, and frequent values have columns of their own: its statistics of
    targets per category would have to be exported with the trees.

    Args:
        spec: see `BoostedTrees`.
        options: see `CatBoostOptions`.

    Raises:
        ValueError: an argument out of range, or cross entropy where rates may exceed one.
    """

    library = "catboost"
    frequent = True
    options: CatBoostOptions

    def __init__(self, spec: FeatureSpec, options: CatBoostOptions):
        super().__init__(spec, options)
        self._booster: Any = None

    def grow(
        self, train: Rows, validation: Rows, error: Callable[[np.ndarray], float]
    ) -> tuple[str, int, float]:
        catboost = extra(self.library, f"--model={self.library}")
        given, shown = (
            catboost.Pool(_known(one.columns), one.label, weight=one.weight, baseline=one.start)
            for one in (train, validation)
        )
        booster = catboost.CatBoost(
            self.options.model_dump(include=set(PARAMETERS))
            | {
                "iterations": self.options.num_trees,
                "bootstrap_type": "Bernoulli",
                "loss_function": LOSSES[self.options.objective],
                "eval_metric": _Metric(
                    error, len(validation.label), identity=self.link == "identity"
                ),
                "boost_from_average": train.start is None,
                "od_type": "Iter",
                "od_wait": PATIENCE,
                "use_best_model": True,
                "random_seed": self.options.seed,
                "allow_writing_files": False,
                "logging_level": "Silent",
            }
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Failed to import numba")  # not needed
            booster.fit(given, eval_set=shown)
        with scratch_directory(None) as directory:
            path = Path(directory, "model.json")
            booster.save_model(str(path), format="json")
            text = path.read_text(encoding="utf-8")
        best = booster.get_best_score()["validation"][_Metric.__name__]
        return text, int(booster.tree_count_), float(best)

    def read(self) -> None:
        self._booster = extra(self.library, f"--model={self.library}").CatBoost()
        with scratch_directory(None) as directory:
            path = Path(directory, "model.json")
            path.write_text(self.text, encoding="utf-8")
            self._booster.load_model(str(path), format="json")

    def score(self, columns: np.ndarray) -> np.ndarray:
        return self._booster.predict(_known(columns), prediction_type="RawFormulaVal")

    def forest(self, logged: list[bool]) -> Forest:
        return catboost_forest(self.text, logged)


class _Metric:
    """`error` as CatBoost asks for it, which does so for the training rows as well."""

    def __init__(self, error: Callable[[np.ndarray], float], rows: int, *, identity: bool):
        self._error, self._rows, self._identity = error, rows, identity

    def evaluate(
        self, scores: Sequence[Sequence[float]], _label: Any, _weight: Any
    ) -> tuple[float, float]:
        score = np.asarray(scores[0])
        if len(score) != self._rows:
            return 0.0, 1.0
        rate = score if self._identity else 100 / (1 + np.exp(-score))
        return self._error(rate), 1.0

    def is_max_optimal(self) -> bool:
        return False

    def get_final_error(self, error: float, _weight: float) -> float:
        return error


def _known(columns: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(columns), MISSING, columns)
