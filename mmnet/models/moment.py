"""The moment of the target: the item's age then, and the calendar."""

from __future__ import annotations

import keras

from mmnet.layers.age import AgeEmbedding, KnownAge
from mmnet.layers.embedding import FieldEmbedding
from mmnet.schema import AGE, AGE_AT_LEAST, FeatureSpec


def moment_vector(
    inputs: dict[str, keras.KerasTensor],
    spec: FeatureSpec,
    missing_flag: keras.KerasTensor,
    *,
    units: int,
) -> keras.KerasTensor | None:
    """Vector of what is known about the target period in advance; beyond Yu et al. (2021).

    Args:
        inputs: tensors of the dataset.
        spec: which of them there are.
        missing_flag: flags of the item's history after the disturbance, [batch, window]: an age
            that is known from the history is hidden with it.
        units: width of the result.

    Returns:
        [batch, units]; None if the dataset has neither ages nor a calendar.
    """
    parts = []
    if spec.age:
        age = inputs[AGE.name], inputs[AGE_AT_LEAST.name]
        if spec.age.hidden:
            age = KnownAge(name="known_age")(*age, missing_flag)
        parts.append(AgeEmbedding(units, name="age_embedding")(*age))
    if spec.cycles:
        embedding = FieldEmbedding(
            [cycle.size for cycle in spec.cycles], units=units, pooling="max", name="calendar"
        )
        ids = [keras.layers.Reshape((1,))(inputs[cycle.tensor]) for cycle in spec.cycles]
        parts.append(keras.layers.Flatten(name="flat_calendar")(embedding(ids, [])))
    if not parts:
        return None
    joined = keras.layers.Concatenate(name="known_ahead")(parts) if len(parts) > 1 else parts[0]
    return keras.layers.Dense(units, "relu", name="moment")(joined)
