"""MMNet: the three modules, the gated fusion and the prediction."""

from __future__ import annotations

import math
from typing import get_args

import keras
from keras import ops

from mmnet import checks
from mmnet.layers.attention import HANAttention
from mmnet.layers.disturbance import HiddenHistory
from mmnet.layers.evidence import PriorClicks, SmoothedRate, clipped
from mmnet.layers.presence import AbsentVectors
from mmnet.models.coarse_granularity import attend_to_taxonomies, temporal_mining
from mmnet.models.ensemble import layers_named, mean_of, own_name
from mmnet.models.fine_granularity import (
    History,
    bounded,
    disturbed_history,
    fine_granularity,
    model_inputs,
)
from mmnet.models.meta_info import Modality, meta_info
from mmnet.models.moment import moment_vector
from mmnet.models.options import HeadOptions, Link, MMNetOptions
from mmnet.models.seeding import seeded
from mmnet.schema import FeatureSpec


def mmnet(spec: FeatureSpec, options: MMNetOptions) -> keras.Model:
    """Builds MMNet.

    Yu et al. (2021) section 4 and Fig. 1. Rates come in and go out in percent.

    Args:
        spec: the tensors of the dataset and their fitted statistics.
        options: see `MMNetOptions`.

    Returns:
        A model from a dict of all tensors of `spec` to percent, [batch].

    Raises:
        ValueError: an argument is out of its range, `tcn_filters` does not end in `units`, or
            the link does not fit the data's rates.
    """
    units = options.units
    tcn_filters = options.tcn_filters or (4 * units, 2 * units, units)
    if tcn_filters[-1] != units:
        raise ValueError(
            f"`tcn_filters` must end in `units`. Received: tcn_filters={tcn_filters}, units={units}"
        )
    with seeded(options.seed):
        inputs = model_inputs(spec)
        tensors = bounded(inputs, spec)
        # The item's own history: as it is, or all or some of it hidden. [batch, window] each
        own = disturbed_history(tensors, options)
        # The same as vectors. [batch, window, units]
        read = own
        if options.smoothed_history:
            # A prior that had read the history would count its clicks twice.
            read = History(*HiddenHistory(name="hidden_history")(*own))
        steps = fine_granularity(read, spec, units=units, evidence=options.evidence)
        # Beside it, step by step, its taxonomies. [batch, window, units]
        if options.coarse_granularity and spec.taxonomies:
            steps = attend_to_taxonomies(
                steps,
                tensors,
                spec,
                taxonomy_flags=options.taxonomy_flags,
                units=units,
                softmax_axis=options.softmax_axis,
            )
        # What the steps say together: q. [batch, units]
        history = temporal_mining(steps, filters=tcn_filters, dropout=options.dropout)
        # What the item itself says: u, c, v, as far as it has them. [batch, units] each
        content = meta_info(tensors, spec, options)
        # How far to trust each of them, and the prediction. [batch]
        smoothed = own if options.smoothed_history else None
        predicted = gated_prediction(
            [history],
            content,
            spec,
            options,
            smoothed=smoothed,
            moment=moment_vector(tensors, spec, own.missing_flag, units=units),
        )
    return keras.Model(inputs, predicted, name="mmnet")


def gated_prediction(
    histories: list[keras.KerasTensor],
    content: list[Modality],
    spec: FeatureSpec,
    options: HeadOptions,
    *,
    smoothed: History | None = None,
    moment: keras.KerasTensor | None = None,
):
    """Yu et al. (2021) section 4.5, Eq. 9 and 10: the end of every network but MMVED.

    Beyond the paper: what an example lacks has weight 0 in its fusion, and a learned vector says
    that it is not there. Where all is there, Eq. 9 stands as it is.

    Args:
        histories: q, [batch, units] each; always there.
        content: u, c, v as far as the data have them.
        spec: statistics of the rates.
        options: see `HeadOptions`.
        smoothed: see `prediction`.
        moment: likewise.

    Returns:
        Percent, [batch].
    """
    vectors = [*histories, *(modality.vector for modality in content)]
    present = [modality.present for modality in content]
    fused = HANAttention(name="gated_fusion")(vectors, present or None)[0]
    if content:
        fused = AbsentVectors(name="absent_modalities")(fused, present)
    return prediction(fused, spec, options, smoothed=smoothed, moment=moment)


def prediction(
    vector: keras.KerasTensor,
    spec: FeatureSpec,
    options: HeadOptions,
    *,
    smoothed: History | None = None,
    moment: keras.KerasTensor | None = None,
):
    """Yu et al. (2021) section 4.5, Eq. 10: the head of every network.

    Beyond the paper: with `smoothed`, what the network predicts is only the mean of a prior, and
    it also says how many clicks this prior is worth; the item's own clicks do the rest. So an
    item's evidence counts by its clicks, as in empirical Bayes, and the network learns the prior
    and the trust in it.

    Args:
        vector: what is known of each example, [batch, any width].
        spec: statistics of the rates.
        options: `units` hidden units; see `HeadOptions`.
        smoothed: the history that `SmoothedRate` corrects the prior by; it must have passed the
            disturbance, or training would never see a cold start. None: there is no prior.
        moment: what is known of the target period before it begins, [batch, units]; see
            `models.moment`. None: nothing.

    Returns:
        Percent, [batch].
    """
    if moment is not None:
        vector = keras.layers.Concatenate(name="fused_and_moment")([vector, moment])
    hidden = keras.layers.Dense(options.units, "relu", name="mlp")(vector)
    if options.dropout:
        dropout = keras.layers.Dropout(options.dropout, seed=options.seed, name="mlp_dropout")
        hidden = dropout(hidden)
    # In float32 under any policy: bfloat16 would tie predictions that differ by less than 0.4 %.
    standardised = keras.layers.Dense(1, dtype="float32", name="standardised_share_rate")(hidden)
    scale, mean, limit = spec.rate_scale, spec.rate_mean, spec.max_rate
    if smoothed is None:
        rate = PredictedRate(scale, mean, limit, link=options.link, name="predicted_share_rate")
        return rate(standardised)
    # μ and κ. [batch] each
    prior_rate = PredictedRate(
        scale, mean, limit, link=options.link, clip=False, name="prior_share_rate"
    )(standardised)
    prior_clicks = PriorClicks(name="prior_clicks")(hidden)
    return SmoothedRate(limit, name="predicted_share_rate")(
        prior_rate, prior_clicks, smoothed.share_rate, smoothed.clicks
    )


def attention_probe(model: keras.Model) -> keras.Model | None:
    """Makes a model that tells where a trained one looks.

    Args:
        model: a network, or an ensemble, of which it tells the means over its members.

    Returns:
        A model from the same inputs to a dict of weights that sum to 1, as far as `model` has
        them: "granularity" [batch, window, 1 + taxonomies] (item first; sums to 1 over time with
        softmax_axis="time"), "temporal" [batch, window], "context" [batch, texts] and "fusion"
        [batch, modalities], whose names are `fusion_names(model)`. None if it has none.
    """
    attentions = {
        "granularity": "granularity_attention",
        "temporal": "temporal_attention",
        "context": "context_attention",
        "fusion": "gated_fusion",
    }
    weights = {
        name: _mean_weights(found)
        for name, layer in attentions.items()
        if (found := layers_named(model, layer))
    }
    return keras.Model(model.input, weights, name="attention_probe") if weights else None


def explained(model: keras.Model) -> keras.Model | None:
    """Makes a model that gives the prediction and the weights of the gated fusion behind it.

    Args:
        model: a network, or an ensemble: the weights are then the means over its members.

    Returns:
        A model from the same inputs to `[prediction, weights]`, [batch] and [batch, modalities],
        whose names are `fusion_names(model)`. None for a model without gated fusion.
    """
    if not (found := layers_named(model, "gated_fusion")):
        return None
    return keras.Model(model.input, [model.output, _mean_weights(found)], name="explained")


def _mean_weights(attentions: list[keras.layers.Layer]) -> keras.KerasTensor:
    """Weights of one attention, as the mean over the members of an ensemble: they sum to 1 too."""
    name = f"mean_{own_name(attentions[0].name)}"
    return mean_of([attention.output[1] for attention in attentions], name)


def fusion_names(model: keras.Model) -> list[str]:
    """Names the modalities that the gated fusion weighs, in the order of its weights.

    Args:
        model: a network, or an ensemble: all its members weigh the same modalities.

    Returns:
        `modality_name` of each; nothing for a model without gated fusion.
    """
    found = layers_named(model, "gated_fusion")
    if not found:
        return []
    read = keras.tree.flatten(found[0].input)
    # Beside the vectors, [batch, units], it reads their flags, [batch].
    return [modality_name(one) for one in read if len(one.shape) == 2]


def modality_name(modality: keras.KerasTensor) -> str:
    """Names a modality by the layer that made it.

    Returns:
        "history" (q; DFTC: "history_long" and "history_short"), "meta" (u), "context" or
        "text_<name>" (c), "vector_<name>" (v).
    """
    histories = ("temporal_attention", "gru", "projected_gru", "decoder", "transformer")
    shown = {
        "xdeepfm": "meta",
        "absent_texts": "context",
        **dict.fromkeys(histories, "history"),
    }
    source = own_name(modality._keras_history.operation.name)
    return shown.get(source, source.removeprefix("known_").removeprefix("encoded_"))


@keras.saving.register_keras_serializable(package="mmnet")
class PredictedRate(keras.layers.Layer):
    """Brings a network's output z back to percent; always float32.

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
