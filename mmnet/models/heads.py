"""The head of every network, which turns the vector of an example into a share rate.

Three heads: "direct" is the paper's, "smoothed" corrects a prior by the item's own clicks, and
"mixed" weighs one against the other per example.
"""

from __future__ import annotations

import math
from typing import NamedTuple, get_args

import keras
from keras import ops

from mmnet import checks
from mmnet.layers.attention import HANAttention
from mmnet.layers.evidence import PriorClicks, SmoothedRate, TaxonomyCentre, clipped
from mmnet.layers.mixture import DirectWeight, MixedRate
from mmnet.layers.presence import AbsentVectors
from mmnet.models.fine_granularity import History, in_standard_deviations
from mmnet.models.meta_info import Modality
from mmnet.models.options import HeadOptions, Link, NetworkOptions
from mmnet.schema import FeatureSpec


class Prior(NamedTuple):
    """Inputs of the mixed head's prior: everything but the item's own history.

    Attributes:
        vector: [batch, any width].
        centre: z of the taxonomies' as-of means, [batch, 1]; None where no taxonomy is read.
    """

    vector: keras.KerasTensor
    centre: keras.KerasTensor | None


def prediction(
    vector: keras.KerasTensor,
    spec: FeatureSpec,
    options: HeadOptions,
    *,
    smoothed: History | None = None,
    moment: keras.KerasTensor | None = None,
    prior: Prior | None = None,
):
    """Predict the share rate, in the head of every network: Yu et al. (2021) section 4.5, Eq. 10.

    Beyond the paper: with `smoothed`, the network predicts the mean of a prior and how many
    clicks this prior is worth, and the item's own clicks update it. So an item's evidence counts
    by its clicks, as in empirical Bayes, and the network learns the prior and its weight. With
    `prior` as well, that is one of two predictions, made from the prior's own vector; the other
    one is the paper's, and a weight g mixes them per example.

    Args:
        vector: vector of each example, [batch, any width].
        spec: statistics of the rates.
        options: `units` hidden units; see `HeadOptions`.
        smoothed: the history that `SmoothedRate` corrects the prior by; it must have passed the
            disturbance, or training would never see a cold start. None: no prior.
        moment: what is known of the target period before it begins, [batch, units]; see
            `models.moment`. None: nothing.
        prior: of the mixed head, see `mixed_prior`; needs `smoothed`. None: the prior is of
            `vector`, which then must not have read the history.

    Returns:
        Percent, [batch].
    """
    hidden = _hidden(vector, options, moment, name="mlp", joined="fused_and_moment")
    # In float32 under any policy: bfloat16 would tie predictions that differ by less than 0.4 %.
    standardised = keras.layers.Dense(1, dtype="float32", name="standardised_share_rate")(hidden)
    if smoothed is None:
        return _rate(spec, options, "predicted_share_rate")(standardised)
    if prior is None:
        return _smoothed(standardised, hidden, smoothed, spec, options, "predicted_share_rate")[0]
    # f, which has read the history. [batch]
    direct = _rate(spec, options, "direct_share_rate")(standardised)
    # s, of all but the history, and then of its clicks. [batch]
    known = _hidden(prior.vector, options, moment, name="prior_mlp", joined="prior_and_moment")
    standardised = keras.layers.Dense(1, dtype="float32", name="standardised_prior_rate")(known)
    if prior.centre is not None:
        add = keras.layers.Add(dtype="float32", name="centred_prior_rate")
        standardised = add([standardised, prior.centre])
    rate, own = _smoothed(standardised, known, smoothed, spec, options, "smoothed_share_rate")
    # g, and what it makes of the two. [batch]
    weight = DirectWeight(name="direct_weight")([hidden, known], smoothed.clicks, own)
    return MixedRate(name="predicted_share_rate")(rate, direct, weight)


def mixed_prior(
    inputs: dict[str, keras.KerasTensor],
    content: list[Modality],
    history: History,
    spec: FeatureSpec,
    options: NetworkOptions,
) -> Prior:
    """Build the inputs of the mixed head's prior: the taxonomies' trends and the content.

    Args:
        inputs: tensors of the dataset.
        content: u, c, v as far as the data have them; shared with the direct part.
        history: the item's own, of which nothing is read.
        spec: description of the tensors, and statistics of the rates.
        options: `coarse_granularity=False` leaves the taxonomies out, `taxonomy_flags=False`
            their missing flags.
    """
    vectors, centre = [], None
    if options.coarse_granularity and spec.taxonomies:
        rate, missing_flag = inputs["taxonomy_rate"], inputs["taxonomy_missing_flag"]
        trend = in_standard_deviations(rate, spec, "scaled_trend")
        if options.taxonomy_flags:
            trend = keras.layers.Concatenate(name="flagged_trend")([trend, missing_flag])
        trend = keras.layers.Flatten(name="flat_trend")(trend)
        # One dense layer: a second tower of convolutions would double a training step.
        vectors.append(keras.layers.Dense(options.units, "relu", name="taxonomy_trend")(trend))
        centre = TaxonomyCentre(
            spec.rate_scale,
            spec.rate_mean,
            spec.max_rate,
            link=options.link,
            name="taxonomy_centre",
        )(rate, missing_flag)
    vectors += [modality.vector for modality in content]
    if not vectors:  # a constant prior
        return Prior(keras.layers.Rescaling(0.0, name="nothing_known")(history.missing_flag), None)
    present = [modality.present for modality in content]
    fused = HANAttention(name="prior_fusion")(vectors, present or None)[0]
    if content:
        fused = AbsentVectors(name="absent_from_prior")(fused, present)
    return Prior(fused, centre)


def _hidden(vector, options: HeadOptions, moment, *, name: str, joined: str):
    """The hidden units of a head, [batch, units]."""
    if moment is not None:
        vector = keras.layers.Concatenate(name=joined)([vector, moment])
    hidden = keras.layers.Dense(options.units, "relu", name=name)(vector)
    if options.dropout:
        dropout = keras.layers.Dropout(options.dropout, seed=options.seed, name=f"{name}_dropout")
        hidden = dropout(hidden)
    return hidden


def _rate(spec: FeatureSpec, options: HeadOptions, name: str, *, clip: bool = True):
    """The layer that brings z back to percent."""
    return PredictedRate(
        spec.rate_scale, spec.rate_mean, spec.max_rate, link=options.link, clip=clip, name=name
    )


def _smoothed(
    standardised: keras.KerasTensor,
    hidden: keras.KerasTensor,
    history: History,
    spec: FeatureSpec,
    options: HeadOptions,
    name: str,
):
    """The smoothed rate and the weight of the item's own clicks in it, [batch] each."""
    prior_rate = _rate(spec, options, "prior_share_rate", clip=False)(standardised)
    prior_clicks = PriorClicks(name="prior_clicks")(hidden)
    layer = SmoothedRate(spec.max_rate, name=name)
    return layer(prior_rate, prior_clicks, history.share_rate, history.clicks)


@keras.saving.register_keras_serializable(package="mmnet")
class PredictedRate(keras.layers.Layer):
    """Converts a network's output z to percent; always float32.

        identity    mean + scale z
        logit       max_rate / (1 + exp(-(logit(mean / max_rate) + z)))
        log         mean exp(z)

    The last two keep a rate inside its range in training as well, which the binomial and the
    Poisson loss need.

    Args:
        scale: sd of the observed training rates, percent; above 0.
        mean: mean of the training targets, percent.
        max_rate: predictions are clipped to [0, max_rate]; None sets no upper limit. Training
            does not clip, as a clipped prediction would have no gradient.
        link: "identity" (the paper's), "logit" or "log".
        clip: False never clips.

    Call arguments:
        standardised: z, [batch, 1].

    Returns:
        Percent, [batch].

    Raises:
        ValueError: `scale` is not above 0, `link` is unknown, or `mean` or `max_rate` leaves
            it undefined.
    """

    def __init__(
        self,
        scale: float = 1.0,
        mean: float = 0.0,
        max_rate: float | None = 100.0,
        *,
        link: Link,
        clip: bool = True,
        **kwargs,
    ):
        super().__init__(**{**kwargs, "dtype": "float32"})
        if not scale > 0:
            raise ValueError(f"`scale` must be above 0. Received: scale={scale}")
        checks.one_of(get_args(Link), link=link)
        if link == "logit" and max_rate is None:
            raise ValueError("`link` must be identity or log where rates may exceed one")
        limit = math.inf if link == "log" or max_rate is None else max_rate
        if link != "identity" and not 0 < mean < limit:
            raise ValueError(
                f"`mean` must be inside (0, {limit}) with link={link}. Received: mean={mean}"
            )
        self.scale, self.mean, self.max_rate = scale, mean, max_rate
        self.link, self.clip = link, clip

    def call(self, standardised, training=False):
        rate = self._rate(ops.squeeze(standardised, -1))
        return clipped(rate, self.max_rate) if self.clip and not training else rate

    def _rate(self, output):
        if self.link == "logit" and self.max_rate is not None:  # which None was refused with
            odds = self.mean / (self.max_rate - self.mean)
            return self.max_rate * ops.sigmoid(math.log(odds) + output)
        if self.link == "log":
            return self.mean * ops.exp(ops.minimum(output, 10.0))  # 22,000 means; never infinite
        return self.mean + self.scale * output

    def get_config(self):
        config = {"scale": self.scale, "mean": self.mean, "max_rate": self.max_rate}
        return {**super().get_config(), **config, "link": self.link, "clip": self.clip}
