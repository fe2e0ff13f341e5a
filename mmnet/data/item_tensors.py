"""Tensors that depend on an item alone: fields, numbers, texts and content vectors.

They are computed from a range of rows of the items table at a time, both when a dataset is prepared
and when a catalogue is scored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mmnet.checks import InputError
from mmnet.data import items
from mmnet.data.columns import separator_of
from mmnet.data.content import Encoded
from mmnet.data.dataset import Fitted
from mmnet.data.items import ValueIds
from mmnet.data.numbers import Marks
from mmnet.data.tables import Rows, Table, Tables
from mmnet.schema import FeatureSpec, FieldSpec, TextSpec

if TYPE_CHECKING:
    from mmnet.encoders.tokens import TokenLookup


def static_arrays(spec: FeatureSpec) -> Iterator[tuple[str, tuple[int, ...], str]]:
    """Yields tensor, shape without the items' axis, and dtype of inputs that depend on items alone.

    >>> from mmnet.schema import NumericSpec
    >>> length = NumericSpec(name="duration", mean=0, sd=1)
    >>> spec = FeatureSpec(window=2, horizon=1, numerics=(length,))
    >>> list(static_arrays(spec))
    [('numeric_duration', (), 'float32')]
    """
    encoded = {vector.tensor for vector in spec.vectors if vector.of != "given"}
    of_periods = spec.of_periods()
    for name, (inner, dtype) in spec.tensors().items():
        if name not in of_periods:
            yield name, inner, "float16" if name in encoded else dtype


class Lookups:
    """The ids of the values of fields and of the words of texts.

    Every vocabulary is numbered once, when it is first needed: doing so for each range of items
    would cost ranges × values.

    Args:
        fitted: vocabularies.
    """

    def __init__(self, fitted: Fitted):
        self._vocabularies, self._hashed = fitted.vocabularies, fitted.task.hash_vocabularies
        self._fields: dict[str, ValueIds] = {}
        self._texts: dict[str, TokenLookup] = {}

    def of_field(self, field: FieldSpec) -> ValueIds:
        """Returns the ids of a field's values."""
        name = field.tensor
        if name not in self._fields:
            self._fields[name] = ValueIds(self._vocabularies[name], hashed=self._hashed)
        return self._fields[name]

    def of_text(self, text: TextSpec) -> TokenLookup:
        """Returns the ids of a text's words."""
        name = text.tensor
        if name not in self._texts:
            self._texts[name] = items.token_lookup(
                self._vocabularies[name], text.max_tokens, hashed=self._hashed
            )
        return self._texts[name]


def static_tensors(
    part: Table,
    fitted: Fitted,
    encoded: Sequence[Encoded],
    marks: Mapping[str, Marks],
    lookups: Lookups,
) -> dict[str, np.ndarray]:
    """Computes the tensors that depend on an item alone, except for given vectors.

    Args:
        part: a range of rows of the items table.
        fitted: vocabularies and scales.
        encoded: the vectors of their texts and images.
        marks: numeric column -> decimal mark and thousands separator of its numbers.
        lookups: ids by the vocabularies of `fitted`.

    Returns:
        Tensor name -> [rows, ...].
    """
    spec, flags = fitted.spec, fitted.tables
    tensors = {}
    for field in spec.fields:
        flag = "taxonomies" if field.name in flags.taxonomies else "categoricals"
        ids = lookups.of_field(field)
        tensors[field.tensor] = items.encode_field(part, field, ids, flag, separator_of(flags))
    for numeric in spec.numerics:
        tensors[numeric.tensor] = items.encode_numeric(part, numeric, marks[numeric.name])
    for text in spec.texts:
        tensors[text.tensor] = items.encode_text(part, text, lookups.of_text(text))
    computed = {(one.column.name, one.column.kind): one.vectors for one in encoded}
    for vector in spec.vectors:
        if vector.of != "given":
            tensors[vector.tensor] = computed[vector.name, vector.of]
    return tensors


def given_vectors(found: Tables, name: str) -> Rows:
    """Returns the table of vectors that a model reads.

    Raises:
        InputError: the table was not given.
    """
    if name not in found.vectors:
        raise InputError(f"the model needs vectors {name!r}; set --vectors=NAME:FILE")
    return found.vectors[name]


def check_tensor_names(spec: FeatureSpec) -> None:
    """Raises an error if two inputs have the same name, such as vectors and an image column.

    Columns of different names have different tensors, see `schema.tags`.

    Raises:
        InputError: the sentence names both inputs.
    """
    seen: dict[str, str] = {}
    features = (*spec.fields, *spec.numerics, *spec.texts, *spec.vectors)
    for feature in features:
        if feature.tensor in seen:
            raise InputError(
                f"columns {seen[feature.tensor]!r} and {feature.name!r} would both become the "
                f"tensor {feature.tensor}; rename one, or name it in one flag only"
            )
        seen[feature.tensor] = feature.name
