"""Empirical Bayes: the rate of an item's window, shrunk towards that of its taxonomy values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import keras
import numpy as np
from keras import ops

from mmnet import checks
from mmnet.layers.smoothing import AsOfCentre, PosteriorMean, ValuePriors
from mmnet.models.estimator import Inputs, Sample, bounded
from mmnet.models.fine_granularity import bounded as bounded_inputs
from mmnet.models.fine_granularity import model_inputs
from mmnet.models.options import SmoothedHistoryOptions
from mmnet.models.priors import (
    Centre,
    family_of,
    fit_centres,
    fit_prior,
    fit_priors,
    whole_counts,
)
from mmnet.schema import (
    FIRST_ID,
    HISTORY,
    TAXONOMY_MISSING_FLAG,
    TAXONOMY_RATE,
    FeatureSpec,
)

DECAYS = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)
KAPPA_SCALES = tuple(2.0**power for power in range(-4, 5))
OWN_SHARES = (0.0, 0.25, 0.5, 0.75)
"""Candidates of the fit on validation; the last also has 1 if `centre` is "fitted"."""


def posterior_mean(inputs: Inputs, mu: Any, kappa: Any, decay: float = 1.0) -> np.ndarray:
    """Compute the window's pooled rate, shrunk to mu by kappa additional clicks of that rate.

        (kappa mu + Σ decay^age shares) / (kappa + Σ decay^age clicks)

    With decay 1 it is the mean of the rate given the window, under a beta prior with binomial
    shares and under a gamma prior with Poisson shares alike.

    Args:
        inputs: share_rate, missing_flag and clicks, [batch, window]; a missing step is not read.
        mu: prior mean, shares per click, [batch] or a scalar.
        kappa: its weight, clicks above 0, [batch] or a scalar.
        decay: weight of a step relative to the next one, in [0, 1]; the last one has weight 1.

    Returns:
        Percent, float64 [batch].

    >>> window = {"share_rate": np.array([[10.0, 99.0, 40.0]]),
    ...           "missing_flag": np.array([[0.0, 1.0, 0.0]]), "clicks": np.array([[20, 7, 10]])}
    >>> posterior_mean(window, mu=0.1, kappa=30)  # (3 + 2 + 4) / (30 + 20 + 10)
    array([15.])
    """
    shares, clicks = window_counts(inputs, decay)
    return 100 * (kappa * mu + shares) / (kappa + clicks)


def window_counts(inputs: Inputs, decay: float) -> tuple[np.ndarray, np.ndarray]:
    """Σ decay^age shares and Σ decay^age clicks of the window, [batch]; see `posterior_mean`."""
    seen = inputs["missing_flag"] < 1
    ages = np.arange(seen.shape[1])[::-1]
    clicks = np.where(seen, inputs["clicks"], 0.0) * float(decay) ** ages
    shares = clicks * np.where(seen, inputs["share_rate"], 0.0) / 100
    return shares.sum(axis=1), clicks.sum(axis=1)


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

    The prior of a value does not change over time. With `centre` "as_of", an item's prior is
    centred on the window's rates of the other items of its values (`priors.Centre`), with one
    kappa for all; if no other item was seen, its values' own prior is used. "fitted" mixes mu and
    kappa of the two, by a share that is fitted on validation. The values' own priors help where
    the same items, authors or tags recur, and not where rates drift. The weight of older steps of
    the means is fitted on validation, too.

    `Sample.weight` is not used, because the likelihood already accounts for the number of clicks.

    Args:
        spec: which taxonomies there are, and whether rates may exceed one.
        options: see `SmoothedHistoryOptions`.

    Raises:
        ValueError: `decay` is outside [0, 1], `kappa_scale` is not above 0, or a centre needs the
            taxonomies' means and `coarse_granularity` hides them.
    """

    def __init__(self, spec: FeatureSpec, options: SmoothedHistoryOptions):
        decay, kappa_scale = options.decay, options.kappa_scale
        if decay is not None:
            checks.in_range(0, 1, decay=decay)
        if kappa_scale is not None:
            checks.at_least(1e-9, kappa_scale=kappa_scale)
        if options.centre != "value" and not options.coarse_granularity:
            raise ValueError(
                '`centre` must be "value" with coarse_granularity=False. '
                f"Received: centre={options.centre}"
            )
        self.centre = options.centre
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
        centres = []
        if self.centre != "value" and self.spec.taxonomies:
            known = bounded(train.inputs, self.spec)
            centres = fit_centres(self.family, shares, clicks, known, base[1])
        self._state = state
        centre, share, decay, scale = self._chosen(centres, validation)
        state |= {"decay": np.array(decay), "kappa_scale": np.array(scale)}
        mu, kappa = base
        told = {"prior_mean": 100 * mu, "kappa": kappa, "decay": decay, "kappa_scale": scale}
        if self.centre == "value":
            return told
        told["own_share"] = share
        if centre is None:
            return told
        state |= {
            "own_share": np.array(share),
            "centre_decay": np.array(centre.decay),
            "centre_weights": centre.weights,
            "centre_kappa": np.array(centre.kappa),
        }
        return told | {
            "centre_decay": centre.decay,
            "centre_weights": [round(float(weight), 4) for weight in centre.weights],
            "centre_kappa": centre.kappa,
        }

    def _chosen(
        self, centres: Sequence[Centre], validation: Mapping[str, Sample]
    ) -> tuple[Centre | None, float, float, float]:
        """Centre, share of the values' own priors, decay and scale of kappa: best on validation."""
        inputs = [bounded(one.inputs, self.spec) for one in validation.values()]
        targets = [one.share_rate for one in validation.values()]
        counts = {decay: [window_counts(one, decay) for one in inputs] for decay in self.decays}
        shares = (0.0,) if self.centre == "as_of" else OWN_SHARES
        candidates: list[tuple[Centre | None, float]] = list(product(centres, shares))
        if self.centre != "as_of" or not centres:
            candidates.append((None, 1.0))
        best = None
        for centre, share in candidates:
            priors = [self._prior(one, centre, share) for one in inputs]
            for decay, scale in product(self.decays, self.scales):
                errors = [
                    self._posterior(of_window, prior, scale) - target
                    for of_window, prior, target in zip(counts[decay], priors, targets, strict=True)
                ]
                mse = np.mean(np.square(errors), axis=1)
                value = float(np.mean(np.log(np.maximum(mse, 1e-12))))
                if best is None or value < best[0]:
                    best = value, (centre, share, decay, scale)
        assert best is not None
        return best[1]

    def predict(self, inputs: Inputs) -> np.ndarray:
        inputs = bounded(inputs, self.spec)
        decay, scale = float(self._state["decay"]), float(self._state["kappa_scale"])
        share = float(self._state.get("own_share", 1.0))
        prior = self._prior(inputs, self._centre(), share)
        return self._posterior(window_counts(inputs, decay), prior, scale)

    def state(self) -> dict[str, np.ndarray]:
        return dict(self._state)

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self._state = dict(state)

    def network(self) -> keras.Model:
        """Convert the fitted estimator to a functional model; see `estimator.Estimator`."""
        state, window = self._state, self.spec.window
        inputs = model_inputs(self.spec)
        tensors = bounded_inputs(inputs, self.spec)
        ids = [tensors[tensor] for tensor in self.sizes]
        # The prior of its values; where there are no taxonomies, no id is a known one. [batch] each
        priors = ValuePriors(list(self.sizes.values()) or [FIRST_ID], name="value_priors")
        mu, kappa = priors(ids or [ops.cast(0 * tensors["missing_flag"], "int32")])
        tables = [state[f"prior_{tensor}"] for tensor in self.sizes]
        priors.set_weights([state["prior"], *(tables or [np.ones((FIRST_ID, 2))])])
        # The same, moved to what others of its taxonomies do. [batch] each
        centre = self._centre()
        if centre is not None:
            moved = AsOfCentre(name="as_of_centre")
            sequences = (TAXONOMY_RATE.name, TAXONOMY_MISSING_FLAG.name)
            mu, kappa = moved(mu, kappa, *(tensors[name] for name in sequences))
            by_age = centre.decay ** np.arange(window)
            moved.set_weights([by_age, centre.weights, np.array(centre.kappa), state["own_share"]])
        # Corrected by the item's own window. [batch]
        posterior = PosteriorMean(self.spec.max_rate, name="posterior_mean")
        predicted = posterior(mu, kappa, *(tensors[tensor.name] for tensor in HISTORY))
        by_age = float(state["decay"]) ** np.arange(window)
        posterior.set_weights([by_age[::-1], state["kappa_scale"]])
        return keras.Model(inputs, predicted, name="smoothed_history")

    def _posterior(self, of_window, prior, scale) -> np.ndarray:
        (shares, clicks), (mu, kappa) = of_window, prior
        kappa = scale * kappa
        found = 100 * (kappa * mu + shares) / (kappa + clicks)
        return np.clip(found, 0, self.max_rate).astype(np.float32)

    def _prior(
        self, inputs: Inputs, centre: Centre | None, own_share: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean and weight of each example's prior, [batch] each."""
        own = self._own_prior(inputs)
        if centre is None:
            return own
        mu, known = centre.of(inputs)
        around = np.where(known, (mu, np.full(len(mu), centre.kappa)), own)
        mu, kappa = (1 - own_share) * around + own_share * np.asarray(own)
        return mu, kappa

    def _centre(self) -> Centre | None:
        if "own_share" not in self._state:
            return None
        decay, weights, kappa = (
            self._state[f"centre_{name}"] for name in ("decay", "weights", "kappa")
        )
        return Centre(float(decay), weights, float(kappa))

    def _own_prior(self, inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
        """The same of the prior of its taxonomies' values."""
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
