"""Gradient-boosted trees on lags, taxonomies and content: what a practitioner tries first."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import sparse

from mmnet import checks, schema
from mmnet.layers.disturbance import MultiMode
from mmnet.models import smoothed_history
from mmnet.models.estimator import Inputs, Sample, bounded
from mmnet.models.options import LightGbmOptions
from mmnet.schema import FIRST_ID, UNKNOWN_ID, FeatureSpec

CATEGORIES = ("field_", "target_")
"""How the names of LightGBM's categories begin; they end in _category."""
FREQUENT = 64
"""Values of a field with several that get a column of their own, at most."""

PATIENCE = 50
"""Trees without improvement before boosting stops."""

PARAMETERS = (
    *("num_leaves", "learning_rate", "min_data_in_leaf"),
    *("feature_fraction", "bagging_fraction", "lambda_l2"),
)
"""Options that are LightGBM's own."""

Columns = dict[str, np.ndarray]


class BoostedTrees:
    """LightGBM regression on features of the same tensors that the networks read.

    Of the history, as a scenario or a mode left it: rate, log clicks and flag of each step; how
    many steps were seen, and how long ago the last one; its rate; the mean of the rates; the
    clicks of all steps, their pooled rate, and the same shrunk to the prior of all training
    targets (`smoothed_history.posterior_mean`). Of the taxonomies: rates, flags and means. Of the
    target: the item's age, and the calendar. Of the content: single values as LightGBM's
    categories, of several values the first one so and a column for each frequent one; numbers and
    vectors as they are; texts as TF-IDF of their tokens, projected on its leading singular
    vectors. What is missing is NaN, never 0: a step, a text without a token, a vector of zeros.

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
        self.coarse = options.coarse_granularity and bool(spec.taxonomies)
        self.max_rate = np.inf if spec.max_rate is None else spec.max_rate
        self._state: dict[str, np.ndarray] = {}
        self._booster: Any = None

    def fit(self, train: Sample, validation: Mapping[str, Sample]) -> dict[str, Any]:
        lightgbm = _extra("lightgbm")
        self._fit_features(train)
        names = list(self.columns(train.inputs))
        copies = self._copies(train)
        fitted_on = lightgbm.Dataset(
            np.concatenate([self.features(inputs) for inputs in copies]),
            np.tile(train.share_rate, len(copies)),
            weight=np.tile(train.weight, len(copies)),
            feature_name=names,
            categorical_feature=[
                name for name in names if name.startswith(CATEGORIES) and name.endswith("_category")
            ],
        )
        shown = np.concatenate([self.features(one.inputs) for one in validation.values()])
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
        text = booster.model_to_string(num_iteration=booster.best_iteration)
        self.restore(self._state | {"trees": np.frombuffer(text.encode(), np.uint8)})
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
        found = self._booster.predict(self.features(inputs))
        return np.clip(found, 0, self.max_rate).astype(np.float32)

    def state(self) -> dict[str, np.ndarray]:
        return dict(self._state)

    def network(self) -> None:
        """None: it cannot be exported yet."""

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self._state = dict(state)
        text = self._state["trees"].tobytes().decode()
        self._booster = _extra("lightgbm").Booster(model_str=text)

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

    # -------------------------------------------------------------------------- features

    def features(self, inputs: Inputs) -> np.ndarray:
        """Values of `columns`, float32 [batch, columns]."""
        return np.stack(list(self.columns(inputs).values()), axis=1, dtype=np.float32)

    def columns(self, inputs: Inputs) -> Columns:
        """What the trees split on, by name, [batch] each; a category's name ends so."""
        inputs = bounded(inputs, self.spec)
        found = self._history(inputs)
        if self.coarse:
            found |= self._taxonomies(inputs)
        found |= self._moment(inputs)
        for field in self.spec.fields:
            found |= self._field(field.tensor, inputs[field.tensor])
        for numeric in self.spec.numerics:
            found[numeric.tensor] = inputs[numeric.tensor]
        for text in self.spec.texts:
            if f"components_{text.tensor}" in self._state:
                tokens = inputs[text.tensor]
                components = _where_given(tokens, self._text(text.tensor, tokens))
                found |= _numbered(text.tensor, components)
        for vector in self.spec.vectors:
            values = inputs[vector.tensor]
            found |= _numbered(vector.tensor, _where_given(values, values))
        return found

    def _history(self, inputs: Inputs) -> Columns:
        flag = inputs["missing_flag"]
        seen = flag < 1
        batch, window = seen.shape
        rate = np.where(seen, inputs["share_rate"], np.nan)
        clicks = np.where(seen, inputs["clicks"], np.nan)
        age = np.argmax(seen[:, ::-1], axis=1)  # of the last step seen
        some = seen.any(axis=1)
        count, total = seen.sum(axis=1), np.nansum(clicks, axis=1)
        mu, kappa = self._state["prior"]
        with np.errstate(invalid="ignore"):  # 0 / 0 is NaN, as it should be
            mean = np.nansum(rate, axis=1) / count
            pooled = np.nansum(rate * clicks, axis=1) / total
        return {
            **_numbered("share_rate", rate),
            **_numbered("missing_flag", flag),
            **_numbered("log_clicks", np.log1p(clicks)),
            "observed": count,
            "last_age": np.where(some, age, np.nan),
            "last_rate": rate[np.arange(batch), window - 1 - age],
            "mean_rate": mean,
            "pooled_rate": pooled,
            "log_total_clicks": np.log1p(total),
            "smoothed_rate": smoothed_history.posterior_mean(inputs, mu, kappa),
        }

    def _moment(self, inputs: Inputs) -> Columns:
        found: Columns = {}
        if self.spec.age:
            age, bound = inputs[schema.AGE.name], inputs[schema.AGE_AT_LEAST.name]
            known = age >= 0
            if self.spec.age.hidden:
                known &= (inputs[schema.MISSING_FLAG.name] < 1).any(axis=1)
            found["age"] = np.where(known, age, np.nan)
            found["age_at_least"] = np.where(known, bound, np.nan)
        for cycle in self.spec.cycles:
            ids = inputs[cycle.tensor]
            found[f"{cycle.tensor}_category"] = np.where(ids >= FIRST_ID, ids, np.nan)
        return found

    def _taxonomies(self, inputs: Inputs) -> Columns:
        found: Columns = {}
        for number, name in enumerate(self.spec.taxonomies):
            rate = inputs["taxonomy_rate"][:, :, number]
            flag = inputs["taxonomy_missing_flag"][:, :, number]
            seen = flag < 1
            tensor = self.spec.column_tensor("taxonomy", name)
            found |= _numbered(f"{tensor}_rate", np.where(seen, rate, np.nan))
            found |= _numbered(f"{tensor}_flag", flag)
            with np.errstate(invalid="ignore"):
                found[f"{tensor}_mean"] = (rate * seen).sum(axis=1) / seen.sum(axis=1)
        return found

    def _field(self, tensor: str, ids: np.ndarray) -> Columns:
        # No value is a value; an unknown one is none that training could have learnt about.
        first = ids[:, 0]
        found: Columns = {f"{tensor}_category": np.where(first == UNKNOWN_ID, np.nan, first)}
        for value in self._state.get(f"frequent_{tensor}", ()):
            found[f"{tensor}_{value}"] = (ids == value).any(axis=1)
        return found

    def _text(self, tensor: str, tokens: np.ndarray) -> np.ndarray:
        """TF-IDF on the singular vectors, [batch, text_components]."""
        weights = _tf_idf(tokens, self._state[f"idf_{tensor}"])
        return weights @ self._state[f"components_{tensor}"].T

    def _fit_features(self, train: Sample) -> None:
        """Fits what the features need on the training examples: prior, values, texts."""
        family = smoothed_history.family_of(self.spec)
        prior = smoothed_history.fit_prior(family, *smoothed_history.whole_counts(train))
        self._state = {"prior": np.array(prior)}
        for field in self.spec.fields:
            if field.max_values > 1:
                ids = train.inputs[field.tensor]
                examples = np.bincount(ids[ids >= FIRST_ID], minlength=field.size)
                order = np.argsort(-examples, kind="stable")[:FREQUENT]
                self._state[f"frequent_{field.tensor}"] = np.sort(order[examples[order] > 0])
        for text in self.spec.texts:
            # Distinct, since an item in many examples has but one text.
            tokens = np.unique(train.inputs[text.tensor], axis=0)
            words = _counts(tokens, text.size)
            components = min(self.options.text_components, len(tokens) - 1, text.size - FIRST_ID)
            if components < 1 or not words.nnz:
                continue
            idf = _extra("sklearn.feature_extraction.text").TfidfTransformer().fit(words).idf_
            svd = _extra("sklearn.decomposition").TruncatedSVD(
                components, random_state=self.options.seed
            )
            self._state[f"idf_{text.tensor}"] = idf
            self._state[f"components_{text.tensor}"] = svd.fit(_tf_idf(tokens, idf)).components_


def _modes(options: LightGbmOptions) -> MultiMode:
    return MultiMode(
        options.mode_weights,
        options.noisy_rate,
        options.adaptive_modes,
        options.adaptive_clicks,
        options.seed,
    )


def _numbered(name: str, values: np.ndarray) -> Columns:
    """Splits [batch, columns] into columns name_0, name_1 and so on."""
    return {f"{name}_{number}": column for number, column in enumerate(values.T)}


def _where_given(content: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The values, NaN in the rows whose content is all 0: the item has none."""
    return np.where(content.any(axis=1, keepdims=True), values, np.nan)


def _counts(tokens: np.ndarray, size: int) -> sparse.csr_array:
    """How often each text has each word, [batch, size]; unknown words are left out."""
    rows, columns = np.nonzero(tokens >= FIRST_ID)
    ones = np.ones(len(rows))
    return sparse.csr_array((ones, (rows, tokens[rows, columns])), (len(tokens), size))


def _tf_idf(tokens: np.ndarray, idf: np.ndarray) -> sparse.csr_array:
    """Word counts times idf, each text of length 1, or 0 without a known word."""
    weights = _counts(tokens, len(idf)) * idf
    length = np.sqrt(weights.power(2).sum(axis=1))
    return sparse.csr_array(weights / np.where(length > 0, length, 1)[:, None])


def _extra(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise checks.InputError(
            "--model=lightgbm needs the extra: pip install 'mmnet[baselines]'"
        ) from None
