"""Format of rules that decide by scores.

threshold=2.5             keep items with a predicted share rate of 2.5 % or more
keep=0.3                  keep the best 30 %
recall=0.99               drop as much as possible while keeping 99 % of the true top 5 %
keep=0.3 per category     a quota: keep the best 30 % of each category

Each may end in ` of RATE` and ` at HORIZON`, in this order, for a model with several outputs:

keep=0.3 per category of like at 3     by the rate `like` that is predicted 3 periods ahead
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

from mmnet.checks import InputError, did_you_mean, quoted, shown
from mmnet.schema import FeatureSpec, FieldSpec, Output

Kind = Literal["threshold", "keep", "recall"]
KINDS = get_args(Kind)
PER, OF, AT = " per ", " of ", " at "


class Parsed(NamedTuple):
    """A rule in parts.

    Attributes:
        kind: the quantity that is fixed.
        value: its value: percent, or a share in [0, 1].
        per: column with the groups of a quota; empty without one.
        rate: name of a further rate; empty for the main one.
        horizon: periods ahead; 0 for the main horizon.
    """

    kind: Kind
    value: float
    per: str = ""
    rate: str = ""
    horizon: int = 0


def parse(text: str, outputs: Sequence[Output] = ()) -> Parsed:
    """Parses a rule.

    Args:
        text: the rule.
        outputs: what the model predicts. A quota's column may contain ` of ` or ` at `, so that
            they only name an output of a quota if the model has several.

    >>> parse("keep=0.3 per category")
    Parsed(kind='keep', value=0.3, per='category', rate='', horizon=0)
    >>> parse("keep=0.3 of like at 3")
    Parsed(kind='keep', value=0.3, per='', rate='like', horizon=3)

    Raises:
        InputError: the text is not a rule.
    """
    rest, rate, horizon = text, "", 0
    if PER not in text or len(outputs) > 1:
        rest, rate, horizon = _output(text, outputs)
    rule, separator, per = rest.partition(PER)
    kind, sign, number = rule.partition("=")
    per = per.strip()
    try:
        value = float(number)
    except ValueError:
        value = float("nan")
    incomplete = bool(separator) != bool(per)
    if not sign or kind not in KINDS or not math.isfinite(value) or incomplete:
        raise InputError(
            "a rule must be threshold=PERCENT, keep=SHARE, recall=SHARE or keep=SHARE per COLUMN, "
            "and may end in ' of RATE' and ' at HORIZON'. "
            f"Received: {text!r}{did_you_mean(kind, KINDS)}"
        )
    if kind != "threshold" and not 0 < value <= 1:
        raise InputError(f"a rule's share must be above 0 and at most 1. Received: {text!r}")
    if per and kind != "keep":
        raise InputError(
            f"only keep=SHARE can be a quota per column. Received: {text!r}; remove {PER + per!r}"
        )
    return Parsed(kind, value, per, rate, horizon)  # type: ignore[arg-type]


def _output(text: str, outputs: Sequence[Output]) -> tuple[str, str, int]:
    """Returns a rule without the output that it names, the rate and the horizon."""
    horizon = 0
    if found := re.fullmatch(rf"(.*){AT}([1-9][0-9]{{0,8}})", text):
        text, horizon = found[1], int(found[2])
    for name in sorted({one.rate for one in outputs if one.rate}, key=len, reverse=True):
        if text.endswith(OF + name):
            return text.removesuffix(OF + name), name, horizon
    if PER in text:
        return text, "", horizon
    rule, _, rate = text.partition(OF)
    return (rule, rate.strip(), horizon) if rate.strip() else (text, "", horizon)


def output_of(text: str, outputs: Sequence[Output], flag: str = "rules") -> Output:
    """Returns the output that a rule decides by.

    Args:
        text: the rule.
        outputs: what the model predicts, the main prediction first.
        flag: flag that named the rule.

    Raises:
        InputError: the text is not a rule, or the model does not predict this rate or horizon.

    >>> spec = FeatureSpec(window=6, horizon=1, horizons=(3,))
    >>> output_of("keep=0.3 at 3", spec.outputs()).name
    'predicted_share_rate_h3'
    """
    parsed = parse(text, outputs)
    rates = list(dict.fromkeys(one.rate for one in outputs if one.rate))
    if parsed.rate and parsed.rate not in rates:
        known = f"only {', '.join(rates)}" if rates else "as --also_predict names none"
        raise InputError(
            f"--{flag}={shown(text)}: the model does not predict a rate {quoted(parsed.rate)}, "
            f"{known}{did_you_mean(parsed.rate, rates)}"
        )
    horizons = list(dict.fromkeys(one.horizon for one in outputs))
    horizon = parsed.horizon or horizons[0]
    if horizon not in horizons:
        raise InputError(
            f"--{flag}={shown(text)}: the model does not predict {horizon} periods ahead, only "
            f"--horizon={','.join(map(str, horizons))}"
        )
    return next(one for one in outputs if (one.rate, one.horizon) == (parsed.rate, horizon))


def quota_field(text: str, spec: FeatureSpec) -> FieldSpec | None:
    """Returns the field whose values are the groups of a quota; None for any other rule.

    Args:
        text: the rule.
        spec: inputs of the model.

    Raises:
        InputError: the text is not a rule, or its column is not a field with one value per item.
    """
    per = parse(text, spec.outputs()).per
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
