"""Small requests, which are read and checked together.

Converting and checking the arrays of one row costs more than its share of a call of many rows. A
small request is therefore only looked at when it arrives: its inputs, their shapes and numbers of
values. Those that share a call are joined as Python lists, then converted and checked as one
request would be. If that fails, each of them is read alone, and the wrong ones are refused as if
they had never been joined. Whatever is unusual about a request is not for this module: `of_v2` and
`of_rows` return None, and `requests` reads it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from mmnet.serving import requests
from mmnet.serving.request_rules import Rules
from mmnet.serving.requests import Arrays, RequestError, Separators, Specs

_NUMBERS: dict[bool, set[type]] = {True: {int}, False: {int, float, type(None)}}
"""Types of the values of an input, by whether it holds whole numbers."""
_TEXTS: set[type] = {str, bytes}


class Unread:
    """A small request whose values are not checked yet.

    Args:
        columns: flat values of each input, in the order of the signature's inputs.
        rows: number of rows.
        alone: reads and checks this request; returns its arrays, and unknown values by field.

    Attributes:
        unknown: unknown values by field, once the request is read.
    """

    __slots__ = ("_alone", "columns", "rows", "unknown")

    def __init__(
        self,
        columns: Sequence[list[Any]],
        rows: int,
        alone: Callable[[], tuple[Arrays, dict[str, int]]],
    ):
        self.columns, self.rows, self._alone = columns, rows, alone
        self.unknown: dict[str, int] = {}

    def read(self) -> Arrays:
        """Reads this request alone.

        Raises:
            RequestError: it is wrong.
        """
        arrays, self.unknown = self._alone()
        return arrays


class _Input(NamedTuple):
    spec: tf.TensorSpec
    datatype: str
    sizes: list[int]
    size: int
    of_one: list[int]
    types: set[type]


class Layout:
    """The usual layout of small requests to one signature.

    Args:
        specs: of the signature's inputs.
        separators: as in `requests.from_tf_serving`.
        rules: as in `requests.from_tf_serving`.
    """

    def __init__(self, specs: Specs, separators: Separators, rules: Rules):
        self._separators, self._rules = separators, rules
        self._inputs = {name: _input(spec) for name, spec in specs.items()}

    def of_v2(
        self, inputs: Iterable[tuple[Any, Any, Any, Any]]
    ) -> tuple[list[list[Any]], int] | None:
        """Looks at the inputs of a V2 request.

        Args:
            inputs: as in `requests.from_v2`.

        Returns:
            Flat values of each input of the signature, and the number of rows; None for a request
            that `requests.from_v2` has to read.
        """
        columns: dict[str, list[Any]] = {}
        rows = 0
        for name, datatype, shape, data in inputs:
            one = self._inputs.get(name) if type(name) is str else None
            if one is None or name in columns or datatype != one.datatype or type(data) is not list:
                return None
            rows = rows or _rows(shape)
            if len(data) != rows * one.size or not rows:
                return None
            if shape != (one.of_one if rows == 1 else [rows, *one.sizes]):
                return None
            columns[name] = data
        return self._ordered(columns, rows)

    def of_rows(self, instances: Any) -> tuple[list[list[Any]], int] | None:
        """Looks at the rows of a request of TensorFlow Serving.

        Args:
            instances: one object per row.

        Returns:
            As `of_v2`; None for a request that `requests.from_tf_serving` has to read.
        """
        if type(instances) is not list or not 0 < len(instances) <= requests.MAX_ROWS:
            return None
        if len(self._inputs) == 1 or not all(type(row) is dict for row in instances):
            return None  # the name of an only input may be left out
        names = instances[0].keys()
        if any(row.keys() != names for row in instances[1:]):
            return None
        columns: dict[str, list[Any]] = {}
        for name in names:
            one = self._inputs.get(name)
            if one is None:
                return None
            values = [row[name] for row in instances]
            for size in one.sizes:
                if any(type(value) is not list or len(value) != size for value in values):
                    return None
                values = values[0] if len(values) == 1 else list(itertools.chain(*values))
            columns[name] = values
        return self._ordered(columns, len(instances))

    def _ordered(
        self, columns: Mapping[str, list[Any]], rows: int
    ) -> tuple[list[list[Any]], int] | None:
        if len(columns) == len(self._inputs):
            return [columns[name] for name in self._inputs], rows
        absent = requests.absent_inputs(columns, self._rules)
        found = []
        for name, one in self._inputs.items():
            if name in columns:
                found.append(columns[name])
            elif name in absent and rows:
                found.append([_nothing(one.spec, absent[name])] * (rows * one.size))
            else:
                return None
        return found, rows

    def together(self, parts: Sequence[Unread]) -> Arrays:
        """Converts and checks the values of several requests at once.

        Returns:
            The rows of all of them, in order: the arrays that each would have alone, joined.

        Raises:
            RequestError: at least one of them may be wrong; its text is of none of them.
        """
        arrays, rows = {}, sum(one.rows for one in parts)
        columns = zip(*(one.columns for one in parts), strict=True)
        for (name, one), found in zip(self._inputs.items(), columns, strict=True):
            flat = found[0] if len(found) == 1 else list(itertools.chain(*found))
            if not one.types.issuperset(map(type, flat)):
                raise RequestError(f"{name}: must be read alone")
            shaped = requests.Shaped(flat, (rows, *one.sizes))
            arrays[name] = requests.array_of(name, shaped, one.spec, self._separators.get(name))
        if problem := self._rules.problem(arrays):
            raise RequestError(problem)
        return arrays


def _input(spec: tf.TensorSpec) -> _Input:
    sizes = list(spec.shape)[1:]
    size = 1
    for one in sizes:
        size *= one
    types = _TEXTS if spec.dtype == tf.string else _NUMBERS[spec.dtype.is_integer]
    return _Input(spec, requests.v2_type(spec), sizes, size, [1, *sizes], types)


def _rows(shape: Any) -> int:
    """Returns the number of rows of a shape; 0 if it has none that is usual."""
    if type(shape) is not list or not shape or type(shape[0]) is not int:
        return 0
    return shape[0] if 0 < shape[0] <= requests.MAX_ROWS else 0


def _nothing(spec: tf.TensorSpec, value: float) -> Any:
    if spec.dtype == tf.string:
        return b""
    return int(value) if spec.dtype.is_integer else value
