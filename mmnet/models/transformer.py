"""Transformer: self-attention over the steps instead of MMNet's modules for the history."""

from __future__ import annotations

import keras

from mmnet import checks
from mmnet.models.fine_granularity import bounded, model_inputs, with_known_means
from mmnet.models.heads import mixed_prior
from mmnet.models.meta_info import meta_info
from mmnet.models.mmnet import gated_prediction
from mmnet.models.moment import moment_of
from mmnet.models.options import TransformerOptions
from mmnet.models.seeding import seeded
from mmnet.models.step_vectors import step_vectors
from mmnet.schema import FeatureSpec


def transformer(spec: FeatureSpec, options: TransformerOptions) -> keras.Model:
    """Builds the transformer baseline.

    Beyond Yu et al. (2021): the sequence model that one would try first today. It reads the same
    steps as the GRU baseline, and meta-info, gated fusion and prediction are MMNet's own, so that
    the systems differ only in how q is computed: here it is the last step's output of a pre-norm
    encoder (Vaswani et al., 2017; Xiong et al., 2020) with learned positions. Each step attends
    to all steps. A missing step is flagged, not masked, since its taxonomies are still
    informative; so a history without any steps is not a special case.

    Args:
        spec: the tensors of the dataset and their fitted statistics.
        options: see `TransformerOptions`.

    Returns:
        A model from a dict of all tensors of `spec` to percent, [batch]; with several
        `spec.outputs()` [batch, outputs].

    Raises:
        ValueError: an argument is out of its range, `num_heads` does not divide `units`, or
            "rate_only" with evidence.
    """
    units, heads = options.units, checks.at_least(1, num_heads=options.num_heads)
    inner = 4 * units if options.feed_forward_units is None else options.feed_forward_units
    checks.at_least(1, num_layers=options.num_layers)
    checks.at_least(1, feed_forward_units=inner)
    if units % heads:
        raise ValueError(
            f"`num_heads` must divide `units`. Received: num_heads={heads}, units={units}"
        )
    with seeded(options.seed):
        inputs = model_inputs(spec)
        tensors = with_known_means(bounded(inputs, spec), spec)
        # The steps, disturbed in training. [batch, window, units]
        steps = step_vectors(tensors, spec, options, hide_history=options.head == "smoothed")
        # Where in the window each of them is. [batch, window, units]
        vectors = PositionVectors(name="positions")(steps.vectors)
        # Each read beside the others. [batch, window, units]
        for number in range(1, options.num_layers + 1):
            vectors = _encoded(vectors, heads, inner, options, number)
        # What they say together: q. [batch, units]
        last = keras.layers.Cropping1D((spec.window - 1, 0), name="last_step")(vectors)
        history = _normalised("transformer")(
            keras.layers.Reshape((units,), name="last_vector")(last)
        )
        # What the item itself says: u, c, v, as far as it has them. [batch, units] each
        content = meta_info(tensors, spec, options)
        # How far to trust each of them, and the prediction. [batch]
        predicted = gated_prediction(
            [history],
            content,
            spec,
            options,
            smoothed=None if options.head == "direct" else steps.history,
            moment=moment_of(tensors, spec, steps.history, units=units),
            prior=mixed_prior(tensors, content, steps.history, spec, options)
            if options.head == "mixed"
            else None,
        )
    return keras.Model(inputs, predicted, name="transformer")


def _encoded(
    vectors: keras.KerasTensor, heads: int, inner: int, options: TransformerOptions, number: int
) -> keras.KerasTensor:
    """One layer of the encoder: x + attention(norm(x)), then x + dense(norm(x))."""
    units = options.units

    def dropped(found: keras.KerasTensor, name: str) -> keras.KerasTensor:
        if not options.dropout:
            return found
        return keras.layers.Dropout(options.dropout, seed=options.seed, name=name)(found)

    normalised = _normalised(f"attention_norm_{number}")(vectors)
    attention = keras.layers.MultiHeadAttention(heads, units // heads, name=f"attention_{number}")
    found = attention(normalised, normalised)
    found = dropped(found, f"attention_dropout_{number}")
    vectors = keras.layers.Add(name=f"attended_{number}")([vectors, found])
    found = _normalised(f"dense_norm_{number}")(vectors)
    # Not GELU: ONNX Runtime and OpenVINO would lack its error function.
    found = keras.layers.Dense(inner, "silu", name=f"inner_{number}")(found)
    found = keras.layers.Dense(units, name=f"outer_{number}")(found)
    found = dropped(found, f"dense_dropout_{number}")
    return keras.layers.Add(name=f"encoded_{number}")([vectors, found])


def _normalised(name: str) -> keras.layers.Layer:
    """Divides by the root mean square: without a mean to subtract, no extreme rate is a NaN."""
    return keras.layers.RMSNormalization(name=name)


@keras.saving.register_keras_serializable(package="mmnet")
class PositionVectors(keras.layers.Layer):
    """Adds a learned vector per step, so that attention can distinguish the steps.

    Call arguments:
        vectors: x, [batch, window, units].

    Returns:
        x_t + p_t, the same shape.
    """

    def build(self, vectors_shape):
        # As large as embeddings are at the start; a step's vector is around 1.
        self.positions = self.add_weight(tuple(vectors_shape[1:]), "uniform", name="positions")
        self.built = True

    def call(self, vectors):
        return vectors + self.positions
