"""Raw columns as `tf.train.Example`, the standard message of TensorFlow's tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from mmnet import schema
from mmnet.data.columns import SEPARATOR
from mmnet.data.lifetimes import CLICKS_BEFORE, UNKNOWN

INPUT = "examples"
"""The signature's one input: serialized examples, string [batch]."""
Arrays = dict[str, np.ndarray]


def parse(
    serialized: tf.Tensor, columns: Mapping[str, tf.TensorSpec], separator: str = SEPARATOR
) -> dict[str, tf.Tensor]:
    """Parses raw columns from serialized examples, inside the graph.

    A feature has its column's name and its values, flattened row by row: integers for counts,
    floats for numbers, rates and vectors, bytes for text. Several values of one items column may
    be in one feature. An absent feature means that nothing is known: no clicks, taxonomies without
    observed items, means of unknown evidence, an empty text, a number that is NaN, unknown counts
    before the window.

    Args:
        serialized: string [batch].
        columns: name -> shape and type, as for `raw_inputs`.
        separator: separator of several values in one text.

    Returns:
        The columns, by name.
    """
    features = {name: _feature(name, spec) for name, spec in columns.items()}
    found = tf.io.parse_example(serialized, features)
    for name, spec in columns.items():
        if spec.dtype == tf.string:
            found[name] = tf.strings.reduce_join(found[name], axis=-1, separator=separator)
    return found


def _feature(name: str, spec: tf.TensorSpec) -> tf.io.FixedLenFeature | tf.io.RaggedFeature:
    if spec.dtype == tf.string:
        return tf.io.RaggedFeature(tf.string, row_splits_dtype=tf.int64)
    return tf.io.FixedLenFeature(spec.shape[1:], spec.dtype, _nothing(name, spec))


def _nothing(name: str, spec: tf.TensorSpec) -> np.ndarray:
    """Returns the value of an absent feature."""
    shape = spec.shape[1:]
    nothing = 0.0
    for main, hidden in schema.HIDDEN.items():
        if name.startswith(main):  # of any rate
            nothing = float(hidden)
    if name == CLICKS_BEFORE:
        nothing = UNKNOWN
    elif shape.rank == 0 and spec.dtype.is_floating:  # a number of the items table
        nothing = np.nan
    return np.full(shape, nothing, spec.dtype.as_numpy_dtype)


def read(serialized: Sequence[bytes], columns: Mapping[str, tf.TensorSpec]) -> Arrays:
    """Parses raw columns from serialized examples, outside the graph, to check them.

    Args:
        serialized: bytes [batch].
        columns: as for `parse`.

    Returns:
        The columns as `parse` returns them, texts as bytes.

    Raises:
        ValueError: one is not an example, or has a feature of another type or length.
    """
    found: Arrays = {}
    for name, spec in columns.items():
        shape = (len(serialized), *spec.shape[1:])
        if spec.dtype == tf.string:
            found[name] = np.full(shape, b"", object)
        else:
            found[name] = np.broadcast_to(_nothing(name, spec), shape).copy()
    for row, content in enumerate(serialized):
        try:
            features = tf.train.Example.FromString(content).features.feature
        except DecodeError:
            raise ValueError(f"{INPUT}[{row}] is not a serialized tf.train.Example") from None
        for name, feature in features.items():
            kind = feature.WhichOneof("kind")
            if name not in columns or kind is None:
                continue
            spec, values = columns[name], getattr(feature, kind).value
            wanted = _KINDS[spec.dtype]
            if kind != wanted:
                raise ValueError(f"{INPUT}[{row}]: {name} must be a {wanted}. Received: a {kind}")
            if spec.dtype == tf.string:
                found[name][row] = SEPARATOR.encode().join(values)
                continue
            size = int(np.prod(spec.shape[1:], dtype=int))
            if len(values) != size:
                raise ValueError(
                    f"{INPUT}[{row}]: {name} must have {size} values. Received: {len(values)}"
                )
            found[name][row] = np.reshape(values, spec.shape[1:])
    return found


_KINDS = {tf.string: "bytes_list", tf.int64: "int64_list", tf.float32: "float_list"}


def serialize(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Serializes one example per row of raw columns.

    Args:
        columns: name -> [rows, ...]: integers, floats, or text.

    Returns:
        bytes [rows], dtype object.
    """
    (number,) = {len(values) for values in columns.values()}
    rows = []
    for row in range(number):
        features = {name: _one(values[row]) for name, values in sorted(columns.items())}
        example = tf.train.Example(features=tf.train.Features(feature=features))
        rows.append(example.SerializeToString(deterministic=True))
    return np.array(rows, object)


def _one(value: np.ndarray | str | bytes) -> tf.train.Feature:
    if isinstance(value, str | bytes):
        text = value.encode() if isinstance(value, str) else value
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[text]))
    flat = np.ravel(value)
    if np.issubdtype(flat.dtype, np.integer):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=flat))
    return tf.train.Feature(float_list=tf.train.FloatList(value=flat))
