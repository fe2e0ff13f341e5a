"""Total loss of the champion where every challenger is a little worse, on simulated errors.

    python experiments/nightly/degrading.py [--runs=100] [--output=experiments/nightly/degrading.md]

A margin of 2 % that is given every night may add up to 81 % in 30 nights; the anchor is there to
prevent that. Each night a challenger starts from the champion, and its true MSE is that of the
champion times a factor. Rule, anchor and history are those of `mmnet.promotion`; errors are drawn
as of a warm start, which shares most of its error with the champion. The loss of a night is the
true MSE of its champion.
"""

import argparse
import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mmnet.evaluation.report import markdown_table
from mmnet.files import write_atomic
from mmnet.promotion import deciding, history
from mmnet.promotion.history import Event
from mmnet.promotion.paired import Paired
from mmnet.training.records import git_state

NIGHTS, ITEMS, ALPHA, ANCHOR = 30, 2000, 0.05, 30
ALIKE = 0.97
"""Correlation of a challenger's errors with those of the champion that it starts from."""
NOISE = 1.0
"""Variance of the observed rates around the true ones, in units of the first champion's MSE."""
FACTORS: dict[str, Callable[[np.random.Generator], float]] = {
    "1 % worse than the champion": lambda draws: 1.01,
    "5 % worse than the champion": lambda draws: 1.05,
    "as good on average, ± 3 %": lambda draws: float(np.exp(draws.normal(0, 0.03))),
}
RULES = {
    "every challenger": None,
    "`not_worse=0.02`, no anchor": ("not_worse=0.02", 0),
    "`not_worse=0.02`": ("not_worse=0.02", ANCHOR),
    "`better`": ("better", ANCHOR),
}


@dataclasses.dataclass(frozen=True)
class Compared:
    """What `deciding.decide` reads of a comparison."""

    errors: Paired

    def paired(self, scenario: str) -> Paired:
        """Returns the squared errors of both models."""
        return self.errors


def compared(draws: np.random.Generator, before: float, now: float) -> Compared:
    """Draws a comparison of two models on new items.

    Args:
        draws: random numbers.
        before: true MSE of the first model.
        now: of the other one.
    """
    shared, own, noise = draws.standard_normal((3, ITEMS))
    first = np.sqrt(before) * shared
    second = np.sqrt(now) * (ALIKE * shared + np.sqrt(1 - ALIKE**2) * own)
    noise *= np.sqrt(NOISE)
    return Compared(Paired((first - noise) ** 2, (second - noise) ** 2, np.arange(ITEMS)))


def run(seed: int, factor: Callable[[np.random.Generator], float], rule) -> dict[str, float]:
    """Runs 30 nights; returns the total losses and the number of promotions."""
    draws = np.random.default_rng(seed)
    true, events, champion, best = {1: 1.0}, [], 1, 1.0
    events.append(Event(number=1, at="", outcome="promoted", champion=1))
    total = {"champion": 0.0, "anchor": 0.0, "oracle": 0.0, "promotions": 0.0}
    for night in range(2, NIGHTS + 2):
        true[night] = true[champion] * factor(draws)
        comparison = compared(draws, true[champion], true[night])
        ratio, promote = comparison.errors.ratio().value, True
        if rule is not None:
            text, nights = rule
            parsed = deciding.parse(text)
            steps = history.anchor_steps(events, nights) if nights else [(champion, 1.0)]
            anchor, other = deciding.anchor(steps), None
            if parsed.margin is not None and anchor != champion:
                other = compared(draws, true[anchor], true[night])
            decision = deciding.decide(comparison, parsed, alpha=ALPHA, nights=NIGHTS, anchor=other)
            promote = decision.promote
        served = night if promote else champion
        events.append(
            Event(
                **{"number": night, "at": "", "outcome": "promoted" if promote else "kept"},
                **{"champion_before": champion, "champion": served, "ratio": ratio},
            )
        )
        champion, best = served, min(best, true[night])
        total["promotions"] += promote
        total["champion"] += true[champion]
        total["anchor"] += true[deciding.anchor(history.anchor_steps(events, ANCHOR))]
        total["oracle"] += best
    return total


def main() -> int:
    """Writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    given = parser.parse_args()
    lines = []
    for name, factor in FACTORS.items():
        for title, rule in RULES.items():
            found = [run(seed, factor, rule) for seed in range(given.runs)]
            mean = {key: np.mean([one[key] for one in found]) for key in found[0]}
            of_oracle = [one["champion"] / one["oracle"] for one in found]
            of_anchor = [one["champion"] / one["anchor"] for one in found]
            lines.append(
                [
                    *(name, title, f"{mean['promotions']:.1f}"),
                    f"{np.mean(of_anchor):.3f}",
                    f"{np.mean(of_oracle):.3f}",
                    f"{np.quantile(of_oracle, 0.95):.3f}",
                ]
            )
    header = ["Challengers", "Promoted", "Promotions", "Total loss against the anchor"]
    header += ["Against the oracle", "95 % of runs at most"]
    commit, clean = git_state()
    text = f"""# Challengers that degrade

`python experiments/nightly/degrading.py --runs={given.runs}`, commit
{commit}{"" if clean else " with changes"}. {NIGHTS} nights with {ITEMS:,} test items each; every
challenger starts from the champion, and its true MSE is the champion's times a factor. Total losses
are sums of the champion's true MSE over the nights, divided by those of the anchor (the model that
the rule takes for the best of the last {ANCHOR} nights) and of an oracle that knows the true MSEs
and never takes a worse model.

{markdown_table(header, lines)}"""
    write_atomic(given.output, text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
