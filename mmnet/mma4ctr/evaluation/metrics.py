"""Metrics of click probabilities: how well they rank, and how well they are calibrated.

All metrics take `label`, 0 or 1, and `score`, finite, both [rows]. One that is not defined (an AUC
of rows of one kind) is NaN. scikit-learn, which takes a second to load, is loaded where it is used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FLOAT32_EPSILON = float(np.finfo(np.float32).eps)
"""Clipping of probabilities in the published LogLoss: a certain error costs 15.942."""

RECBOLE_EPSILON = 1e-15
"""Clipping of the baselines' published LogLoss; the two are not comparable."""

RAW = "log_loss_raw"
"""LogLoss of a model's outputs, clipped to (0, 1) even if they are not probabilities.

RecBole's, and that of the published baselines: of as many positives as negatives, outputs of 1 or
more everywhere cost 17.27.
"""

Scores = dict[str, float | int]
"""Metric -> value; see `report`."""


def auc(label: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve over all rows; a tie counts one half.

    >>> auc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8]))
    0.75
    """
    from sklearn.metrics import roc_auc_score

    if not 0 < np.count_nonzero(label) < len(label):
        return float("nan")
    return float(roc_auc_score(label, score))


def user_auc(label: np.ndarray, score: np.ndarray, user: np.ndarray) -> tuple[float, int]:
    """Mean over users of the AUC of their own rows, and the number of users with both labels.

    A score that only distinguishes users from each other gets 0.5.

    >>> user_auc(np.array([0, 1, 0, 1]), np.array([0.1, 0.2, 0.9, 0.8]), np.array([5, 5, 7, 7]))
    (0.5, 2)
    """
    found = aucs_by_user(label, score, user)
    found = found[~np.isnan(found)]
    return (float(found.mean()) if len(found) else float("nan")), len(found)


def aucs_by_user(label: np.ndarray, score: np.ndarray, user: np.ndarray) -> np.ndarray:
    """AUC of each user's own rows, users in increasing order; NaN where one label is missing.

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
    # AUC = (rank sum of the positives - its minimum) / (positives x negatives), the Mann-Whitney
    # form, for all users at once. Tied rows share the mean of their ranks within the user.
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
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(label, score)) if np.any(label) else float("nan")


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
    """Fit the curve by maximum likelihood, for LogLoss of scores that are not calibrated.

    To be fitted on validation rows. A score without any order keeps slope 0 and the base rate.
    """
    value = logit(score)
    if np.ptp(value) == 0:
        return Platt(0.0, float(logit(np.mean(label))))
    coefficients = logistic(value[:, None], label)
    return Platt(float(coefficients[1]), float(coefficients[0]))


def logistic(columns: np.ndarray, label: np.ndarray, ridge: float = 1e-6) -> np.ndarray:
    """Coefficients of a logistic regression on standardised columns, the constant first.

    Args:
        columns: float [rows, columns].
        label: 0 or 1, both of them, [rows].
        ridge: weight of half the squared coefficients for each row; keeps separable data finite.

    Returns:
        Coefficients of the columns as they are given, float64 [1 + columns].
    """
    from sklearn.linear_model import LogisticRegression

    mean, sd = columns.mean(axis=0), columns.std(axis=0)
    sd = np.where(sd > 0, sd, 1)
    model = LogisticRegression(
        C=1 / (ridge * len(label)) if ridge else np.inf,
        solver="newton-cholesky",  # exact to 1e-6 where the default stops at 1e-3
        tol=1e-10,
    )
    model.fit((columns - mean) / sd, label)
    weights = model.coef_[0] / sd
    return np.append(model.intercept_[0] - weights @ mean, weights)


def predict_logistic(coefficients: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Probabilities of a logistic regression, float64 [rows]."""
    return 1 / (1 + np.exp(-np.clip(coefficients[0] + columns @ coefficients[1:], -50, 50)))


def report(
    label: np.ndarray,
    score: np.ndarray,
    user: np.ndarray,
    calibration: Platt,
    output: np.ndarray | None = None,
) -> Scores:
    """Compute everything that is reported of one set of rows.

    Args:
        label: 0 or 1, [rows].
        score: probabilities, [rows].
        user: user of each row, int [rows].
        calibration: of the scores.
        output: what a model returned, which need not be a probability, [rows]; if given, it ranks
            the rows, and `log_loss_raw` is RecBole's LogLoss of it.
    """
    ranked = score if output is None else output
    per_user, users = user_auc(label, ranked, user)
    calibrated = calibration(score)
    found: Scores = {
        "auc": auc(label, ranked),
        "user_auc": per_user,
        "users_with_both": users,
        "pr_auc": pr_auc(label, ranked),
        "log_loss": log_loss(label, score),
        "log_loss_1e-15": log_loss(label, score, RECBOLE_EPSILON),
        "log_loss_calibrated": log_loss(label, calibrated),
        "log_loss_of_base_rate": log_loss(label, np.full(len(label), np.mean(label))),
        "rows": len(label),
        "positives": int(np.count_nonzero(label)),
    }
    if output is not None:
        found[RAW] = log_loss(label, output, RECBOLE_EPSILON)
    return found
