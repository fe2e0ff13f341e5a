"""Count of values of an input that no training item had, by field.

A field whose values are mostly unknown most likely has another format than in training. Items are
then scored without it, and nothing else reveals that.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mmnet import schema
from mmnet.data import columns, items, spelling
from mmnet.data.dataset import Fitted
from mmnet.data.parquet import PIECE_ROWS
from mmnet.data.tables import Rows
from mmnet.schema import FieldSpec

EXAMPLES = 3
"""Maximum number of values in a message."""

SHOWN = 40
"""Maximum number of characters of each."""

SHORT = 256
"""Bytes of a request's text whose values are remembered."""

REMEMBERED = 1024
"""Maximum number of these texts, of each field."""


@dataclass(frozen=True)
class Seen:
    """The values of one field.

    Attributes:
        field: name of the column.
        filled: number of values that are not empty.
        unknown: number of those that training did not see.
        examples: some unknown values, the most frequent ones first.
        known: some values of training.
    """

    field: str
    filled: int
    unknown: int
    examples: Sequence[str] = ()
    known: Sequence[str] = ()

    @property
    def mostly_unknown(self) -> bool:
        """True if training knew the field, but more than half of its values are unknown."""
        return bool(self.known) and 2 * self.unknown > self.filled

    def line(self) -> str:
        """The numbers as text."""
        return f"{self.field}: {self.unknown:,} of {self.filled:,} values are unknown to the model"

    def warning(self, origin: str) -> str:
        """Returns a warning for a field whose values are mostly unknown.

        >>> Seen("tags", 2, 2, ["a|b"], ["a", "b"]).warning("items.csv")
        "items.csv: tags: 2 of 2 values are unknown to the model, such as 'a|b', and are scored \
as unknown; values of training are 'a', 'b'. Check how the column is written"
        """
        such_as = f", such as {_listed(self.examples)}," if self.examples else ""
        hashed = all(value.startswith(schema.HASH_PREFIX) for value in self.known)
        known = "stored as hashes" if hashed else _listed(self.known)
        return (
            f"{origin}: {self.line()}{such_as} and are scored as unknown; values of training are "
            f"{known}. Check how the column is written"
        )


def _listed(values: Sequence[str]) -> str:
    return ", ".join(repr(value[:SHOWN]) for value in values)


def of_items(table: Rows, fitted: Fitted) -> list[Seen]:
    """Counts the unknown values of an items table.

    Args:
        table: the items.
        fitted: values that the model was fitted with; its table flags are those of the items.
    """
    counters = counters_of(fitted)
    wanted = {name: counter.flag for name, counter in counters.items()}
    for piece in table.pieces(PIECE_ROWS, wanted) if wanted else ():
        for name, counter in counters.items():
            separator = columns.separator_of(fitted.tables)
            counter.add(columns.coded_values(piece, name, counter.flag, separator))
    return [counter.seen() for counter in counters.values()]


def of_tensors(tensors: Mapping[str, np.ndarray], fitted: Fitted) -> list[Seen]:
    """Counts the unknown values of prepared fields.

    Args:
        tensors: ids of the values by tensor name, [items, values].
        fitted: values that the model was fitted with.
    """
    found = []
    for field in fitted.spec.fields:
        ids = tensors[field.tensor]
        filled = int(np.count_nonzero(ids != schema.MISSING_ID))
        unknown = int(np.count_nonzero(ids == schema.UNKNOWN_ID))
        known = fitted.vocabularies[field.tensor][:EXAMPLES]
        found.append(Seen(field.name, filled, unknown, (), known))
    return found


def counters_of(fitted: Fitted) -> dict[str, Counter]:
    """Returns a counter for each field of a model, by the name of its column."""
    flags, hashed = flags_of(fitted), fitted.task.hash_vocabularies
    return {
        field.name: Counter(
            *(field.name, flags[field.name], fitted.vocabularies[field.tensor]), hashed=hashed
        )
        for field in fitted.spec.fields
    }


def flags_of(fitted: Fitted) -> dict[str, str]:
    """Returns the columns of a model's fields -> the flags that name them."""
    return {
        field.name: "taxonomies" if field.name in fitted.tables.taxonomies else "categoricals"
        for field in fitted.spec.fields
    }


class Counter:
    """Counts the values of one column, chunk by chunk.

    Args:
        column: name of the column.
        flag: flag that names it.
        vocabulary: values that training saw.
        hashed: whether the vocabulary has hashes.
    """

    def __init__(self, column: str, flag: str, vocabulary: Sequence[str], *, hashed: bool):
        self.flag, self._column, self._known = flag, column, vocabulary[:EXAMPLES]
        self._ids = items.ValueIds(vocabulary, hashed=hashed)
        self._filled = self._unknown = 0
        self._examples: dict[str, int] = {}

    def add(self, found: columns.Values) -> None:
        """Adds the values of a chunk."""
        times = np.bincount(found.codes, minlength=len(found.texts))
        unknown = (self._ids(found.texts) == schema.UNKNOWN_ID) & (times > 0)
        self._filled += len(found.codes)
        self._unknown += int(times[unknown].sum())
        often = pd.Series(times[unknown], index=found.texts[unknown])
        if len(often) > EXAMPLES:  # sort only what may be among the most frequent ones
            often = often[often >= np.partition(often.to_numpy(), -EXAMPLES)[-EXAMPLES]]
        for value, number in often.sort_index().nlargest(EXAMPLES).items():
            self._examples[value] = self._examples.get(value, 0) + int(number)

    def seen(self) -> Seen:
        """Returns the numbers so far."""
        often = sorted(self._examples, key=lambda value: (-self._examples[value], value))
        return Seen(self._column, self._filled, self._unknown, often[:EXAMPLES], self._known)


# -------------------------------------------------------------------------------- requests


class ValueCounts:
    """Spelling of field values in requests, and counts of unknown values, for a server.

    Args:
        fitted: values that the model was fitted with; None for a model without fields.

    Attributes:
        separators: inputs of `raw_columns` with the values of a field -> separator of values.
    """

    LEAST = 100
    """Minimum number of values of a field to call it mostly unknown."""

    def __init__(self, fitted: Fitted | None):
        self.separators: dict[str, str] = {}
        self._fields: dict[str, _OfField] = {}
        if fitted is None:
            return
        hashed = fitted.task.hash_vocabularies
        for field in fitted.spec.fields:
            name = fitted.spec.column_tensor("item", field.name)
            self.separators[name] = columns.separator_of(fitted.tables)
            vocabulary = fitted.vocabularies[field.tensor]
            self._fields[name] = _OfField(field, vocabulary, self.separators[name], hashed=hashed)

    def count(self, arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, int], list[str]]:
        """Counts the unknown values of one request, and adds them to those before.

        Args:
            arrays: inputs of `raw_columns` or of a signature of tensors.

        Returns:
            Unknown values by field, without fields that have none; and a sentence for each field
            when first more than half of its values, of at least `LEAST`, are unknown.
        """
        rows = max((len(array) for array in arrays.values()), default=0)
        (found,), warnings = self.count_each(arrays, [rows])
        return found, warnings

    def count_each(
        self, arrays: Mapping[str, np.ndarray], rows: Sequence[int]
    ) -> tuple[list[dict[str, int]], list[str]]:
        """Counts the unknown values of several requests.

        Args:
            arrays: as in `count`, the rows of all requests.
            rows: number of rows of each request.

        Returns:
            As `count`, with the unknown values by field of each request.
        """
        found: list[dict[str, int]] = [{} for _ in rows]
        warnings = []
        for name, one in self._fields.items():
            counted: Iterator[tuple[int, list[str]]]
            if one.tensor in arrays:
                counted = map(_of_ids, arrays[one.tensor])
            elif name in arrays:
                counted = one.of_texts(arrays[name].tolist())
            else:
                continue
            for of_request, number in zip(found, rows, strict=True):
                unknown = one.add(itertools.islice(counted, number))
                if unknown:
                    of_request[one.field] = unknown
                if warning := one.warning(self.LEAST):
                    warnings.append(warning)
        return found, warnings


def _of_ids(ids: np.ndarray) -> tuple[int, list[str]]:
    """Returns the number of values among ids, and the unknown ones, whose texts are not there."""
    filled = int(np.count_nonzero(ids != schema.MISSING_ID))
    return filled, [""] * int(np.count_nonzero(ids == schema.UNKNOWN_ID))


class _OfField:
    """The values of one field in all requests so far."""

    def __init__(
        self, field: FieldSpec, vocabulary: Sequence[str], separator: str, *, hashed: bool
    ):
        self.field, self.tensor = field.name, field.tensor
        self._separator, self._hashed = separator, hashed
        self._known = frozenset(map(spelling.spelled, vocabulary))
        self._of_training = vocabulary[:EXAMPLES]
        self._filled = self._unknown = 0
        self._examples: list[str] = []
        self._told = False
        self._remembered: dict[bytes, tuple[int, list[str]]] = {}

    def of_texts(self, texts: list[bytes]) -> Iterator[tuple[int, list[str]]]:
        """Returns the number of values in each text, and the unknown ones."""
        if len(self._remembered) + len(texts) > REMEMBERED:
            self._remembered.clear()
        new = [text for text in dict.fromkeys(texts) if text not in self._remembered]
        counted = dict(zip(new, self._counted(new), strict=True)) if new else {}
        found = [self._remembered.get(text) or counted[text] for text in texts]
        if len(new) <= REMEMBERED:
            short = {text: one for text, one in counted.items() if len(text) <= SHORT}
            self._remembered.update(short)
        return iter(found)

    def _counted(self, texts: list[bytes]) -> list[tuple[int, list[str]]]:
        parts = (text.decode("utf-8", "replace").split(self._separator) for text in texts)
        values = [[value for value in map(spelling.spelled, some) if value] for some in parts]
        flat = list(itertools.chain(*values))
        unknown = (name not in self._known for name in (self._stored(flat) if flat else ()))
        return [
            (len(some), [value for value, new in zip(some, unknown, strict=False) if new])
            for some in values
        ]

    def _stored(self, values: list[str]) -> Sequence[str]:
        """Returns values as the vocabularies have them."""
        if not self._hashed:
            return values
        from mmnet.encoders import value_hashes  # needs TensorFlow, which a server has loaded

        return value_hashes.hash_texts(values).tolist()

    def add(self, counted: Iterable[tuple[int, list[str]]]) -> int:
        """Adds the values of one request; returns how many of them are unknown."""
        found = 0
        for filled, unknown in counted:
            self._filled += filled
            found += len(unknown)
            if unknown and len(self._examples) < EXAMPLES:
                examples = dict.fromkeys([*self._examples, *filter(None, unknown)])
                self._examples = list(examples)[:EXAMPLES]
        self._unknown += found
        return found

    def warning(self, least: int) -> str:
        """Returns a sentence if the values are mostly unknown, of so many at least, for once."""
        if self._told or self._filled < least or 2 * self._unknown <= self._filled:
            return ""
        seen = Seen(self.field, self._filled, self._unknown, self._examples, self._of_training)
        self._told = seen.mostly_unknown
        return seen.warning("requests") if self._told else ""
