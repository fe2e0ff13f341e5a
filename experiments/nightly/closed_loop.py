"""Feedback of a filter: how far a comparison on the items that it let through is off.

    python experiments/nightly/closed_loop.py [--output=experiments/nightly/closed_loop.md]

Each night has new items. The champion predicts their rates and keeps the upper part; of the others
it lets some through at random, as `predict --explore` does. Only what was let through gets clicks,
is trained on and is compared. The models are linear regressions, so that hundreds of nights take
seconds; weights and errors are those of `mmnet.promotion`.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mmnet.evaluation.report import markdown_table
from mmnet.files import write_atomic
from mmnet.promotion.paired import Paired
from mmnet.promotion.propensities import weigh
from mmnet.serving.decision import DROP, EXPLORE, KEEP

NIGHTS, ITEMS, FEATURES, LOGS = 30, 2000, 8, 5
CLICKS = 200
MEMORY = 5
"""Nights that are trained on."""
KEPT = 0.3
"""Share of the items that the champion keeps."""
CLIP = 20.0


@dataclass(frozen=True)
class Filter:
    """How items below the threshold are let through.

    Attributes:
        probability: of each item of the band.
        band: share of the items, below those that are kept, that may be let through at all.
    """

    probability: float
    band: float


FILTERS = {
    "no filter": Filter(1.0, 1 - KEPT),
    "20 % of all others": Filter(0.2, 1 - KEPT),
    "5 % of all others": Filter(0.05, 1 - KEPT),
    "1 % of all others": Filter(0.01, 1 - KEPT),
    "20 % of the next 30 %, none of the rest": Filter(0.2, 0.3),
}


def champion(features: np.ndarray) -> np.ndarray:
    """What the champion reads: every feature."""
    return features


CHALLENGERS = {
    "better: also reads a square": lambda x: np.column_stack([x, np.square(x[:, 0])]),
    "worse: reads half of the features": lambda x: x[:, : FEATURES // 2],
}


def fitted(design: np.ndarray, rate: np.ndarray) -> np.ndarray:
    """Coefficients of a ridge regression, the constant last."""
    design = np.column_stack([design, np.ones(len(design))])
    return np.linalg.solve(design.T @ design + np.eye(design.shape[1]), design.T @ rate)


def predicted(design: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """Rates, percent."""
    return np.column_stack([design, np.ones(len(design))]) @ coefficients


def nights_of(seed: int):
    """Yields features, [items, features], and rates in percent, [items], of every night."""
    draw = np.random.default_rng(seed)
    effects = draw.normal(0, 0.3, FEATURES)
    while True:
        x = draw.normal(size=(ITEMS, FEATURES))
        logit = -3 + x @ effects + 0.35 * (np.square(x[:, 0]) - 1) + draw.normal(0, 0.3, ITEMS)
        yield x, 100 * draw.binomial(CLICKS, 1 / (1 + np.exp(-logit))) / CLICKS


def run(seed: int, filtered: Filter, challenger) -> list[dict[str, float]]:
    """Runs the nights of one log in the loop; a row per night."""
    nights, draw = nights_of(seed), np.random.default_rng([seed, 1])
    seen = [next(nights)]  # the first night has no filter
    found = []
    for night in range(1, NIGHTS + 1):
        x, rate = next(nights)
        logged = [np.concatenate(side) for side in zip(*seen[-MEMORY:], strict=True)]
        scores = {}
        for name, design in (("champion", champion), ("challenger", challenger)):
            scores[name] = predicted(design(x), fitted(design(logged[0]), logged[1]))
        place = np.argsort(np.argsort(-scores["champion"])) / ITEMS
        propensity = np.where(place < KEPT, 1.0, 0.0)
        propensity[(place >= KEPT) & (place < KEPT + filtered.band)] = filtered.probability
        through = draw.random(ITEMS) < propensity
        errors = {name: np.square(one - rate) for name, one in scores.items()}
        ids = np.array([f"{night}-{row}" for row in range(ITEMS)], object)
        decisions = pd.DataFrame({"item_id": ids, "period": night, "propensity": propensity})
        decisions["decision"] = np.select([place < KEPT, through], [KEEP, EXPLORE], DROP)
        of_period = np.full(through.sum(), night)
        weight, about = weigh(ids[through], of_period, decisions[through], CLIP)
        both = errors["champion"], errors["challenger"]
        seen_errors = [one[through] for one in both]
        found.append(
            {
                "all": Paired(*both, ids).ratio().value,
                "unweighted": Paired(*seen_errors, ids[through]).ratio().value,
                "weighted": Paired(*seen_errors, ids[through], weight).ratio().value,
                "mse": errors["champion"].mean(),
                "rows": about.rows,
                "effective": about.effective_rows,
                "clipped": about.clipped,
            }
        )
        seen.append((x[through], rate[through]))
    return found


def main() -> int:
    """Writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).with_name("closed_loop.md")
    parser.add_argument("--output", type=Path, default=default)
    given = parser.parse_args()
    header = ["Filter", "Challenger", "Ratio on all items", "Unweighted", "Weighted"]
    header += ["Wrong side, unweighted", "Wrong side, weighted"]
    header += ["Champion's MSE on all items", "Rows", "Effective rows", "Clipped"]
    lines = []
    for name, filtered in FILTERS.items():
        for title, challenger in CHALLENGERS.items():
            rows = [run(seed, filtered, challenger) for seed in range(LOGS)]
            table = pd.DataFrame([row for log in rows for row in log])
            wrong = [
                ((table[one] > 1) != (table["all"] > 1)).mean()
                for one in ("unweighted", "weighted")
            ]
            spread = [f"{table[one].mean():.3f} ± {table[one].std():.3f}" for one in header_keys()]
            lines.append(
                [
                    *(name, title, *spread),
                    *(f"{100 * one:.0f} %" for one in wrong),
                    f"{table['mse'].mean():.2f}",
                    f"{table['rows'].mean():.0f}",
                    f"{table['effective'].mean():.0f}",
                    f"{100 * table['clipped'].mean():.0f} %",
                ]
            )
    text = f"""# Feedback of a filter

`python experiments/nightly/closed_loop.py`. {LOGS} logs of {NIGHTS} nights with {ITEMS:,} new
items each; the champion keeps {KEPT:.0%} of them. Ratios are the challenger's MSE over the
champion's, mean ± standard deviation over nights; below 1 the challenger is better. "Wrong side"
is the share of nights on which the estimate and the ratio on all items are on different sides of
1. Weights are 1/propensity, at most {CLIP:g}.

{markdown_table(header, lines)}"""
    write_atomic(given.output, text)
    print(text)
    return 0


def header_keys() -> tuple[str, str, str]:
    """The three ratios, in the order of the columns."""
    return "all", "unweighted", "weighted"


if __name__ == "__main__":
    sys.exit(main())
