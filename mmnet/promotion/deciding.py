"""The promotion rule: promote a challenger, or keep the champion and say why.

`better` promotes where the hypothesis "the challenger's MSE is at least the champion's" is
rejected. Every night is another chance to reject it wrongly, and nights share most of their test
rows. The promise is about any run of `nights` nights in a row: with challengers that are no better,
at most a share `alpha` of such runs has a wrong promotion. Each night is tested at alpha / nights.
By the union bound this needs nothing of how nights depend on each other; and it is the same on
every night, so that years without a promotion do not make the next one harder, as they do where a
fixed alpha is spent night after night. `experiments/promotion/` measures level and power.

`not_worse=MARGIN` promotes where "the challenger's MSE is (1 + MARGIN) times the champion's, or
more" is rejected at alpha on each night. A margin that is given every night adds up, so the same
margin is tested against the anchor, the best model of the last nights.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmnet.checks import InputError, did_you_mean
from mmnet.schema import SCENARIOS

if TYPE_CHECKING:  # they need TensorFlow, and a rule is checked without it
    from mmnet.promotion.comparing import Comparison
    from mmnet.promotion.outages import Outages

FEWEST_ITEMS = 30
"""Minimum number of test items. With fewer, squared errors are too skewed for a t test."""


@dataclass(frozen=True)
class Rule:
    """A promotion rule.

    Attributes:
        text: the rule as it was written.
        margin: None for `better`; else how much larger the MSE may be, as a share.
        scenarios: scenarios where it must hold, each of them.
    """

    text: str
    margin: float | None
    scenarios: tuple[str, ...]

    @property
    def limit(self) -> float:
        """The ratio of MSEs, challenger to champion, that must be excluded."""
        return 1 + (self.margin or 0.0)


def parse(text: str) -> Rule:
    """Reads a rule: `better` or `not_worse=MARGIN`, and `@scenario,scenario` if not `@normal`.

    Raises:
        InputError: it is not a rule.

    >>> parse("not_worse=0.02@normal,cold_start")
    Rule(text='not_worse=0.02@normal,cold_start', margin=0.02, scenarios=('normal', 'cold_start'))
    >>> parse("better").scenarios
    ('normal',)
    """
    wanted, at, named = text.partition("@")
    if found := re.search(" (of|at) .*", text):
        raise InputError(
            f"--promote={text}: models are compared by the main rate at the first horizon; leave "
            f"out {found[0]!r}"
        )
    scenarios = tuple(dict.fromkeys(named.split(","))) if at else ("normal",)
    for scenario in scenarios:
        if scenario not in SCENARIOS:
            raise InputError(
                f"--promote={text}: there is no scenario {scenario!r}; name some of "
                f"{', '.join(SCENARIOS)}{did_you_mean(scenario, SCENARIOS)}"
            )
    kind, sign, number = wanted.partition("=")
    if wanted == "better":
        return Rule(text, None, scenarios)
    if kind == "not_worse" and sign:
        try:
            margin = float(number)
        except ValueError:
            margin = float("nan")
        if 0 < margin < 1:
            return Rule(text, margin, scenarios)
        raise InputError(
            f"--promote={text}: the margin is a share of the champion's MSE above 0 and below 1, "
            "such as not_worse=0.02"
        )
    raise InputError(
        f"--promote must be better or not_worse=MARGIN, and @SCENARIOS if not @normal. "
        f"Received: {text!r}"
    )


@dataclass(frozen=True)
class Decision:
    """The decision of one night.

    Attributes:
        promote: whether the challenger becomes the champion.
        reasons: sentences; why it is promoted, or everything that speaks against it.
    """

    promote: bool
    reasons: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns both as JSON values."""
        return {"promote": self.promote, "reasons": list(self.reasons)}


def decide(
    comparison: Comparison,
    rule: Rule,
    *,
    alpha: float,
    nights: int,
    anchor: Comparison | None = None,
    outages: Outages | None = None,
    outage_budget: float = 0.0,
    refused: Iterable[str] = (),
) -> Decision:
    """Decides on a challenger.

    Args:
        comparison: of the champion and the challenger.
        rule: result of `parse`.
        alpha: the chance of a wrong promotion.
        nights: number of nights in a row that alpha is for, under `better`.
        anchor: the comparison of the anchor and the challenger, for `not_worse`.
        outages: errors with one input gone.
        outage_budget: the most that the challenger's MSE may be above the champion's when the
            same input is gone, as a share.
        refused: sentences about fields that refuse the challenger; see `first_seen.refusals`.
    """
    level = alpha / nights if rule.margin is None else alpha
    passed, failed = _judged(comparison, rule, level, "the champion's")
    if rule.margin is not None and anchor is not None:
        more, against = _judged(anchor, rule, level, "the anchor's")
        passed, failed = passed + more, failed + against
    failed = [*refused, *failed]
    for one in outages.above(outage_budget) if outages else ():
        failed.append(
            f"without {one.gone}, the challenger's MSE is {one.challenger:.4g}, "
            f"{_percent(one.growth)} above the champion's {one.champion:.4g} "
            f"(outage budget: {outage_budget:.1%})"
        )
    return Decision(not failed, tuple(failed or passed))


def _judged(
    comparison: Comparison, rule: Rule, level: float, whose: str
) -> tuple[list[str], list[str]]:
    """Returns sentences about the scenarios where the rule holds, and about the others."""
    passed, failed = [], []
    for scenario in rule.scenarios:
        paired = comparison.paired(scenario)
        if paired.num_items < FEWEST_ITEMS:
            failed.append(
                f"{scenario}: {paired.num_items} test items are fewer than {FEWEST_ITEMS}, too few "
                "to judge by"
            )
            continue
        ratio, p = paired.ratio(1 - 2 * level), paired.p_not_below(rule.limit)
        told = (
            f"{scenario}: MSE {paired.mse[1]:.4g} is {ratio.value:.4f} times {whose} "
            f"{paired.mse[0]:.4g}, at most {ratio.high:.4f} with confidence {1 - level:.2%}"
        )
        if p <= level:
            passed.append(told)
        else:
            failed.append(f"{told}, which does not exclude {rule.limit:g} (p = {p:.3g})")
    return passed, failed


def anchor(steps: Sequence[tuple[int, float]]) -> int:
    """Returns the best of the versions that were champions in the last nights.

    Ratios of versions that were compared on different rows are chained: each step's MSE relative to
    the version before it.

    Args:
        steps: (version, its MSE relative to the version before), oldest first, at least one; the
            first one's ratio is not used.

    >>> anchor([(3, 1.2), (4, 0.9), (7, 1.02)])  # 4 is 10 % better than 3, and 7 is worse than 4
    4
    """
    best, error, least = steps[0][0], 1.0, 1.0
    for version, ratio in steps[1:]:
        error *= ratio
        if error < least:
            best, least = version, error
    return best


def _percent(growth: float) -> str:
    return f"{growth:.1%}" if growth < 1e3 else "far"
