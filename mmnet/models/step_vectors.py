"""Input of the neural baselines at each step: one vector of rates and flags."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
from keras import ops

from mmnet import checks
from mmnet.models.fine_granularity import (
    History,
    disturbed_history,
    in_standard_deviations,
    of_rate,
)
from mmnet.models.options import RecurrentOptions
from mmnet.schema import FeatureSpec

UNROLLED = 16
"""Longest window for which a recurrent layer is unrolled."""


class Steps(NamedTuple):
    """The steps of a window, disturbed in training.

    Attributes:
        vectors: x, [batch, window, units].
        share_rate: y / s, in standard deviations, [batch, window].
        missing_flag: m, [batch, window]; None when the baseline may not see it.
        history: the disturbed history that the vectors contain or hide, in percent.
    """

    vectors: keras.KerasTensor
    share_rate: keras.KerasTensor
    missing_flag: keras.KerasTensor | None
    history: History


def step_vectors(
    inputs: dict[str, keras.KerasTensor],
    spec: FeatureSpec,
    options: RecurrentOptions,
    *,
    hide_history: bool = False,
) -> Steps:
    """Concatenate the inputs that MMNet sees at a step, and map them linearly.

    Yu et al. (2021) section 6.2: every system gets the same inputs. With s the sd of the observed
    training rates, a step is [y/s, m, g/s, mg] of width 2 + 2 · taxonomies; a missing rate is 0
    and never centred, so that hiding a step does not quietly put the mean there. Further rates are
    further columns of the step, and so is the logarithm of what g rests on, if it is an input.

    Args:
        inputs: tensors of the dataset, see `with_known_means`.
        spec: what they are.
        options: coarse_granularity=False leaves out g and all about it,
            taxonomy_flags=False leaves out mg, baseline_inputs="rate_only" leaves out everything
            but y/s, and evidence adds log(1 + clicks).
        hide_history: hides the item's own history from the vectors, for `head="smoothed"`.

    Raises:
        ValueError: "rate_only" with evidence.
    """
    rate_only = options.baseline_inputs == "rate_only"
    if rate_only and options.evidence:
        raise ValueError('`evidence` must be False with baseline_inputs="rate_only"')
    history = disturbed_history(inputs, options, spec)
    read = history.hidden(spec) if hide_history else history
    sequences, evidence = [], []
    for rate in (None, *spec.rates):
        own = read if rate is None else read.of(rate.name, spec)
        scaled = of_rate("scaled_share_rate", rate)
        sequences.append(in_standard_deviations(own.share_rate, rate or spec, scaled))
        evidence.append(own.clicks)
        if rate_only:
            continue
        sequences.append(own.missing_flag)
        if options.coarse_granularity and spec.taxonomies:
            names = spec.sequences(rate.name if rate else "")
            means = inputs[names["taxonomy_rate"]]
            scaled = of_rate("scaled_taxonomy_rate", rate)
            sequences.append(in_standard_deviations(means, rate or spec, scaled))
            if options.taxonomy_flags:
                sequences.append(inputs[names["taxonomy_missing_flag"]])
            if spec.taxonomy_evidence:
                sequences.append(inputs[names["taxonomy_evidence"]])
    layer = StepLayer(options.units, name="step_layer")
    clicks = evidence[0] if len(evidence) == 1 else evidence
    vectors = layer(sequences, clicks) if options.evidence else layer(sequences)
    return Steps(vectors, sequences[0], None if rate_only else read.missing_flag, history)


def recurrent(
    layer: type[keras.layers.Layer], units: int, spec: FeatureSpec, **options: Any
) -> keras.layers.Layer:
    """Make a `keras.layers.GRU` or `LSTM` that XLA compiles well on any device."""
    # A short loop is faster unrolled; a long one compiles for minutes. XLA has no cuDNN kernels.
    return layer(units, unroll=spec.window <= UNROLLED, use_cudnn=False, **options)


@keras.saving.register_keras_serializable(package="mmnet")
class StepLayer(keras.layers.Layer):
    """Concatenates sequences and maps each step by the same linear layer.

    It takes the place of MMNet's granularity attention, which is MMNet's own idea and must not
    leak into the systems that it is compared with.

    Args:
        units: width of the output.

    Call arguments:
        sequences: list of [batch, window] and [batch, window, any], in units around 1.
        clicks: optional, [batch, window], or a list of those of each rate; enters as
            log(1 + clicks).

    Returns:
        x, [batch, window, units].

    Raises:
        ValueError: `units` is below 1.
    """

    def __init__(self, units: int, **kwargs):
        super().__init__(**kwargs)
        self.units = checks.at_least(1, units=units)

    def build(self, sequences_shape, clicks_shape=None):
        widths = [1 if len(shape) == 2 else shape[-1] for shape in sequences_shape]
        several = clicks_shape is not None and isinstance(clicks_shape[0], (list, tuple))
        width = sum(widths) + (len(clicks_shape) if several else clicks_shape is not None)
        self.kernel = self.add_weight((width, self.units), name="kernel")
        self.bias = self.add_weight((self.units,), "zeros", name="bias")
        self.built = True

    def call(self, sequences, clicks=None):
        if clicks is not None:
            of_rates = clicks if isinstance(clicks, (list, tuple)) else [clicks]
            sequences = [*sequences, *(ops.log1p(one) for one in of_rates)]
        columns = [ops.expand_dims(s, -1) if len(s.shape) == 2 else s for s in sequences]
        return ops.dot(ops.concatenate(columns, axis=-1), self.kernel) + self.bias

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable(package="mmnet")
class SeenSteps(keras.layers.Layer):
    """Turns missing flags, [batch, window], into a mask: True where a step was seen."""

    def call(self, missing_flag):
        return missing_flag < 0.5
