"""Empirical Bayes: an item's window shrunk towards what its taxonomy values lead one to expect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from scipy.special import digamma, expit, logit

from mmnet import checks
from mmnet.models.estimator import Inputs, Sample, bounded
from mmnet.models.options import SmoothedHistoryOptions
from mmnet.schema import FIRST_ID, FeatureSpec

DECAYS = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)
KAPPA_SCALES = tuple(2.0**power for power in range(-4, 5))
"""What fitting on validation chooses from."""


def posterior_mean(inputs: Inputs, mu: Any, kappa: Any, decay: float = 1.0) -> np.ndarray:
    """The window's pooled rate, shrunk to mu as if kappa more clicks had had that rate.

        (kappa mu + Σ decay^age shares) / (kappa + Σ decay^age clicks)

    With decay 1 it is the mean of the rate given the window, under a beta prior with binomial
    shares and under a gamma prior with Poisson shares alike.

    Args:
        inputs: share_rate, missing_flag and clicks, [batch, window]; a missing step is not read.
        mu: prior mean, shares per click, [batch] or a scalar.
        kappa: its weight, clicks above 0, [batch] or a scalar.
        decay: what a step weighs against the step after it, in [0, 1]; the last one weighs 1.

    Returns:
        Percent, float64 [batch].

    >>> window = {"share_rate": np.array([[10.0, 99.0, 40.0]]),
    ...           "missing_flag": np.array([[0.0, 1.0, 0.0]]), "clicks": np.array([[20, 7, 10]])}
    >>> posterior_mean(window, mu=0.1, kappa=30)  # (3 + 2 + 4) / (30 + 20 + 10)
    array([15.])
    """
    seen = inputs["missing_flag"] < 1
    ages = np.arange(seen.shape[1])[::-1]
    clicks = np.where(seen, inputs["clicks"], 0.0) * float(decay) ** ages
    shares = clicks * np.where(seen, inputs["share_rate"], 0.0) / 100
    return 100 * (kappa * mu + shares.sum(axis=1)) / (kappa + clicks.sum(axis=1))


# ---------------------------------------------------------------------------------- priors


@dataclass(frozen=True)
class Family:
    """How shares scatter around an item's rate, and items around mu.

    Attributes:
        score: derivatives of the log likelihood of (shares, clicks), [pairs] each, in the mu and
            kappa, [values] each, of the given value of each pair: by link(mu) and by log kappa.
        link: from mu to all real numbers.
        inverse_link: and back.
    """

    score: Callable[..., tuple[np.ndarray, np.ndarray]]
    link: Callable[[Any], Any]
    inverse_link: Callable[[Any], Any]


def _beta_binomial(shares, clicks, mu, kappa, value):
    def rise(count, start):  # derivative of log Γ(start + count) - log Γ(start)
        return digamma(count + start[value]) - digamma(start)[value]

    a, b = kappa * mu, kappa * (1 - mu)
    by_a, by_b = rise(shares, a), rise(clicks - shares, b)
    by_link = (a * (1 - mu))[value] * (by_a - by_b)
    return by_link, a[value] * by_a + b[value] * by_b - kappa[value] * rise(clicks, kappa)


def _gamma_poisson(shares, clicks, mu, kappa, value):
    a, start = kappa * mu, kappa[value]
    by_a = digamma(shares + a[value]) - digamma(a)[value] - np.log1p(clicks / start)
    by_link = a[value] * by_a
    return by_link, by_link + a[value] - (shares + a[value]) * start / (start + clicks)


BETA_BINOMIAL = Family(_beta_binomial, logit, expit)
GAMMA_POISSON = Family(_gamma_poisson, np.log, np.exp)


def family_of(spec: FeatureSpec) -> Family:
    """The family that fits the range of a dataset's rates."""
    return GAMMA_POISSON if spec.max_rate is None else BETA_BINOMIAL


def whole_counts(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Shares and clicks behind the targets, whole numbers, float64 [examples] each."""
    clicks = np.round(sample.clicks.astype(np.float64))
    return np.round(clicks * sample.share_rate / 100), clicks


def fit_prior(family: Family, shares: np.ndarray, clicks: np.ndarray) -> tuple[float, float]:
    """Fits one prior by maximum likelihood.

    Args:
        family: `BETA_BINOMIAL`, or `GAMMA_POISSON` where shares may exceed clicks.
        shares: of each example, [examples], whole numbers, 0 or more.
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
    """Fits a prior per taxonomy value, itself shrunk towards one for all.

    (link(mu), log kappa) of a value is taken as normal around that of `base`, with two variances
    over the values that are fitted too (EM with Laplace's approximation). So a value with few
    examples stays near `base`, and where values differ only as chance has it, all do.

    Args:
        family: see `fit_prior`.
        shares: of each pair of an example and one of its values, [pairs].
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


# ----------------------------------------------------------------------------------- model


class SmoothedHistory:
    """Posterior mean of an item's rate, under a prior of its taxonomy values.

    Each value of each taxonomy has a prior, beta with binomial shares (gamma with Poisson shares
    where rates may exceed one): a mean mu and a weight kappa in clicks, fitted on the training
    targets (`fit_priors`). The prior of an item is the mean of its values' pseudo-counts, so mu
    is their mean weighted by kappa, and kappa the plain mean; an item without a known value gets
    the prior of all. Cold-start predicts mu.

    kappa describes how far examples of a value scatter beyond chance. Inputs name no items, so
    several periods of one item count as several draws: it holds the spread within items as well
    as between them, and an item in many examples pulls the prior of its values. What that, and
    drift, do to the window's weight is left to two numbers fitted on validation by the mean over
    the scenarios of log MSE: one scale for all kappa, and `decay`, what older steps weigh.

    `Sample.weight` is not used: the likelihood knows what few clicks are worth.

    Args:
        spec: which taxonomies there are, and whether rates may exceed one.
        options: see `SmoothedHistoryOptions`.

    Raises:
        ValueError: `decay` is outside [0, 1], or `kappa_scale` is not above 0.
    """

    def __init__(self, spec: FeatureSpec, options: SmoothedHistoryOptions):
        decay, kappa_scale = options.decay, options.kappa_scale
        if decay is not None:
            checks.in_range(0, 1, decay=decay)
        if kappa_scale is not None:
            checks.at_least(1e-9, kappa_scale=kappa_scale)
        self.decays = DECAYS if decay is None else (decay,)
        self.scales = KAPPA_SCALES if kappa_scale is None else (kappa_scale,)
        self.spec, self.family = spec, family_of(spec)
        self.max_rate = np.inf if spec.max_rate is None else spec.max_rate
        self.sizes = {
            field.tensor: field.size for field in spec.fields if field.name in spec.taxonomies
        }
        self._state: dict[str, np.ndarray] = {}

    def fit(self, train: Sample, validation: Mapping[str, Sample]) -> dict[str, Any]:
        shares, clicks = whole_counts(train)
        base = fit_prior(self.family, shares, clicks)
        state = {"prior": np.array(base)}
        for tensor, size in self.sizes.items():
            ids = train.inputs[tensor]
            rows, columns = np.nonzero(ids >= FIRST_ID)
            values = ids[rows, columns]
            state[f"prior_{tensor}"] = fit_priors(
                self.family, shares[rows], clicks[rows], values, size, base
            )
        self._state = state
        priors = [(one, self._prior(one.inputs)) for one in validation.values()]

        def mean_log_mse(chosen: tuple[float, float]) -> float:
            errors = [
                self._posterior(one.inputs, prior, *chosen) - one.share_rate
                for one, prior in priors
            ]
            mse = np.mean(np.square(errors), axis=1)
            return float(np.mean(np.log(np.maximum(mse, 1e-12))))

        decay, scale = min(product(self.decays, self.scales), key=mean_log_mse)
        state |= {"decay": np.array(decay), "kappa_scale": np.array(scale)}
        mu, kappa = base
        return {"prior_mean": 100 * mu, "kappa": kappa, "decay": decay, "kappa_scale": scale}

    def predict(self, inputs: Inputs) -> np.ndarray:
        inputs = bounded(inputs, self.spec)
        decay, scale = float(self._state["decay"]), float(self._state["kappa_scale"])
        return self._posterior(inputs, self._prior(inputs), decay, scale)

    def state(self) -> dict[str, np.ndarray]:
        return dict(self._state)

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self._state = dict(state)

    def _posterior(self, inputs, prior, decay, scale) -> np.ndarray:
        mu, kappa = prior
        found = posterior_mean(inputs, mu, scale * kappa, decay)
        return np.clip(found, 0, self.max_rate).astype(np.float32)

    def _prior(self, inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
        """Mean and weight of each example's prior, [batch] each."""
        batch = len(inputs["share_rate"])
        shares, clicks, count = np.zeros((3, batch))
        for tensor in self.sizes:
            known = inputs[tensor] >= FIRST_ID
            mu, kappa = np.moveaxis(self._state[f"prior_{tensor}"][inputs[tensor]], -1, 0)
            shares += (mu * kappa * known).sum(axis=1)
            clicks += (kappa * known).sum(axis=1)
            count += known.sum(axis=1)
        mu, kappa = self._state["prior"]
        shares, clicks = np.where(count, (shares, clicks), ((mu * kappa,), (kappa,)))
        return shares / clicks, clicks / np.maximum(count, 1)
