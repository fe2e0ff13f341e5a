"""How well probabilities of clicks rank, and how true they are.

All metrics take `label`, 0 or 1, and `score`, finite, both [rows]. One that is not defined (an AUC
of rows of one kind) is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

FLOAT32_EPSILON = float(np.finfo(np.float32).eps)
"""What the published LogLoss clips probabilities at: a certain error costs 15.942."""

RECBOLE_EPSILON = 1e-15
"""What the baselines' LogLoss was clipped at; the two are not comparable."""


def auc(label: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve over all rows, ties at their mean rank.

    >>> auc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8]))
    0.75
    """
    positives = int(np.count_nonzero(label))
    negatives = len(label) - positives
    if not positives or not negatives:
        return float("nan")
    ranks = stats.rankdata(score)
    total = float(ranks[np.asarray(label) == 1].sum())
    return (total - positives * (positives + 1) / 2) / (positives * negatives)


def user_auc(label: np.ndarray, score: np.ndarray, user: np.ndarray) -> tuple[float, int]:
    """Mean over users of the AUC of their own rows, and how many users have both kinds.

    A score that only tells one user from another is worth 0.5 here.

    >>> user_auc(np.array([0, 1, 0, 1]), np.array([0.1, 0.2, 0.9, 0.8]), np.array([5, 5, 7, 7]))
    (0.5, 2)
    """
    found = aucs_by_user(label, score, user)
    found = found[~np.isnan(found)]
    return (float(found.mean()) if len(found) else float("nan")), len(found)


def aucs_by_user(label: np.ndarray, score: np.ndarray, user: np.ndarray) -> np.ndarray:
    """AUC of each user's own rows, users in increasing order; NaN where one kind is missing.

    >>> aucs_by_user(np.array([0, 1, 0]), np.array([0.1, 0.2, 0.9]), np.array([5, 5, 7]))
    array([ 1., nan])
    """
    label, user = np.asarray(label), np.asarray(user)
    order = np.lexsort((score, user))
    label, user, score = label[order], user[order], np.asarray(score)[order]
    begins = np.append(True, user[1:] != user[:-1])
    tie = begins | np.append(True, score[1:] != score[:-1])
    group = np.cumsum(begins) - 1
    start = np.flatnonzero(begins)
    # Mean rank of the rows that tie, within the user, counted from 1.
    first = np.flatnonzero(tie)
    size = np.diff(np.append(first, len(label)))
    rank = np.repeat(first + (size + 1) / 2, size) - start[group]
    positives = np.bincount(group, label).astype(np.int64)
    pairs = positives * (np.bincount(group) - positives)
    total = np.bincount(group, rank * label) - positives * (positives + 1) / 2
    return np.divide(total, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


def pr_auc(label: np.ndarray, score: np.ndarray) -> float:
    """Average precision: precision at each distinct score, weighted by the recall it adds.

    A constant scores the share of positives.

    >>> pr_auc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8])).__round__(4)
    0.8333
    """
    label = np.asarray(label)
    if not label.any():
        return float("nan")
    order = np.argsort(-np.asarray(score), kind="stable")
    sorted_score = np.asarray(score)[order]
    last = np.append(sorted_score[1:] != sorted_score[:-1], True)
    hits = np.cumsum(label[order], dtype=np.int64)[last]
    seen = np.flatnonzero(last) + 1
    gained = np.diff(np.append(0, hits)) / hits[-1]
    return float(np.sum(gained * hits / seen))


def log_loss(label: np.ndarray, probability: np.ndarray, epsilon: float = FLOAT32_EPSILON) -> float:
    """Mean of `log_losses`.

    >>> round(log_loss(np.array([0]), np.array([1.0])), 3)
    15.942
    """
    return float(np.mean(log_losses(label, probability, epsilon)))


def log_losses(
    label: np.ndarray, probability: np.ndarray, epsilon: float = FLOAT32_EPSILON
) -> np.ndarray:
    """-ln of the probability of what happened, clipped to [epsilon, 1 - epsilon]; [rows]."""
    p = np.clip(np.asarray(probability, np.float64), epsilon, 1 - epsilon)
    return -np.where(np.asarray(label) == 1, np.log(p), np.log1p(-p))


@dataclass(frozen=True)
class Platt:
    """A logistic curve over the logit of a score: sigmoid(slope · logit(score) + offset)."""

    slope: float
    offset: float

    def __call__(self, score: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, float64 [rows]."""
        return 1 / (1 + np.exp(-(self.slope * logit(score) + self.offset)))


def logit(score: np.ndarray) -> np.ndarray:
    """log(p / (1 - p)), clipped to the published epsilon; float64."""
    p = np.clip(np.asarray(score, np.float64), FLOAT32_EPSILON, 1 - FLOAT32_EPSILON)
    return np.log(p) - np.log1p(-p)


def platt(label: np.ndarray, score: np.ndarray) -> Platt:
    """Fits the curve by maximum likelihood, for LogLoss of scores whose level means nothing.

    To be fitted on validation rows. A score without any order keeps slope 0 and the base rate.
    """
    value = logit(score)
    if np.ptp(value) == 0:
        return Platt(0.0, float(logit(np.mean(label))))
    coefficients = logistic(value[:, None], label)
    return Platt(float(coefficients[1]), float(coefficients[0]))


def logistic(columns: np.ndarray, label: np.ndarray, ridge: float = 1e-6) -> np.ndarray:
    """Coefficients of a logistic regression, the constant first, by Newton's method.

    Args:
        columns: float [rows, columns].
        label: 0 or 1, [rows].
        ridge: keeps separable data finite.
    """
    mean, sd = columns.mean(axis=0), columns.std(axis=0)
    sd = np.where(sd > 0, sd, 1)
    design = np.column_stack([np.ones(len(columns)), (columns - mean) / sd])
    label = np.asarray(label, np.float64)
    weights = np.zeros(design.shape[1])
    rate = np.clip(label.mean(), 1e-6, 1 - 1e-6)
    weights[0] = np.log(rate / (1 - rate))
    penalty = ridge * len(label) * np.eye(len(weights))
    penalty[0, 0] = 0

    def loss(of: np.ndarray) -> float:
        value = design @ of
        return float(np.sum(np.logaddexp(0, value) - label * value) + of @ penalty @ of / 2)

    before = loss(weights)
    for _ in range(100):
        p = 1 / (1 + np.exp(-np.clip(design @ weights, -50, 50)))
        slope = design.T @ (p - label) + penalty @ weights
        curve = (design * (p * (1 - p))[:, None]).T @ design + penalty
        step = np.linalg.solve(curve + 1e-12 * np.eye(len(weights)), slope)
        size = 1.0
        while loss(weights - size * step) > before and size > 1e-6:
            size /= 2
        weights = weights - size * step
        after = loss(weights)
        if before - after < 1e-10 * max(before, 1):
            break
        before = after
    weights[1:] /= sd
    weights[0] -= weights[1:] @ mean
    return weights


def predict_logistic(coefficients: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Probabilities of a logistic regression, float64 [rows]."""
    return 1 / (1 + np.exp(-np.clip(coefficients[0] + columns @ coefficients[1:], -50, 50)))


def report(
    label: np.ndarray, score: np.ndarray, user: np.ndarray, calibration: Platt
) -> dict[str, float | int]:
    """Everything that is reported of one set of rows."""
    per_user, users = user_auc(label, score, user)
    calibrated = calibration(score)
    return {
        "auc": auc(label, score),
        "user_auc": per_user,
        "users_with_both": users,
        "pr_auc": pr_auc(label, score),
        "log_loss": log_loss(label, score),
        "log_loss_1e-15": log_loss(label, score, RECBOLE_EPSILON),
        "log_loss_calibrated": log_loss(label, calibrated),
        "log_loss_of_base_rate": log_loss(label, np.full(len(label), np.mean(label))),
        "rows": len(label),
        "positives": int(np.count_nonzero(label)),
    }
