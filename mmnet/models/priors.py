"""Priors of an item's rate, fitted by maximum likelihood: of taxonomy values, of as-of means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize
from scipy.special import betaln, digamma, expit, gammaln, logit

from mmnet.models.estimator import Inputs, Sample
from mmnet.schema import FeatureSpec


@dataclass(frozen=True)
class Family:
    """Distributions of shares around an item's rate, and of items' rates around mu.

    Attributes:
        score: derivatives of the log likelihood of (shares, clicks), [pairs] each, in the mu and
            kappa, [values] each, of the given value of each pair: by link(mu) and by log kappa.
        link: maps mu to the real numbers.
        inverse_link: the inverse of `link`.
        log_likelihood: log-likelihood of (shares, clicks), [examples] each, given mu, [examples],
            and one kappa; [examples], up to what depends on neither mu nor kappa.
        slope: derivative of mu by link(mu), as a function of mu.
        limits: lowest and highest mu at which the likelihood is asked for.
    """

    score: Callable[..., tuple[np.ndarray, np.ndarray]]
    link: Callable[[Any], Any]
    inverse_link: Callable[[Any], Any]
    log_likelihood: Callable[..., np.ndarray]
    slope: Callable[[np.ndarray], np.ndarray]
    limits: tuple[float, float]


def _beta_binomial(shares, clicks, mu, kappa, value):
    def rise(count, start):  # derivative of log Γ(start + count) - log Γ(start)
        return digamma(count + start[value]) - digamma(start)[value]

    a, b = kappa * mu, kappa * (1 - mu)
    by_a, by_b = rise(shares, a), rise(clicks - shares, b)
    by_link = (a * (1 - mu))[value] * (by_a - by_b)
    return by_link, a[value] * by_a + b[value] * by_b - kappa[value] * rise(clicks, kappa)


def _log_beta_binomial(shares, clicks, mu, kappa):
    a, b = kappa * mu, kappa * (1 - mu)
    return betaln(shares + a, clicks - shares + b) - betaln(a, b)


def _gamma_poisson(shares, clicks, mu, kappa, value):
    a, start = kappa * mu, kappa[value]
    by_a = digamma(shares + a[value]) - digamma(a)[value] - np.log1p(clicks / start)
    by_link = a[value] * by_a
    return by_link, by_link + a[value] - (shares + a[value]) * start / (start + clicks)


def _log_gamma_poisson(shares, clicks, mu, kappa):
    a = kappa * mu
    return (
        gammaln(shares + a) - gammaln(a) + a * np.log(kappa) - (shares + a) * np.log(kappa + clicks)
    )


RAREST = 1e-6
"""Shares per click: as-of means that are closer to 0 (or to 1) are clipped to this distance.

Without any shares a mean is 0, and one share of an item would be impossible."""

BETA_BINOMIAL = Family(
    _beta_binomial,
    logit,
    expit,
    _log_beta_binomial,
    slope=lambda mu: mu * (1 - mu),
    limits=(RAREST, 1 - RAREST),
)
GAMMA_POISSON = Family(
    _gamma_poisson,
    np.log,
    np.exp,
    _log_gamma_poisson,
    slope=lambda mu: mu,
    limits=(RAREST, np.inf),
)


def family_of(spec: FeatureSpec) -> Family:
    """Return the family for the range of a dataset's rates."""
    return GAMMA_POISSON if spec.max_rate is None else BETA_BINOMIAL


def whole_counts(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Shares and clicks behind the targets, whole numbers, float64 [examples] each."""
    clicks = np.round(sample.clicks.astype(np.float64))
    return np.round(clicks * sample.share_rate / 100), clicks


def fit_prior(family: Family, shares: np.ndarray, clicks: np.ndarray) -> tuple[float, float]:
    """Fits one prior by maximum likelihood.

    Args:
        family: `BETA_BINOMIAL`, or `GAMMA_POISSON` where shares may exceed clicks.
        shares: shares of each example, [examples], whole numbers, 0 or more.
        clicks: the same, above 0.

    Returns:
        (mu, kappa): shares per click, and clicks.
    """
    mean = (np.sum(shares) + 0.5) / (np.sum(clicks) + 1)  # inside (0, 1) without shares, too
    start = np.array([family.link(mean), np.log(10.0)])
    nobody = np.zeros(len(shares), int)
    theta = _maximum(family, shares, clicks, nobody, 1, start, shrink=False)
    return float(family.inverse_link(theta[0, 0])), float(np.exp(theta[0, 1]))


def fit_priors(
    family: Family,
    shares: np.ndarray,
    clicks: np.ndarray,
    values: np.ndarray,
    num_values: int,
    base: tuple[float, float],
) -> np.ndarray:
    """Fit a prior per taxonomy value, shrunk towards a common one.

    (link(mu), log kappa) of a value is taken as normal around that of `base`, with two variances
    over the values that are fitted too (EM with Laplace's approximation). So a value with few
    examples stays near `base`, and where values differ only as chance has it, all do.

    Args:
        family: see `fit_prior`.
        shares: shares of each pair of an example and one of its values, [pairs].
        clicks: the same.
        values: which value, [pairs], in [0, num_values).
        num_values: how many there are; those without examples get `base`.
        base: (mu, kappa) of all.

    Returns:
        mu and kappa of each value, float64 [num_values, 2].
    """
    start = np.array([family.link(base[0]), np.log(base[1])])
    theta = _maximum(family, shares, clicks, values, num_values, start, shrink=True)
    return np.stack([family.inverse_link(theta[:, 0]), np.exp(theta[:, 1])], axis=1)


LOG_KAPPA = (np.log(1e-2), np.log(1e5))
"""Without overdispersion the likelihood still grows at kappa = infinity."""


def _maximum(family, shares, clicks, values, num_values, start, *, shrink):
    """Newton's method for all values at once; (link(mu), log kappa), [num_values, 2]."""
    theta = np.tile(start, (num_values, 1))
    counted = np.bincount(values, minlength=num_values) > 0
    if not counted.any():
        return theta
    precision = np.full(2, 1.0 if shrink else 0.0)

    def gradient(theta: np.ndarray) -> np.ndarray:
        mu, kappa = family.inverse_link(theta[:, 0]), np.exp(theta[:, 1])
        scores = family.score(shares, clicks, mu, kappa, values)
        sums = [np.bincount(values, score, num_values) for score in scores]
        return np.stack(sums, axis=1) - precision * (theta - start)

    for _ in range(25):
        here = gradient(theta)
        steps = 1e-4 * np.eye(2)
        second = np.stack([gradient(theta + step) - here for step in steps], axis=1) / 1e-4
        bend, axes = np.linalg.eigh((second + second.transpose(0, 2, 1)) / 2)
        # Uphill also where the surface is a saddle; 1e-6 stands for flat, as without examples.
        covariance = (axes / np.maximum(np.abs(bend), 1e-6)[:, None]) @ axes.transpose(0, 2, 1)
        move = np.clip((covariance @ here[..., None])[..., 0], -1, 1)
        move[~counted] = 0
        theta = theta + move
        theta[:, 1] = np.clip(theta[:, 1], *LOG_KAPPA)
        if shrink:
            spread = np.square(theta - start) + np.diagonal(covariance, axis1=1, axis2=2)
            precision = 1 / np.maximum(spread[counted].mean(axis=0), 1e-6)
        if np.abs(move).max() < 1e-3:
            break
    return theta


# ----------------------------------------------------------------------------------- centre

CENTRE_DECAYS = (0.0, 0.5, 0.8, 1.0)
"""Weight of a step of the taxonomies' means relative to the next step; 0 uses the last one only."""

LOG_WEIGHTS = (-6.0, 6.0)
"""Smallest weight of a taxonomy relative to the last one; smaller ones are 0."""


@dataclass(frozen=True)
class Centre:
    """A prior centred on the as-of rates of the other items with the same taxonomy values.

        mu = Σ_k w_k m_k / Σ_k w_k        over the taxonomies k with a mean

    Attributes:
        decay: decay of the steps in a taxonomy's mean m_k, see `as_of_means`.
        weights: w, [taxonomies]; they sum to 1.
        kappa: how many clicks the prior is worth.
    """

    decay: float
    weights: np.ndarray
    kappa: float

    def of(self, inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
        """The centre of each example.

        Args:
            inputs: taxonomy_rate and taxonomy_missing_flag, [batch, window, taxonomies].

        Returns:
            mu, shares per click, [batch], 0 where no taxonomy has a mean; and whether one has.
        """
        means, seen = as_of_means(inputs, self.decay)
        return _centre(means, seen, self.weights)[:2]


def as_of_means(inputs: Inputs, decay: float) -> tuple[np.ndarray, np.ndarray]:
    """Compute each taxonomy's mean rate over the window, with larger weights for newer steps.

    The inputs are as of the time of the example and leave its own item out; see
    `data.taxonomy_means`.

    Args:
        inputs: taxonomy_rate and taxonomy_missing_flag, [batch, window, taxonomies]; a step whose
            flag is 1 is not read.
        decay: what a step weighs against the step after it, in [0, 1]. The last step that was seen
            weighs 1, so that with 0 it alone counts.

    Returns:
        Shares per click, float64 [batch, taxonomies], 0 where no step was seen; and whether one
        was.

    >>> rates, flags = np.array([[[10.0], [40.0], [99.0]]]), np.array([[[0.0], [0.0], [1.0]]])
    >>> inputs = {"taxonomy_rate": rates, "taxonomy_missing_flag": flags}
    >>> as_of_means(inputs, 0.5)[0], as_of_means(inputs, 0)[0]  # (5 + 40) / 1.5 percent
    (array([[0.3]]), array([[0.4]]))
    """
    seen = inputs["taxonomy_missing_flag"] < 1
    ages = np.arange(seen.shape[1])[::-1, None]
    youngest = np.argmax(seen[:, ::-1], axis=1)[:, None]
    weights = seen * float(decay) ** np.maximum(ages - youngest, 0)
    rates = np.where(seen, inputs["taxonomy_rate"], 0.0)
    total = np.maximum(weights.sum(axis=1), 1)  # 1 or more where anything was seen
    return (weights * rates).sum(axis=1) / total / 100, np.asarray(seen.any(axis=1))


def fit_centres(
    family: Family, shares: np.ndarray, clicks: np.ndarray, inputs: Inputs, start: float
) -> list[Centre]:
    """Fits weights and kappa by maximum likelihood, for each of `CENTRE_DECAYS`.

    The means are of other items than the example's own, so that unlike the values' own priors
    they are no better in training than later.

    Args:
        family: see `fit_prior`.
        shares: shares of each example, [examples], whole numbers, 0 or more.
        clicks: the same, above 0.
        inputs: see `Centre.of`. Examples without any mean are left out.
        start: kappa to begin with, clicks.

    Returns:
        One centre per decay; none where no example has a mean.
    """
    known = (inputs["taxonomy_missing_flag"] < 1).any(axis=(1, 2))
    if not known.any():
        return []
    found = []
    for decay in CENTRE_DECAYS:
        means, seen = as_of_means(inputs, decay)
        examples = shares[known], clicks[known], means[known], seen[known]
        found.append(Centre(decay, *_fit_weights(family, *examples, start)))
    return found


def _centre(means, seen, weights) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """mu, whether there is any, and the part of each taxonomy in it."""
    parts = weights * seen
    total = parts.sum(axis=1)
    parts = parts / np.where(total, total, 1)[:, None]
    return (parts * means).sum(axis=1), np.asarray(total > 0), parts


def _fit_weights(
    family: Family, shares, clicks, means, seen, start: float
) -> tuple[np.ndarray, float]:
    """Weights, [taxonomies], and kappa."""
    each = np.arange(len(shares))

    def unpacked(theta: np.ndarray) -> tuple[np.ndarray, float]:
        weights = np.exp(np.append(theta[:-1], 0.0))  # of which only ratios count
        return weights / weights.sum(), float(np.exp(theta[-1]))

    def descent(theta: np.ndarray) -> tuple[float, np.ndarray]:
        weights, kappa = unpacked(theta)
        free, _, parts = _centre(means, seen, weights)
        mu = np.clip(free, *family.limits)
        value = family.log_likelihood(shares, clicks, mu, kappa).sum()
        by_link, by_kappa = family.score(shares, clicks, mu, np.full(len(mu), kappa), each)
        by_mu = np.where(mu == free, by_link / family.slope(mu), 0.0)
        by_weights = (by_mu[:, None] * parts * (means - free[:, None])).sum(axis=0)
        return -value, -np.append(by_weights[:-1], by_kappa.sum())

    taxonomies = means.shape[1]
    found = optimize.minimize(
        descent,
        np.append(np.zeros(taxonomies - 1), np.clip(np.log(start), *LOG_KAPPA)),
        jac=True,
        method="L-BFGS-B",
        bounds=[LOG_WEIGHTS] * (taxonomies - 1) + [LOG_KAPPA],
    )
    return unpacked(found.x)
