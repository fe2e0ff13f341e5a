"""References for a score: rates that need no network, and the planted truth."""

from __future__ import annotations

import numpy as np

from mmnet.mma4ctr.data import dataset as datasets
from mmnet.mma4ctr.data import user_embedding
from mmnet.mma4ctr.data.dataset import Dataset
from mmnet.mma4ctr.data.protocols import SPLITS, Protocol
from mmnet.mma4ctr.evaluation import metrics
from mmnet.mma4ctr.evaluation.metrics import Scores

PRIOR_ROWS = {"user": 400.0, "item": 400.0}
"""Weight of the base rate, in rows, when the rate of a user or an item is smoothed."""


def rates(protocol: Protocol, users: int, items: int) -> dict[str, np.ndarray]:
    """Smoothed rates of the user and of the item of each row by name, float64 [rows].

    Where negatives are drawn items, no row has a rate, and `popularity` takes their place.

    They read the edges that the protocol lets user features read: in p0 test labels too. An item's
    rate is of edges of the training span (c1: earlier than the row; otherwise of training rows and
    of the support of training users).
    """
    if protocol.negatives is not None:
        return {"item popularity": popularity(protocol)}
    edges, bins = protocol.edges, protocol.bins
    positives, number = user_embedding.positive_rates(edges, users=users, bins=bins)
    train = protocol.parts["train"]
    base = float(protocol.label[train].mean())
    user = _smoothed(positives[protocol.state], number[protocol.state], base, "user")
    if bins:
        by_item = user_embedding.Edges(edges.item, edges.user, edges.label, edges.bin)
        positives, number = user_embedding.positive_rates(by_item, users=items, bins=bins)
        row = protocol.item.astype(np.int64) * (bins + 1)
        row += protocol.state - protocol.user.astype(np.int64) * (bins + 1)
    else:
        # Of the training rows themselves: each row's own label is in its item's rate there.
        positives = np.bincount(protocol.item[train], protocol.label[train], minlength=items)
        number = np.bincount(protocol.item[train], minlength=items)
        row = protocol.item
    return {"user rate": user, "item rate": _smoothed(positives[row], number[row], base, "item")}


def popularity(protocol: Protocol) -> np.ndarray:
    """Probability that a row's item was taken and not drawn, from the training rows; [rows].

    A positive row has an item as often as it was taken, and a drawn one has each item alike.

    Returns:
        float64 [rows]; each item counts as taken once more.
    """
    part = protocol.parts["train"]
    taken = protocol.item[part][protocol.label[part] == 1]
    items, place = np.unique(protocol.item, return_inverse=True)
    number = 1.0 + np.bincount(np.searchsorted(items, taken), minlength=len(items))
    odds = number / number.mean()
    return (odds / (1 + odds))[place]


def _smoothed(positives: np.ndarray, number: np.ndarray, base: float, of: str) -> np.ndarray:
    prior = PRIOR_ROWS[of]
    return (positives + prior * base) / (number + prior)


def probabilities(dataset: Dataset, protocol: Protocol, *, shuffled: bool) -> dict[str, np.ndarray]:
    """Compute the references that need no network, for all rows; float64 [rows] each.

    These are the base rate; the rates of user and item; both in a logistic regression, which is
    fitted to validation rows; and, where the log was generated, the planted probability. Where
    negatives are drawn items, these are the base rate and the item's popularity.

    Args:
        dataset: the log.
        protocol: its rows.
        shuffled: labels were permuted, so that nothing planted holds.
    """
    found = rates(protocol, len(dataset.user_ids), len(dataset.item_ids))
    parts = {split: protocol.parts[split] for split in SPLITS}
    if len(found) > 1:
        both = np.log(np.stack(list(found.values()), axis=1))
        fitted = metrics.logistic(both[parts["validation"]], protocol.label[parts["validation"]])
        found["both rates"] = metrics.predict_logistic(fitted, both)
    base = float(protocol.label[parts["train"]].mean())
    found["base rate"] = np.full(len(protocol), base)
    planted = dataset.source.labels[dataset.spec.label].planted and not shuffled
    planted = planted and protocol.negatives is None  # it is of labels, which are not read
    truth = datasets.truth(dataset) if planted else None
    if truth is not None:
        ids = dataset.user_ids[protocol.user], dataset.item_ids[protocol.item]
        found["planted probability"] = truth.probability(*ids)
    return found


def calibrated(protocol: Protocol, values: np.ndarray) -> np.ndarray:
    """Probabilities of the test rows, calibrated on the validation rows; float64 [test rows].

    Args:
        protocol: the rows.
        values: probabilities of all rows, [rows].
    """
    return _calibration(protocol, values)(values[protocol.parts["test"]])


def scores(protocol: Protocol, values: np.ndarray) -> Scores:
    """Metrics of the test rows, calibrated on validation rows, and the AUC of those.

    Args:
        protocol: the rows.
        values: probabilities of all rows, [rows].
    """
    tuned, part = protocol.parts["validation"], protocol.parts["test"]
    calibration = _calibration(protocol, values)
    found = metrics.report(protocol.label[part], values[part], protocol.user[part], calibration)
    return found | {"validation_auc": metrics.auc(protocol.label[tuned], values[tuned])}


def _calibration(protocol: Protocol, values: np.ndarray) -> metrics.Platt:
    tuned = protocol.parts["validation"]
    return metrics.platt(protocol.label[tuned], values[tuned])
