"""Meta features of items: vocabularies and scales fitted on the training span, then arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mmnet import schema
from mmnet.checks import InputError, quoted, shown
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import repeats, separators, spelling
from mmnet.data.columns import (
    SEPARATOR,
    coded_values,
    floats,
    id_texts,
    is_list,
    separator_of,
    strings,
    values_of,
)
from mmnet.data.ids import ItemIds, check_unknown
from mmnet.data.ledger import Rule
from mmnet.data.numbers import PLAIN, Marks
from mmnet.data.parquet import PIECE_ROWS
from mmnet.data.tables import Rows, Table, runs
from mmnet.schema import FieldSpec, NumericSpec, TextSpec, VectorSpec
from mmnet.startup import load_tensorflow

if TYPE_CHECKING:
    from mmnet.encoders.tokens import TokenLookup

MAX_VALUES = 16
"""Maximum number of values of a multi-valued field; further values of a longer list are ignored."""

VECTORS_AT_ONCE = 1 << 16
"""Number of rows of a table of vectors to read at a time."""

SMALLEST = float(np.finfo(np.float64).tiny)
"""The smallest normal float64, 2.2e-308; statistics below it count as 0."""

HUGEST = float(np.finfo(np.float64).max)
"""The largest finite float64, 1.8e308."""

_OF_HASHES = f"{schema.HASH_PREFIX}0123456789"
"""Characters of a hashed value; see `encoders.value_hashes`."""

Vocabularies = dict[str, list[str]]
"""Column, or the name of its tensor -> the values of ids 2, 3, ..."""


def columns(flags: TableFlags) -> dict[str, str]:
    """Returns the columns of the items table that a model needs -> the flags that name them."""
    named = {
        "item_column": (flags.item_column,),
        "taxonomies": flags.taxonomies,
        "categoricals": flags.categoricals,
        "numerics": flags.numerics,
        "texts": flags.texts if flags.text_encoder != "none" else (),
        "images": flags.images,
    }
    return {column: flag for flag, names in named.items() for column in names}


def fit_fields(
    items: Table, fitted_on: np.ndarray, flags: TableFlags, *, hashed: bool = False
) -> tuple[list[FieldSpec], Vocabularies]:
    """Fits the vocabulary of every taxonomy and categorical column.

    Args:
        items: the items table.
        fitted_on: bool [items], True for items that have a training example.
        flags: flags that name the columns.
        hashed: whether the vocabularies hold hashes instead of values.

    Returns:
        A spec per field, and the vocabularies by column, most frequent value first.

    Raises:
        InputError: two values have the same hash, or hashes would be split like a list.
    """
    if hashed and set(separator_of(flags)) <= set(_OF_HASHES):
        raise InputError(
            "--hash_vocabularies: a list's separator must not consist of the letters and digits of "
            f"a hash. Received: --list_separator={flags.list_separator}"
        )
    specs, vocabularies = [], {}
    for column in (*flags.taxonomies, *flags.categoricals):
        flag = "taxonomies" if column in flags.taxonomies else "categoricals"
        if not flags.list_separator:
            separators.check(items, column, flag)
        rows, values = values_of(items, column, flag, separator_of(flags))
        fitted = fitted_on[rows]
        count = pd.Series(values[fitted], dtype=object).value_counts()
        ranked = sorted(count.items(), key=lambda pair: (-pair[1], pair[0]))
        longest = int(np.bincount(rows[fitted]).max()) if fitted.any() else 1
        spec = FieldSpec(
            name=column,
            size=len(ranked) + schema.FIRST_ID,
            max_values=min(longest, MAX_VALUES),
        )
        specs.append(spec)
        values_by_rank = [value for value, _ in ranked]
        vocabularies[column] = _stored(values_by_rank, items, column, hashed=hashed)
    return specs, vocabularies


def _stored(values: list[str], items: Table, column: str, *, hashed: bool) -> list[str]:
    """Returns a vocabulary as it is stored."""
    if not hashed:
        return values
    return _value_hashes().hash_vocabulary(values, f"{items.origin()}: column {column!r}")


def _value_hashes() -> Any:
    """Returns the hash function, which needs TensorFlow, only for vocabularies of hashes."""
    load_tensorflow(keras=False)
    from mmnet.encoders import value_hashes

    return value_hashes


class ValueIds:
    """The ids of a field's values: 1 is unknown. A vocabulary is numbered once for all values.

    Vocabularies of earlier versions may have a value in other spellings; of several spellings of
    the same value, the most frequent one counts.

    Args:
        vocabulary: values of ids 2, 3, ...
        hashed: whether the vocabulary holds hashes of values.

    >>> ValueIds(["a", "True", "true"])(np.array(["true", "b"], object))
    array([3, 1])
    """

    def __init__(self, vocabulary: Sequence[str], *, hashed: bool = False):
        texts = spelling.texts(pa.array(vocabulary, pa.string())).to_pylist()
        spelled = pd.Index(texts, dtype=object)
        first = ~spelled.duplicated()
        self._places = np.append(np.flatnonzero(first) + schema.FIRST_ID, schema.UNKNOWN_ID)
        self._values, self._hashed = spelled[first], hashed

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Returns the ids of values, int64 [values]."""
        if self._hashed:
            values = _value_hashes().hash_texts(values)
        return self._places[self._values.get_indexer(values)]


def encode_field(
    items: Table, spec: FieldSpec, ids: ValueIds, flag: str, separator: str = SEPARATOR
) -> np.ndarray:
    """Returns the ids of a field's values, int32 [items, max_values]; 0 pads, 1 is unknown.

    >>> table = Table(pa.table({"tags": ["b;x", "", "a"]}), "items")
    >>> spec = FieldSpec(name="tags", size=4, max_values=2)
    >>> encode_field(table, spec, ValueIds(["a", "b"]), "taxonomies")
    array([[3, 1],
           [0, 0],
           [2, 0]], dtype=int32)
    """
    rows, codes, texts = coded_values(items, spec.name, flag, separator)
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    place = np.arange(len(rows)) - np.repeat(starts, np.diff(starts, append=len(rows)))
    inside = place < spec.max_values
    encoded = np.zeros((len(items), spec.max_values), np.int32)
    encoded[rows[inside], place[inside]] = ids(texts)[codes[inside]]
    return encoded


def fit_numerics(
    items: Table,
    fitted_on: np.ndarray,
    flags: TableFlags,
    marks: Mapping[str, Marks] | None = None,
) -> list[NumericSpec]:
    """Fits mean and standard deviation of every numeric column on the given items.

    Args:
        items: the items table.
        fitted_on: bool [items].
        flags: flags that name the columns.
        marks: column -> decimal mark and thousands separator of its numbers, where unusual.
    """
    specs = []
    for column in flags.numerics:
        own = (marks or {}).get(column, PLAIN)
        values = floats(items, column, "numerics", marks=own)[fitted_on]
        mean, sd = mean_and_sd(values[np.isfinite(values)])
        specs.append(NumericSpec(name=column, mean=mean, sd=sd))
    return specs


def mean_and_sd(values: np.ndarray) -> tuple[float, float]:
    """Returns mean and standard deviation, bit-for-bit the same in any order; sd 1 of a constant.

    Both are finite for any finite numbers, and the sd is never 0.

    Args:
        values: float64, finite; overwritten, to save the memory of a copy.

    >>> mean_and_sd(np.array([0.1, 0.1, 0.1]))[1]  # and not the 1e-17 of rounding
    1.0
    >>> mean_and_sd(np.array([-1.5e308, 1.5e308]))
    (0.0, 1.5e+308)
    """
    if not len(values):
        return 0.0, 1.0
    values.sort()
    constant = values[0] == values[-1]
    # Scaled into [-1, 1] by a power of two, which is exact, so that squares cannot overflow.
    _, exponent = np.frexp(max(abs(values[0]), abs(values[-1])))
    np.ldexp(values, -exponent, out=values)
    mean = values.mean()
    values -= mean
    values *= values
    with np.errstate(over="ignore"):  # the mean of the largest float64 may round above it
        mean, sd = (float(np.ldexp(one, exponent)) for one in (mean, np.sqrt(values.mean())))
    mean, sd = max(-HUGEST, min(mean, HUGEST)), min(sd, HUGEST)
    # TensorFlow flushes subnormal numbers to 0, and the sd must not be 0.
    return mean if abs(mean) >= SMALLEST else 0.0, 1.0 if constant or sd < SMALLEST else sd


def encode_numeric(items: Table, spec: NumericSpec, marks: Marks = PLAIN) -> np.ndarray:
    """Returns standardised values, float32 [items], clipped to `LARGEST_NUMBER`; 0 where empty.

    `serving.export.standardised` does the same to the bit.
    """
    values = floats(items, spec.name, "numerics", marks=marks)
    with np.errstate(over="ignore", invalid="ignore"):  # infinite differences are clipped below
        standard = (values - spec.mean) / spec.sd
    standard = np.clip(standard, -schema.LARGEST_NUMBER, schema.LARGEST_NUMBER)
    return np.where(np.isfinite(values), standard, 0).astype(np.float32)


def fit_texts(
    items: Table, fitted_on: np.ndarray, flags: TableFlags, task: TaskFlags
) -> tuple[list[TextSpec], Vocabularies]:
    """Fits the vocabulary of every text column on the given items; returns them by column."""
    specs, vocabularies = [], {}
    for column in flags.texts if flags.text_encoder != "none" else ():
        if _all_numbers(_texts_of_parts(items, column)):
            raise _no_text(items, column, "number")
        if flags.text_encoder == "hub":  # a frozen encoder has no vocabulary, see `content`
            continue
        texts = _texts_of_parts(items, column, fitted_on)
        words = _tokens().fit_vocabulary(texts, task.text_vocabulary)
        spec = TextSpec(name=column, size=len(words) + schema.FIRST_ID, max_tokens=task.text_tokens)
        specs.append(spec)
        vocabularies[column] = _stored(words, items, column, hashed=task.hash_vocabularies)
    return specs, vocabularies


def texts_of(items: Table, column: str) -> np.ndarray:
    """Returns a text column as str [items]; lists of words, as in RecBole, are joined by spaces.

    Raises:
        InputError: the column does not exist, or its type is not text.
    """
    data = items.need(column, "texts")
    kind = data.type
    if is_list(kind) and spelling.is_text(kind.value_type):
        joined = (" ".join(filter(None, words or ())) for words in data.to_pylist())
        return np.fromiter(joined, object, len(data))
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_temporal(kind):
        raise _no_text(items, column, str(kind))
    return strings(items, column, "texts")


def _texts_of_parts(
    items: Table, column: str, chosen: np.ndarray | None = None
) -> Iterator[np.ndarray]:
    """Yields the texts of some rows at a time, all or the chosen ones: as objects they are large.

    Args:
        items: the items table.
        column: a text column.
        chosen: bool [items]; default: all.
    """
    for part in runs(slice(0, len(items)), PIECE_ROWS):
        texts = texts_of(items.rows(part), column)
        yield texts if chosen is None else texts[chosen[part]]


def _no_text(items: Table, column: str, kind: str) -> InputError:
    return InputError(
        f"{items.origin()}: column {column!r} named by --texts has {kind} values, not text; "
        "name it in --numerics or --categoricals instead"
    )


def _all_numbers(parts: Iterable[np.ndarray]) -> bool:
    """Checks whether all texts are numbers; single numbers, like the title 1984, are fine."""
    found = False
    for texts in parts:
        written = pd.Series(texts[texts != ""], dtype="string")
        for some in (written[:100], written):  # the first ones decide for most texts
            if pd.to_numeric(some, errors="coerce").isna().any():
                return False
        found = found or len(written) > 0
    return found


def encode_text(items: Table, spec: TextSpec, lookup: TokenLookup) -> np.ndarray:
    """Token ids, int32 [items, max_tokens]."""
    return _tokens().encode(texts_of(items, spec.name), lookup)


def token_lookup(vocabulary: Sequence[str], max_tokens: int, *, hashed: bool) -> TokenLookup:
    """Returns the ids of a text's words; see `tokens.TokenLookup`."""
    return _tokens().TokenLookup(vocabulary, max_tokens, hashed=hashed)


def _tokens() -> Any:
    """Returns TensorFlow's tokenizer, imported only for tables with texts."""
    load_tensorflow(keras=False)
    from mmnet.encoders import tokens

    return tokens


def fit_vector(name: str, vectors: Rows) -> VectorSpec:
    """Reads the length of a table's content vectors, the only thing fitted on them.

    Raises:
        InputError: there is no list column or more than one, or it has no vector.
    """
    column = vector_column(name, vectors)
    pieces = vectors.pieces(VECTORS_AT_ONCE, {column: "vectors"})
    dim = max(int(_lengths(_as_lists(piece, column)).max(initial=0)) for piece in pieces)
    if dim == 0:
        raise InputError(f"{vectors.origin()}: --vectors={name} contains no vectors")
    return VectorSpec(name=name, dim=dim)


def encode_vectors(
    vectors: Rows,
    spec: VectorSpec,
    ids: ItemIds,
    flags: TableFlags,
    out: np.ndarray | None = None,
    ledger: list[Rule] | None = None,
) -> np.ndarray:
    """Aligns a table of content vectors with the items.

    Args:
        vectors: table with item id and a list-of-floats column.
        spec: name and length of the vectors.
        ids: ids of all items.
        flags: flags with the name of the item column.
        out: zeros [items, dim] to fill; default: a new array.
        ledger: if exact duplicates may be dropped, a line with their number is added to it.

    Returns:
        float32 [items, dim], zeros where an item has no vector.

    Raises:
        InputError: a vector has another length or a number that is not finite, or an item has two
            vectors, unless they are equal and `flags.repeats` drops such rows.
    """
    column = vector_column(spec.name, vectors)
    out = np.zeros((len(ids), spec.dim), np.float32) if out is None else out
    needed = {flags.item_column: "item_column", column: "vectors"}
    given = np.zeros(len(ids), bool)
    dropped = 0
    for piece in vectors.pieces(VECTORS_AT_ONCE, needed):
        who = id_texts(piece, flags.item_column, "item_column")
        rows = ids.rows(who)
        if (rows < 0).any():
            unknown = pc.unique(who.filter(pa.array(rows < 0)))
            place = piece.where(int(np.argmax(rows < 0)), flags.item_column)
            check_unknown(ids, unknown, place, drop=True)
        before = (rows >= 0) & given[rows]
        again = pd.Series(who.to_numpy()).duplicated().to_numpy() | before
        numbers, full = vectors_of(piece, column, spec)
        if again.any():
            here = np.zeros((len(rows), spec.dim), np.float32)
            here[full] = numbers
            earlier = np.where(before[:, None], out[rows], here[repeats.firsts(who.to_numpy())])
            differs = again & (here != earlier).any(axis=1)
            if differs.any() or flags.repeats == "fail":
                row = int(np.argmax(differs if differs.any() else again))
                raise _repeated(piece, row, who[row].as_py(), spec, flags, same=not differs.any())
            dropped += int(again.sum())
        given[rows[rows >= 0]] = True
        kept = (rows[full] >= 0) & ~again[full]
        out[rows[full][kept]] = numbers[kept]
    if ledger is not None and flags.repeats == "drop":
        ledger.append(
            Rule(f"vectors {spec.name}", repeats.RULE, len(vectors), len(vectors) - dropped)
        )
    return out


def _repeated(
    piece: Table, row: int, item: str, spec: VectorSpec, flags: TableFlags, *, same: bool
) -> InputError:
    where = piece.where(row, flags.item_column)
    if same:
        return InputError(
            f"{where}: duplicate of an earlier row of item {quoted(item)} with the same vector "
            f"(--vectors={spec.name}); remove it, or set --repeats=drop"
        )
    return InputError(
        f"{where}: item {quoted(item)} has another vector in an earlier row, and "
        f"--vectors={spec.name} must have one row per item; keep the right one"
    )


def vectors_of(piece: Table, column: str, spec: VectorSpec) -> tuple[np.ndarray, np.ndarray]:
    """Returns the vectors of some rows.

    Returns:
        `(numbers, full)`: float32 [rows with a vector, dim], and which rows those are, bool [rows].

    Raises:
        InputError: a vector has another length, or a number that is not finite.
    """
    data = _as_lists(piece, column)
    lengths = _lengths(data)
    full = lengths > 0
    if (lengths[full] != spec.dim).any():
        row = int(np.argmax(full & (lengths != spec.dim)))
        raise InputError(
            f"{piece.where(row, column)}: this vector has {lengths[row]} numbers, but "
            f"--vectors={spec.name} needs {spec.dim}"
        )
    try:
        flat = pc.list_flatten(data).cast(pa.float32(), safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        if spelling.is_text(piece.data[column].type):
            raise _no_vector(piece, column, data) from None
        raise InputError(
            f"{piece.origin()}: column {column!r} must have lists of numbers. Received: {data.type}"
        ) from None
    numbers = flat.to_numpy(zero_copy_only=False).reshape(-1, spec.dim)
    # A sum is finite only if every term is. If a sum overflows, its terms are checked one by one.
    if not np.isfinite(numbers.sum(dtype=np.float64)):
        finite = np.isfinite(numbers).all(axis=1)
        if not finite.all():
            row = int(np.flatnonzero(full)[np.argmin(finite)])
            given = np.array(data[row].as_py(), np.float64)
            range_of = ", none beyond 3.4e38 (float32)" if np.isfinite(given).all() else ""
            raise InputError(
                f"{piece.where(row, column)}: a vector must have finite numbers{range_of}"
            )
    return numbers, full


def vector_column(name: str, vectors: Rows) -> str:
    """Returns the list-of-floats column of a table; of several, the one named like the vectors.

    If there are no lists, as in CSV, it is the text column named like the vectors, with numbers
    separated by spaces, or lists in the notation of JSON, Python or NumPy.

    Raises:
        InputError: there is no such column, or several and none of that name.
    """
    columns = [column.name for column in vectors.schema if is_list(column.type)]
    if len(columns) == 1:
        return columns[0]
    if name in columns:
        return name
    if not columns and name in vectors.names and spelling.is_text(vectors.schema.field(name).type):
        return name
    listed = ", ".join(columns) or f"none among {shown(', '.join(vectors.names))}"
    raise InputError(
        f"{vectors.origin()}: --vectors={name} needs exactly one list-of-floats column, or a "
        f"column named {name}, which may be text: numbers separated by spaces. Received: {listed}"
    )


def _as_lists(piece: Table, column: str) -> pa.Array:
    """Returns a column of vectors as lists; text becomes lists of texts."""
    data = piece.data[column].combine_chunks()
    if not spelling.is_text(data.type):
        return data
    text = pc.utf8_trim_whitespace(pc.fill_null(spelling.plain(data), ""))
    inside = pc.replace_substring_regex(text, r"(?s)^\[(.*)\]$", r"\1")
    inside = pc.if_else(pc.equal(inside, text), text, pc.replace_substring(inside, ",", " "))
    inside = pc.utf8_trim_whitespace(inside)
    return pc.utf8_split_whitespace(pc.if_else(pc.equal(inside, ""), None, inside))


def _no_vector(piece: Table, column: str, lists: pa.Array) -> InputError:
    """Returns the error about the first text that is not a vector."""

    def is_vector(words: list[str] | None) -> bool:
        try:
            pa.array(words or (), pa.string()).cast(pa.float32())
        except pa.ArrowInvalid:
            return False
        return True

    row = next(row for row, words in enumerate(lists.to_pylist()) if not is_vector(words))
    return InputError(
        f"{piece.where(row, column)}: a vector in text must be numbers separated by spaces, or a "
        f"list such as [0.1, 2]. Received: {quoted(piece.data[column][row].as_py(), 60)}"
    )


def _lengths(lists: pa.Array) -> np.ndarray:
    """Returns the length of each list, 0 for null."""
    return pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
