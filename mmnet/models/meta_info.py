"""Meta-info module: what is known of an item at its release."""

from __future__ import annotations

import keras

from mmnet.layers.attention import HANAttention
from mmnet.layers.disturbance import UnknownDisturbance
from mmnet.layers.embedding import FieldEmbedding, TokenEncoder
from mmnet.layers.interaction import XDeepFM
from mmnet.schema import FeatureSpec


def meta_info(
    inputs: dict[str, keras.KerasTensor],
    spec: FeatureSpec,
    *,
    units: int,
    field_width: int,
    field_pooling: str,
    momentum: float,
    dropout: float,
    content_dropout: float,
    seed: int,
) -> list[keras.KerasTensor]:
    """Yu et al. (2021) section 4.4.

    Returns:
        The modalities that the data have, each [batch, units]: u of the fields and numbers, c of
        the texts (attended over when there are several), v of each frozen vector.
    """

    def values(tensor: str) -> keras.KerasTensor:
        """The ids of a field or text, in training with some of them hidden."""
        if not content_dropout:
            return inputs[tensor]
        # Seeds of their own: two fields must not be hidden together.
        own = seed + 1000 * (1 + list(inputs).index(tensor))
        return UnknownDisturbance(content_dropout, seed=own, name=f"known_{tensor}")(inputs[tensor])

    modalities = []
    if spec.fields or spec.numerics:
        # Each meta feature as a vector [batch, fields, field_width], then how they interact.
        fields = FieldEmbedding(
            [field.size for field in spec.fields],
            len(spec.numerics),
            field_width,
            field_pooling,
            name="field_embedding",
        )(
            [values(field.tensor) for field in spec.fields],
            [inputs[numeric.tensor] for numeric in spec.numerics],
        )
        modalities.append(XDeepFM(units, momentum=momentum, name="xdeepfm")(fields))
    # Each text as a vector, then which text matters. [batch, units]
    texts = [
        TokenEncoder(text.size, units, dropout, seed=seed, name=f"encoded_{text.tensor}")(
            values(text.tensor)
        )
        for text in spec.texts
    ]
    if len(texts) > 1:
        texts = [HANAttention(name="context_attention")(texts)[0]]
    modalities += texts
    # Each frozen vector (cover, title) brought to the common width. [batch, units]
    for vector in spec.vectors:
        project = keras.layers.Dense(units, "relu", name=f"encoded_{vector.tensor}")
        encoded = project(inputs[vector.tensor])
        if content_dropout:
            own = seed + 1000 * (1 + list(inputs).index(vector.tensor))
            drop = keras.layers.Dropout(content_dropout, seed=own, name=f"known_{vector.tensor}")
            encoded = drop(encoded)
        modalities.append(encoded)
    return modalities
