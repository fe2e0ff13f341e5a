"""Options of every model, each declared once: its name in `--set`, its type and its default.

A model's options are a frozen pydantic model. What several models have in common is a group that
they inherit. This file loads no Keras, so that a wrong `--set` is refused within a moment.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from mmnet.config import TrainConfig

Link = Literal["identity", "logit", "log"]
"""Link from a network's output to a rate; see `models.heads.PredictedRate`."""


def _of_flag(name: str) -> Any:
    """The default of an option that has a flag of its own, which declares it."""
    return TrainConfig.model_fields[name].default


class Options(BaseModel):
    """Options of a model that has none.

    Raises:
        ValueError: an unknown option, or a value of the wrong type (pydantic's `ValidationError`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


# ------------------------------------------------------------------------------------- groups


class Seeded(Options):
    """Options of models that draw at random.

    Attributes:
        seed: fixes initial weights, disturbance and dropout.
    """

    seed: int = _of_flag("seed")


class DisturbanceOptions(Seeded):
    """Disturbance of an item's own history in training; see `layers.disturbance.MultiMode`.

    Attributes:
        mode_weights: relative frequencies of (normal, cold-start, noisy) examples in training;
            the default is what the model's authors trained with.
        noisy_rate: τ, probability of hiding a step of a noisy example, in [0, 1].
        adaptive_modes: "evidence" disturbs rich histories more often; beyond the paper.
        adaptive_clicks: clicks in a window for which `mode_weights` apply unchanged; above 0.
    """

    mode_weights: tuple[float, float, float] = (1, 0, 0)
    noisy_rate: float = _of_flag("noisy_rate")
    adaptive_modes: Literal["none", "evidence"] = "none"
    adaptive_clicks: float = 50


class TaxonomyOptions(Options):
    """Use of the trends of an item's taxonomies.

    Attributes:
        coarse_granularity: False hides them from the model.
    """

    coarse_granularity: bool = _of_flag("coarse_granularity")


class SizeOptions(Seeded):
    """Options that all parts of a network share.

    Attributes:
        units: width of every vector up to the fusion.
        dropout: share of the units set to 0 in training: word vectors, hidden units of the
            prediction, and channels of MMNet's temporal convolution; in [0, 1].
    """

    units: int = 64
    dropout: float = 0.0


class ContentOptions(SizeOptions):
    """Options of the meta-info module.

    Attributes:
        field_width: d, width of a meta feature's vector.
        field_pooling: how the values of a list are pooled.
        momentum: momentum of xDeepFM's batch normalisation; the authors' code has 0.99.
        content_dropout: share of the values and words that read as unknown in training, and of
            the encoded vectors' entries set to 0; see `UnknownDisturbance`.
        modality_dropout: probability that a training example loses its meta features, each of
            its texts and each of its vectors; see `ModalityDropout`.
    """

    field_width: int = 16
    field_pooling: Literal["max", "mean"] = "max"
    momentum: float = 0.95
    content_dropout: float = 0.0
    modality_dropout: float = 0.0


class HeadOptions(SizeOptions):
    """Options of the prediction.

    Attributes:
        link: how the network's output becomes a rate; see `PredictedRate`.
    """

    link: Link = "identity"


class NetworkOptions(DisturbanceOptions, TaxonomyOptions, ContentOptions, HeadOptions):
    """Options of every network.

    Attributes:
        taxonomy_flags: False hides the taxonomies' missing flags, as the authors' code does.
        evidence: shows the model how many clicks are behind each rate.
    """

    taxonomy_flags: bool = _of_flag("taxonomy_flags")
    evidence: bool = False


class PriorOptions(NetworkOptions):
    """Options of networks that can predict a prior, which the item's own clicks correct.

    Attributes:
        head: "direct" predicts from everything, as in the paper. "smoothed" predicts a prior from
            everything but the item's own history, and the item's own clicks correct it. "mixed"
            has both, and weighs them per example; its direct part reads the clicks behind each
            rate (`evidence`). See `models.heads.prediction`.
        smoothed_history: an older name of `head="smoothed"`.
    """

    head: Literal["direct", "smoothed", "mixed"] = "direct"
    smoothed_history: bool = False

    @model_validator(mode="before")
    @classmethod
    def _one_head(cls, given: Any) -> Any:
        """Brings the names of a head together."""
        if not isinstance(given, dict):
            return given
        head = given.get("head")
        if "smoothed_history" in given:
            smoothed = given["smoothed_history"]
            if head is not None and smoothed is True and head != "smoothed":
                raise ValueError(f"`smoothed_history` must be false with head={head}")
            if smoothed is False and head == "smoothed":
                raise ValueError("`smoothed_history` must be true with head=smoothed")
            if smoothed is True:
                head = "smoothed"
        if head == "mixed" and given.get("evidence") is False:
            raise ValueError("`evidence` must be true with head=mixed")
        named = {} if head is None else {"head": head, "smoothed_history": head == "smoothed"}
        return {**given, **named, **({"evidence": True} if head == "mixed" else {})}


class RecurrentOptions(NetworkOptions):
    """Options of the baselines that read step by step; see `models.step_vectors`.

    Attributes:
        baseline_inputs: "rate_only" leaves everything but the item's own rates out of the steps.
    """

    baseline_inputs: Literal["all", "rate_only"] = "all"


class BoostingOptions(DisturbanceOptions, TaxonomyOptions):
    """Options of all boosted trees; see `models.boosted_trees`.

    Attributes:
        objective: "regression" minimises squared errors, "cross_entropy" those of shares among
            clicks, where rates are within one.
        offset: what boosting starts from: "none" is the mean of all, "smoothed" the pooled rate of
            the window, shrunk to the prior of all (`TreeFeatures`), on the objective's own scale.
        copies: copies of each training row, if not all of them are normal.
        num_trees: most trees.
        text_components: singular vectors per text; 0 leaves texts out.
    """

    objective: Literal["regression", "cross_entropy"] = "regression"
    offset: Literal["none", "smoothed"] = "none"
    copies: int = 3
    num_trees: int = 1000
    text_components: int = 32


# ------------------------------------------------------------------------------------- models


class MMNetOptions(PriorOptions):
    """Options of `models.mmnet.mmnet`.

    Attributes:
        mode_weights: as in the paper, every mode is equally frequent.
        softmax_axis: "time" normalises granularity attention as the authors' code does.
        tcn_filters: channels of the residual blocks, the last one `units`; None is 4, 2 and 1
            times `units`, which is the paper's 256-128-64.
        shared_embedding: True embeds the rates of the item and of its taxonomies by the same
            vectors, Eq. 5 to the letter; False has vectors per taxonomy, as the authors' code.
        two_granularities: True weighs the item against the mean of its taxonomies' vectors, Eq. 6
            to the letter; False weighs each taxonomy, as the authors' code does.
    """

    mode_weights: tuple[float, float, float] = (1, 1, 1)
    softmax_axis: Literal["granularity", "time"] = "granularity"
    tcn_filters: tuple[int, ...] | None = None
    shared_embedding: bool = False
    two_granularities: bool = False


class GruOptions(RecurrentOptions, PriorOptions):
    """Options of `models.gru.gru`.

    Attributes:
        gru_units: width of the GRU's state; if it differs from `units`, a linear layer maps q to
            that width. 256 has about as many parameters as MMNet's temporal convolution.
        gru_mask: skips missing steps, so that an item without any has q = 0.
        reset_after: False is the form of Cho et al. (2014), with one bias.
    """

    gru_units: int | None = None
    gru_mask: bool = False
    reset_after: bool = True


class TransformerOptions(RecurrentOptions, PriorOptions):
    """Options of `models.transformer.transformer`.

    Attributes:
        num_layers: layers of the encoder.
        num_heads: heads of its attention; must divide `units`.
        feed_forward_units: hidden units behind each attention; None is 4 times `units`.
    """

    num_layers: int = 2
    num_heads: int = 4
    feed_forward_units: int | None = None


class EncoderDecoderOptions(RecurrentOptions):
    """Options of `models.encoder_decoder.encoder_decoder`."""


class MmvedOptions(RecurrentOptions):
    """Options of `models.mmved.mmved`.

    Attributes:
        latent_units: Z, width of the code.
        kl_weight: λ, weight of the divergence; the squared error is in units of
            `spec.rate_scale`.
        prior_expert: counts N(0, I) as one more expert.
    """

    latent_units: int = 64
    kl_weight: float = 0.3
    prior_expert: bool = False


class DftcOptions(RecurrentOptions):
    """Options of `models.dftc.dftc`.

    Attributes:
        dftc_rnn: recurrent layer of the long view.
        kernel: steps that the convolution of the short view sees at once, at most the window. It
            never reads beyond the window: zeros there would look like a drop of the rate.
        stage: True lets the weights of the fusion depend on the item's age, its stage of life, as
            its authors' do; needs `--inputs=age`.
    """

    dftc_rnn: Literal["lstm", "gru"] = "lstm"
    kernel: int = 3
    stage: bool = False


class LightGbmOptions(BoostingOptions):
    """Options of `models.lightgbm.LightGbm`.

    Attributes:
        num_leaves, learning_rate, min_data_in_leaf, feature_fraction, bagging_fraction,
            lambda_l2: LightGBM's own parameters.
    """

    num_leaves: int = 31
    learning_rate: float = 0.05
    min_data_in_leaf: int = 40
    feature_fraction: float = 0.6
    bagging_fraction: float = 0.8
    lambda_l2: float = 5.0


class CatBoostOptions(BoostingOptions):
    """Options of `models.catboost.CatBoost`.

    Attributes:
        depth, learning_rate, l2_leaf_reg, subsample: CatBoost's own parameters.
    """

    depth: int = 6
    learning_rate: float = 0.05
    l2_leaf_reg: float = 3.0
    subsample: float = 0.8


class SmoothedHistoryOptions(TaxonomyOptions):
    """Options of `models.smoothed_history.SmoothedHistory`.

    Attributes:
        centre: centre of an item's prior. "value": the priors of its taxonomies'
            values, fitted in training. "as_of": the means of its taxonomies in the window.
            "fitted": a mix of the two, chosen on validation.
        decay: weight of a step relative to the step after it, in [0, 1]; None fits it.
        kappa_scale: multiplies every kappa, above 0; None fits it.
    """

    centre: Literal["value", "as_of", "fitted"] = "value"

    decay: float | None = None
    kappa_scale: float | None = None


class HaTaxonomyOptions(Options):
    """Options of the historical average that falls back to the taxonomies.

    Attributes:
        ha_mean: "available" leaves missing steps out, "zeros" counts them as 0.
    """

    ha_mean: Literal["available", "zeros"] = "available"


class HaOptions(HaTaxonomyOptions):
    """Options of `models.historical_average.HistoricalAverage`.

    Attributes:
        ha_fallback: "taxonomy" predicts `TaxonomyMean` if every step is missing; None, 0.
    """

    ha_fallback: Literal["taxonomy"] | None = None
