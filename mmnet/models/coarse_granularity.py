"""Coarse-granularity module: the trends of the item's taxonomies, and the temporal mining layer."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from mmnet import checks
from mmnet.layers.attention import HANAttention
from mmnet.layers.embedding import SequenceEmbedding
from mmnet.layers.tcn import TemporalConvolution
from mmnet.models.fine_granularity import added, in_standard_deviations, of_rate
from mmnet.schema import FeatureSpec

SOFTMAX_AXES = {"granularity": -2, "time": -3}

JOINED = "joined_taxonomies"
"""Name of the layer that makes one granularity of several taxonomies."""


def attend_to_taxonomies(
    item: keras.KerasTensor,
    inputs: dict[str, keras.KerasTensor],
    spec: FeatureSpec,
    *,
    taxonomy_flags: bool,
    units: int,
    softmax_axis: str,
    shared: Sequence[SequenceEmbedding] = (),
    joined: bool = False,
):
    """Attend to the item and its taxonomies at each step: Yu et al. (2021) section 4.3, Eq. 5, 6.

    A taxonomy has one vector per step for all rates: the sum of those of its means. By default
    each taxonomy has an embedding and a place in the attention of its own. Eq. 5 to the letter,
    "the same embedding layer", is `shared`; Eq. 6 to the letter, the attention over h^m and h^g
    alone, is `joined`. The paper embeds g_t, the concatenation of the taxonomies' means, and does
    not state how one vector is made of them: here h^g is the mean of their vectors. With own
    embeddings that is a linear map of g_t, and with a shared one the embedding of its mean.

    Beyond the paper: with `spec.taxonomy_evidence`, what a mean rests on is embedded and added to
    its taxonomy's vector.

    Args:
        item: h^m of the fine-granularity module, [batch, window, units].
        inputs: tensors of the dataset, see `with_known_means`.
        spec: what they are.
        taxonomy_flags: False ignores taxonomy_missing_flag, as the authors' code does.
        units: width of every vector.
        softmax_axis: "granularity": the weights of item and taxonomies sum to 1 at each step;
            "time" reproduces the authors' code, where each one's weights sum to 1 over time.
        shared: the item's own embeddings, of each rate, to embed its taxonomies by; empty: they
            have their own.
        joined: True attends to two vectors, h^m and h^g; False to the item and each taxonomy.

    Returns:
        h^mg, [batch, window, units].
    """
    checks.one_of(SOFTMAX_AXES, softmax_axis=softmax_axis)
    # One vector per step and taxonomy. [batch, window, taxonomies, units]
    embedded = []
    for number, rate in enumerate((None, *spec.rates)):
        own = spec.sequences(rate.name if rate else "")
        means = in_standard_deviations(
            inputs[own["taxonomy_rate"]], rate or spec, of_rate("scaled_taxonomy_rate", rate)
        )
        if spec.taxonomy_evidence:
            # As an item's own clicks are embedded, log(1 + n) E_t, with E of each taxonomy.
            name = of_rate("taxonomy_evidence_embedding", rate)
            by_evidence = SequenceEmbedding(units, flags=False, name=name)
            embedded.append(by_evidence(inputs[own["taxonomy_evidence"]]))
        flags = inputs[own["taxonomy_missing_flag"]]
        if shared:
            embedding = shared[number]
            embedded.append(embedding(means, flags) if taxonomy_flags else embedding(means))
            continue
        embedding = SequenceEmbedding(
            units, flags=taxonomy_flags, name=of_rate("taxonomy_embedding", rate)
        )
        embedded.append(embedding(means, flags))
    taxonomies = added(embedded, "all_taxonomy_rates")
    if joined and len(spec.taxonomies) > 1:
        # h^g, the mean over the taxonomies. [batch, window, 1, units]
        taxonomies = keras.layers.AveragePooling2D(
            (1, len(spec.taxonomies)), data_format="channels_last", name=JOINED
        )(taxonomies)
    # At each step, how far to trust the item and how far each taxonomy. [batch, window, units]
    item = keras.layers.Reshape((spec.window, 1, units), name="item_granularity")(item)
    granularities = keras.layers.Concatenate(axis=2, name="granularities")([item, taxonomies])
    attention = HANAttention(SOFTMAX_AXES[softmax_axis], name="granularity_attention")
    return attention(granularities)[0]


def temporal_mining(steps: keras.KerasTensor, *, filters: Sequence[int], dropout: float):
    """Summarize the window by the temporal mining layer: Yu et al. (2021) section 4.3, Eq. 7, 8.

    Args:
        steps: [batch, window, units].
        filters: channels of the residual blocks; the last is the width of q.
        dropout: part of the channels dropped in training.

    Returns:
        q, [batch, filters[-1]].
    """
    # What each step means after those before it. [batch, window, filters[-1]]
    steps = TemporalConvolution(filters, dropout=dropout, name="tcn")(steps)
    # Which steps matter. [batch, filters[-1]]
    return HANAttention(name="temporal_attention")(steps)[0]
