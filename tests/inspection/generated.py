"""Logs with nothing wrong in them, of many kinds, and with one thing planted."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from mmnet.config import InspectConfig
from mmnet.inspection import looking

WORDS = np.array([f"w{number}" for number in range(80)])


def clean(seed):
    """Counts, items, and clicks and shares [items, periods], of a size and strength by the seed.

    Followers go with how much an item is clicked, duration and category with its rate, and one in
    ten durations is empty: all of them are known at release.
    """
    draw = np.random.default_rng(seed)
    items, periods = int(draw.choice([100, 200])), int(draw.choice([14, 20]))
    category, author = draw.integers(0, draw.choice([2, 6]), items), draw.integers(0, 30, items)
    release = draw.integers(-4, periods - 3, items)
    duration = draw.normal(size=items)
    logit = draw.choice([-3.0, -1.0]) + draw.normal(0, draw.choice([0.1, 1.0]), 6)[category]
    logit = logit + 0.3 * duration + draw.normal(0, draw.choice([0.05, 0.5]), items)
    volume = np.exp(draw.normal(np.log(draw.choice([4, 40])), 1.0, items))
    age = np.arange(periods) - release[:, None]
    shown = volume[:, None] * np.where(age >= 0, 1 / (1 + np.maximum(age, 0) / 8), 0)
    clicks = draw.poisson(shown * np.exp(draw.normal(0, 0.3, (items, periods))))
    shares = draw.binomial(clicks, 1 / (1 + np.exp(-logit))[:, None] * np.ones(periods))
    rows, times = np.nonzero(clicks)
    names = np.array([f"v{number:04}" for number in range(items)])
    counts = {
        "item_id": names[rows],
        "period": times,
        "clicks": clicks[rows, times],
        "shares": shares[rows, times],
    }
    hidden = draw.random(items) < 0.1
    catalogue = {
        "item_id": names,
        "category": [f"c{number}" for number in category],
        "author": [f"a{number}" for number in author],
        "duration": pa.array(np.round(np.exp(3 + duration), 1), mask=hidden),
        "followers": np.round(volume * np.exp(draw.normal(0, 1.5, items)) * 100).astype(int),
        "title": [" ".join(draw.choice(WORDS, 6)) for _ in range(items)],
        "verified": draw.random(items) < 0.3,
        "release": release,
    }
    return counts, catalogue, clicks, shares


def look(place, counts, items, **flags):
    """The look at tables that are written first."""
    for name, columns in (("counts", counts), ("items", items)):
        pa.parquet.write_table(pa.table(columns), place / f"{name}.parquet")
    paths = {name: str(place / f"{name}.parquet") for name in ("counts", "items")}
    return looking.look(InspectConfig(**paths | flags))


def alarms(found):
    """Everything that is said to be wrong."""
    leaks = found.columns.leaks if found.columns else ()
    return [*(one.sentence for one in found.problems), *(f"{x.column} {x.reason}" for x in leaks)]
