"""A log of two rates, small enough to train on in a test, and networks of two horizons."""

import numpy as np
import pandas as pd

ITEMS, PERIODS = 60, 16
FLAGS = (
    *("--taxonomies=category", "--rate=like=likes/views", "--also_predict=like"),
    *("--horizon=1,2", "--window=3", "--min_clicks=1", "--min_test_rows=1"),
    *("--min_target_clicks=20", "--min_train_clicks=10"),
)
"""Flags of a dataset with four outputs. Likes are counted per view, shares per click, so that a
target may belong to a split for one rate alone."""


def write(directory):
    """Writes counts.parquet and items.parquet; returns their flags."""
    draw = np.random.default_rng(5)
    category = draw.integers(0, 3, ITEMS)
    level = np.exp(draw.normal(0, 0.5, ITEMS) + np.array([-0.5, 0.0, 0.5])[category])
    rows = []
    for item in range(ITEMS):
        for period in range(draw.integers(0, 6), PERIODS):
            clicks, views = draw.poisson(30), draw.poisson(40)
            shares = draw.binomial(clicks, min(0.1 * level[item], 0.5))
            likes = draw.binomial(views, min(0.02 * level[item], 0.5))
            rows.append((f"i{item:02}", period, clicks, shares, views, likes))
    names = ["item_id", "period", "clicks", "shares", "views", "likes"]
    pd.DataFrame(rows, columns=names).to_parquet(directory / "counts.parquet")
    items = {"item_id": [f"i{n:02}" for n in range(ITEMS)], "category": [f"c{c}" for c in category]}
    pd.DataFrame(items).to_parquet(directory / "items.parquet")
    return [f"--counts={directory}/counts.parquet", f"--items={directory}/items.parquet", *FLAGS]
