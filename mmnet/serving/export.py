"""Export of a SavedModel that plain TensorFlow loads, with named tensors or raw columns as inputs.

`serving_default` reads the tensors of `FeatureSpec`; `raw_columns` reads what users have (counts,
strings, numbers) and looks up vocabularies inside the graph. Both return `predicted_share_rate`, in
percent, and each further one of `FeatureSpec.outputs` by its name. `explained`, if the model has a
gated fusion, reads the inputs of `serving_default` and also returns the fusion's weights.
`examples` reads the raw columns as serialized `tf.train.Example`. `decide` reads raw columns, an id
and a period, and decides, see `online`. `static` and `from_static`, if the model can be cut
(`serving.halves`), are the same computation in two steps: the part that depends on the item alone,
which can be cached, and the rest.

See `bundle` for the files next to the SavedModel, and for how it is checked.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mmnet import schema
from mmnet.data import lifetimes, moments, spelling
from mmnet.data.columns import separator_of
from mmnet.data.dataset import Fitted
from mmnet.data.lifetimes import CLICKS_BEFORE, SHARES_BEFORE
from mmnet.data.share_rates import share_rate
from mmnet.encoders.tokens import TokenLookup, lookup_table
from mmnet.encoders.value_hashes import hashed
from mmnet.models.mmnet import explained, explained_names
from mmnet.schema import FeatureSpec, NumericSpec
from mmnet.serving import bundle, checksums, decision, examples, golden, period_texts, reasons
from mmnet.serving.bundle import Signature
from mmnet.serving.decision import Decisions
from mmnet.serving.exported import (
    DECIDE,
    DECISION,
    PROPENSITY,
    STATIC,
    WEIGHTS,
    AboutShareRates,
    Tolerance,
    named,
)
from mmnet.serving.golden import Arrays, Golden
from mmnet.serving.halves import halves
from mmnet.serving.online import Decider

PARITY = {"float32": 1e-5, "mixed_bfloat16": 5e-2}
"""Maximum difference between the SavedModel and the Keras model, relative to the prediction, or to
the sd of the rates if that is larger. float32 rounds at 6e-8, and another order of sums may lose
two digits; bfloat16 rounds at 4e-3 in each of a dozen layers."""


class Servable(tf.Module):
    """The signatures, with all variables and tables that they need.

    Args:
        model: see `export`.
        fitted: likewise.
        decisions: likewise.

    Attributes:
        fitted: see above.
        width: width of `static`; 0 if the model cannot be cut.
        decider: computation of `decide`; None without decisions.
    """

    def __init__(self, model: keras.Model, fitted: Fitted, decisions: Decisions | None = None):
        super().__init__(name="mmnet")
        both = explained(model)
        whole = model if both is None else both

        def network(inputs):
            return keras.tree.flatten(whole(inputs, training=False))

        # One trace for every signature with the same tensors: otherwise the network would be
        # traced, saved, loaded and optimised once per signature.
        traced = tf.function(network, input_signature=[tensor_specs(fitted.spec)], autograph=False)
        self._call = lambda inputs: traced(inputs)  # a `tf.function` would be saved as well
        self._has_weights = both is not None
        parts = halves(whole, fitted.spec)
        self.width = 0 if parts is None else parts[0].output.shape[-1]
        if parts is not None:
            static, dynamic = parts
            self._static = lambda inputs: static(inputs, training=False)
            self._from_static = lambda inputs: dynamic(inputs, training=False)
        self.decider = None if decisions is None else Decider(fitted, decisions)
        self._variables = [variable.value for variable in model.variables]
        self.fitted = fitted
        self._separator = separator_of(fitted.tables)
        spec, vocabularies = fitted.spec, fitted.vocabularies
        self._fields = {f.tensor: lookup_table(vocabularies[f.tensor]) for f in spec.fields}
        self._texts = {
            t.tensor: TokenLookup(
                vocabularies[t.tensor], t.max_tokens, hashed=fitted.task.hash_vocabularies
            )
            for t in spec.texts
        }

        def read(**columns):
            return self._read(columns)

        # Likewise one trace, which is saved too: another runtime may run the network, but not this.
        self.read_columns = tf.function(read, autograph=False).get_concrete_function(
            **raw_inputs(fitted)
        )

    def signatures(self) -> dict[str, Signature]:
        """Returns all signatures by name."""
        tensors = tensor_specs(self.fitted.spec)
        text = tf.TensorSpec([None], tf.string, examples.INPUT)
        found: dict[str, Signature] = {
            "serving_default": (self.tensors, tensors),
            "raw_columns": (self.raw_columns, raw_inputs(self.fitted)),
            "examples": (self.examples, {examples.INPUT: text}),
        }
        if self._has_weights:
            found["explained"] = (self.explained, tensors)
        if self.decider is not None:
            found[DECIDE] = (self.decide, raw_inputs(self.fitted) | self.decider.keys())
        if self.width:
            kept = tf.TensorSpec([None, self.width], tf.float32, STATIC)
            static, dynamic = _parted(self.fitted.spec, tensors)
            found["static"] = (self.static, static)
            found["from_static"] = (self.from_static, dynamic | {STATIC: kept})
        return found

    def tensors(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """`serving_default`: the tensors of `FeatureSpec.tensors`, batched."""
        return named(self.fitted.spec, self._call(inputs)[0])

    def explained(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """`explained`: the same, and the weights behind it, see `models.mmnet.explained`."""
        predicted, weights = self._call(inputs)
        return {**named(self.fitted.spec, predicted), WEIGHTS: weights}

    def static(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """`static`: the network's output for an item's own tensors, [batch, width]."""
        return {STATIC: self._static(inputs)}

    def from_static(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """`from_static`: history, taxonomies and `static` -> the scores (and weights)."""
        predicted, *weights = keras.tree.flatten(self._from_static(inputs))
        return named(self.fitted.spec, predicted) | dict(zip([WEIGHTS], weights, strict=False))

    def raw_columns(self, **columns: tf.Tensor) -> dict[str, tf.Tensor]:
        """`raw_columns`: counts and items columns as in the tables, see `raw_inputs`."""
        return self.tensors(**self.read(**columns))

    def examples(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """`examples`: raw columns as serialized `tf.train.Example`, string [batch]."""
        columns = examples.parse(inputs[examples.INPUT], raw_inputs(self.fitted), self._separator)
        return self.raw_columns(**columns)

    def decide(self, **columns: tf.Tensor) -> dict[str, tf.Tensor]:
        """`decide`: raw columns and `Decider.keys` -> score, interval, decision and reasons."""
        if self.decider is None:
            raise ValueError("`decisions` were not given")
        return self.decider(lambda inputs: self._call(inputs)[0], self.read(**columns), columns)

    def read(self, **columns: tf.Tensor) -> dict[str, tf.Tensor]:
        """Converts raw columns to tensors; further columns are ignored."""
        return self.read_columns(**{name: columns[name] for name in raw_inputs(self.fitted)})

    def _read(self, columns: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        spec = self.fitted.spec
        inputs = self._history(columns)
        for rate in spec.rates:
            inputs |= self._history(columns, rate.name)
        for name in spec.tensors():
            if name in columns and name not in inputs:  # taxonomy sequences, vectors
                inputs[name] = columns[name]
        for field in spec.fields:
            values = _split_values(columns[raw_name(spec, field.name)], self._separator)
            if self.fitted.task.hash_vocabularies:
                values = tf.ragged.map_flat_values(hashed, values)
            ids = tf.ragged.map_flat_values(self._fields[field.tensor].lookup, values)
            inputs[field.tensor] = ids.to_tensor(schema.MISSING_ID, shape=(None, field.max_values))
        for numeric in spec.numerics:
            inputs[numeric.tensor] = standardised(
                columns[raw_name(spec, numeric.name, "number")], numeric
            )
        for text in spec.texts:
            inputs[text.tensor] = self._texts[text.tensor](columns[raw_name(spec, text.name)])
        if spec.lifetime:
            before = (columns[name] for name in (CLICKS_BEFORE, SHARES_BEFORE))
            inputs |= lifetimes.tensors(*before)
        return inputs | self._moment(columns)

    def _history(self, columns: Mapping[str, tf.Tensor], of: str = "") -> dict[str, tf.Tensor]:
        """Returns the history of a rate from its counts."""
        clicks, shares = (columns[name] for name in self.fitted.spec.counts(of))
        seen = clicks >= self.fitted.task.min_clicks
        rate = share_rate(tf.cast(shares, tf.float64), tf.cast(tf.maximum(clicks, 1), tf.float64))
        names = self.fitted.spec.sequences(of)
        return {
            names[schema.SHARE_RATE.name]: tf.cast(
                tf.where(seen, rate, tf.zeros_like(rate)), tf.float32
            ),
            names[schema.MISSING_FLAG.name]: 1 - tf.cast(seen, tf.float32),
            names[schema.CLICKS.name]: tf.cast(tf.where(seen, clicks, 0), tf.float32),
        }

    def _moment(self, columns: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        spec, calendar = self.fitted.spec, self.fitted.calendar
        periods = {
            name: period_texts.numbers(columns[name], calendar, name) for name in _periods(spec)
        }
        if not periods:
            return {}
        target = periods.pop(period_texts.TARGET)
        (origin,) = periods.values() or [target]
        return moments.tensors(spec, calendar, origin, target)


def tensor_specs(spec: FeatureSpec) -> dict[str, tf.TensorSpec]:
    """Returns the inputs of `serving_default`: those of `FeatureSpec.tensors`, batched."""
    return {
        name: tf.TensorSpec([None, *shape], dtype, name)
        for name, (shape, dtype) in spec.tensors().items()
    }


def _parted(spec: FeatureSpec, tensors: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Divides what is given per tensor into that of items and that of periods."""
    of_periods = spec.of_periods()
    static = {name: one for name, one in tensors.items() if name not in of_periods}
    return static, {name: one for name, one in tensors.items() if name in of_periods}


def standardised(number: tf.Tensor, spec: NumericSpec) -> tf.Tensor:
    """Standardises a raw number, float32; bit-for-bit the same as `items.encode_numeric`.

    Args:
        number: float32 or float64, any shape; a number that is not finite becomes 0.
        spec: its mean and standard deviation.
    """
    # In float64, as when the dataset was prepared: one rounding of float32 in a value ten standard
    # deviations out can change a score by 1e-4 of itself.
    number = tf.cast(number, tf.float64)
    # The graph optimiser would turn a plain division by a constant into a product with its
    # reciprocal, which rounds differently.
    standard = tf.math.divide_no_nan(number - spec.mean, tf.constant(spec.sd, tf.float64))
    standard = tf.clip_by_value(standard, -schema.LARGEST_NUMBER, schema.LARGEST_NUMBER)
    known = tf.math.is_finite(number)
    return tf.cast(tf.where(known, standard, tf.zeros_like(standard)), tf.float32)


def raw_name(spec: FeatureSpec, column: str, kind: str = "item") -> str:
    """Returns the raw input's name of an items column: `item_title`, `number_duration`."""
    return spec.column_tensor(kind, column)


def raw_inputs(fitted: Fitted) -> dict[str, tf.TensorSpec]:
    """Returns the inputs of the raw signature.

    `clicks` and `shares`: int64 [batch, window], the counts of the last periods, 0 without
    clicks; `clicks_<rate>` and `shares_<rate>` of each further rate. `taxonomy_rate`,
    `taxonomy_missing_flag`, with `--inputs=taxonomy_evidence` also `taxonomy_evidence` (likewise of
    each rate), `vector_<name>`: as in the tensors.
    `item_<column>`: a taxonomy, categorical or text as string [batch] (several values joined by the
    separator of lists, `;` unless `--list_separator` was set, without duplicates, empty if
    unknown; with `--hash_vocabularies` also hashes of values). `number_<column>`: float32 [batch],
    NaN if unknown. With `--inputs`: `target_period`, and `release_period` or `first_click_period`,
    string [batch], in the format of the tables; `clicks_before` and `shares_before`, int64 [batch],
    the counts of all periods before the window, -1 clicks if unknown.
    """
    spec = fitted.spec
    counts = tf.TensorSpec([None, spec.window], tf.int64)
    found = dict.fromkeys(spec.counts(), counts)
    kept = set(spec.hidden()[1])
    for rate in spec.rates:
        found |= dict.fromkeys(spec.counts(rate.name), counts)
        kept |= set(spec.hidden(rate.name)[1])
    kept |= {vector.tensor for vector in spec.vectors}
    for name, (shape, dtype) in spec.tensors().items():
        if name in kept:
            found[name] = tf.TensorSpec([None, *shape], dtype)
    of_strings: tuple[schema.FieldSpec | schema.TextSpec, ...] = (*spec.fields, *spec.texts)
    for feature in of_strings:
        found[raw_name(spec, feature.name)] = tf.TensorSpec([None], tf.string)
    for numeric in spec.numerics:
        found[raw_name(spec, numeric.name, "number")] = tf.TensorSpec([None], tf.float32)
    if spec.lifetime:
        found |= dict.fromkeys((CLICKS_BEFORE, SHARES_BEFORE), tf.TensorSpec([None], tf.int64))
    found |= {name: tf.TensorSpec([None], tf.string) for name in _periods(spec)}
    return {name: tf.TensorSpec(one.shape, one.dtype, name) for name, one in found.items()}


def _periods(spec: FeatureSpec) -> tuple[str, ...]:
    """Returns the raw inputs for the age and calendar of the target."""
    if not spec.age:
        return (period_texts.TARGET,) if spec.cycles else ()
    of_release = spec.age.since == "release"
    origin = period_texts.RELEASE if of_release else period_texts.FIRST_CLICK
    return period_texts.TARGET, origin


def _split_values(column: tf.Tensor, separator: str) -> tf.RaggedTensor:
    values = tf.strings.split(column, separator)
    values = tf.ragged.map_flat_values(spelled, values)
    return tf.ragged.boolean_mask(values, values != "")


def spelled(values: tf.Tensor) -> tf.Tensor:
    """Returns the texts of values, string, any shape, with the spelling of `data.spelling`.

    >>> spelled(tf.constant([" TRUE", "12.00", "3.10"])).numpy().tolist()
    [b'true', b'12', b'3.10']
    """
    for pattern, text in (
        (f"^[{spelling.SPACES}]+|[{spelling.SPACES}]+$", ""),
        (spelling.ZERO, r"\1"),
        (spelling.WHOLE, r"\1"),
        ("^[tT][rR][uU][eE]$", "true"),
        ("^[fF][aA][lL][sS][eE]$", "false"),
    ):
        values = tf.strings.regex_replace(values, pattern, text)
    return values


def export(
    model: keras.Model,
    fitted: Fitted,
    directory: str | os.PathLike[str],
    *,
    version: int = 1,
    check: Arrays | None = None,
    rows: golden.Rows | None = None,
    assets: Mapping[str, Any] | None = None,
    about: Mapping[str, Any] | None = None,
    decisions: Decisions | None = None,
) -> Path:
    """Writes `directory/<version>/` atomically.

    Args:
        model: trained model, from a dict of tensors to percent, [batch].
        fitted: values that it was trained with; included as JSON.
        directory: directory of the versions, in TensorFlow Serving's layout.
        version: version of this model.
        check: a batch of real inputs; the export is refused if it does not score them like the
            model.
        rows: golden rows to include; every signature must score them like the model.
        assets: more JSON documents to include, by file name in `assets.extra/`.
        about: more facts to include: the flags of the run.
        decisions: rules and intervals to include, as `decision.json` and as the signature `decide`;
            None exports neither.

    Returns:
        The directory of the version.

    Raises:
        RuntimeError: the SavedModel returns other scores than the model.
    """
    servable = Servable(model, fitted, decisions)
    own = {} if decisions is None else {decision.FILE: decisions.model_dump(mode="json")}
    described = AboutShareRates(
        fitted=fitted,
        modalities=tuple(explained_names(model)),
        reasons=tuple(reasons.hidden(fitted.spec)),
        relative_tolerance=PARITY[model.dtype_policy.name],
        **(about or {}),
    )
    checked = [] if check is None else _of_tensors(model, servable, check)
    return bundle.write(
        directory,
        servable,
        servable.signatures(),
        described,
        version=version,
        assets=own | dict(assets or {}),
        goldens=[] if rows is None else _of_rows(model, servable, rows, described.tolerance),
        checked=[
            Golden(one.signature, one.inputs, scores)
            for one in checked
            if (scores := _without_weights(one.outputs, fitted.spec))
        ],
        names={
            f"_variables/{number}{checksums.VALUE}": variable.path
            for number, variable in enumerate(model.variables)
        },
    )


def load(path: str | os.PathLike[str]) -> tuple[Any, Fitted]:
    """Loads the result of `export`: the module, and the values that its model was fitted with.

    Raises:
        InputError: it is not a SavedModel, not one of this system, or damaged.
    """
    loaded, about = bundle.load(path, AboutShareRates)
    return loaded, about.fitted


def _of_tensors(model: keras.Model, servable: Servable, tensors: Arrays) -> list[Golden]:
    """Returns a batch for every signature of tensors, with the Keras model's own scores."""
    spec = servable.fitted.spec
    scored = _scores(model, spec, tensors)
    found = [Golden("serving_default", tensors, _without_weights(scored, spec))]
    if WEIGHTS in scored:
        found.append(Golden("explained", tensors, scored))
    if servable.width:
        static, dynamic = _parted(spec, tensors)
        kept = servable.static(**{name: tf.constant(array) for name, array in static.items()})
        parts = {name: np.asarray(tensor) for name, tensor in kept.items()}
        found += [Golden("static", static, parts), Golden("from_static", dynamic | parts, scored)]
    return found


def _of_rows(
    model: keras.Model, servable: Servable, rows: golden.Rows, tolerance: Tolerance
) -> list[Golden]:
    """Returns golden rows for every signature, with the Keras model's own scores."""
    columns = {name: tf.constant(array) for name, array in rows.columns.items()}
    read = {name: np.asarray(tensor) for name, tensor in servable.read(**columns).items()}
    scored = _without_weights(_scores(model, servable.fitted.spec, read), servable.fitted.spec)
    first, *others = _of_tensors(model, servable, rows.tensors)
    return [
        first,
        Golden("raw_columns", rows.columns, scored),
        Golden("examples", {examples.INPUT: examples.serialize(rows.columns)}, scored),
        *_decided(model, servable.decider, rows, read, tolerance),
        *others,
    ]


def _decided(
    model: keras.Model,
    decider: Decider | None,
    rows: golden.Rows,
    read: Arrays,
    tolerance: Tolerance,
) -> list[Golden]:
    """Returns golden rows of `decide`, without those that rounding could decide otherwise."""
    if decider is None:
        return []
    variants = [read]
    for gone in reasons.hidden(decider.fitted.spec).values():
        variants.append(read | reasons.filled(read, gone))
    joined = {name: np.concatenate([one[name] for one in variants]) for name in read}
    scores = {
        name: array.reshape(len(variants), -1)
        for name, array in _scores(model, decider.fitted.spec, joined).items()
        if name != WEIGHTS
    }
    outputs, far = decider.expected(scores, read, rows.keys, tolerance)
    if not far.any():  # every row has the same score: at least its number must be right
        outputs = {
            name: array for name, array in outputs.items() if name not in (DECISION, PROPENSITY)
        }
        far[:] = True
    inputs = rows.columns | rows.keys
    return [
        Golden(
            DECIDE,
            {name: array[far] for name, array in inputs.items()},
            {name: array[far] for name, array in outputs.items()},
        )
    ]


def _without_weights(outputs: Arrays, spec: FeatureSpec) -> Arrays:
    names = [output.name for output in spec.outputs()]
    return {name: outputs[name] for name in names if name in outputs}


def _scores(model: keras.Model, spec: FeatureSpec, inputs: Arrays) -> Arrays:
    """Returns the Keras model's scores and, if it has a gated fusion, its weights."""
    tensors = {name: tf.constant(array) for name, array in inputs.items()}
    both = explained(model)
    found = [model(tensors, training=False)] if both is None else both(tensors, training=False)
    scored = named(spec, found[0]) | dict(zip([WEIGHTS], found[1:], strict=False))
    return {name: np.asarray(array) for name, array in scored.items()}
