"""Golden rows: real inputs with the scores that they must get; they also warm up a server.

They are in TensorFlow Serving's own warm-up file, a TFRecord of `PredictionLog` messages. The
server runs the requests when it loads a version and ignores the responses; `--verify` runs them and
compares. One record has one batch of one signature.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from mmnet import schema
from mmnet.data import lifetimes
from mmnet.data.columns import separator_of
from mmnet.data.counts import NO_PERIOD, Counts
from mmnet.data.dataset import Dataset, Fitted
from mmnet.data.splits import Examples
from mmnet.data.windows import Windows
from mmnet.serving import period_texts
from mmnet.serving.exported import ITEM, Tolerance

FILE = "assets.extra/tf_serving_warmup_requests"
MODEL = "mmnet"
"""Model name in the requests, the same for both systems; a server sends them to the version whose
directory contains them."""
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Rows:
    """The same examples as tensors and as raw columns.

    Attributes:
        tensors: inputs of `serving_default` by name, [rows, ...].
        columns: inputs of `raw_columns` by name, [rows, ...].
        keys: further inputs of `decide`: `id` and `target_period`, text [rows].
    """

    tensors: Arrays
    columns: Arrays
    keys: Arrays


@dataclass(frozen=True)
class Golden:
    """One batch of one signature, with its expected outputs."""

    signature: str
    inputs: Arrays
    outputs: Arrays


def rows(dataset: Dataset, windows: Windows, examples: Examples, number: int = 32) -> Rows:
    """Chooses evenly spaced examples; every other one is without history, like a new item.

    Raw columns are reconstructed from the tensors: values of vocabularies, words of texts. Unknown
    values become a value that is in no vocabulary.

    Args:
        dataset: dataset of the examples.
        windows: windows of the dataset.
        examples: examples to choose from.
        number: number of rows.
    """
    from mmnet.evaluation.scenarios import disturb  # imports Keras, which `read` does not need

    chosen = np.unique(np.linspace(0, len(examples) - 1, number).astype(int))
    examples = examples.taken(chosen)
    (_, found), *_ = windows.batches(examples, len(examples))
    gone = np.zeros((len(examples), windows.window), bool)
    gone[1::2] = True
    tensors = {name: np.asarray(tensor) for name, tensor in disturb(found, gone).items()}
    panel, spec = dataset.panel, dataset.fitted.spec
    counts: Arrays = {}
    for rate in ("", *(one.name for one in spec.rates)):
        of_rate = panel.of_rate(rate)
        for name, array in zip(spec.counts(rate), (of_rate.clicks, of_rate.shares), strict=True):
            counts[name] = np.where(gone, 0, _histories(array, examples, windows.window))
    if spec.lifetime:
        counts |= _lifetimes(dataset, examples, gone[:, 0])
    target = panel.first_period + examples.times + spec.horizon
    ids = panel.item_ids[examples.items].astype(str).astype(object)
    keys = {ITEM: ids, period_texts.TARGET: _labels(dataset, target)}
    columns = counts | _columns(tensors, dataset.fitted) | _periods(dataset, examples)
    return Rows(tensors, columns, keys)


def _histories(counts: np.ndarray, examples: Examples, window: int) -> np.ndarray:
    """Returns counts of the last periods, int64 [examples, window], 0 before the first one."""
    columns = examples.times[:, None].astype(np.int64) + np.arange(1 - window, 1)
    found = counts[examples.items[:, None], np.maximum(columns, 0)]
    return np.where(columns < 0, 0, found).astype(np.int64)


def _lifetimes(dataset: Dataset, examples: Examples, gone: np.ndarray) -> Arrays:
    """Returns the counts before the window, unknown where they are hidden."""
    panel, spec = dataset.panel, dataset.fitted.spec
    assert spec.lifetime is not None
    first = spec.lifetime.log_start - panel.first_period
    counts = Counts(panel.clicks[examples.items], panel.shares[examples.items])
    lower = lifetimes.lower(panel, first)[examples.items]
    found = lifetimes.sums(counts, lower, examples.times + 1 - spec.window)
    names = (lifetimes.CLICKS_BEFORE, lifetimes.SHARES_BEFORE)
    hidden = lifetimes.unknown(len(examples))
    return {
        name: np.where(gone, unknown, known)
        for name, unknown, known in zip(names, hidden, found, strict=True)
    }


def _periods(dataset: Dataset, examples: Examples) -> Arrays:
    """Returns target periods, and the origins of ages, as text in the format of the tables."""
    spec, panel = dataset.fitted.spec, dataset.panel
    numbers = {}
    if spec.age or spec.cycles:
        numbers[period_texts.TARGET] = panel.first_period + examples.times + spec.horizon
    if spec.age:
        of_release = spec.age.since == "release"
        name = period_texts.RELEASE if of_release else period_texts.FIRST_CLICK
        numbers[name] = panel.origins(given=of_release)[examples.items]

    return {name: _labels(dataset, found) for name, found in numbers.items()}


def _labels(dataset: Dataset, numbers: np.ndarray) -> np.ndarray:
    """Returns periods as text in the format of the tables, [rows]; empty for `NO_PERIOD`."""
    calendar = dataset.panel.calendar
    labels = ["" if one == NO_PERIOD else str(calendar.label(one)) for one in numbers]
    return np.array(labels, object)


def _columns(tensors: Arrays, fitted: Fitted) -> Arrays:
    spec, separator = fitted.spec, separator_of(fitted.tables)
    columns: Arrays = {}
    for rate in ("", *(one.name for one in spec.rates)):
        columns |= {name: tensors[name] for name in spec.hidden(rate)[1]}
    for vector in spec.vectors:
        columns[vector.tensor] = tensors[vector.tensor]
    for field in spec.fields:
        texts = _spelled(tensors[field.tensor], fitted.vocabularies[field.tensor], separator)
        columns[spec.column_tensor("item", field.name)] = texts
    for text in spec.texts:
        texts = _spelled(tensors[text.tensor], fitted.vocabularies[text.tensor], " ")
        columns[spec.column_tensor("item", text.name)] = texts
    for numeric in spec.numerics:
        value = numeric.mean + numeric.sd * tensors[numeric.tensor].astype(np.float64)
        columns[spec.column_tensor("number", numeric.name)] = value.astype(np.float32)
    return columns


def _spelled(ids: np.ndarray, vocabulary: Sequence[str], joint: str) -> np.ndarray:
    # A word that is in no vocabulary, with letters only, so that it is one token.
    words = ["", "neverseenintraining", *vocabulary]
    texts = [joint.join(words[i] for i in row if i != schema.MISSING_ID) for row in ids]
    return np.array(texts, object)


# ------------------------------------------------------------------------------------ the file


def write(path: Path, goldens: Sequence[Golden]) -> None:
    """Writes the warm-up file; also with the first row of each batch, as a request of one item."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for golden in goldens:
            for part in (slice(1), slice(None)):
                request = predict_pb2.PredictRequest()
                request.model_spec.name = MODEL
                request.model_spec.signature_name = golden.signature
                response = predict_pb2.PredictResponse()
                for message, arrays in (
                    (request.inputs, golden.inputs),
                    (response.outputs, golden.outputs),
                ):
                    for name, array in arrays.items():
                        message[name].CopyFrom(tf.make_tensor_proto(array[part]))
                log = prediction_log_pb2.PredictionLog(
                    predict_log=prediction_log_pb2.PredictLog(request=request, response=response)
                )
                writer.write(log.SerializeToString(deterministic=True))


def read(path: Path) -> Iterator[Golden]:
    """Reads the batches of a warm-up file.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            log = prediction_log_pb2.PredictionLog.FromString(record).predict_log
            yield Golden(
                log.request.model_spec.signature_name,
                {name: tf.make_ndarray(value) for name, value in log.request.inputs.items()},
                {name: tf.make_ndarray(value) for name, value in log.response.outputs.items()},
            )
    except (tf.errors.OpError, DecodeError, TypeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def differences(signatures: Mapping[str, Any], golden: Golden, tolerance: Tolerance) -> str:
    """Runs one batch and describes the differences of its outputs; empty without any.

    Args:
        signatures: signatures of a loaded SavedModel.
        golden: the batch.
        tolerance: the largest difference that is allowed.
    """
    if golden.signature not in signatures:
        return f"the signature {golden.signature} is missing"
    inputs = {name: tf.constant(array) for name, array in golden.inputs.items()}
    try:
        found = signatures[golden.signature](**inputs)
    except (tf.errors.OpError, ValueError, TypeError) as error:
        return f"{golden.signature} fails: {str(error).splitlines()[0]}"
    for name, wanted in golden.outputs.items():
        if name not in found:
            return f"{golden.signature} does not return {name}"
        given = found[name].numpy()
        if given.shape != wanted.shape:
            return f"{golden.signature} returns {name} of shape {given.shape}, not {wanted.shape}"
        if wanted.dtype.kind in "bO":  # flags and texts are either equal or not
            far = given != wanted
        else:
            scale = np.maximum(np.abs(wanted), tolerance.least.get(name, 1.0))
            far = ~(np.abs(given - wanted) <= tolerance.relative * scale)
        if far.any():
            row = int(np.argmax(far.reshape(len(far), -1).any(axis=1)))
            return f"{golden.signature} returns row {row} {given[row]}, it must be {wanted[row]}"
    return ""
