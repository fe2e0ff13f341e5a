"""Meta-info module: the content of an item, which is known at its release."""

from __future__ import annotations

from typing import NamedTuple

import keras

from mmnet.layers.attention import HANAttention
from mmnet.layers.disturbance import ModalityDropout, UnknownDisturbance
from mmnet.layers.embedding import FieldEmbedding, TokenEncoder
from mmnet.layers.interaction import XDeepFM
from mmnet.layers.presence import AbsentVectors, Presence
from mmnet.models.options import ContentOptions
from mmnet.schema import FeatureSpec, TextSpec, VectorSpec


class Modality(NamedTuple):
    """Vector of one kind of content of an item, and whether the item has it.

    Attributes:
        vector: [batch, units]; undefined where it is absent.
        present: 1.0 where the item has it, else 0.0, [batch].
    """

    vector: keras.KerasTensor
    present: keras.KerasTensor


def texts_of(spec: FeatureSpec) -> list[TextSpec | VectorSpec]:
    """The texts of an item in the order of their attention: as tokens, then as vectors."""
    return [*spec.texts, *(vector for vector in spec.vectors if vector.of == "text")]


def meta_info(
    inputs: dict[str, keras.KerasTensor], spec: FeatureSpec, options: ContentOptions
) -> list[Modality]:
    """Encode the content of an item: Yu et al. (2021) section 4.4.

    Returns:
        The modalities that the data have: u of the fields and numbers, c of the texts (attended
        over when there are several, and there where any of them is), v of each other vector.
    """
    units, seed, content_dropout = options.units, options.seed, options.content_dropout

    def values(tensor: str) -> keras.KerasTensor:
        """The ids of a field or text, in training with some of them hidden."""
        if not content_dropout:
            return inputs[tensor]
        # Seeds of their own: two fields must not be hidden together.
        own = seed + 1000 * (1 + list(inputs).index(tensor))
        return UnknownDisturbance(content_dropout, seed=own, name=f"known_{tensor}")(inputs[tensor])

    def encoded(one: TextSpec | VectorSpec) -> keras.KerasTensor:
        """A text or a frozen vector at the common width, [batch, units]."""
        if isinstance(one, TextSpec):
            encoder = TokenEncoder(
                one.size, units, options.dropout, seed=seed, name=f"encoded_{one.tensor}"
            )
            return encoder(values(one.tensor))
        vector = keras.layers.Dense(units, "relu", name=f"encoded_{one.tensor}")(inputs[one.tensor])
        if not content_dropout:
            return vector
        own = seed + 1000 * (1 + list(inputs).index(one.tensor))
        return keras.layers.Dropout(content_dropout, seed=own, name=f"known_{one.tensor}")(vector)

    # Which content each example has, in training with some of it lost. [batch] each
    present = _present(inputs, spec, options)
    modalities = []
    if "meta" in present:
        # Each meta feature as a vector [batch, fields, field_width], then how they interact.
        fields = FieldEmbedding(
            [field.size for field in spec.fields],
            len(spec.numerics),
            units=options.field_width,
            pooling=options.field_pooling,
            name="field_embedding",
        )(
            [values(field.tensor) for field in spec.fields],
            [inputs[numeric.tensor] for numeric in spec.numerics],
        )
        meta = XDeepFM(units, momentum=options.momentum, name="xdeepfm")(fields)
        modalities.append(Modality(meta, present["meta"]))
    # Each text as a vector, then which text matters. [batch, units]
    texts = [Modality(encoded(one), present[one.tensor]) for one in texts_of(spec)]
    modalities += [_context(texts)] if len(texts) > 1 else texts
    # Each other vector (cover) brought to the common width. [batch, units]
    vectors = [vector for vector in spec.vectors if vector.of != "text"]
    return modalities + [Modality(encoded(one), present[one.tensor]) for one in vectors]


def _present(
    inputs: dict[str, keras.KerasTensor], spec: FeatureSpec, options: ContentOptions
) -> dict[str, keras.KerasTensor]:
    """Flags by the names of `FeatureSpec.modalities`."""
    modalities = spec.modalities()
    if not modalities:
        return {}
    read = [[inputs[name] for name in tensors] for tensors in modalities.values()]
    flags = Presence(name="presence")(read)
    if options.modality_dropout:
        own = options.seed + 1000 * (1 + len(inputs))  # the tensors have those before
        flags = ModalityDropout(options.modality_dropout, seed=own, name="modality_dropout")(flags)
    return dict(zip(modalities, flags, strict=True))


def _context(texts: list[Modality]) -> Modality:
    """Attends over several texts; what a text's absence means is learned, as in the fusion."""
    present = [text.present for text in texts]
    attention = HANAttention(name="context_attention")
    context = attention([text.vector for text in texts], present)[0]
    context = AbsentVectors(name="absent_texts")(context, present)
    return Modality(context, Presence(name="context_presence")([present])[0])
