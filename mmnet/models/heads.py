"""The head of every network, which turns the vector of an example into a share rate.

Three heads: "direct" is the paper's, "smoothed" corrects a prior by the item's own clicks, and
"mixed" weighs one against the other per example.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, get_args

import keras
from keras import ops

from mmnet import checks
from mmnet.layers.attention import HANAttention
from mmnet.layers.evidence import PriorClicks, SmoothedRate, TaxonomyCentre, clipped
from mmnet.layers.mixture import DirectWeight, MixedRate
from mmnet.layers.presence import AbsentVectors
from mmnet.models.fine_granularity import History, in_standard_deviations, of_rate
from mmnet.models.meta_info import Modality
from mmnet.models.moment import NOTHING, Moment
from mmnet.models.options import HeadOptions, Link, NetworkOptions
from mmnet.schema import PREDICTED, FeatureSpec, Output


def part_of(part: str, output: str = PREDICTED) -> str:
    """Name a layer that each output has: as it is for the main output.

    Args:
        part: its name for the main output.
        output: `Output.name`.

    >>> part_of("prior_clicks"), part_of("prior_clicks", "predicted_like_h2")
    ('prior_clicks', 'prior_clicks_of_like_h2')
    """
    return part if output == PREDICTED else f"{part}_of_{output.removeprefix('predicted_')}"


class Prior(NamedTuple):
    """Inputs of the mixed head's prior: everything but the item's own history.

    Attributes:
        vector: [batch, any width].
        centres: z of the taxonomies' as-of means of each output's rate, [batch, 1] each; none
            where no taxonomy is read.
    """

    vector: keras.KerasTensor
    centres: tuple[keras.KerasTensor, ...]


def prediction(
    vector: keras.KerasTensor,
    spec: FeatureSpec,
    options: HeadOptions,
    *,
    smoothed: History | None = None,
    moment: Moment = NOTHING,
    prior: Prior | None = None,
):
    """Predict the share rate, in the head of every network: Yu et al. (2021) section 4.5, Eq. 10.

    Beyond the paper: with `smoothed`, the network predicts the mean of a prior and how many
    clicks this prior is worth, and the item's own clicks update it. So an item's evidence counts
    by its clicks, as in empirical Bayes, and the network learns the prior and its weight. With
    `prior` as well, that is one of two predictions, made from the prior's own vector; the other
    one is the paper's, and a weight g mixes them per example.

    With several outputs (`spec.outputs()`) they share the hidden units and have the rest each: the
    prior, its clicks, the weights of the steps, g. A prior is corrected by the clicks of its own
    rate alone.

    Args:
        vector: vector of each example, [batch, any width].
        spec: statistics of the rates.
        options: `units` hidden units; see `HeadOptions`.
        smoothed: the history that `SmoothedRate` corrects the prior by; it must have passed the
            disturbance, or training would never see a cold start. None: no prior.
        moment: further vectors that the head reads, see `models.moment`. The prior of the mixed
            head does not read the lifetime.
        prior: of the mixed head, see `mixed_prior`; needs `smoothed`. None: the prior is of
            `vector`, which then must not have read the history.

    Returns:
        Percent, [batch]; with several outputs [batch, outputs].
    """
    outputs = spec.outputs()
    hidden = _hidden([vector, *moment], options, name="mlp", joined="fused_and_moment")
    # In float32 under any policy: bfloat16 would tie predictions that differ by less than 0.4 %.
    standardised = _standardised(hidden, outputs, "standardised_share_rate")
    if smoothed is None:
        return _joined(
            [
                _rate(spec, options, output, output.name)(one)
                for output, one in zip(outputs, standardised, strict=True)
            ],
            outputs,
        )
    if prior is None:
        return _joined(
            [
                _smoothed(one, hidden, smoothed, spec, options, output, output.name)[0]
                for output, one in zip(outputs, standardised, strict=True)
            ],
            outputs,
        )
    # What all but the history says. [batch, units]
    beside = [prior.vector, moment.ahead]
    known = _hidden(beside, options, name="prior_mlp", joined="prior_and_moment")
    of_prior = _standardised(known, outputs, "standardised_prior_rate")
    rates = []
    for number, output in enumerate(outputs):
        # f, which has read the history. [batch]
        name = part_of("direct_share_rate", output.name)
        direct = _rate(spec, options, output, name)(standardised[number])
        # s, of all but the history, and then of its clicks. [batch]
        centred = of_prior[number]
        if prior.centres:
            name = part_of("centred_prior_rate", output.name)
            add = keras.layers.Add(dtype="float32", name=name)
            centred = add([centred, prior.centres[number]])
        name = part_of("smoothed_share_rate", output.name)
        rate, own = _smoothed(centred, known, smoothed, spec, options, output, name)
        # g, and what it makes of the two. [batch]
        clicks = smoothed.of(output.rate, spec).clicks
        weigh = DirectWeight(name=part_of("direct_weight", output.name))
        weight = weigh([hidden, known], clicks, own)
        rates.append(MixedRate(name=output.name)(rate, direct, weight))
    return _joined(rates, outputs)


def mixed_prior(
    inputs: dict[str, keras.KerasTensor],
    content: list[Modality],
    history: History,
    spec: FeatureSpec,
    options: NetworkOptions,
) -> Prior:
    """Build the inputs of the mixed head's prior: the taxonomies' trends and the content.

    Args:
        inputs: tensors of the dataset, see `with_known_means`.
        content: u, c, v as far as the data have them; shared with the direct part.
        history: the item's own, of which nothing is read.
        spec: description of the tensors, and statistics of the rates.
        options: `coarse_granularity=False` leaves the taxonomies out, `taxonomy_flags=False`
            their missing flags.
    """
    vectors, centres = [], []
    if options.coarse_granularity and spec.taxonomies:
        trends = []
        for rate in (None, *spec.rates):
            own = spec.sequences(rate.name if rate else "")
            means = inputs[own["taxonomy_rate"]]
            trends.append(
                in_standard_deviations(means, rate or spec, of_rate("scaled_trend", rate))
            )
            if options.taxonomy_flags:
                trends.append(inputs[own["taxonomy_missing_flag"]])
            if spec.taxonomy_evidence:
                trends.append(inputs[own["taxonomy_evidence"]])
        trend = trends[0]
        if len(trends) > 1:
            trend = keras.layers.Concatenate(name="flagged_trend")(trends)
        trend = keras.layers.Flatten(name="flat_trend")(trend)
        # One dense layer: a second tower of convolutions would double a training step.
        vectors.append(keras.layers.Dense(options.units, "relu", name="taxonomy_trend")(trend))
        for output in spec.outputs():
            own, of = spec.sequences(output.rate), spec.of_rate(output.rate)
            centre = TaxonomyCentre(
                of.rate_scale,
                of.rate_mean,
                of.max_rate,
                link=options.link,
                name=part_of("taxonomy_centre", output.name),
            )
            centres.append(
                centre(inputs[own["taxonomy_rate"]], inputs[own["taxonomy_missing_flag"]])
            )
    vectors += [modality.vector for modality in content]
    if not vectors:  # a constant prior
        return Prior(keras.layers.Rescaling(0.0, name="nothing_known")(history.missing_flag), ())
    present = [modality.present for modality in content]
    fused = HANAttention(name="prior_fusion")(vectors, present or None)[0]
    if content:
        fused = AbsentVectors(name="absent_from_prior")(fused, present)
    return Prior(fused, tuple(centres))


def _hidden(vectors: Sequence, options: HeadOptions, *, name: str, joined: str):
    """The hidden units of a head, [batch, units], from all vectors that are not None."""
    there = [vector for vector in vectors if vector is not None]
    vector = keras.layers.Concatenate(name=joined)(there) if len(there) > 1 else there[0]
    hidden = keras.layers.Dense(options.units, "relu", name=name)(vector)
    if options.dropout:
        dropout = keras.layers.Dropout(options.dropout, seed=options.seed, name=f"{name}_dropout")
        hidden = dropout(hidden)
    return hidden


def _standardised(hidden, outputs: Sequence[Output], name: str) -> list[keras.KerasTensor]:
    """The z of each output, [batch, 1] each."""
    return [
        keras.layers.Dense(1, dtype="float32", name=part_of(name, output.name))(hidden)
        for output in outputs
    ]


def _joined(rates: Sequence[keras.KerasTensor], outputs: Sequence[Output]) -> keras.KerasTensor:
    """One tensor of all outputs, [batch, outputs]; a single one stays [batch]."""
    if len(rates) == 1:
        return rates[0]
    columns = [
        keras.layers.Reshape((1,), dtype="float32", name=f"column_of_{output.name}")(rate)
        for output, rate in zip(outputs, rates, strict=True)
    ]
    return keras.layers.Concatenate(dtype="float32", name="all_outputs")(columns)


def _rate(spec: FeatureSpec, options: HeadOptions, output: Output, name: str, *, clip: bool = True):
    """The layer that brings z of an output back to percent."""
    of = spec.of_rate(output.rate)
    return PredictedRate(
        of.rate_scale, of.rate_mean, of.max_rate, link=options.link, clip=clip, name=name
    )


def _smoothed(
    standardised: keras.KerasTensor,
    hidden: keras.KerasTensor,
    history: History,
    spec: FeatureSpec,
    options: HeadOptions,
    output: Output,
    name: str,
):
    """The smoothed rate and the weight of the item's own clicks in it, [batch] each."""
    prior_name = part_of("prior_share_rate", output.name)
    prior_rate = _rate(spec, options, output, prior_name, clip=False)(standardised)
    prior_clicks = PriorClicks(name=part_of("prior_clicks", output.name))(hidden)
    layer = SmoothedRate(spec.of_rate(output.rate).max_rate, name=name)
    own = history.of(output.rate, spec)
    return layer(prior_rate, prior_clicks, own.share_rate, own.clicks)


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
