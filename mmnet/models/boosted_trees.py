"""Gradient-boosted trees on lags, taxonomies and content, for any library that grows them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np
from scipy.special import expit

from mmnet import checks, schema
from mmnet.layers.disturbance import MultiMode
from mmnet.layers.trees import Forest, ScoreLink, TreeRate, Trees, log_odds
from mmnet.models.estimator import Inputs, Sample
from mmnet.models.fine_granularity import bounded, model_inputs
from mmnet.models.options import BoostingOptions
from mmnet.models.tree_features import LOGGED, SMOOTHED, TreeFeatures
from mmnet.schema import FeatureSpec

LINKS: dict[str, ScoreLink] = {"regression": "identity", "cross_entropy": "logistic"}
"""Scale of the scores of each objective."""

PATIENCE = 50
"""Trees without improvement before boosting stops."""


@dataclass(frozen=True)
class Rows:
    """Training data of a library.

    Attributes:
        columns: `TreeFeatures.array`, [rows, columns].
        label: targets on the scale of the objective, [rows].
        start: initial scores of boosting, float64 [rows]; None: a constant.
        weight: weight of each row, [rows]; None: equal weights.
    """

    columns: np.ndarray
    label: np.ndarray
    start: np.ndarray | None
    weight: np.ndarray | None = None


class BoostedTrees(ABC):
    """Boosted trees on columns made of the tensors that the networks read (`TreeFeatures`).

    With `objective=cross_entropy` the score is the log odds of a share, and with
    `offset=smoothed` it corrects the smoothed rate, as `layers.trees.TreeRate` has it.

    With modes other than normal, each training row is used `copies` times, and the networks'
    `MultiMode` assigns a mode to each copy. The number of trees is the one with the lowest mean
    log MSE over the validation scenarios.

    Args:
        spec: the tensors, and the range of rates.
        options: see `BoostingOptions`.

    Raises:
        ValueError: an argument out of range, or cross entropy where rates may exceed one.
    """

    library: ClassVar[str]
    """Name of the library's module, and of the model."""
    frequent: ClassVar[bool] = False
    """True: frequent values of every field have columns of their own."""

    def __init__(self, spec: FeatureSpec, options: BoostingOptions):
        self.mode_weights = _modes(options).mode_weights
        checks.at_least(1, copies=options.copies)
        checks.at_least(1, num_trees=options.num_trees)
        checks.at_least(0, text_components=options.text_components)
        if options.objective == "cross_entropy" and spec.max_rate is None:
            raise ValueError("`objective` must be regression where rates may exceed one")
        self.spec, self.options = spec, options
        self.link: ScoreLink = LINKS[options.objective]
        self.features = TreeFeatures(
            spec,
            coarse=options.coarse_granularity,
            text_components=options.text_components,
            frequent=self.frequent,
            seed=options.seed,
        )
        self.max_rate = np.inf if spec.max_rate is None else spec.max_rate
        self.text = ""

    @abstractmethod
    def grow(
        self, train: Rows, validation: Rows, error: Callable[[np.ndarray], float]
    ) -> tuple[str, int, float]:
        """Grows trees until `error` has not fallen for `PATIENCE` of them.

        Args:
            train: rows to fit.
            validation: rows to stop by.
            error: computes the value to minimize from rates of the validation rows, percent.

        Returns:
            The trees as text, their number, and their `error`.
        """

    @abstractmethod
    def read(self) -> None:
        """Parse `text` into the object that `score` requires."""

    @abstractmethod
    def score(self, columns: np.ndarray) -> np.ndarray:
        """Sums of the trees that `read` has read, without a start, float64 [rows]."""

    @abstractmethod
    def forest(self, logged: list[bool]) -> Forest:
        """The trees of `text` as arrays; `logged` as in `models.forests`."""

    def fit(self, train: Sample, validation: Mapping[str, Sample]) -> dict[str, Any]:
        self.features.fit(train, self.library)
        copies = self._copies(train)
        rows = np.concatenate([self.features.array(inputs) for inputs in copies])
        shown = np.concatenate([self.features.array(one.inputs) for one in validation.values()])
        truth = np.stack([one.share_rate for one in validation.values()])

        def mean_log_mse(rate: np.ndarray) -> float:
            error = np.clip(rate, 0, self.max_rate).reshape(truth.shape) - truth
            mse = np.mean(np.square(error), axis=1)
            return float(np.mean(np.log(np.maximum(mse, 1e-12))))

        self.text, trees, best = self.grow(
            Rows(
                rows,
                self._label(np.tile(train.share_rate, len(copies))),
                self._start_score(rows),
                np.tile(train.weight, len(copies)),
            ),
            Rows(shown, self._label(truth.ravel()), self._start_score(shown)),
            mean_log_mse,
        )
        self.read()
        return {"trees": trees, "best_mean_log_mse": best}

    def predict(self, inputs: Inputs) -> np.ndarray:
        columns = self.features.array(inputs)
        score, start = self.score(columns), self._start_score(columns)
        score = score if start is None else score + start
        rate = score if self.link == "identity" else 100 * expit(score)
        return np.clip(rate, 0, self.max_rate).astype(np.float32)

    def state(self) -> dict[str, np.ndarray]:
        return self.features.state | {"trees": np.frombuffer(self.text.encode(), np.uint8)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.features.state = {name: one for name, one in state.items() if name != "trees"}
        self.text = state["trees"].tobytes().decode()
        self.read()

    def network(self) -> keras.Model:
        names = self.features.names()
        inputs = model_inputs(self.spec)
        columns = self.features.layer()(bounded(inputs, self.spec))
        forest = self.forest([name.startswith(LOGGED) for name in names])
        score = Trees.of(forest, name="trees")(columns)
        start = [columns[:, names.index(SMOOTHED)]] if self.options.offset == "smoothed" else []
        rate = TreeRate(self.link, self.spec.max_rate, name="predicted_share_rate")
        return keras.Model(inputs, rate(score, *start), name=self.library)

    def _label(self, rate: np.ndarray) -> np.ndarray:
        return rate if self.link == "identity" else np.clip(rate / 100, 0, 1)

    def _start_score(self, columns: np.ndarray) -> np.ndarray | None:
        if self.options.offset == "none":
            return None
        start = columns[:, self.features.names().index(SMOOTHED)].astype(np.float64)
        return start if self.link == "identity" else log_odds(start, np)

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


def _modes(options: BoostingOptions) -> MultiMode:
    return MultiMode(
        options.mode_weights,
        options.noisy_rate,
        options.adaptive_modes,
        options.adaptive_clicks,
        options.seed,
    )
