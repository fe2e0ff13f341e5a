"""Further inputs of a head: the item's age at the target, the calendar, and its lifetime."""

from __future__ import annotations

from typing import NamedTuple

import keras

from mmnet.layers.age import AgeEmbedding, KnownAge
from mmnet.layers.embedding import FieldEmbedding
from mmnet.layers.lifetime import LifetimeFeatures
from mmnet.models.fine_granularity import History, in_standard_deviations
from mmnet.schema import AGE, AGE_AT_LEAST, AgeSpec, FeatureSpec


class Moment(NamedTuple):
    """Further vectors that a head reads; beyond Yu et al. (2021).

    Attributes:
        ahead: what is known of the target period before it begins, [batch, units]; None: nothing.
        lifetime: the item's counts before the window, [batch, units]; None: not an input.
    """

    ahead: keras.KerasTensor | None = None
    lifetime: keras.KerasTensor | None = None


NOTHING = Moment()

STAGE = "stage"
"""Name of the layer that makes the vector of a stage."""


def moment_of(
    inputs: dict[str, keras.KerasTensor], spec: FeatureSpec, history: History, *, units: int
) -> Moment:
    """Make the vectors of age and calendar, and of the lifetime, if they are inputs.

    Args:
        inputs: tensors of the dataset.
        spec: which of them there are.
        history: the item's own after the disturbance; an age that is known from the history is
            hidden with it, and so are the counts before the window.
        units: width of each vector.
    """
    return Moment(
        ahead(inputs, spec, history.missing_flag, units=units),
        lifetime(history, spec, units=units) if history.lifetime else None,
    )


def lifetime(history: History, spec: FeatureSpec, *, units: int) -> keras.KerasTensor:
    """Vector of the counts before the window, [batch, units]."""
    rate, clicks = history.lifetime
    rate = in_standard_deviations(rate, spec, "scaled_earlier_rate")
    numbers = LifetimeFeatures(name="lifetime_features")(rate, clicks)
    return keras.layers.Dense(units, "relu", name="lifetime")(numbers)


def ahead(
    inputs: dict[str, keras.KerasTensor],
    spec: FeatureSpec,
    missing_flag: keras.KerasTensor,
    *,
    units: int,
) -> keras.KerasTensor | None:
    """Vector of what is known about the target period in advance.

    Args:
        inputs: tensors of the dataset.
        spec: which of them there are.
        missing_flag: flags of the item's history after the disturbance, [batch, window].
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
        missing_flag: see `ahead`.
        units: width of the result.

    Returns:
        [batch, units].

    Raises:
        ValueError: the dataset has no ages.
    """
    if spec.age is None:
        raise ValueError("`stage` needs the items' ages; add --inputs=age")
    return _age_vector(inputs, spec.age, missing_flag, units, ("known_stage", STAGE))


def _age_vector(inputs, age: AgeSpec, missing_flag, units: int, names: tuple[str, str]):
    """Vector of the age, unknown where it is known from a history that is hidden."""
    found = inputs[AGE.name], inputs[AGE_AT_LEAST.name]
    if age.hidden:
        found = KnownAge(name=names[0])(*found, missing_flag)
    return AgeEmbedding(units, name=names[1])(*found)
