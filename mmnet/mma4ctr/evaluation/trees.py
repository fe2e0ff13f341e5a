"""LightGBM on the rows of features that the network reads, as a reference.

It needs the extra `baselines`.
"""

from __future__ import annotations

import numpy as np

from mmnet.mma4ctr.data.features import Features
from mmnet.mma4ctr.data.protocols import Protocol
from mmnet.models.tree_features import extra

LEAVES = (7, 31, 127)
"""Leaves of a tree that are tried; validation chooses."""
MOST_TREES, PATIENCE = 2000, 50
"""Number of trees, and of trees without improvement before boosting stops."""


def probabilities(features: Features, protocol: Protocol, seed: int) -> np.ndarray:
    """Fit trees to the training rows, by LogLoss; validation chooses their size and number.

    Args:
        features: tables that rows are gathered from.
        protocol: the rows.
        seed: of the trees' sampling.

    Returns:
        Probabilities of all rows, float64 [rows].

    Raises:
        InputError: LightGBM is not installed.
    """
    lightgbm = extra("lightgbm", "--lightgbm")
    rows = {
        split: features.rows(protocol.state[part], protocol.item[part], split)
        for split, part in protocol.parts.items()
    }
    train, validation = (
        lightgbm.Dataset(rows[split], protocol.label[protocol.parts[split]], free_raw_data=False)
        for split in ("train", "validation")
    )
    best = None
    for leaves in LEAVES:
        booster = lightgbm.train(
            {
                "objective": "binary",
                "learning_rate": 0.05,
                "num_leaves": leaves,
                "min_data_in_leaf": 100,
                "bagging_fraction": 0.8,
                "bagging_freq": 1,
                "feature_fraction": 0.8,
                "seed": seed,
                "deterministic": True,
                "verbose": -1,
            },
            train,
            num_boost_round=MOST_TREES,
            valid_sets=[validation],
            callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
        )
        loss = booster.best_score["valid_0"]["binary_logloss"]
        if best is None or loss < best[0]:
            best = loss, booster
    assert best is not None
    found = np.empty(len(protocol))
    for split, part in protocol.parts.items():
        found[part] = best[1].predict(rows[split], num_iteration=best[1].best_iteration)
    return found
