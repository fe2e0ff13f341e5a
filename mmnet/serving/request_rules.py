"""Rules for the values of a request's inputs, which are the rules of tables.

A table with a negative count, with more shares than clicks or with an infinite rate is refused
when it is read. A request is held to the same rules, so that an export scores the same values
whichever way they arrive, and no answer is NaN because an input was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from mmnet import schema
from mmnet.checks import shown
from mmnet.data.dataset import Fitted
from mmnet.data.lifetimes import CLICKS_BEFORE, SHARES_BEFORE, UNKNOWN
from mmnet.data.spelling import LARGEST
from mmnet.serving import examples

MAX_TEXT_BYTES = 64 << 10
"""Bytes of one text of a request; tokenizing takes 150 ms and 25 MB for each MB."""
MAX_TEXTS_BYTES = 8 << 20
"""Bytes of all texts of a request together."""
MAX_EXAMPLE_BYTES = 1 << 20
"""Bytes of one serialized example, vectors and texts included."""
COUNT = "a whole number of 0 or more, below 2**53"
FLAGS = (schema.MISSING_FLAG.name, schema.TAXONOMY_MISSING_FLAG.name)
COUNTED = (schema.CLICKS.name, schema.TAXONOMY_EVIDENCE.name)
EVIDENCE = (
    -1.0,
    schema.LARGEST_COUNT,
    "a whole number of 0 or more, up to 2**63, or -1 if unknown",
)
ROUNDING = 1e-4
"""By how much a rate of float32 may pass 100 percent: its own rounding there is 8e-6."""

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Rules:
    """Rules for the values of named inputs; all other floats must only be finite.

    Attributes:
        may_be_unknown: float inputs that may be null or NaN, which reads as unknown.
        limits: name -> lowest and highest value, both allowed, and the rule in words.
        whole: float inputs that hold counts.
        shares_within_clicks: whether `shares` may not exceed `clicks`.
        counts: names of clicks and shares, of each rate.
        may_be_absent: groups of inputs that a request may leave out together: name -> the value
            that stands for nothing.
        columns: inputs that a serialized example holds; empty = there are no such examples.
    """

    may_be_unknown: frozenset[str] = frozenset()
    limits: Mapping[str, tuple[float, float, str]] = field(default_factory=dict)
    whole: frozenset[str] = frozenset()
    shares_within_clicks: bool = False
    counts: Sequence[tuple[str, str]] = (("clicks", "shares"),)
    may_be_absent: Sequence[Mapping[str, float]] = ()
    columns: Mapping[str, tf.TensorSpec] = field(default_factory=dict)

    def problem(self, arrays: Arrays) -> str:
        """Describes the first value of a request that breaks a rule; empty if all are valid.

        >>> rules = Rules(limits={"clicks": (0, 9, "a count")})
        >>> rules.problem({"clicks": np.array([[1, 2], [3, -4]])})
        'clicks[1][1] must be a count. Received: -4'
        """
        arrays = dict(arrays)
        if examples.INPUT in arrays and self.columns:
            serialized = arrays.pop(examples.INPUT)
            longest = max(map(len, serialized), default=0)
            if longest > MAX_EXAMPLE_BYTES:
                return (
                    f"{examples.INPUT}: a serialized example may have {MAX_EXAMPLE_BYTES:,} bytes. "
                    f"Received: {longest:,}"
                )
            try:
                arrays |= examples.read(list(serialized), self.columns)
            except ValueError as error:
                return str(error)
        checked = (self._of_input(name, array) for name, array in arrays.items())
        of_shares = (self._of_shares(arrays, *names) for names in self.counts)
        return next(filter(None, checked), "") or _of_texts(arrays) or "".join(of_shares)

    def _of_input(self, name: str, array: np.ndarray) -> str:
        if array.dtype == object:
            return _of_text(name, array)
        if self._is_good(name, array):
            return ""
        if array.dtype.kind == "f":
            bad = ~np.isfinite(array)
            if name in self.may_be_unknown:
                bad &= ~np.isnan(array)
            if bad.any():
                return _refused(name, array, bad, "a finite number")
        if name in self.limits:
            low, high, rule = self.limits[name]
            bad = (array < low) | (array > high)
            if name in self.whole:
                bad |= array != np.floor(array)
            if bad.any():
                return _refused(name, array, bad, rule)
        return ""

    def _is_good(self, name: str, array: np.ndarray) -> bool:
        """Checks all values at once; False also where only a look at each of them can tell."""
        if not array.size:
            return True
        if name not in self.limits:
            return array.dtype.kind != "f" or bool(np.isfinite(array).all())
        low, high, _ = self.limits[name]
        inside = low <= array.min() and array.max() <= high  # false for NaN
        return bool(inside and (name not in self.whole or (array == np.floor(array)).all()))

    def _of_shares(self, arrays: Arrays, of_clicks: str, of_shares: str) -> str:
        clicks, shares = arrays.get(of_clicks), arrays.get(of_shares)
        if clicks is None or shares is None or clicks.shape != shares.shape:
            return ""
        if self.shares_within_clicks:
            rule, bad = f"not above {of_clicks}", shares > clicks
        else:
            rule = f"below a rate of {schema.LARGEST_RATE:,.0f} percent of {of_clicks}"
            bad = 100.0 * shares / np.maximum(clicks, 1) >= schema.LARGEST_RATE
        return _refused(of_shares, shares, bad, rule) if bad.any() else ""


def of(fitted: Fitted | None, columns: Mapping[str, tf.TensorSpec]) -> Rules:
    """Returns the rules of an export.

    Args:
        fitted: what the model was fitted with; None of the second system, whose inputs are ids.
        columns: inputs of its signature `raw_columns`; empty where it has none.
    """
    if fitted is None:
        return Rules(columns=columns)
    spec, above = fitted.spec, fitted.tables.rate_may_exceed_one
    most = schema.LARGEST_RATE if above else 100.0
    counts = (0.0, LARGEST - 1, COUNT)
    rates = (0.0, most + ROUNDING, f"a rate in percent, from 0 to {most:,.0f}")
    flags = (0.0, 1.0, "0 or 1")
    limits: dict[str, tuple[float, float, str]] = {}
    whole: set[str] = set()
    absent: list[Mapping[str, float]] = []
    all_rates = ("", *(rate.name for rate in spec.rates))
    for rate in all_rates:
        names = spec.sequences(rate)
        limits |= dict.fromkeys((*spec.counts(rate), names[schema.CLICKS.name]), counts)
        limits |= {
            own: flags if main in FLAGS else rates
            for main, own in names.items()
            if main != schema.CLICKS.name
        }
        if of_means := names.get(schema.TAXONOMY_EVIDENCE.name):
            limits[of_means] = EVIDENCE
            absent.append({of_means: schema.HIDDEN[schema.TAXONOMY_EVIDENCE.name]})
        whole |= {own for main, own in names.items() if main in (*COUNTED, *FLAGS)}
    for rate in all_rates[1:]:
        own, trends = spec.hidden(rate)
        absent += [own | dict.fromkeys(spec.counts(rate), 0), trends]
    if spec.lifetime:
        limits[CLICKS_BEFORE] = (float(UNKNOWN), LARGEST - 1, f"{COUNT}, or {UNKNOWN} if unknown")
        limits[SHARES_BEFORE] = counts
        limits[schema.EARLIER_CLICKS.name] = limits[CLICKS_BEFORE]
        limits[schema.EARLIER_RATE.name] = rates
        whole.add(schema.EARLIER_CLICKS.name)
        absent += [{CLICKS_BEFORE: UNKNOWN, SHARES_BEFORE: 0}, schema.UNKNOWN_LIFETIME]
    return Rules(
        may_be_unknown=frozenset(spec.column_tensor("number", one.name) for one in spec.numerics),
        limits=limits,
        whole=frozenset(whole),
        shares_within_clicks=not above,
        counts=(
            *(spec.counts(rate) for rate in all_rates),
            *([(CLICKS_BEFORE, SHARES_BEFORE)] if spec.lifetime else ()),
        ),
        may_be_absent=absent,
        columns=columns,
    )


def _refused(name: str, array: np.ndarray, bad: np.ndarray, rule: str) -> str:
    place = np.unravel_index(int(np.argmax(bad)), array.shape)
    value = array[place].item()
    index = "".join(f"[{one}]" for one in place)
    received = "null or NaN" if value != value else shown(value)
    return f"{name}{index} must be {rule}. Received: {received}"


def _of_text(name: str, texts: np.ndarray) -> str:
    if max(map(len, texts.flat), default=0) <= MAX_TEXT_BYTES:
        return ""
    for row, text in enumerate(texts.ravel()):
        if len(text) > MAX_TEXT_BYTES:
            return (
                f"{name}[{row}]: a text may have {MAX_TEXT_BYTES:,} bytes. Received: {len(text):,}"
            )
    return ""


def _of_texts(arrays: Arrays) -> str:
    of_text = (array.ravel() for array in arrays.values() if array.dtype == object)
    total = sum(sum(map(len, texts)) for texts in of_text)
    if total <= MAX_TEXTS_BYTES:
        return ""
    return (
        f"the texts of a request may have {MAX_TEXTS_BYTES:,} bytes together. "
        f"Received: {total:,}; send it in parts"
    )
