"""Requests as they come over a network, as the inputs of a signature; and the answers.

Two formats are read: TensorFlow Serving's REST JSON (`instances` row by row, or `inputs` column by
column) and the V2 inference protocol of KServe, Triton and MLServer. Whatever a request says,
either it becomes the arrays that the signature takes, or a `RequestError` says in one sentence
which input is wrong.
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
import math
import re
import reprlib
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import tensorflow as tf

from mmnet.checks import did_you_mean, quoted, shown
from mmnet.data import spelling
from mmnet.serving import period_texts
from mmnet.serving.exported import DECIDE
from mmnet.serving.request_rules import MAX_TEXT_BYTES, Rules

MAX_ROWS = 4096
"""Maximum rows of one request; use `python -m mmnet.predict` for more."""
MAX_DEPTH = 16
"""Lists and objects inside one another in a body; an input has four at most."""
MAX_LISTS = 1_000_000
"""Lists and objects in a body, each of which takes 60 bytes of memory or more."""
MAX_SENTENCE = 300
"""Characters of a refusal."""
Specs = Mapping[str, tf.TensorSpec]
Arrays = dict[str, np.ndarray]
Separators = Mapping[str, str]
NONE: Separators = {}
FINITE = Rules()
V2_TYPES = {"BYTES": "O", "INT64": "int64", "INT32": "int32", "FP32": "float32", "BOOL": "bool"}
_SHOWN = 60
_SHORT = 256
"""Characters of a field's text that is remembered."""
_LISTS = {list, tuple}
_PLAIN = {int, float, type(None)}
"""Types of the values of nearly all requests: looked at together, they cost a tenth."""
_BRIEF = reprlib.Repr()
_BRIEF.maxlevel, _BRIEF.maxstring, _BRIEF.maxother = 4, _SHOWN, _SHOWN


class RequestError(ValueError):
    """The request is wrong: one sentence, and the HTTP status that goes with it.

    Args:
        message: names the input, the value received and the rule; cut after `MAX_SENTENCE`.
        status: of HTTP; 400, or 413 for too much.
    """

    def __init__(self, message: str, status: int = 400):
        super().__init__(shown(message, MAX_SENTENCE))
        self.status = status


def input_specs(signature: Any) -> dict[str, tf.TensorSpec]:
    """Inputs of a loaded SavedModel's signature, by name."""
    return dict(signature.structured_input_signature[1])


def no_signature(name: Any, signatures: Iterable[str]) -> RequestError:
    """Returns the refusal of a signature that an export does not have.

    >>> str(no_signature("explained", ["serving_default", "raw_columns"]))
    "there is no signature 'explained'; there are raw_columns, serving_default"
    """
    if name == DECIDE and "raw_columns" in signatures:  # it decides on share rates
        return RequestError(
            "this export has no signature decide, as an earlier version of mmnet wrote it; export "
            "the model again with this version, or ask raw_columns for scores"
        )
    there = ", ".join(sorted(signatures))
    return RequestError(f"there is no signature {quoted(name, _SHOWN)}; there are {there}")


def parse(body: bytes) -> Any:
    """Parses the body of a request, which may be any bytes.

    Raises:
        RequestError: it is not JSON, or its lists are too many or nested too deep.

    >>> parse(b'{"instances": [[1]]}')
    {'instances': [[1]]}
    """
    lists = body.count(b"[") + body.count(b"{")  # in texts too, which hold few
    if lists > MAX_LISTS:
        raise RequestError(f"the body may have {MAX_LISTS:,} lists. Received: {lists:,}", 413)
    try:
        document = json.loads(body, parse_constant=_no_constant)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise RequestError(f"the body is not valid JSON: {error}") from None
    level = [document] if isinstance(document, list | dict) else []
    for _ in range(MAX_DEPTH + 1):
        inside = [one.values() if isinstance(one, dict) else one for one in level]
        level = [one for some in inside for one in some if isinstance(one, list | dict)]
        if not level:
            return document
    raise _too_deep()


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number; an unknown value is null")


def _too_deep() -> RequestError:
    return RequestError(f"the body's lists may be nested {MAX_DEPTH} deep; these are deeper")


# --------------------------------------------------------------------------- TensorFlow Serving


def from_tf_serving(
    document: Any, specs: Specs, separators: Separators = NONE, rules: Rules = FINITE
) -> Arrays:
    """Reads the body of `POST /v1/models/NAME:predict`.

    Args:
        document: parsed JSON: `{"instances": [{name: value, ...}, ...]}` or
            `{"inputs": {name: [value, ...], ...}}`, either with a `signature_name`. Where there is
            one input only, its name may be left out. Bytes may be given as `{"b64": text}`.
        specs: of the signature's inputs.
        separators: text inputs that hold the values of a field -> what separates several. A value
            of them may be text, a number, true or false, a list of these, or null.
        rules: which values inputs may hold.

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
        return _checked(columns, specs, separators, rules)
    rows = document["instances"]
    if not isinstance(rows, list) or not rows:
        raise RequestError("instances must be a list of one row at least")
    _check_rows(len(rows))
    if len(specs) == 1 and not isinstance(rows[0], Mapping):
        return _checked({next(iter(specs)): rows}, specs, separators, rules)
    if len(specs) == 1 and set(rows[0]) == {"b64"}:
        return _checked({next(iter(specs)): rows}, specs, separators, rules)
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping) or set(row) != set(rows[0]):
            raise RequestError(f"instances[{number}] must be an object of the inputs of the first")
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return _checked(columns, specs, separators, rules)


def to_tf_serving(outputs: Mapping[str, np.ndarray], *, by_row: bool) -> dict[str, Any]:
    """The body of the answer: `predictions` row by row, or `outputs` column by column.

    >>> to_tf_serving({"y": np.array([1.5], "float32")}, by_row=True)
    {'predictions': [1.5]}
    >>> to_tf_serving({"decision": np.array([b"keep"], object)}, by_row=False)
    {'outputs': ['keep']}
    """
    columns = {name: _listed(array) for name, array in outputs.items()}
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
    rules: Rules = FINITE,
) -> Arrays:
    """Reads the inputs of a V2 inference request.

    Args:
        inputs: (name, datatype, shape, data) each, data flat or nested.
        specs: of the signature's inputs.
        separators: as in `from_tf_serving`.
        rules: as in `from_tf_serving`.

    >>> from_v2([("x", "INT64", [1, 2], [1, 2])], {"x": tf.TensorSpec([None, 2], tf.int64)})
    {'x': array([[1, 2]])}
    """
    columns: dict[str, Any] = {}
    for name, datatype, shape, data in inputs:
        if name in columns:
            raise RequestError(f"input {quoted(name, _SHOWN)} is there twice")
        spec = specs.get(name)
        if spec is None:
            raise _unknown_input(name, specs)
        if datatype != (wanted := v2_type(spec)):
            raise RequestError(
                f"{name}: datatype must be {wanted}. Received: {shown(datatype, _SHOWN)}"
            )
        shape = list(shape)
        if len(shape) != len(spec.shape) or shape[1:] != list(spec.shape)[1:]:
            raise RequestError(
                f"{name}: the shape must be [rows{_sizes(spec)}]. Received: {_shown(shape)}"
            )
        _check_rows(shape[0])
        size = math.prod(shape)
        # A list that holds the values of one field counts once.
        of_field = name in separators and isinstance(data, list)
        flat = data if of_field else _flat(data, size)
        if len(flat) != size:
            raise RequestError(
                f"{name}: the shape {shape} has {size} values. Received: "
                f"{'more' if len(flat) > size else len(flat)}"
            )
        columns[name] = Shaped(flat, tuple(shape))
    return _checked(columns, specs, separators, rules)


def to_v2(outputs: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """The outputs of a V2 answer; texts are bytes, which MLServer writes as JSON text over REST.

    >>> to_v2({"known": np.array([True, False])})
    [{'name': 'known', 'shape': [2], 'datatype': 'BOOL', 'data': [True, False]}]
    """
    return [
        {
            "name": name,
            "shape": list(array.shape),
            "datatype": _v2_of_array(array.dtype),
            "data": array.ravel().tolist(),
        }
        for name, array in outputs.items()
    ]


def _listed(array: np.ndarray) -> list[Any]:
    """Values as JSON has them: texts of a signature are UTF-8."""
    if array.dtype == object:
        return [value.decode("utf-8") for value in array.tolist()]
    return array.tolist()


class Shaped:
    """Flat values of an input, and the shape of its array."""

    def __init__(self, data: Any, shape: tuple[int, ...]):
        self.data, self.shape = data, shape


def v2_type(spec: tf.TensorSpec) -> str:
    """Returns the datatype of an input in the V2 protocol."""
    return _v2_of(spec.dtype)


@functools.cache
def _v2_of(kind: tf.DType) -> str:
    return _v2_name("O" if kind == tf.string else kind.name)


@functools.cache
def _v2_of_array(dtype: np.dtype) -> str:
    return _v2_name("O" if dtype.kind == "O" else dtype.name)


def _v2_name(kind: str) -> str:
    return next(name for name, dtype in V2_TYPES.items() if dtype == kind)


def _sizes(spec: tf.TensorSpec) -> str:
    return "".join(f", {size}" for size in list(spec.shape)[1:])


def _flat(data: Any, most: int) -> list[Any]:
    """The values of lists inside one another, in order; no more than one above `most`."""
    if type(data) is list and len(data) <= most and _LISTS.isdisjoint(map(type, data)):
        return data
    found: list[Any] = []
    left = [iter((data,))]
    while left and len(found) <= most:
        for one in left[-1]:
            if isinstance(one, list | tuple):
                left.append(iter(one))
                break
            found.append(one)
            if len(found) > most:
                break
        else:
            left.pop()
    return found


# --------------------------------------------------------------------------------- answers


def check_finite(outputs: Mapping[str, np.ndarray]) -> None:
    """Refuses an answer that holds no number.

    Raises:
        RequestError: a score is NaN or infinite; status 422, since the inputs kept their rules.
    """
    for name, array in outputs.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            row = int(np.argmax(~np.isfinite(array).reshape(len(array), -1).all(axis=1)))
            raise RequestError(f"row {row}: the model has no finite {name} for these inputs", 422)


def reason(message: str) -> str:
    r"""The sentence in an error message of TensorFlow's, which is between notes on nodes.

    >>> reason("Graph execution error:\n\nDetected at node a\nindices[0] = 9 is not in [0, 5)\n"
    ...        "\t [[{{node a}}]] [Op:__inference_1]")
    'the model refuses the inputs: indices[0] = 9 is not in [0, 5)'
    >>> reason("assertion failed: [id must not be empty]")
    'the model refuses the inputs: id must not be empty'
    """
    lines = [line.partition("[[{{")[0].strip() for line in message.splitlines()]
    notes = ("Graph execution error", "Detected at node", "Stack trace")
    told = [
        line.rpartition("}} ")[2] if line.startswith("{{") else line
        for line in lines
        if line and not line.startswith(notes)
    ]
    last = told[-1] if told else "no reason is given"
    asserted = re.fullmatch(r"assertion failed: \[(.*)\]", last)
    return f"the model refuses the inputs: {shown(asserted[1] if asserted else last)}"


# ------------------------------------------------------------------------------------ both


def _checked(
    columns: Mapping[str, Any], specs: Specs, separators: Separators, rules: Rules
) -> Arrays:
    for name in columns:
        if name not in specs:
            raise _unknown_input(name, specs)
    absent = absent_inputs(columns, rules)
    missing = [name for name in specs if name not in columns and name not in absent]
    if missing:
        raise RequestError(f"input {missing[0]!r} is missing ({len(missing)} are)")
    rows = {name: _rows(name, columns[name]) for name in specs if name in columns}
    few, many = min(rows, key=rows.__getitem__), max(rows, key=rows.__getitem__)
    _check_rows(rows[many])  # before anything is converted
    if rows[few] != rows[many]:
        raise RequestError(
            f"all inputs must have as many rows. Received: {rows[few]} of {few}, {rows[many]} of "
            f"{many}"
        )
    arrays = {
        name: array_of(name, columns[name], spec, separators.get(name))
        if name in columns
        else _left_out(spec, rows[many], absent[name])
        for name, spec in specs.items()
    }
    if problem := rules.problem(arrays):
        raise RequestError(problem)
    return arrays


def absent_inputs(given: Container[str], rules: Rules) -> dict[str, float]:
    """Returns the inputs that a request may leave out -> the value that stands for nothing.

    Args:
        given: names of the inputs that the request has.
        rules: which inputs may be left out together.
    """
    absent = dict.fromkeys(period_texts.NAMES, 0.0)
    for group in rules.may_be_absent:
        if not any(name in given for name in group):
            absent |= group
    return absent


def _left_out(spec: tf.TensorSpec, rows: int, nothing: float) -> np.ndarray:
    """Returns an input that a request leaves out: an empty period, or no history of a rate."""
    if spec.dtype == tf.string:
        return np.full(rows, b"", object)
    return np.full((rows, *spec.shape[1:]), nothing, spec.dtype.as_numpy_dtype)


def _unknown_input(name: Any, specs: Specs) -> RequestError:
    near = did_you_mean(name, specs) if isinstance(name, str) and len(name) <= _SHOWN else ""
    return RequestError(f"there is no input {quoted(name, _SHOWN)}{near}")


def _rows(name: str, values: Any) -> int:
    if isinstance(values, Shaped):
        return values.shape[0]
    if not isinstance(values, list | tuple):
        raise RequestError(f"{name}: must be a list, a row each. Received: {_shown(values)}")
    return len(values)


def _check_rows(number: int) -> None:
    if number > MAX_ROWS:
        raise RequestError(
            f"a request may have {MAX_ROWS:,} rows. Received: {number:,}; send it in parts, or "
            "use python -m mmnet.predict",
            413,
        )
    if number < 1:
        raise RequestError("a request must have one row at least")


def array_of(name: str, values: Any, spec: tf.TensorSpec, separator: str | None) -> np.ndarray:
    """Converts the values of one input.

    Args:
        name: of the input.
        values: rows, or flat values with a shape.
        spec: of the input.
        separator: of the values of a field; None for any other input.

    Raises:
        RequestError: the values have another type or shape.
    """
    shape = None
    if isinstance(values, Shaped):
        values, shape = values.data, values.shape
    if spec.dtype == tf.string:
        flat = [_text(name, value, separator) for value in values]
        found = np.array(flat, object)
    else:
        if shape is None:
            for row in values:
                _check_shape(name, row, list(spec.shape)[1:], spec)
        found = _numbers(name, values, spec)
    return found if shape is None else found.reshape(shape)


def _check_shape(name: str, row: Any, sizes: list[int], spec: tf.TensorSpec) -> None:
    """Refuses a row of another shape, before its values are looked at."""
    if not sizes and not isinstance(row, list | tuple):
        return
    if sizes and isinstance(row, list | tuple) and len(row) == sizes[0]:
        if sizes[1:]:
            for inside in row:
                _check_shape(name, inside, sizes[1:], spec)
        elif not _LISTS.isdisjoint(map(type, row)):
            raise _wrong_shape(name, row, spec)
        return
    raise _wrong_shape(name, row, spec)


def _wrong_shape(name: str, row: Any, spec: tf.TensorSpec) -> RequestError:
    wanted = list(spec.shape)[1:]
    if not isinstance(row, list | tuple):
        return RequestError(f"{name}: must be {_kind(spec)} of one shape. Received: {_shown(row)}")
    return RequestError(f"{name}: a row must have the shape {wanted}. Received: {_shown(row)}")


def _kind(spec: tf.TensorSpec) -> str:
    return "whole numbers" if spec.dtype.is_integer else "numbers"


def _numbers(name: str, values: Any, spec: tf.TensorSpec) -> np.ndarray:
    whole = spec.dtype.is_integer
    try:
        # Numbers as float64 at once: lists of numbers only, else it raises; None becomes NaN.
        found = np.array(values) if whole else np.array(values, np.float64)
    except (ValueError, TypeError, OverflowError):
        found = np.array(None)
    if found.dtype.kind not in ("i" if whole else "f") or _has_text_or_flags(values):
        raise RequestError(
            f"{name}: must be {_kind(spec)} of one shape. Received: {_shown(values)}"
        )
    if whole and found.size:
        limits = np.iinfo(spec.dtype.as_numpy_dtype)
        if found.min() < limits.min or found.max() > limits.max:
            raise RequestError(f"{name}: a number does not fit into {spec.dtype.name}")
    if not whole:  # a finite number stays finite in float32
        largest = np.finfo(spec.dtype.as_numpy_dtype).max
        if not (np.abs(found) <= largest).all():
            np.clip(found, -largest, largest, out=found, where=np.isfinite(found))
    return found.astype(spec.dtype.as_numpy_dtype)


def _has_text_or_flags(values: Any) -> bool:
    """NumPy reads "1" and true as numbers; JSON that says so means something else."""
    if isinstance(values, list | tuple):
        return not _PLAIN.issuperset(map(type, values)) and any(map(_has_text_or_flags, values))
    return isinstance(values, str | bytes | bool)


def _text(name: str, value: Any, separator: str | None) -> bytes:
    if separator is None:
        return _bytes(name, value)
    if type(value) is str and len(value) <= _SHORT:
        return _short(name, value, separator)
    return _bytes(name, _joined(name, value, separator))


@functools.lru_cache(maxsize=4096)
def _short(name: str, value: str, separator: str) -> bytes:
    """Remembers the values of fields, which come again and again."""
    return _bytes(name, _joined(name, value, separator))


def _joined(name: str, value: Any, separator: str) -> Any:
    """One value of a field as the text that a table would have of it, or a list of them."""
    if isinstance(value, str | list | tuple) and len(value) > MAX_TEXT_BYTES:
        raise RequestError(
            f"{name}: a value may have {MAX_TEXT_BYTES:,} characters. Received: {len(value):,}"
        )
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
    try:
        return shown(_BRIEF.repr(value), _SHOWN)
    except ValueError:  # Python writes no number of thousands of digits
        return "a number of thousands of digits"
