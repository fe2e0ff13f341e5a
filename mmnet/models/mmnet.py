"""MMNet: the three modules, the gated fusion and the prediction."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import ops

from mmnet.layers.attention import HANAttention
from mmnet.layers.evidence import SmoothedRate
from mmnet.layers.presence import AbsentVectors
from mmnet.models.coarse_granularity import JOINED, attend_to_taxonomies, temporal_mining
from mmnet.models.ensemble import layers_named, mean_of, own_name
from mmnet.models.fine_granularity import (
    History,
    bounded,
    disturbed_history,
    fine_granularity,
    model_inputs,
    rate_embeddings,
    with_known_means,
)
from mmnet.models.heads import Prior, mixed_prior, part_of, prediction
from mmnet.models.meta_info import Modality, meta_info
from mmnet.models.moment import NOTHING, STAGE, Moment, moment_of
from mmnet.models.options import HeadOptions, MMNetOptions
from mmnet.models.seeding import seeded
from mmnet.schema import PREDICTED, FeatureSpec


def mmnet(spec: FeatureSpec, options: MMNetOptions) -> keras.Model:
    """Builds MMNet.

    Yu et al. (2021) section 4 and Fig. 1. Rates come in and go out in percent.

    Args:
        spec: the tensors of the dataset and their fitted statistics.
        options: see `MMNetOptions`.

    Returns:
        A model from a dict of all tensors of `spec` to percent, [batch]; with several
        `spec.outputs()` [batch, outputs].

    Raises:
        ValueError: an argument is out of its range, `tcn_filters` does not end in `units`,
            the link does not fit the data's rates, or `shared_embedding` or `two_granularities`
            is set and no taxonomies are read.
    """
    units = options.units
    for name in ("shared_embedding", "two_granularities"):
        if getattr(options, name) and not (options.coarse_granularity and spec.taxonomies):
            raise ValueError(
                f"`{name}` reads the means of taxonomies; set --coarse_granularity=true and give "
                f"--taxonomies, or remove --set={name}"
            )
    tcn_filters = options.tcn_filters or (4 * units, 2 * units, units)
    if tcn_filters[-1] != units:
        raise ValueError(
            f"`tcn_filters` must end in `units`. Received: tcn_filters={tcn_filters}, units={units}"
        )
    with seeded(options.seed):
        inputs = model_inputs(spec)
        tensors = with_known_means(bounded(inputs, spec), spec)
        # The item's own history: as it is, or all or some of it hidden. [batch, window] each
        own = disturbed_history(tensors, options, spec)
        # The same as vectors. [batch, window, units]
        read = own
        if options.head == "smoothed":
            # A prior that had read the history would count its clicks twice.
            read = own.hidden(spec)
        embeddings = rate_embeddings(
            spec, units=units, evidence=options.evidence, shared=options.shared_embedding
        )
        steps = fine_granularity(read, spec, embeddings)
        # Beside it, step by step, its taxonomies. [batch, window, units]
        if options.coarse_granularity and spec.taxonomies:
            steps = attend_to_taxonomies(
                steps,
                tensors,
                spec,
                taxonomy_flags=options.taxonomy_flags,
                units=units,
                softmax_axis=options.softmax_axis,
                shared=embeddings if options.shared_embedding else (),
                joined=options.two_granularities,
            )
        # What the steps say together: q. [batch, units]
        history = temporal_mining(steps, filters=tcn_filters, dropout=options.dropout)
        # What the item itself says: u, c, v, as far as it has them. [batch, units] each
        content = meta_info(tensors, spec, options)
        # How far to trust each of them, and the prediction. [batch]
        predicted = gated_prediction(
            [history],
            content,
            spec,
            options,
            smoothed=None if options.head == "direct" else own,
            moment=moment_of(tensors, spec, own, units=units),
            prior=mixed_prior(tensors, content, own, spec, options)
            if options.head == "mixed"
            else None,
        )
    return keras.Model(inputs, predicted, name="mmnet")


def gated_prediction(
    histories: list[keras.KerasTensor],
    content: list[Modality],
    spec: FeatureSpec,
    options: HeadOptions,
    *,
    smoothed: History | None = None,
    moment: Moment = NOTHING,
    prior: Prior | None = None,
    stage: keras.KerasTensor | None = None,
):
    """Fuse history and content, and predict: Yu et al. (2021) section 4.5, Eq. 9 and 10.

    Beyond the paper: a modality that an example lacks has weight 0 in its fusion, and a learned
    vector marks its absence. If no modality is absent, this is exactly Eq. 9.

    Args:
        histories: q, [batch, units] each; always there.
        content: u, c, v as far as the data have them.
        spec: statistics of the rates.
        options: see `HeadOptions`.
        smoothed: see `prediction`.
        moment: likewise.
        prior: likewise.
        stage: stage of the item's life, on which the weights then depend, [batch, any width].

    Returns:
        Percent, [batch]; with several outputs [batch, outputs].
    """
    vectors = [*histories, *(modality.vector for modality in content)]
    present = [modality.present for modality in content]
    read = {} if stage is None else {"stage": stage}
    fused = HANAttention(name="gated_fusion")(vectors, present or None, **read)[0]
    if content:
        fused = AbsentVectors(name="absent_modalities")(fused, present)
    return prediction(fused, spec, options, smoothed=smoothed, moment=moment, prior=prior)


def attention_probe(model: keras.Model) -> keras.Model | None:
    """Make a model that returns the attention weights of a trained one.

    Args:
        model: a network, or an ensemble, for which the weights are means over its members.

    Returns:
        A model from the same inputs to a dict of weights that sum to 1, as far as `model` has
        them: "granularity" [batch, window, 1 + taxonomies], whose names are
        `granularity_names(model, taxonomies)` (sums to 1 over time with softmax_axis="time"),
        "temporal" [batch, window], "context" [batch, texts], "fusion"
        [batch, modalities], whose names are `fusion_names(model)`, "prior_fusion" of the mixed
        head, whose names are `fusion_names(model, "prior_fusion")`, and "head" [batch, parts] of
        `head_weights(model)`, of the main output. None if it has none.
    """
    attentions = {
        "granularity": "granularity_attention",
        "temporal": "temporal_attention",
        "context": "context_attention",
        "fusion": "gated_fusion",
        "prior_fusion": "prior_fusion",
    }
    weights = {
        name: _mean_weights(found)
        for name, layer in attentions.items()
        if (found := layers_named(model, layer))
    }
    if parts := head_weights(model):
        weights["head"] = ops.stack(list(parts.values()), axis=-1)
    return keras.Model(model.input, weights, name="attention_probe") if weights else None


def head_weights(model: keras.Model, output: str = PREDICTED) -> dict[str, keras.KerasTensor]:
    """Find the weights of the parts of the head in a prediction.

    Args:
        model: a network, or an ensemble: the weights are then the means over its members.
        output: the prediction, `schema.Output.name`.

    Returns:
        "own_clicks", the rates of the item's own history, "prior", and with the mixed head
        "direct"; [batch] each, and they sum to 1. Nothing for the direct head.
    """
    members = _head_weights(model, output)
    names = members[0] if members else []
    means = {name: part_of(f"mean_{name}", output) for name in names}
    return {name: mean_of([one[name] for one in members], mean) for name, mean in means.items()}


def _head_weights(model: keras.Model, output: str) -> list[dict[str, keras.KerasTensor]]:
    """What the parts of the head count for, of each member; nothing for the direct head."""
    directs = [layer.output for layer in layers_named(model, part_of("direct_weight", output))]
    smoothed = part_of("smoothed_share_rate", output) if directs else output
    layers = layers_named(model, smoothed)
    if not all(isinstance(layer, SmoothedRate) for layer in layers):
        return []
    owns = [layer.output[1] for layer in layers]
    if not directs:
        return [{"own_clicks": own, "prior": 1 - own} for own in owns]
    return [
        {"own_clicks": (1 - direct) * own, "prior": (1 - direct) * (1 - own), "direct": direct}
        for own, direct in zip(owns, directs, strict=True)
    ]


def explained(model: keras.Model, output: str = PREDICTED) -> keras.Model | None:
    """Make a model that returns the prediction and the weights behind it.

    Args:
        model: a network, or an ensemble.
        output: the prediction that the mixed head's weights are of, `schema.Output.name`; all
            predictions share the gated fusion.

    Returns:
        A model from the same inputs to `[prediction, weights]`: what `model` returns, and
        [batch, names] of `explained_names(model)`: the weights of the gated fusion; with the mixed
        head, what counts in both of its parts, which is the item's own clicks too. None for a
        model without gated fusion.
    """
    if not (found := layers_named(model, "gated_fusion")):
        return None
    weights = [fusion.output[1] for fusion in found]
    if layers_named(model, "direct_weight"):
        priors, parts = layers_named(model, "prior_fusion"), _head_weights(model, output)
        weights = [
            _behind_both(model, fusion, priors[number : number + 1], parts[number])
            for number, fusion in enumerate(weights)
        ]
    mean = mean_of(weights, "mean_gated_fusion")
    return keras.Model(model.input, [model.output, mean], name="explained")


def _mean_weights(attentions: list[keras.layers.Layer]) -> keras.KerasTensor:
    """Weights of one attention, as the mean over the members of an ensemble: they sum to 1 too."""
    name = f"mean_{own_name(attentions[0].name)}"
    return mean_of([attention.output[1] for attention in attentions], name)


def explained_names(model: keras.Model) -> list[str]:
    """Names the weights of `explained`: "own_clicks" with the mixed head, and the modalities."""
    own = ["own_clicks"] if layers_named(model, "direct_weight") else []
    return own + fusion_names(model)


def _behind_both(
    model: keras.Model,
    direct: keras.KerasTensor,
    prior_fusion: list[keras.layers.Layer],
    parts: dict[str, keras.KerasTensor],
):
    """The mixed head's weights: of the own clicks, and of each modality in both parts.

    The prior reads the trends of the taxonomies where the direct part reads the history, which
    holds them too. Where it has neither trends nor content, its part is the history's.
    """
    names, read = fusion_names(model), fusion_names(model, "prior_fusion")
    found = {name: parts["direct"] * _float32(direct[:, n]) for n, name in enumerate(names)}
    left = parts["prior"]
    for number, name in enumerate(read):
        weight = parts["prior"] * _float32(prior_fusion[0].output[1][:, number])
        found["history" if name == "taxonomies" else name] += weight
        left -= weight
    # An item without any content, and no taxonomies: its prior is of nothing.
    if "taxonomies" not in read:
        found["history"] += ops.maximum(left, 0.0)
    return ops.stack([parts["own_clicks"], *found.values()], axis=-1)


def _float32(weight: keras.KerasTensor) -> keras.KerasTensor:
    return ops.cast(weight, "float32")


def granularity_names(model: keras.Model, taxonomies: Sequence[str]) -> list[str]:
    """Names what granularity attention weighs, in the order of its weights.

    Args:
        model: a network, or an ensemble.
        taxonomies: `FeatureSpec.taxonomies`.

    Returns:
        "item" and each taxonomy, "taxonomy_item" one of the name "item"; with
        `two_granularities` "item" and "taxonomies".
    """
    if layers_named(model, JOINED):
        return ["item", "taxonomies"]
    return ["item", *(f"taxonomy_{name}" if name == "item" else name for name in taxonomies)]


def fusion_names(model: keras.Model, fusion: str = "gated_fusion") -> list[str]:
    """Names the modalities that a gated fusion weighs, in the order of its weights.

    Args:
        model: a network, or an ensemble: all its members weigh the same modalities.
        fusion: name of the layer: "prior_fusion" is that of the mixed head's prior.

    Returns:
        `modality_name` of each; nothing for a model without this fusion.
    """
    found = layers_named(model, fusion)
    if not found:
        return []
    read = keras.tree.flatten(found[0].input)
    # Beside the vectors, [batch, units], it reads their flags, [batch], and may read a stage.
    names = [modality_name(one) for one in read if len(one.shape) == 2]
    return [name for name in names if name != STAGE]


def modality_name(modality: keras.KerasTensor) -> str:
    """Names a modality by the layer that made it.

    Returns:
        "history" (q; DFTC: "history_long" and "history_short"), "meta" (u), "context" or
        "text_<name>" (c), "vector_<name>" (v); "taxonomies" (their trends, in a prior).
    """
    histories = (
        *("temporal_attention", "gru", "projected_gru", "transformer"),
        *("decoder", "all_horizons"),
    )
    shown = {
        "xdeepfm": "meta",
        "taxonomy_trend": "taxonomies",
        "absent_texts": "context",
        **dict.fromkeys(histories, "history"),
    }
    source = own_name(modality._keras_history.operation.name)
    return shown.get(source, source.removeprefix("known_").removeprefix("encoded_"))
