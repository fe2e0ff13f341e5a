"""Format of rules that decide by scores.

threshold=2.5             keep items with a predicted share rate of 2.5 % or more
keep=0.3                  keep the best 30 %
recall=0.99               drop as much as possible while keeping 99 % of the true top 5 %
keep=0.3 per category     a quota: keep the best 30 % of each category
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

from mmnet.checks import InputError, did_you_mean, quoted, shown
from mmnet.schema import FeatureSpec, FieldSpec

Kind = Literal["threshold", "keep", "recall"]
KINDS = get_args(Kind)
PER = " per "


class Parsed(NamedTuple):
    """A rule in parts.

    Attributes:
        kind: the quantity that is fixed.
        value: its value: percent, or a share in [0, 1].
        per: column with the groups of a quota; empty without one.
    """

    kind: Kind
    value: float
    per: str = ""


def parse(text: str) -> Parsed:
    """Parses a rule.

    >>> parse("keep=0.3 per category")
    Parsed(kind='keep', value=0.3, per='category')

    Raises:
        InputError: the text is not a rule.
    """
    rule, separator, per = text.partition(PER)
    kind, sign, number = rule.partition("=")
    per = per.strip()
    try:
        value = float(number)
    except ValueError:
        value = float("nan")
    incomplete = bool(separator) != bool(per)
    if not sign or kind not in KINDS or not math.isfinite(value) or incomplete:
        raise InputError(
            "a rule must be threshold=PERCENT, keep=SHARE, recall=SHARE or keep=SHARE per COLUMN. "
            f"Received: {text!r}{did_you_mean(kind, KINDS)}"
        )
    if kind != "threshold" and not 0 < value <= 1:
        raise InputError(f"a rule's share must be above 0 and at most 1. Received: {text!r}")
    if per and kind != "keep":
        raise InputError(
            f"only keep=SHARE can be a quota per column. Received: {text!r}; remove {PER + per!r}"
        )
    return Parsed(kind, value, per)  # type: ignore[arg-type]


def quota_field(text: str, spec: FeatureSpec) -> FieldSpec | None:
    """Returns the field whose values are the groups of a quota; None for any other rule.

    Args:
        text: the rule.
        spec: inputs of the model.

    Raises:
        InputError: the text is not a rule, or its column is not a field with one value per item.
    """
    per = parse(text).per
    if not per:
        return None
    fields = {field.name: field for field in spec.fields}
    if per not in fields:
        raise InputError(
            f"--rules={shown(text)}: {quoted(per)} is not one of the model's --taxonomies and "
            f"--categoricals ({', '.join(fields) or 'it has none'}){did_you_mean(per, fields)}"
        )
    if fields[per].max_values > 1:
        raise InputError(
            f"--rules={shown(text)}: items have up to {fields[per].max_values} values of "
            f"{quoted(per)}, but a quota needs one group per item; use a column with one value"
        )
    return fields[per]
