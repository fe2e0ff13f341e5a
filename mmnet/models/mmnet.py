"""MMNet: the three modules, the gated fusion and the prediction."""

from __future__ import annotations

from typing import Literal

import keras
from keras import ops

from mmnet.layers.attention import HANAttention
from mmnet.models.coarse_granularity import attend_to_taxonomies, temporal_mining
from mmnet.models.fine_granularity import fine_granularity, model_inputs
from mmnet.models.meta_info import meta_info
from mmnet.models.seeding import seeded
from mmnet.schema import FeatureSpec


def mmnet(
    spec: FeatureSpec,
    *,
    coarse_granularity: bool = True,
    mode_weights: tuple[float, float, float] = (1, 1, 1),
    noisy_rate: float = 0.5,
    taxonomy_flags: bool = True,
    softmax_axis: Literal["granularity", "time"] = "granularity",
    evidence: bool = False,
    units: int = 64,
    tcn_filters: tuple[int, ...] | None = None,
    field_width: int = 16,
    field_pooling: Literal["max", "mean"] = "max",
    momentum: float = 0.95,
    dropout: float = 0.0,
    content_dropout: float = 0.0,
    seed: int = 0,
) -> keras.Model:
    """Builds MMNet.

    Yu et al. (2021) section 4 and Fig. 1. Rates come in and go out in percent.

    Args:
        spec: the tensors of the dataset and their fitted statistics.
        coarse_granularity: False is the paper's ablation MMNet-C (with mode weights 1, 0, 0).
        mode_weights: frequencies of (normal, cold-start, noisy) examples in training.
        noisy_rate: τ, probability of hiding a step of a noisy example.
        taxonomy_flags: False ignores the taxonomies' missing flags, as the authors' code does.
        softmax_axis: "time" normalises granularity attention as the authors' code does.
        evidence: lets the model see how many clicks stand behind each rate.
        units: width of every vector up to the fusion.
        tcn_filters: channels of the residual blocks, the last `units`; None is 4, 2 and 1 times
            `units`, which makes the paper's 256-128-64.
        field_width: d, width of a meta feature's vector.
        field_pooling: how the values of a list are pooled.
        momentum: of xDeepFM's batch normalisation; the authors' code has 0.99.
        dropout: in training, part of the TCN's channels, of the word vectors and of the
            prediction's hidden units set to 0.
        content_dropout: in training, part of the values and words read as unknown, and of the
            encoded vectors' entries set to 0; see `UnknownDisturbance`.
        seed: fixes initial weights, disturbance and dropout.

    Returns:
        A model from a dict of all tensors of `spec` to percent, [batch].

    Raises:
        ValueError: an argument is out of its range, or `tcn_filters` does not end in `units`.
    """
    tcn_filters = tcn_filters or (4 * units, 2 * units, units)
    if tcn_filters[-1] != units:
        raise ValueError(
            f"`tcn_filters` must end in `units`. Received: tcn_filters={tcn_filters}, units={units}"
        )
    with seeded(seed):
        inputs = model_inputs(spec)
        # The item's own history. [batch, window, units]
        steps = fine_granularity(
            inputs,
            spec,
            mode_weights=mode_weights,
            noisy_rate=noisy_rate,
            units=units,
            evidence=evidence,
            seed=seed,
        )
        # Beside it, step by step, its taxonomies. [batch, window, units]
        if coarse_granularity and spec.taxonomies:
            steps = attend_to_taxonomies(
                steps,
                inputs,
                spec,
                taxonomy_flags=taxonomy_flags,
                units=units,
                softmax_axis=softmax_axis,
            )
        # What the steps say together: q. [batch, units]
        history = temporal_mining(steps, filters=tcn_filters, dropout=dropout)
        # What the item itself says: u, c, v. [batch, units] each
        modalities = meta_info(
            inputs,
            spec,
            units=units,
            field_width=field_width,
            field_pooling=field_pooling,
            momentum=momentum,
            dropout=dropout,
            content_dropout=content_dropout,
            seed=seed,
        )
        # How far to trust each of them, and the prediction. [batch]
        predicted = gated_prediction([history, *modalities], spec, dropout=dropout, seed=seed)
    return keras.Model(inputs, predicted, name="mmnet")


def gated_prediction(
    modalities: list[keras.KerasTensor], spec: FeatureSpec, *, dropout: float, seed: int
):
    """Yu et al. (2021) section 4.5, Eq. 9 and 10; the baselines end in it too.

    Args:
        modalities: q first, then u, c, v as far as the data have them; [batch, units] each.
        spec: statistics of the rates.
        dropout: part of the hidden units dropped in training.
        seed: repeats the dropout.

    Returns:
        Percent, [batch].
    """
    units = modalities[0].shape[-1]
    fused = HANAttention(name="gated_fusion")(modalities)[0]
    hidden = keras.layers.Dense(units, "relu", name="mlp")(fused)
    if dropout:
        hidden = keras.layers.Dropout(dropout, seed=seed, name="mlp_dropout")(hidden)
    # In float32 under any policy: bfloat16 would tie predictions that differ by less than 0.4 %.
    standardised = keras.layers.Dense(1, dtype="float32", name="standardised_share_rate")(hidden)
    return PredictedRate(
        spec.rate_scale, spec.rate_mean, spec.max_rate, name="predicted_share_rate"
    )(standardised)


def attention_probe(model: keras.Model) -> keras.Model:
    """Makes a model that tells where a trained one looks.

    Returns:
        A model from the same inputs to a dict of weights that sum to 1, as far as `model` has
        them: "granularity" [batch, window, 1 + taxonomies] (item first; sums to 1 over time with
        softmax_axis="time"), "temporal" [batch, window], "context" [batch, texts] and "fusion"
        [batch, modalities], whose names are `fusion_names(model)`.
    """
    attentions = {
        "granularity": "granularity_attention",
        "temporal": "temporal_attention",
        "context": "context_attention",
        "fusion": "gated_fusion",
    }
    present = {layer.name for layer in model.layers}
    weights = {
        name: model.get_layer(layer).output[1]
        for name, layer in attentions.items()
        if layer in present
    }
    return keras.Model(model.input, weights, name="attention_probe")


def fusion_names(model: keras.Model) -> list[str]:
    """Names the modalities that the gated fusion weighs, in the order of its weights.

    Returns:
        "history" (q), "meta" (u), "context" or "text_<name>" (c), "vector_<name>" (v).
    """
    shown = {"temporal_attention": "history", "xdeepfm": "meta", "context_attention": "context"}
    modalities = keras.tree.flatten(model.get_layer("gated_fusion").input)
    sources = [modality._keras_history.operation.name for modality in modalities]
    return [shown.get(source, source.removeprefix("encoded_")) for source in sources]


@keras.saving.register_keras_serializable(package="mmnet")
class PredictedRate(keras.layers.Layer):
    """Brings a standardised rate back to percent; always float32.

    Args:
        scale: sd of the observed training rates, percent; above 0.
        mean: mean of the training targets, percent.
        max_rate: predictions are clipped to [0, max_rate]; None sets no upper limit. Training
            does not clip, as a clipped prediction would have no gradient.

    Call arguments:
        standardised: [batch, 1].

    Returns:
        Percent, [batch].

    Raises:
        ValueError: `scale` is not above 0.
    """

    def __init__(
        self, scale: float = 1.0, mean: float = 0.0, max_rate: float | None = 100.0, **kwargs
    ):
        super().__init__(**{**kwargs, "dtype": "float32"})
        if not scale > 0:
            raise ValueError(f"`scale` must be above 0. Received: scale={scale}")
        self.scale, self.mean, self.max_rate = scale, mean, max_rate

    def call(self, standardised, training=False):
        rate = self.mean + self.scale * ops.squeeze(standardised, -1)
        if training:
            return rate
        return (
            ops.maximum(rate, 0.0) if self.max_rate is None else ops.clip(rate, 0.0, self.max_rate)
        )

    def get_config(self):
        config = {"scale": self.scale, "mean": self.mean, "max_rate": self.max_rate}
        return {**super().get_config(), **config}
