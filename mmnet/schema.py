"""Contract of tables and tensors: names, types, axes, units and ranges.

Users provide tables (counts, items); a model reads tensors, one batch of examples (item, t) at a
time. `FeatureSpec` lists the tensors of a dataset; it is fitted on the training span and saved with
the SavedModel.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

# ---------------------------------------------------------------------------------- tables


@dataclass(frozen=True)
class Column:
    """A column of an input table: its default name (a flag may rename it), type and rule."""

    name: str
    type: str
    rule: str


COUNTS = (
    Column("item_id", "string", "names a row of the items table"),
    Column("period", "integer or timestamp", "one row per (item, period)"),
    Column("clicks", "integer", "0 or more; the denominator of the rate"),
    Column("shares", "integer", "0 <= shares <= clicks; the numerator of the rate"),
)
ITEMS = (
    Column("item_id", "string", "one row per item; never a model feature"),
    Column("taxonomies", "string, list or ;-separated", "known at release"),
    Column("categoricals", "string, list or ;-separated", "known at release"),
    Column("numerics", "number", "known at release; empty where unknown"),
    Column("texts", "string", "known at release; empty where unknown"),
    Column("images", "string", "path of a picture, known at release; may be empty"),
    Column("release", "period or timestamp", "optional; else the first observed period"),
)

# ---------------------------------------------------------------------------------- limits

# A float32 near its largest value, 3.4e38, becomes infinite in the first sum or product, and
# inf - inf or 0 * inf is NaN. Where that happens depends on the order of instructions, and so on
# the processor. Within these limits no model overflows, and real data do not reach them.

LARGEST_NUMBER = 1e4
"""Maximum distance of a standardised number from its mean, in standard deviations.

None of n numbers is more than sqrt(n - 1) standard deviations from their mean (Samuelson's
inequality), so values that a column was fitted on are never clipped with up to 100 million items.
Public logs come close to Samuelson's bound: 469 of at most 478 among 228,329 values. The fourth
powers that a compressed interaction network computes stay below 1e16 times its weights.
"""

LARGEST_RATE = float(1 << 38)
"""Largest rate, in percent; beyond it, sums of rates overflow int64. See `data.counts_reading`."""

LARGEST_COUNT = float(1 << 63)
"""Upper end of int64, the type of counts."""

LARGEST_AGE = float(1 << 20)
"""Maximum age in periods (120 years of hours); older items are clipped to it."""

LARGEST_ENTRY = 65504.0
"""Largest entry of a content vector: the largest float16, the type in which vectors are stored."""

# --------------------------------------------------------------------------------- tensors


@dataclass(frozen=True)
class Tensor:
    """A named model input: dtype, axes (batch first), unit and range.

    Every model clips values to `limits`, (lowest, highest).
    """

    name: str
    dtype: str
    axes: tuple[str, ...]
    unit: str
    limits: tuple[float, float]


SHARE_RATE = Tensor(
    "share_rate",
    "float32",
    ("batch", "window"),
    "percent, 0 where missing",
    (0.0, LARGEST_RATE),
)
MISSING_FLAG = Tensor(
    "missing_flag", "float32", ("batch", "window"), "1 = missing or uncertain", (0.0, 1.0)
)
CLICKS = Tensor(
    "clicks", "float32", ("batch", "window"), "clicks, 0 where missing", (0.0, LARGEST_COUNT)
)
TAXONOMY_RATE = Tensor(
    "taxonomy_rate",
    "float32",
    ("batch", "window", "taxonomies"),
    "percent, 0 where no item was seen",
    (0.0, LARGEST_RATE),
)
TAXONOMY_MISSING_FLAG = Tensor(
    "taxonomy_missing_flag",
    "float32",
    ("batch", "window", "taxonomies"),
    "1 = no other item of the taxonomy value was seen (the rate is then the global mean)",
    (0.0, 1.0),
)
TAXONOMY_EVIDENCE = Tensor(
    "taxonomy_evidence",
    "float32",
    ("batch", "window", "taxonomies"),
    "other items of the taxonomy value that were seen, or their clicks, -1 unknown",
    (-1.0, LARGEST_COUNT),
)
HISTORY = (SHARE_RATE, MISSING_FLAG, CLICKS)  # what a scenario or a disturbance hides
SEQUENCES = (*HISTORY, TAXONOMY_RATE, TAXONOMY_MISSING_FLAG, TAXONOMY_EVIDENCE)
AGE = Tensor(
    "age", "float32", ("batch",), "periods from release to target, -1 unknown", (-1.0, LARGEST_AGE)
)
AGE_AT_LEAST = Tensor(
    "age_at_least", "float32", ("batch",), "1 = older than the log, the age is a bound", (0.0, 1.0)
)
EARLIER_RATE = Tensor(
    "earlier_rate",
    "float32",
    ("batch",),
    "pooled percent of all periods before the window, 0 without clicks",
    (0.0, LARGEST_RATE),
)
EARLIER_CLICKS = Tensor(
    "earlier_clicks",
    "float32",
    ("batch",),
    "clicks of all periods before the window, -1 unknown",
    (-1.0, LARGEST_COUNT),
)
HIDDEN = {MISSING_FLAG.name: 1, TAXONOMY_MISSING_FLAG.name: 1, TAXONOMY_EVIDENCE.name: -1}
"""Values of the sequences of an item about which nothing is known; of all others 0."""
LIFETIME = (EARLIER_RATE, EARLIER_CLICKS)  # hidden with the history
UNKNOWN_LIFETIME = {EARLIER_RATE.name: 0.0, EARLIER_CLICKS.name: -1.0}
CYCLES = {"hour": 24, "weekday": 7, "month": 12}
"""Calendar cycles and their numbers of values."""
OF_PERIODS = {
    *(tensor.name for tensor in (*SEQUENCES, AGE, AGE_AT_LEAST, *LIFETIME)),
    *(f"target_{cycle}" for cycle in CYCLES),
}
"""Tensors that change between periods, of the main rate; see `FeatureSpec.of_periods`."""


def histories(names: Iterable[str]) -> list[tuple[str, str, str]]:
    """Returns the tensors of the history of every rate, `HISTORY`, among the inputs of a model.

    >>> histories(["share_rate", "missing_flag", "clicks", "clicks_like", "share_rate_like"])[1]
    ('share_rate_like', 'missing_flag_like', 'clicks_like')
    """
    rate, flag, clicks = (tensor.name for tensor in HISTORY)
    ends = [name.removeprefix(rate) for name in names if f"{name}_".startswith(f"{rate}_")]
    return [(rate + end, flag + end, clicks + end) for end in ends]


SCENARIOS = ("normal", "cold_start", "noisy")
"""Evaluation scenarios: how much of an item's history a model sees. See `evaluation.scenarios`."""

HASH_PREFIX = "h64x"
"""Beginning of a value in a vocabulary of hashes; see `encoders.value_hashes`."""

MISSING_ID, UNKNOWN_ID, FIRST_ID = 0, 1, 2
"""Rows of every vocabulary: 0 = empty or padding, 1 = not seen in training, 2... = the values."""


def tensor_name(kind: str, column: str, tag: str = "") -> str:
    """Returns the tensor name of an items column: `field_category`, `text_title`, `vector_cover`.

    Args:
        kind: kind of the tensor, such as `field`.
        column: any name; characters that a SavedModel does not allow become `_`.
        tag: suffix that distinguishes columns whose names would then be equal, see `tags`.

    >>> tensor_name("field", "author id")
    'field_author_id'
    """
    return f"{kind}_{_allowed(column)}{tag}"


def _allowed(column: str) -> str:
    return re.sub(r"[^0-9A-Za-z_]", "_", column)


def tags(columns: Iterable[str]) -> dict[str, str]:
    """Returns a suffix for every column whose tensor name would equal that of another column.

    The suffix depends on the column's name alone, so that it is the same in every order and model.

    >>> tags(["category", "类别", "标签"])
    {'类别': '_0d12cbd6', '标签': '_1d0fd5f9'}
    """
    alike: dict[str, set[str]] = defaultdict(set)
    for column in columns:
        alike[_allowed(column)].add(column)
    return {
        column: f"_{hashlib.sha256(column.encode()).hexdigest()[:8]}"
        for column in columns
        if len(alike[_allowed(column)]) > 1
    }


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _OfColumn(_Spec):
    """The model input made from one column, or from one table of vectors."""

    KIND: ClassVar[str]
    name: str
    _tag: str = PrivateAttr("")  # follows from the names in a `FeatureSpec`, which sets it

    @property
    def tensor(self) -> str:
        """Name of the model input."""
        return tensor_name(self.KIND, self.name, self._tag)

    def tagged(self, tag: str) -> Self:
        """Returns a copy with a suffix to the name of its tensor."""
        if tag == self._tag:
            return self
        found = self.model_copy()
        found._tag = tag
        return found


class FieldSpec(_OfColumn):
    """A categorical meta feature; tensor `field_<name>`, int32 [batch, max_values].

    `size` is the number of rows of its embedding: the vocabulary, one unknown and one missing row.
    """

    KIND: ClassVar[str] = "field"
    size: int
    max_values: int = 1


class NumericSpec(_OfColumn):
    """A numeric meta feature; tensor `numeric_<name>`, float32 [batch], standardised.

    The tensor is (value - mean) / sd, both fitted on the training span, clipped to
    ± `LARGEST_NUMBER`, and 0 where empty.
    """

    KIND: ClassVar[str] = "numeric"
    mean: float
    sd: float


class TextSpec(_OfColumn):
    """A text read by the trainable token encoder; `text_<name>`, int32 [batch, max_tokens]."""

    KIND: ClassVar[str] = "text"
    size: int
    max_tokens: int


class VectorSpec(_OfColumn):
    """A frozen content vector; tensor `vector_<name>`, float32 [batch, dim], 0 if absent.

    `of` is its origin. A model attends over all texts of an item together, including vectors of
    texts. Each given vector and each image vector is a modality of its own.
    """

    KIND: ClassVar[str] = "vector"
    dim: int
    of: Literal["given", "text", "image"] = "given"


class AgeSpec(_Spec):
    """The age of an item in the target period; tensors `age` and `age_at_least`, [batch].

    Attributes:
        since: "release", a column of the items table, or "first_click", the item's first period
            with clicks in the counts, as of t.
        hidden: whether the age is hidden whenever the history is hidden.
        log_start: number of the first period of the training log, if ages count from first clicks.
            The age of an item that had clicks in that period is only a lower bound.
    """

    since: Literal["release", "first_click"]
    hidden: bool
    log_start: int | None = None


class LifetimeSpec(_Spec):
    """An item's counts of the main rate before the window; tensors `LIFETIME`, [batch].

    Attributes:
        log_start: number of the first period of the training log, which the counts must reach back
            to.
    """

    log_start: int


class CycleSpec(_OfColumn):
    """The position of the target period in a calendar cycle; tensor `target_<name>`, int32 [batch].

    Ids: `FIRST_ID` + value, from 0 (midnight, Monday, January); `UNKNOWN_ID` for a value that no
    training target has, `MISSING_ID` if the target's period is not given.

    Attributes:
        seen: values that occur in training targets.
    """

    KIND: ClassVar[str] = "target"
    name: Literal["hour", "weekday", "month"]
    seen: tuple[int, ...]

    @property
    def size(self) -> int:
        """Rows of its embedding."""
        return FIRST_ID + CYCLES[self.name]


class RateSpec(_OfColumn):
    """A further rate, predicted along with the main one; its tensors are `SEQUENCES` of its own.

    Attributes:
        name: NAME of `--rate=NAME=NUMERATOR/DENOMINATOR`.
        rate_scale: as in `FeatureSpec`, of this rate.
        rate_mean: likewise.
        max_rate: likewise.
    """

    KIND: ClassVar[str] = "rate"
    rate_scale: float
    rate_mean: float
    max_rate: float | None


class Output(NamedTuple):
    """One prediction of a network: of a rate, so many periods after the window.

    Attributes:
        rate: name of a further rate; empty for the main one, `--numerator` over `--denominator`.
        horizon: periods from the end of the window to the target, h.
        name: name of the prediction in a signature, such as `predicted_like_h2`.
    """

    rate: str
    horizon: int
    name: str

    @property
    def words(self) -> str:
        """Rate and horizon as users write them in rules, such as `like at 3`, or `at 3`."""
        return f"{self.rate} at {self.horizon}".lstrip()


PREDICTED = "predicted_share_rate"
"""Name of the main prediction, in signatures and tables."""


class FeatureSpec(_Spec):
    """The inputs of a model, their shapes and fitted statistics; and its outputs.

    Attributes:
        window: length of the history in periods, ω1.
        horizon: periods from the end of the window to the target, h.
        taxonomies: names of the taxonomy sequences, in the order of the `taxonomies` axis.
        fields: taxonomies and other categorical columns, as meta features.
        numerics: numeric meta features.
        texts: columns read by the token encoder.
        vectors: frozen content vectors.
        age: the item's age at the target, if it is an input.
        cycles: calendar cycles in which the position of the target is an input.
        lifetime: the item's counts before the window, if they are an input.
        taxonomy_evidence: whether what the taxonomies' means rest on is an input.
        rate_scale: standard deviation of the observed training rates, in percent; inputs are
            divided by it.
        rate_mean: mean of the training targets, in percent; it is added to the output only.
        max_rate: predictions are clipped to [0, max_rate] percent; None if rates may exceed one.
        horizons: further horizons, ascending, each longer than `horizon`.
        rates: further rates.
    """

    window: int
    horizon: int
    taxonomies: tuple[str, ...] = ()
    fields: tuple[FieldSpec, ...] = ()
    numerics: tuple[NumericSpec, ...] = ()
    texts: tuple[TextSpec, ...] = ()
    vectors: tuple[VectorSpec, ...] = ()
    # Omitted from files if unused, so that files equal those of earlier versions.
    age: AgeSpec | None = Field(None, exclude_if=lambda age: age is None)
    cycles: tuple[CycleSpec, ...] = Field((), exclude_if=lambda cycles: not cycles)
    lifetime: LifetimeSpec | None = Field(None, exclude_if=lambda lifetime: lifetime is None)
    taxonomy_evidence: bool = Field(False, exclude_if=lambda evidence: not evidence)
    rate_scale: float = 1.0
    rate_mean: float = 0.0
    max_rate: float | None = 100.0
    horizons: tuple[int, ...] = Field((), exclude_if=lambda horizons: not horizons)
    rates: tuple[RateSpec, ...] = Field((), exclude_if=lambda rates: not rates)
    _tags: dict[str, dict[str, str]] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _distinguish(self) -> Self:
        strings = [one.name for one in (*self.fields, *self.texts)]
        of_strings = tags([*strings, *self.taxonomies])
        of_numbers = tags([one.name for one in self.numerics])
        self._tags = dict.fromkeys(("field", "text", "item", "taxonomy"), of_strings)
        self._tags |= dict.fromkeys(("numeric", "number"), of_numbers)
        self._tags["vector"] = tags([one.name for one in self.vectors])
        self._tags["rate"] = tags([one.name for one in self.rates])
        for part in ("fields", "numerics", "texts", "vectors", "rates"):
            own = [
                one.tagged(self._tags[one.KIND].get(one.name, "")) for one in getattr(self, part)
            ]
            self.__dict__[part] = tuple(own)  # frozen for everybody else
        return self

    def column_tensor(self, kind: str, column: str) -> str:
        """Returns a name derived from a column's, with the suffix of the column's tensors.

        Args:
            kind: field, text, item or taxonomy for a column of strings; numeric or number.
            column: name of an items column.
        """
        return tensor_name(kind, column, self._tags[kind].get(column, ""))

    def tensors(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Returns name -> (shape without the batch axis, dtype) of every model input.

        >>> list(FeatureSpec(window=6, horizon=1, taxonomies=("category",)).tensors())
        ['share_rate', 'missing_flag', 'clicks', 'taxonomy_rate', 'taxonomy_missing_flag']
        """
        window, taxonomies = self.window, len(self.taxonomies)
        found: dict[str, tuple[tuple[int, ...], str]] = {
            tensor.name: ((window,), tensor.dtype) for tensor in HISTORY
        }
        for tensor in self._of_taxonomies():
            found[tensor.name] = ((window, taxonomies), tensor.dtype)
        for rate in self.rates:
            found |= {own: found[main] for main, own in self.sequences(rate.name).items()}
        if self.age:
            found |= {tensor.name: ((), tensor.dtype) for tensor in (AGE, AGE_AT_LEAST)}
        for cycle in self.cycles:
            found[cycle.tensor] = ((), "int32")
        if self.lifetime:
            found |= {tensor.name: ((), tensor.dtype) for tensor in LIFETIME}
        for field in self.fields:
            found[field.tensor] = ((field.max_values,), "int32")
        for numeric in self.numerics:
            found[numeric.tensor] = ((), "float32")
        for text in self.texts:
            found[text.tensor] = ((text.max_tokens,), "int32")
        for vector in self.vectors:
            found[vector.tensor] = ((vector.dim,), "float32")
        return found

    def sequences(self, rate: str = "") -> dict[str, str]:
        """Returns the tensors of a rate's history and taxonomies: of the main rate -> its own.

        Args:
            rate: name of a further rate; empty for the main one.

        >>> like = RateSpec(name="like", rate_scale=1, rate_mean=2, max_rate=100)
        >>> FeatureSpec(window=6, horizon=1, rates=(like,)).sequences("like")["clicks"]
        'clicks_like'
        """
        main = [tensor.name for tensor in (*HISTORY, *self._of_taxonomies())]
        if not rate:
            return dict(zip(main, main, strict=True))
        tag = self._tags["rate"].get(rate, "")
        return {name: tensor_name(name, rate, tag) for name in main}

    def _of_taxonomies(self) -> tuple[Tensor, ...]:
        """Returns the tensors of the main rate's taxonomies, in the order of the channels."""
        if not self.taxonomies:
            return ()
        evidence = (TAXONOMY_EVIDENCE,) if self.taxonomy_evidence else ()
        return TAXONOMY_RATE, TAXONOMY_MISSING_FLAG, *evidence

    def counts(self, rate: str = "") -> tuple[str, str]:
        """Returns the names of a rate's denominators and numerators, as raw inputs of a model.

        Args:
            rate: name of a further rate; empty for the main one.

        >>> like = RateSpec(name="like", rate_scale=1, rate_mean=2, max_rate=100)
        >>> FeatureSpec(window=6, horizon=1, rates=(like,)).counts("like")
        ('clicks_like', 'shares_like')
        """
        if not rate:
            return CLICKS.name, "shares"
        tag = self._tags["rate"].get(rate, "")
        return tensor_name(CLICKS.name, rate, tag), tensor_name("shares", rate, tag)

    def of_periods(self) -> set[str]:
        """Returns the tensors that change between periods; all others depend on the item alone."""
        own = (name for rate in self.rates for name in self.sequences(rate.name).values())
        return (OF_PERIODS & set(self.tensors())).union(own)

    def hidden(self, rate: str = "") -> tuple[dict[str, float], dict[str, float]]:
        """Returns tensors of one rate -> values, of an item without clicks: its own, taxonomies'.

        Args:
            rate: name of a further rate; empty for the main one.

        >>> FeatureSpec(window=6, horizon=1).hidden()
        ({'share_rate': 0, 'missing_flag': 1, 'clicks': 0}, {})
        """
        gone: dict[str, float] = {
            own: HIDDEN.get(main, 0) for main, own in self.sequences(rate).items()
        }
        own, trends = list(gone.items())[: len(HISTORY)], list(gone.items())[len(HISTORY) :]
        return dict(own), dict(trends)

    def outputs(self) -> tuple[Output, ...]:
        """Returns what is predicted, the main prediction first; rates in turn, each by horizon.

        >>> like = RateSpec(name="like", rate_scale=1, rate_mean=2, max_rate=100)
        >>> both = FeatureSpec(window=6, horizon=1, horizons=(3,), rates=(like,))
        >>> [output.name for output in both.outputs()]
        ['predicted_share_rate', 'predicted_share_rate_h3', 'predicted_like', 'predicted_like_h3']
        """
        names = [("", PREDICTED)]
        names += [
            (rate.name, f"predicted_{rate.tensor.removeprefix('rate_')}") for rate in self.rates
        ]
        return tuple(
            Output(rate, horizon, name if horizon == self.horizon else f"{name}_h{horizon}")
            for rate, name in names
            for horizon in (self.horizon, *self.horizons)
        )

    def of_rate(self, rate: str) -> FeatureSpec:
        """Returns the spec of a model that predicts only this rate, from the main rate's tensors.

        Args:
            rate: name of a further rate; empty for the main one.
        """
        of = next((one for one in self.rates if one.name == rate), self)
        statistics = {name: getattr(of, name) for name in ("rate_scale", "rate_mean", "max_rate")}
        return self.model_copy(update={"rates": (), **statistics})

    def limits(self) -> dict[str, tuple[float, float]]:
        """Returns name -> (lowest, highest) value of every float tensor.

        >>> FeatureSpec(window=6, horizon=1).limits()["missing_flag"]
        (0.0, 1.0)
        """
        found = {
            tensor.name: tensor.limits for tensor in (*SEQUENCES, AGE, AGE_AT_LEAST, *LIFETIME)
        }
        for rate in self.rates:
            found |= {own: found[main] for main, own in self.sequences(rate.name).items()}
        for numeric in self.numerics:
            found[numeric.tensor] = (-LARGEST_NUMBER, LARGEST_NUMBER)
        for vector in self.vectors:
            found[vector.tensor] = (-LARGEST_ENTRY, LARGEST_ENTRY)
        return {name: found[name] for name in self.tensors() if name in found}

    def modalities(self) -> dict[str, tuple[str, ...]]:
        """Returns the content that an item may lack: "meta", each text, each vector -> tensors.

        An item lacks a modality if all its tensors are 0.

        >>> cover = VectorSpec(name="cover", dim=3)
        >>> category = FieldSpec(name="category", size=9)
        >>> FeatureSpec(window=6, horizon=1, fields=(category,), vectors=(cover,)).modalities()
        {'meta': ('field_category',), 'vector_cover': ('vector_cover',)}
        """
        meta = [field.tensor for field in self.fields]
        meta += [numeric.tensor for numeric in self.numerics]
        others = [text.tensor for text in self.texts] + [vector.tensor for vector in self.vectors]
        found = {"meta": tuple(meta)} if meta else {}
        return found | {tensor: (tensor,) for tensor in others}
