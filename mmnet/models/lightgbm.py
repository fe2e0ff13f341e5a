"""Gradient-boosted trees on lags, taxonomies and content: what a practitioner tries first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from mmnet import checks, schema
from mmnet.layers.disturbance import MultiMode
from mmnet.layers.trees import TreeRate, Trees
from mmnet.models.estimator import Inputs, Sample
from mmnet.models.fine_granularity import bounded, model_inputs
from mmnet.models.forests import lightgbm_forest
from mmnet.models.options import LightGbmOptions
from mmnet.models.tree_features import LOGGED, TreeFeatures, extra
from mmnet.schema import FeatureSpec

CATEGORIES = ("field_", "target_")
"""How the names of LightGBM's categories begin; they end in _category."""
PATIENCE = 50
"""Trees without improvement before boosting stops."""

PARAMETERS = (
    *("num_leaves", "learning_rate", "min_data_in_leaf"),
    *("feature_fraction", "bagging_fraction", "lambda_l2"),
)
"""Options that are LightGBM's own."""


class BoostedTrees:
    """LightGBM regression on columns made of the tensors that the networks read (`TreeFeatures`).

    With modes other than normal each training row stands there `copies` times, and each copy is
    sent to a mode by the networks' own `MultiMode`. The number of trees is that with the lowest
    mean over the validation scenarios of log MSE.

    Args:
        spec: the tensors, and the range of rates.
        options: see `LightGbmOptions`.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(self, spec: FeatureSpec, options: LightGbmOptions):
        self.mode_weights = _modes(options).mode_weights
        checks.at_least(1, copies=options.copies)
        checks.at_least(1, num_trees=options.num_trees)
        checks.at_least(0, text_components=options.text_components)
        self.spec, self.options = spec, options
        self.features = TreeFeatures(
            spec,
            coarse=options.coarse_granularity,
            text_components=options.text_components,
            seed=options.seed,
        )
        self.max_rate = np.inf if spec.max_rate is None else spec.max_rate
        self._text = ""
        self._booster: Any = None

    def fit(self, train: Sample, validation: Mapping[str, Sample]) -> dict[str, Any]:
        lightgbm = extra("lightgbm", "lightgbm")
        self.features.fit(train, "lightgbm")
        names = self.features.names()
        copies = self._copies(train)
        fitted_on = lightgbm.Dataset(
            np.concatenate([self.features.array(inputs) for inputs in copies]),
            np.tile(train.share_rate, len(copies)),
            weight=np.tile(train.weight, len(copies)),
            feature_name=names,
            categorical_feature=[
                name for name in names if name.startswith(CATEGORIES) and name.endswith("_category")
            ],
        )
        shown = np.concatenate([self.features.array(one.inputs) for one in validation.values()])
        truth = np.stack([one.share_rate for one in validation.values()])

        def mean_log_mse(predicted: np.ndarray, _: Any) -> tuple[str, float, bool]:
            error = np.clip(predicted, 0, self.max_rate).reshape(truth.shape) - truth
            mse = np.mean(np.square(error), axis=1)
            return "mean_log_mse", float(np.mean(np.log(np.maximum(mse, 1e-12)))), False

        booster = lightgbm.train(
            self.parameters,
            fitted_on,
            self.options.num_trees,
            valid_sets=[fitted_on.create_valid(shown, truth.ravel())],
            feval=mean_log_mse,
            callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
        )
        self._read(booster.model_to_string(num_iteration=booster.best_iteration))
        best = booster.best_score["valid_0"]["mean_log_mse"]
        return {"trees": booster.best_iteration, "best_mean_log_mse": float(best)}

    @property
    def parameters(self) -> dict[str, Any]:
        """What LightGBM itself is given."""
        return self.options.model_dump(include=set(PARAMETERS)) | {
            "bagging_freq": 1,
            "objective": "regression",
            "metric": "None",
            "seed": self.options.seed,
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
        }

    def predict(self, inputs: Inputs) -> np.ndarray:
        found = self._booster.predict(self.features.array(inputs))
        return np.clip(found, 0, self.max_rate).astype(np.float32)

    def state(self) -> dict[str, np.ndarray]:
        return self.features.state | {"trees": np.frombuffer(self._text.encode(), np.uint8)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.features.state = {name: one for name, one in state.items() if name != "trees"}
        self._read(state["trees"].tobytes().decode())

    def network(self) -> keras.Model:
        logged = [name.startswith(LOGGED) for name in self.features.names()]
        inputs = model_inputs(self.spec)
        columns = self.features.layer()(bounded(inputs, self.spec))
        score = Trees.of(lightgbm_forest(self._text, logged), name="trees")(columns)
        rate = TreeRate("identity", self.spec.max_rate, name="predicted_share_rate")(score)
        return keras.Model(inputs, rate, name="lightgbm")

    def _read(self, text: str) -> None:
        self._text = text
        self._booster = extra("lightgbm", "lightgbm").Booster(model_str=text)

    def _copies(self, train: Sample) -> list[Inputs]:
        """The training inputs as they are, or several times with modes drawn for the rows."""
        if self.mode_weights[0] == 1:
            return [train.inputs]
        modes = _modes(self.options)
        names = [tensor.name for tensor in schema.HISTORY]
        history = [train.inputs[name] for name in names]
        return [
            {**train.inputs, **dict(zip(names, map(np.asarray, shown), strict=True))}
            for shown in (modes(*history, training=True) for _ in range(self.options.copies))
        ]


def _modes(options: LightGbmOptions) -> MultiMode:
    return MultiMode(
        options.mode_weights,
        options.noisy_rate,
        options.adaptive_modes,
        options.adaptive_clicks,
        options.seed,
    )
