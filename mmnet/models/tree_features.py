"""Columns that boosted trees split on, computed by NumPy in training and by Keras in an export."""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops
from scipy import sparse

from mmnet import checks, schema
from mmnet.models import smoothed_history
from mmnet.models.estimator import Inputs, Sample, bounded
from mmnet.schema import FIRST_ID, MISSING_ID, UNKNOWN_ID, FeatureSpec

FREQUENT = 64
"""Maximum number of values with their own column, for a field of several values."""
LOGGED = "log_"
"""Prefix of the names of columns that trees read as log1p of a count."""
SMOOTHED = "smoothed_rate"
"""Name of the column with the pooled rate, shrunk to the prior of all targets."""

Columns = dict[str, np.ndarray]
Parts = dict[str, Any]
"""Columns by name: [batch], or [batch, k] for k columns; arrays or tensors."""


class TreeFeatures:
    """Columns of the same tensors that the networks read, for models of trees.

    Of the history, as a scenario or a mode left it: rate, log clicks and flag of each step; how
    many steps were seen, and how long ago the last one; its rate; the mean of the rates; the
    clicks of all steps, their pooled rate, and the same shrunk to the prior of all training
    targets (`smoothed_history.posterior_mean`). Of the taxonomies: rates, flags and means, and what
    they rest on where that is an input. Of the
    target: the item's age, and the calendar. Of the periods before the window, where they are an
    input: clicks and pooled rate. Of the content: single values as categories, of
    several values the first one so and a column for each frequent one; numbers and vectors as they
    are; texts as TF-IDF of their tokens, projected on its leading singular vectors. What is
    missing is NaN, never 0: a step, a text without a token, a vector of zeros.

    Args:
        spec: the tensors.
        coarse: whether the taxonomies' sequences are read.
        text_components: singular vectors per text; 0 leaves texts out.
        frequent: whether frequent values have their own columns in fields of single values, too.
        seed: seed of their randomised search.

    Attributes:
        state: the fitted arrays: "prior", "frequent_...", "idf_...", "components_...".
    """

    def __init__(
        self,
        spec: FeatureSpec,
        *,
        coarse: bool,
        text_components: int,
        seed: int,
        frequent: bool = False,
    ):
        self.spec, self.coarse = spec, coarse and bool(spec.taxonomies)
        self.text_components, self.seed, self.frequent = text_components, seed, frequent
        self.state: dict[str, np.ndarray] = {}

    def fit(self, train: Sample, model: str) -> None:
        """Fit the statistics of the columns on the training examples: prior, values, texts.

        Args:
            train: the training examples.
            model: that it is for, in messages.
        """
        family = smoothed_history.family_of(self.spec)
        prior = smoothed_history.fit_prior(family, *smoothed_history.whole_counts(train))
        self.state = {"prior": np.array(prior)}
        for field in self.spec.fields:
            if field.max_values > 1 or self.frequent:
                ids = train.inputs[field.tensor]
                examples = np.bincount(ids[ids >= FIRST_ID], minlength=field.size)
                order = np.argsort(-examples, kind="stable")[:FREQUENT]
                self.state[f"frequent_{field.tensor}"] = np.sort(order[examples[order] > 0])
        for text in self.spec.texts:
            # Distinct, since an item in many examples has but one text.
            tokens = np.unique(train.inputs[text.tensor], axis=0)
            words = _counts(tokens, text.size)
            components = min(self.text_components, len(tokens) - 1, text.size - FIRST_ID)
            if components < 1 or not words.nnz:
                continue
            tf_idf = extra("sklearn.feature_extraction.text", f"--model={model}").TfidfTransformer()
            idf = tf_idf.fit(words).idf_
            svd = extra("sklearn.decomposition", f"--model={model}").TruncatedSVD(
                components, random_state=self.seed
            )
            self.state[f"idf_{text.tensor}"] = idf
            self.state[f"components_{text.tensor}"] = svd.fit(_tf_idf(tokens, idf)).components_

    def names(self) -> list[str]:
        """Names of the columns, in order."""
        return list(self.columns(_nothing(self.spec)))

    def array(self, inputs: Inputs) -> np.ndarray:
        """Values of `columns`, float32 [batch, columns]."""
        return np.stack(list(self.columns(inputs).values()), axis=1, dtype=np.float32)

    def columns(self, inputs: Inputs) -> Columns:
        """Columns to split on, by name, [batch] each; names of categories have their own suffix."""
        inputs = bounded(inputs, self.spec)
        found: Columns = {}
        for name, part in parts(np, inputs, self.spec, self.state, coarse=self.coarse).items():
            if part.ndim == 1:
                found[name] = part
            else:
                labels = self.state.get(f"frequent_{name}", range(part.shape[1]))
                found |= {f"{name}_{n}": one for n, one in zip(labels, part.T, strict=True)}
        return {
            name: np.log1p(column) if name.startswith(LOGGED) else column
            for name, column in found.items()
        }

    def layer(self) -> TreeColumns:
        """Layer of the same columns, with counts instead of their logarithms."""
        layer = TreeColumns(
            self.spec.model_dump(mode="json"),
            {name: list(array.shape) for name, array in self.state.items()},
            coarse=self.coarse,
            name="tree_columns",
        )
        for name, weight in layer.state.items():
            weight.assign(self.state[name])
        return layer


@keras.saving.register_keras_serializable(package="mmnet")
class TreeColumns(keras.layers.Layer):
    """Computes the columns of `TreeFeatures` from a dict of tensors, to the bit.

    Where `TreeFeatures` takes the logarithm of a count, this leaves the count: a split on one is a
    split on the other (`models.forests`), and logarithms of two libraries differ in the last bit.

    Args:
        spec: a `FeatureSpec` as JSON.
        shapes: shape of each array of `TreeFeatures.state`, by name; its values become weights.
        coarse: whether the taxonomies' sequences are read.

    Call arguments:
        inputs: every tensor of `spec`, floats within `spec.limits()`.

    Returns:
        float32 [batch, columns], in the order of `TreeFeatures.names`; NaN where missing.
    """

    def __init__(
        self, spec: dict[str, Any], shapes: dict[str, list[int]], *, coarse: bool, **kwargs
    ):
        super().__init__(autocast=False, **kwargs)
        self.spec, self.coarse = FeatureSpec.model_validate(spec), coarse
        self.shapes = {name: list(shape) for name, shape in shapes.items()}
        self.state = {
            name: self.add_weight(
                tuple(shape),
                "zeros",
                "int32" if name.startswith("frequent_") else "float64",
                trainable=False,
                name=name,
            )
            for name, shape in self.shapes.items()
        }

    def call(self, inputs):
        found = parts(ops, inputs, self.spec, self.state, coarse=self.coarse)
        blocks = [part if len(part.shape) == 2 else part[:, None] for part in found.values()]
        return ops.concatenate([ops.cast(block, "float32") for block in blocks], axis=1)

    def compute_output_spec(self, inputs):
        state = {name: np.ones(shape, int) for name, shape in self.shapes.items()}
        made = parts(np, _nothing(self.spec), self.spec, state, coarse=self.coarse).values()
        width = sum(1 if part.ndim == 1 else part.shape[1] for part in made)
        return keras.KerasTensor((inputs["share_rate"].shape[0], width), "float32")

    def get_config(self):
        spec = self.spec.model_dump(mode="json")
        return {**super().get_config(), "spec": spec, "shapes": self.shapes, "coarse": self.coarse}


# ----------------------------------------------------------------------------- the columns
# Written in operations that NumPy and keras.ops (`xp`) have alike. A tree may part two numbers that
# differ in their last bit, so all that is rounded to float32 is rounded and added in an order that
# is fixed here, and left neither to a library's sums nor to a graph's optimiser.


def parts(
    xp: Any, inputs: Mapping[str, Any], spec: FeatureSpec, state: Mapping[str, Any], *, coarse: bool
) -> Parts:
    """Compute columns by name; counts, with names that begin with `LOGGED`, are not logarithms yet.

    Args:
        xp: `numpy` or `keras.ops`.
        inputs: every tensor of `spec`, bounded, as arrays or tensors of `xp`.
        spec: what they are.
        state: see `TreeFeatures`.
        coarse: whether the taxonomies' sequences are read.
    """
    found = _history(xp, inputs, state["prior"])
    if coarse:
        found |= _taxonomies(xp, inputs, spec)
    found |= _moment(xp, inputs, spec)
    for field in spec.fields:
        ids = _known(xp, inputs[field.tensor], field.size)
        # No value is a value; an unknown one is none that training could have learnt about.
        first = _float32(xp, ids[:, 0])
        found[f"{field.tensor}_category"] = xp.where(first == UNKNOWN_ID, np.nan, first)
        if f"frequent_{field.tensor}" in state:
            values = state[f"frequent_{field.tensor}"][None]
            equal = [ids[:, n : n + 1] == values for n in range(field.max_values)]
            found[field.tensor] = _float32(xp, functools.reduce(xp.logical_or, equal))
    for numeric in spec.numerics:
        found[numeric.tensor] = inputs[numeric.tensor]
    for text in spec.texts:
        if f"components_{text.tensor}" in state:
            tokens = _known(xp, inputs[text.tensor], text.size)
            projected = _projected_by_numpy if xp is np else _projected_by_keras
            idf, components = state[f"idf_{text.tensor}"], state[f"components_{text.tensor}"]
            found[text.tensor] = _where_given(xp, tokens, projected(tokens, idf, components))
    for vector in spec.vectors:
        values = inputs[vector.tensor]
        found[vector.tensor] = _where_given(xp, values, values)
    return found


def _history(xp: Any, inputs: Mapping[str, Any], prior: Any) -> Parts:
    flag = inputs["missing_flag"]
    seen = flag < 1
    window = seen.shape[1]
    step = xp.where(seen, np.arange(window, dtype=np.int32), -1)
    last = xp.max(step, axis=1)
    some = last >= 0
    rate = xp.where(seen, inputs["share_rate"], 0.0)
    clicks = xp.where(seen, inputs["clicks"], 0.0)
    count = xp.sum(_float64(xp, seen), axis=1)
    total = _float32_sum(xp, clicks)
    # The condition keeps compilers from fusing the product with the sum, which rounds otherwise.
    shares = _float32_sum(xp, xp.where(seen, rate * clicks, 0.0))
    # The posterior mean, as `smoothed_history.posterior_mean` has it.
    exact_clicks = _float64(xp, clicks)
    exact_shares = exact_clicks * _float64(xp, rate) / 100
    mu, kappa = prior[0], prior[1]
    smoothed = 100 * (kappa * mu + xp.sum(exact_shares, axis=1))
    smoothed = smoothed / (kappa + xp.sum(exact_clicks, axis=1))
    return {
        "share_rate": xp.where(seen, inputs["share_rate"], np.nan),
        "missing_flag": flag,
        f"{LOGGED}clicks": xp.where(seen, inputs["clicks"], np.nan),
        "observed": _float32(xp, count),
        "last_age": xp.where(some, _float32(xp, window - 1 - last), np.nan),
        # One term is not 0.
        "last_rate": xp.where(some, xp.sum(xp.where(step == last[:, None], rate, 0.0), 1), np.nan),
        "mean_rate": _ratio(xp, _float32_sum(xp, rate), count),
        "pooled_rate": _ratio(xp, shares, total),
        f"{LOGGED}total_clicks": total,
        SMOOTHED: _float32(xp, smoothed),
    }


def _taxonomies(xp: Any, inputs: Mapping[str, Any], spec: FeatureSpec) -> Parts:
    rate, flag = inputs["taxonomy_rate"], inputs["taxonomy_missing_flag"]
    evidence = inputs[schema.TAXONOMY_EVIDENCE.name] if spec.taxonomy_evidence else None
    if evidence is not None:  # a mean of unknown evidence is hidden, as in `KnownMeans`
        flag = xp.where(evidence >= 0, flag, 1.0)
    seen = flag < 1
    shown = xp.where(seen, rate, np.nan)
    count = xp.sum(_float64(xp, seen), axis=1)
    mean = _ratio(xp, _float32_sum(xp, xp.where(seen, rate, 0.0)), count)
    found: Parts = {}
    for number, name in enumerate(spec.taxonomies):
        tensor = spec.column_tensor("taxonomy", name)
        found[f"{tensor}_rate"] = shown[:, :, number]
        found[f"{tensor}_flag"] = flag[:, :, number]
        found[f"{tensor}_mean"] = mean[:, number]
        if evidence is not None:
            found[f"{tensor}_evidence"] = xp.where(seen, evidence, np.nan)[:, :, number]
    return found


def _moment(xp: Any, inputs: Mapping[str, Any], spec: FeatureSpec) -> Parts:
    found: Parts = {}
    if spec.age:
        age, bound = inputs[schema.AGE.name], inputs[schema.AGE_AT_LEAST.name]
        known = age >= 0
        if spec.age.hidden:
            seen = xp.any(inputs[schema.MISSING_FLAG.name] < 1, axis=1)
            known = xp.logical_and(known, seen)
        found["age"] = xp.where(known, age, np.nan)
        found["age_at_least"] = xp.where(known, bound, np.nan)
    if spec.lifetime:
        clicks = inputs[schema.EARLIER_CLICKS.name]
        rate = inputs[schema.EARLIER_RATE.name]
        found["earlier_rate"] = xp.where(clicks > 0, rate, np.nan)
        found[f"{LOGGED}earlier_clicks"] = xp.where(clicks >= 0, clicks, np.nan)
    for cycle in spec.cycles:
        ids = _float32(xp, _known(xp, inputs[cycle.tensor], cycle.size))
        found[f"{cycle.tensor}_category"] = xp.where(ids >= FIRST_ID, ids, np.nan)
    return found


def _known(xp: Any, ids: Any, size: int) -> Any:
    """Ids outside their vocabulary as the unknown one."""
    return xp.where(xp.logical_and(ids >= MISSING_ID, ids < size), ids, UNKNOWN_ID)


def _where_given(xp: Any, content: Any, values: Any) -> Any:
    """The values, NaN in the rows whose content is all 0: the item has none."""
    given = xp.any(content != 0, axis=1, keepdims=True)
    return xp.where(given, _float32(xp, values), np.nan)


def _cast(xp: Any, x: Any, dtype: str) -> Any:
    return x.astype(dtype) if xp is np else ops.cast(x, dtype)


def _float32(xp: Any, x: Any) -> Any:
    return _cast(xp, x, "float32")


def _float64(xp: Any, x: Any) -> Any:
    return _cast(xp, x, "float64")


def _ratio(xp: Any, numerator: Any, denominator: Any) -> Any:
    """Their quotient, float32 [batch, ...]; NaN where the denominator is 0."""
    some = denominator > 0
    ratio = _float64(xp, numerator) / _float64(xp, xp.where(some, denominator, 1.0))
    return xp.where(some, _float32(xp, ratio), np.nan)


def _float32_sum(xp: Any, x: Any) -> Any:
    """Sum over axis 1 in float32, in the order of `numpy.sum`."""
    return _in_pairs(functools.partial(_add, xp), [x[:, n] for n in range(x.shape[1])])


def _add(xp: Any, first: Any, second: Any) -> Any:
    """Their sum, rounded once. Plain additions of tensors an optimiser joins and reorders."""
    return first + second if xp is np else ops.sum(ops.stack([first, second]), axis=0)


def _in_pairs(add: Any, terms: list[Any]) -> Any:
    """The order of NumPy's pairwise summation."""
    if len(terms) < 8:
        return functools.reduce(add, terms)
    if len(terms) > 128:
        half = len(terms) // 16 * 8
        return add(_in_pairs(add, terms[:half]), _in_pairs(add, terms[half:]))
    end = len(terms) // 8 * 8
    eight = [functools.reduce(add, terms[n:end:8]) for n in range(8)]
    while len(eight) > 1:
        eight = [add(*pair) for pair in zip(eight[::2], eight[1::2], strict=True)]
    return functools.reduce(add, terms[end:], eight[0])


# --------------------------------------------------------------------------------- texts


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


def _projected_by_numpy(tokens, idf, components):
    """TF-IDF on the singular vectors, [batch, text_components]."""
    return _tf_idf(tokens, idf) @ components.T


def _projected_by_keras(tokens, idf, components):
    """The same for tensors, in the order in which SciPy multiplies and adds.

    Singular vectors hold much that is 0 but for rounding; what is left of it must be the same.
    """
    tokens = ops.sort(tokens, axis=1)
    first = ops.logical_and(tokens >= FIRST_ID, tokens != ops.pad(tokens[:, :-1], [[0, 0], [1, 0]]))
    equal = tokens[:, :, None] == tokens[:, None, :]
    count = ops.where(first, ops.sum(ops.cast(equal, "float64"), axis=2), 0.0)
    weight = count * ops.take(idf, tokens)
    length = ops.sqrt(_in_turn(weight * weight, first))[:, None]
    weight = weight * (1 / ops.where(length > 0, length, 1.0))
    vectors = ops.take(ops.transpose(components), tokens, axis=0)
    return _in_turn(weight[:, :, None] * vectors, first[:, :, None])


def _in_turn(products, counted):
    """Sum over axis 1 from the first to the last; the condition is that of `_history`."""
    terms = ops.where(counted, products, 0.0)
    return functools.reduce(functools.partial(_add, ops), ops.unstack(terms, axis=1))


def _nothing(spec: FeatureSpec) -> Inputs:
    """A batch of one example whose tensors are all 0."""
    return {name: np.zeros((1, *shape), dtype) for name, (shape, dtype) in spec.tensors().items()}


def extra(module: str, flag: str) -> Any:
    """Import a module of the extra `baselines`.

    Raises:
        InputError: it is not installed.
    """
    # OpenMP's threads wait busily by default: with other work on the cores, trees take ten times as
    # long, nearly all of it spent waiting. Read when the library is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        return importlib.import_module(module)
    except ImportError:
        raise checks.InputError(f"{flag} needs the extra: pip install 'mmnet[baselines]'") from None
