"""GRU: a recurrent network instead of MMNet's modules for the history."""

from __future__ import annotations

import keras

from mmnet import checks
from mmnet.models.fine_granularity import bounded, model_inputs, with_known_means
from mmnet.models.heads import mixed_prior
from mmnet.models.meta_info import meta_info
from mmnet.models.mmnet import gated_prediction
from mmnet.models.moment import moment_of
from mmnet.models.options import GruOptions
from mmnet.models.seeding import seeded
from mmnet.models.step_vectors import SeenSteps, recurrent, step_vectors
from mmnet.schema import FeatureSpec


def gru(spec: FeatureSpec, options: GruOptions) -> keras.Model:
    """Builds the GRU baseline.

    Yu et al. (2021) section 6.2. Meta-info, gated fusion and prediction are MMNet's own, so the
    two differ only in how q comes about: here it is the last state of a GRU over the steps.

    Args:
        spec: the tensors of the dataset and their fitted statistics.
        options: see `GruOptions`.

    Returns:
        A model from a dict of all tensors of `spec` to percent, [batch]; with several
        `spec.outputs()` [batch, outputs].

    Raises:
        ValueError: an argument is out of its range, or "rate_only" with gru_mask or evidence.
    """
    gru_units = options.units if options.gru_units is None else options.gru_units
    checks.at_least(1, gru_units=gru_units)
    with seeded(options.seed):
        inputs = model_inputs(spec)
        tensors = with_known_means(bounded(inputs, spec), spec)
        # The steps, disturbed in training. [batch, window, units]
        steps = step_vectors(tensors, spec, options, hide_history=options.head == "smoothed")
        # What they say together: q. [batch, units]
        if options.gru_mask and steps.missing_flag is None:
            raise ValueError('`gru_mask` must be False with baseline_inputs="rate_only"')
        mask = SeenSteps(name="seen_steps")(steps.missing_flag) if options.gru_mask else None
        layer = recurrent(
            keras.layers.GRU, gru_units, spec, reset_after=options.reset_after, name="gru"
        )
        history = layer(steps.vectors, mask=mask)
        if gru_units != options.units:
            history = keras.layers.Dense(options.units, name="projected_gru")(history)
        # What the item itself says: u, c, v, as far as it has them. [batch, units] each
        content = meta_info(tensors, spec, options)
        # How far to trust each of them, and the prediction. [batch]
        predicted = gated_prediction(
            [history],
            content,
            spec,
            options,
            smoothed=None if options.head == "direct" else steps.history,
            moment=moment_of(tensors, spec, steps.history, units=options.units),
            prior=mixed_prior(tensors, content, steps.history, spec, options)
            if options.head == "mixed"
            else None,
        )
    return keras.Model(inputs, predicted, name="gru")
