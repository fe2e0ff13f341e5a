"""The moment of the target: the item's age then, and the calendar."""

from __future__ import annotations

import keras

from mmnet.layers.age import AgeEmbedding, KnownAge
from mmnet.layers.embedding import FieldEmbedding
from mmnet.schema import AGE, AGE_AT_LEAST, AgeSpec, FeatureSpec


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
        parts.append(
            _age_vector(inputs, spec.age, missing_flag, units, ("known_age", "age_embedding"))
        )
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


def stage_vector(
    inputs: dict[str, keras.KerasTensor],
    spec: FeatureSpec,
    missing_flag: keras.KerasTensor,
    *,
    units: int,
) -> keras.KerasTensor:
    """Vector of the stage of an item's life, the bin of its age: Liao et al. (AAAI 2019).

    Args:
        inputs: tensors of the dataset.
        spec: description of the tensors.
        missing_flag: see `moment_vector`.
        units: width of the result.

    Returns:
        [batch, units].

    Raises:
        ValueError: the dataset has no ages.
    """
    if spec.age is None:
        raise ValueError("`stage` needs the items' ages; add --inputs=age")
    return _age_vector(inputs, spec.age, missing_flag, units, ("known_stage", "stage"))


def _age_vector(inputs, age: AgeSpec, missing_flag, units: int, names: tuple[str, str]):
    """Vector of the age, unknown where it is known from a history that is hidden."""
    found = inputs[AGE.name], inputs[AGE_AT_LEAST.name]
    if age.hidden:
        found = KnownAge(name=names[0])(*found, missing_flag)
    return AgeEmbedding(units, name=names[1])(*found)
