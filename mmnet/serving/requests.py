"""Requests as they come over a network, as the inputs of a signature; and the answers.

Two formats are read: TensorFlow Serving's REST JSON (`instances` row by row, or `inputs` column by
column) and the V2 inference protocol of KServe, Triton and MLServer. Whatever a request says,
either it becomes the arrays that the signature takes, or a `RequestError` says in one sentence
which input is wrong.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from mmnet.checks import did_you_mean, quoted
from mmnet.data import spelling
from mmnet.serving import period_texts

MAX_ROWS = 4096
"""Of one request; a larger one belongs into `python -m mmnet.predict`."""
Specs = Mapping[str, tf.TensorSpec]
Arrays = dict[str, np.ndarray]
Separators = Mapping[str, str]
NONE: Separators = {}
V2_TYPES = {"BYTES": "O", "INT64": "int64", "INT32": "int32", "FP32": "float32", "BOOL": "bool"}
_SHOWN = 60


class RequestError(ValueError):
    """The request is wrong: one sentence, and the HTTP status that goes with it.

    Args:
        message: names the input, what came and what was wanted.
        status: 400, or 413 for too much.
    """

    def __init__(self, message: str, status: int = 400):
        super().__init__(message)
        self.status = status


def input_specs(signature: Any) -> dict[str, tf.TensorSpec]:
    """Inputs of a loaded SavedModel's signature, by name."""
    return dict(signature.structured_input_signature[1])


# --------------------------------------------------------------------------- TensorFlow Serving


def from_tf_serving(document: Any, specs: Specs, separators: Separators = NONE) -> Arrays:
    """Reads the body of `POST /v1/models/NAME:predict`.

    Args:
        document: parsed JSON: `{"instances": [{name: value, ...}, ...]}` or
            `{"inputs": {name: [value, ...], ...}}`, either with a `signature_name`. Where there is
            one input only, its name may be left out. Bytes may stand as `{"b64": text}`.
        specs: of the signature's inputs.
        separators: text inputs that hold the values of a field -> what separates several. A value
            of them may be text, a number, true or false, a list of these, or null.

    >>> from_tf_serving({"instances": [{"x": [1, 2]}]}, {"x": tf.TensorSpec([None, 2], tf.int64)})
    {'x': array([[1, 2]])}
    """
    if not isinstance(document, Mapping):
        raise RequestError(f"the body must be a JSON object. Received: {_shown(document)}")
    if ("instances" in document) == ("inputs" in document):
        raise RequestError("the body must have either instances or inputs")
    if "inputs" in document:
        columns = document["inputs"]
        if len(specs) == 1 and not isinstance(columns, Mapping):
            columns = {next(iter(specs)): columns}
        if not isinstance(columns, Mapping):
            raise RequestError("inputs must be an object of one list per input")
        return _checked(columns, specs, separators)
    rows = document["instances"]
    if not isinstance(rows, list) or not rows:
        raise RequestError("instances must be a list of one row at least")
    _check_rows(len(rows))
    if len(specs) == 1 and not isinstance(rows[0], Mapping):
        return _checked({next(iter(specs)): rows}, specs, separators)
    if len(specs) == 1 and set(rows[0]) == {"b64"}:
        return _checked({next(iter(specs)): rows}, specs, separators)
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping) or set(row) != set(rows[0]):
            raise RequestError(f"instances[{number}] must be an object of the inputs of the first")
    return _checked({name: [row[name] for row in rows] for name in rows[0]}, specs, separators)


def to_tf_serving(outputs: Mapping[str, np.ndarray], *, by_row: bool) -> dict[str, Any]:
    """The body of the answer: `predictions` row by row, or `outputs` column by column.

    >>> to_tf_serving({"y": np.array([1.5], "float32")}, by_row=True)
    {'predictions': [1.5]}
    """
    columns = {name: array.tolist() for name, array in outputs.items()}
    if len(columns) == 1:
        (values,) = columns.values()
        return {"predictions" if by_row else "outputs": values}
    if not by_row:
        return {"outputs": columns}
    names = list(columns)
    rows = zip(*columns.values(), strict=True)
    return {"predictions": [dict(zip(names, row, strict=True)) for row in rows]}


# ------------------------------------------------------------------------------------------- V2


def from_v2(
    inputs: Sequence[tuple[str, str, Sequence[int], Any]],
    specs: Specs,
    separators: Separators = NONE,
) -> Arrays:
    """Reads the inputs of a V2 inference request.

    Args:
        inputs: (name, datatype, shape, data) each, data flat or nested.
        specs: of the signature's inputs.
        separators: as in `from_tf_serving`.

    >>> from_v2([("x", "INT64", [1, 2], [1, 2])], {"x": tf.TensorSpec([None, 2], tf.int64)})
    {'x': array([[1, 2]])}
    """
    columns = {}
    for name, datatype, shape, data in inputs:
        if name in columns:
            raise RequestError(f"input {quoted(name)} is there twice")
        if name in specs:
            wanted = _v2_type(specs[name])
            if datatype != wanted:
                raise RequestError(f"{name}: datatype must be {wanted}. Received: {datatype}")
        # A list that stands for one value of a field counts once.
        count = len(data) if name in separators and isinstance(data, list) else _count(data)
        if not shape or min(shape) < 0 or int(np.prod(shape, dtype=object)) != count:
            raise RequestError(f"{name}: {count} values do not fill the shape {list(shape)}")
        _check_rows(shape[0])
        columns[name] = _Shaped(data, tuple(shape))
    return _checked(columns, specs, separators)


def to_v2(outputs: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """The outputs of a V2 answer.

    >>> to_v2({"known": np.array([True, False])})
    [{'name': 'known', 'datatype': 'BOOL', 'shape': [2], 'data': [True, False]}]
    """
    return [
        {
            "name": name,
            "datatype": _v2_name(array.dtype.name),
            "shape": list(array.shape),
            "data": array.ravel().tolist(),
        }
        for name, array in outputs.items()
    ]


class _Shaped:
    def __init__(self, data: Any, shape: tuple[int, ...]):
        self.data, self.shape = data, shape


def _v2_type(spec: tf.TensorSpec) -> str:
    return _v2_name("O" if spec.dtype == tf.string else spec.dtype.name)


def _v2_name(kind: str) -> str:
    return next(name for name, dtype in V2_TYPES.items() if dtype == kind)


def _count(data: Any) -> int:
    if isinstance(data, list | tuple):
        return sum(map(_count, data))
    return 1


# ------------------------------------------------------------------------------------ both


def _checked(columns: Mapping[str, Any], specs: Specs, separators: Separators) -> Arrays:
    for name in columns:
        if name not in specs:
            raise RequestError(f"there is no input {str(name)!r}{did_you_mean(str(name), specs)}")
    missing = [name for name in specs if name not in columns and name not in period_texts.NAMES]
    if missing:
        raise RequestError(f"input {missing[0]!r} is missing ({len(missing)} are)")
    arrays = {
        name: _array(name, columns[name], specs[name], separators.get(name))
        for name in specs
        if name in columns
    }
    number = len(next(iter(arrays.values()), ()))
    left_out = {name: np.full(number, b"", object) for name in specs if name not in columns}
    arrays = {name: (arrays | left_out)[name] for name in specs}
    rows = {name: len(array) for name, array in arrays.items()}
    if len(set(rows.values())) > 1:
        few, many = min(rows, key=rows.__getitem__), max(rows, key=rows.__getitem__)
        raise RequestError(
            f"all inputs must have as many rows. Received: {rows[few]} of {few}, {rows[many]} of "
            f"{many}"
        )
    _check_rows(next(iter(rows.values())))
    return arrays


def _check_rows(number: int) -> None:
    if number > MAX_ROWS:
        raise RequestError(
            f"a request may have {MAX_ROWS:,} rows. Received: {number:,}; send it in parts, or "
            "use python -m mmnet.predict",
            413,
        )
    if number < 1:
        raise RequestError("a request must have one row at least")


def _array(name: str, values: Any, spec: tf.TensorSpec, separator: str | None) -> np.ndarray:
    shape = None
    if isinstance(values, _Shaped):
        values, shape = values.data, values.shape
    if not isinstance(values, list | tuple):
        raise RequestError(f"{name}: must be a list, a row each. Received: {_shown(values)}")
    if spec.dtype == tf.string:
        flat = [
            _bytes(name, value if separator is None else _joined(name, value, separator))
            for value in values
        ]
        found = np.array(flat, object).reshape(shape or len(flat))
    else:
        found = _numbers(name, values, spec)
        if shape is not None:
            found = found.reshape(shape)
    wanted = list(spec.shape)[1:]
    if list(found.shape[1:]) != wanted or found.ndim < 1:
        raise RequestError(
            f"{name}: a row must have the shape {wanted}. Received: {list(found.shape[1:])}"
        )
    return found


def _numbers(name: str, values: Any, spec: tf.TensorSpec) -> np.ndarray:
    whole = spec.dtype.is_integer
    try:
        # Numbers as float64 at once: lists of numbers only, else it raises.
        found = np.array(values) if whole else np.array(_known(values), np.float64)
    except (ValueError, TypeError, OverflowError):
        found = np.array(None)
    if found.dtype.kind not in ("i" if whole else "f") or _has_text_or_flags(values):
        kind = "whole numbers" if whole else "numbers"
        raise RequestError(f"{name}: must be {kind} of one shape. Received: {_shown(values)}")
    if whole and found.size:
        limits = np.iinfo(spec.dtype.as_numpy_dtype)
        if found.min() < limits.min or found.max() > limits.max:
            raise RequestError(f"{name}: a number does not fit into {spec.dtype.name}")
    if not whole:  # a finite number stays finite in float32
        largest = np.finfo(spec.dtype.as_numpy_dtype).max
        np.clip(found, -largest, largest, out=found, where=np.isfinite(found))
    return found.astype(spec.dtype.as_numpy_dtype)


def _known(values: Any) -> Any:
    """None is a number that nobody knows."""
    if isinstance(values, list | tuple):
        return [_known(value) for value in values]
    return float("nan") if values is None else values


def _has_text_or_flags(values: Any) -> bool:
    """NumPy reads "1" and true as numbers; JSON that says so means something else."""
    if isinstance(values, list | tuple):
        return any(map(_has_text_or_flags, values))
    return isinstance(values, str | bytes | bool)


def _joined(name: str, value: Any, separator: str) -> Any:
    """One value of a field as the text that a table would have of it, or a list of them."""
    if isinstance(value, str):
        found = spelling.literal(value)
        if found is None:
            return value
        value = found
    if value is None or isinstance(value, bool | int | float):
        return spelling.spelled(value)
    if not isinstance(value, list | tuple):
        return value
    texts = []
    for one in value:
        if one is not None and not isinstance(one, str | bool | int | float):
            raise RequestError(f"{name}: a list must hold single values. Received: {_shown(one)}")
        texts.append(spelling.spelled(one))
        if separator in texts[-1]:
            raise RequestError(
                f"{name}: no value of a list may contain {separator!r}, which separates values. "
                f"Received: {_shown(one)}"
            )
    return separator.join(texts)


def _bytes(name: str, value: Any) -> bytes:
    if isinstance(value, Mapping) and set(value) == {"b64"}:
        try:
            return base64.b64decode(value["b64"], validate=True)
        except (binascii.Error, ValueError, TypeError):
            raise RequestError(f"{name}: b64 must be base64. Received: {_shown(value)}") from None
    if isinstance(value, str):
        try:
            return value.encode("utf-8")
        except UnicodeEncodeError:
            raise RequestError(f"{name}: must be text. Received: a lone surrogate") from None
    if isinstance(value, bytes):
        return value
    raise RequestError(f"{name}: must be text. Received: {_shown(value)}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
