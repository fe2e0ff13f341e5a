"""Disturbance: layers that hide parts of the history and of the content in training.

Yu et al. (2021) section 4.2 and Fig. 2. `hide_all` and `hide_steps` are the one definition of
"hidden": the layers below call them in training, the evaluation scenarios call them in testing.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Literal

import keras
from keras import ops

from mmnet import checks
from mmnet.schema import MISSING_ID, UNKNOWN_ID, UNKNOWN_LIFETIME

MODES = ("normal", "cold", "noisy")
ADAPTIVE_MODES = ("none", "evidence")


def hide_steps(hidden, missing_flag, *sequences):
    """Make chosen steps read exactly like steps without clicks.

        m' = max(m, b)        s' = (1 - m') * s

    The paper prints s' = m' * s, which would keep exactly the missing steps: an erratum.

    Args:
        hidden: b, 1 or True for the steps to hide, [batch, window].
        missing_flag: m, 1.0 where a step is missing already; those stay missing. [batch, window].
        *sequences: everything that derives from the hidden steps (rates, clicks), each
            [batch, window]. Arrays or tensors of any dtype, which they keep.

    Returns:
        `(missing_flag, *sequences)`, as tensors of the same shapes.

    Raises:
        ValueError: the shapes differ.
    """
    named = {f"sequences[{number}]": value for number, value in enumerate(sequences)}
    checks.same_shape(hidden=hidden, missing_flag=missing_flag, **named)
    missing_flag = ops.convert_to_tensor(missing_flag)
    missing_flag = ops.maximum(missing_flag, ops.cast(hidden, missing_flag.dtype))
    seen = 1 - missing_flag
    shown = (ops.convert_to_tensor(sequence) for sequence in sequences)
    return missing_flag, *(ops.cast(seen, s.dtype) * s for s in shown)


def hide_all(missing_flag, *sequences):
    """Hide every step, as for an item without any history. See `hide_steps`."""
    return hide_steps(ops.ones_like(missing_flag), missing_flag, *sequences)


def hide_lifetime(hidden, *lifetime):
    """Hide an item's counts before the window where the oldest step of the window is hidden.

    So a cold start hides them, and the noisy mode hides them by one draw, with its probability.

    Args:
        hidden: b of `hide_steps`, [batch, window].
        *lifetime: the tensors of `schema.LIFETIME`, [batch] each; or none.

    Returns:
        Tensors of the same shapes, unknown where hidden.
    """
    oldest = ops.cast(ops.convert_to_tensor(hidden)[:, 0], "bool")
    return tuple(
        ops.where(oldest, ops.full_like(tensor, unknown), tensor)
        for tensor, unknown in zip(lifetime, UNKNOWN_LIFETIME.values(), strict=True)
    )


class _Disturbance(keras.layers.Layer):
    """Identity outside training; in training hides the steps that `hidden` names."""

    def __init__(self, **kwargs):
        # Rates and clicks pass through untouched, also under a mixed precision policy.
        super().__init__(autocast=False, **kwargs)

    def call(self, share_rate, missing_flag, clicks=None, further=(), lifetime=(), training=False):
        evidence = () if clicks is None else (clicks,)
        named = {} if clicks is None else {"clicks": clicks}
        checks.same_shape(share_rate=share_rate, missing_flag=missing_flag, **named)
        if not training:
            return share_rate, missing_flag, *evidence, *keras.tree.flatten(further), *lifetime
        hidden = self.hidden(missing_flag, clicks)
        missing_flag, share_rate, *evidence = hide_steps(
            hidden, missing_flag, share_rate, *evidence
        )
        others = []
        for rate, flag, counted in further:
            flag, rate, counted = hide_steps(hidden, flag, rate, counted)
            others += [rate, flag, counted]
        if lifetime:
            others += hide_lifetime(hidden, *lifetime)
        return share_rate, missing_flag, *evidence, *others

    def compute_output_spec(
        self, share_rate, missing_flag, clicks=None, further=(), lifetime=(), training=False
    ):
        inputs = (
            (share_rate, missing_flag) if clicks is None else (share_rate, missing_flag, clicks)
        )
        inputs = (*inputs, *keras.tree.flatten(further), *lifetime)
        return tuple(keras.KerasTensor(x.shape, x.dtype) for x in inputs)

    def hidden(self, missing_flag, clicks=None):
        """Choose the steps to hide in training: b, bool [batch, window]."""
        raise NotImplementedError


@keras.saving.register_keras_serializable(package="mmnet")
class ColdStartDisturbance(_Disturbance):
    """Hides the whole history, in training only.

    Yu et al. (2021) section 4.2, cold-start disturbance block: m' = 1 and s' = 0 at every step.

    Call arguments:
        share_rate: y, [batch, window], in percent.
        missing_flag: m, [batch, window], 1.0 where a step is missing.
        clicks: evidence behind each rate, [batch, window]; may be left out.
        further: `(share_rate, missing_flag, clicks)` of each further rate, [batch, window] each;
            the same steps are hidden as in the main one. May be left out.
        lifetime: `(earlier_rate, earlier_clicks)`, [batch] each, see `hide_lifetime`. May be left
            out.

    Returns:
        `(share_rate, missing_flag)`, or with clicks `(share_rate, missing_flag, clicks)`; same
        shapes and units. Those of further rates and of the lifetime follow in the same tuple.

    Raises:
        ValueError: the shapes differ.

    Examples:
        >>> rate, missing = [[2.0, 4.0]], [[0.0, 0.0]]
        >>> hidden = ColdStartDisturbance()(ops.array(rate), ops.array(missing), training=True)
        >>> [ops.convert_to_numpy(one).tolist() for one in hidden]
        [[[0.0, 0.0]], [[1.0, 1.0]]]
    """

    def hidden(self, missing_flag, clicks=None):
        """Choose every step."""
        return ops.ones_like(missing_flag, "bool")


@keras.saving.register_keras_serializable(package="mmnet")
class NoisyDisturbance(_Disturbance):
    """Hides random steps of the history, in training only.

    Yu et al. (2021) section 4.2, noisy disturbance block. A step is hidden where T <= τ with
    T ~ U[0, 1]; a step that was missing stays missing (m' = m ∨ hidden).

    Args:
        noisy_rate: τ, probability of hiding a step, in [0, 1].
        seed: repeats the same stream of disturbances; None draws a new one.

    Call arguments and returns: as `ColdStartDisturbance`.

    Raises:
        ValueError: `noisy_rate` is outside [0, 1], or the shapes differ.

    Examples:
        >>> rate, missing = ops.full((1, 1000), 2.0), ops.zeros((1, 1000))
        >>> _, flag = NoisyDisturbance(0.3, seed=0)(rate, missing, training=True)
        >>> 0.25 < float(ops.mean(flag)) < 0.35  # about 30 % of the steps
        True
    """

    def __init__(self, noisy_rate: float, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self.noisy_rate, self.seed = checks.in_range(0, 1, noisy_rate=noisy_rate), seed
        self.generator = keras.random.SeedGenerator(seed)

    def hidden(self, missing_flag, clicks=None, draws=None):
        """Choose each step with probability τ; `draws` are T, [batch, window], drawn if None."""
        if draws is None:
            draws = keras.random.uniform(ops.shape(missing_flag), seed=self.generator)
        # T < τ, as T lies in [0, 1): then τ = 0 hides nothing and τ = 1 hides everything.
        return draws < self.noisy_rate

    def get_config(self):
        return {**super().get_config(), "noisy_rate": self.noisy_rate, "seed": self.seed}


@keras.saving.register_keras_serializable(package="mmnet")
class MultiMode(_Disturbance):
    """Sends each example of a batch to one mode, in training only.

    Yu et al. (2021) section 4.2 and Fig. 2, multi-mode strategy: an example passes as it is
    (normal), through the cold-start block, or through the noisy block. The mode is drawn per
    example, afresh at every step.

    The paper's outlook, modes that adapt to the instance: with "evidence" the weights of cold and
    noisy are multiplied by 2 e of the example, e = n / (n + c), for n clicks in its window. A rich
    history is disturbed more often (up to twice the weight), and one that is poor by nature, an
    example of a disturbed mode already, is left what little it has. Where all windows have c
    clicks, these are the fixed weights. Clicks rather than seen steps are counted, since a step
    seen through one click tells nothing. With further rates, the clicks are the main one's.

    Args:
        mode_weights: relative frequencies of (normal, cold, noisy); need not sum to 1.
        noisy_rate: τ of the noisy mode, in [0, 1].
        adaptive_modes: "none": the weights are those of every example; "evidence": see above.
        adaptive_clicks: c, clicks in a window of which the weights hold as they are; above 0.
        seed: repeats the same stream of disturbances; None draws a new one.

    Attributes:
        cold_start, noisy: the two blocks of Fig. 2.
        mode_counts: int64 [3], examples sent to each mode since training began (under a
            distribution strategy, those of the first replica).

    Call arguments and returns: as `ColdStartDisturbance`; "evidence" needs the clicks.

    Raises:
        ValueError: `mode_weights` are not three numbers, one is negative or all are zero;
            `noisy_rate` is outside [0, 1]; `adaptive_modes` is unknown; `adaptive_clicks` is not
            above 0; the shapes differ; or "evidence" came without clicks.

    Examples:
        >>> layer = MultiMode((2, 1, 1), 0.5, adaptive_modes="none", adaptive_clicks=50, seed=0)
        >>> rate, missing = ops.full((100, 6), 2.0), ops.zeros((100, 6))
        >>> shown, flag = layer(rate, missing, training=True)
        >>> int(ops.sum(layer.mode_counts)), bool(ops.all(shown == 2.0 * (1 - flag)))
        (100, True)
    """

    def __init__(
        self,
        mode_weights: Sequence[float],
        noisy_rate: float,
        adaptive_modes: Literal["none", "evidence"],
        adaptive_clicks: float,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.mode_weights = _normalised(mode_weights)
        self.cold_start = ColdStartDisturbance(name="cold_start")
        self.noisy = NoisyDisturbance(noisy_rate, seed, name="noisy")
        self.adaptive_modes = checks.one_of(ADAPTIVE_MODES, adaptive_modes=adaptive_modes)
        if not adaptive_clicks > 0:
            raise ValueError(
                f"`adaptive_clicks` must be above 0. Received: adaptive_clicks={adaptive_clicks}"
            )
        self.adaptive_clicks = adaptive_clicks

    def build(self, *_):
        self.mode_counts = self.add_weight(
            name="mode_counts",
            shape=(len(MODES),),
            dtype="int64",  # float32 stops counting at 2^24
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
        )
        self.built = True

    def hidden(self, missing_flag, clicks=None):
        """Choose what the block of each example's mode hides, and count the modes."""
        batch, window = ops.shape(missing_flag)
        # One draw: its first column chooses the mode, the others are T of the noisy block. Two
        # draws would change the random stream of every model trained so far.
        draws = keras.random.uniform((batch, 1 + window), seed=self.noisy.generator)
        mode, step = draws[:, :1], draws[:, 1:]
        end_of_normal, end_of_cold = self._thresholds(clicks)
        past_normal, past_cold = mode >= end_of_normal, mode >= end_of_cold

        reached = [ops.sum(ops.cast(past, "int64")) for past in (past_normal, past_cold)]
        met = [ops.cast(batch, "int64") - reached[0], reached[0] - reached[1], reached[1]]
        self.mode_counts.assign_add(ops.stack(met))

        disturbed = ops.where(
            past_cold,
            self.noisy.hidden(missing_flag, draws=step),
            self.cold_start.hidden(missing_flag),
        )
        return ops.logical_and(past_normal, disturbed)

    def _thresholds(self, clicks):
        """Where normal and cold end in [0, 1]: two numbers for all, or [batch, 1] each."""
        normal, cold, noisy = self.mode_weights
        if self.adaptive_modes == "none" or normal == 1:
            return tuple(accumulate((normal, cold)))
        if clicks is None:
            raise ValueError('`clicks` must be given with adaptive_modes="evidence"')
        in_window = ops.sum(ops.cast(clicks, "float32"), axis=1, keepdims=True)
        evidence = in_window / (in_window + self.adaptive_clicks)
        disturbed = 2 * evidence * (cold + noisy)
        # The limit keeps 0 / 0 away: without a click there is nothing to hide in any mode.
        end_of_normal = normal / ops.maximum(normal + disturbed, 1e-9)
        # Written so that it is 1 exactly where noisy must never be met.
        return end_of_normal, 1 - (1 - end_of_normal) * (noisy / (cold + noisy))

    def get_config(self):
        return {
            **super().get_config(),
            "mode_weights": list(self.mode_weights),
            "noisy_rate": self.noisy.noisy_rate,
            "seed": self.noisy.seed,
            "adaptive_modes": self.adaptive_modes,
            "adaptive_clicks": self.adaptive_clicks,
        }


@keras.saving.register_keras_serializable(package="mmnet")
class HiddenHistory(keras.layers.Layer):
    """Hides the whole history always, not only in training, from layers that must not read it.

    Call arguments:
        share_rate: y, [batch, window], in percent.
        missing_flag: m, [batch, window], 1.0 where a step is missing.
        clicks: evidence behind each rate, [batch, window].

    Returns:
        `(share_rate, missing_flag, clicks)` of a cold start; same shapes.

    Raises:
        ValueError: the shapes differ.
    """

    def __init__(self, **kwargs):
        super().__init__(autocast=False, **kwargs)

    def call(self, share_rate, missing_flag, clicks):
        missing_flag, share_rate, clicks = hide_all(missing_flag, share_rate, clicks)
        return share_rate, missing_flag, clicks


def _normalised(mode_weights: Sequence[float]) -> tuple[float, ...]:
    """Returns the weights divided by their sum.

    >>> _normalised((2, 1, 1))
    (0.5, 0.25, 0.25)
    """
    weights = tuple(float(weight) for weight in mode_weights)
    if len(weights) != len(MODES) or min(weights) < 0 or not 0 < sum(weights) < float("inf"):
        raise ValueError(
            f"`mode_weights` must be three numbers ({', '.join(MODES)}), none negative and not "
            f"all zero. Received: mode_weights={mode_weights}"
        )
    return tuple(weight / sum(weights) for weight in weights)


@keras.saving.register_keras_serializable(package="mmnet")
class UnknownDisturbance(keras.layers.Layer):
    """Replaces random values and words by the unknown one, in training only.

    Two things come of it: the row of the unknown value is trained, which every value that
    training never saw will meet; and an item's content is no longer its fingerprint, by which a
    network would memorize the level of each training item instead of reading its history.

    Args:
        rate: probability of each id to read as unknown, in [0, 1].
        seed: repeats the same stream; None draws a new one.

    Call arguments:
        ids: integer, [batch, values]; 0 (padding, or no value) stays.

    Returns:
        Ids of the same shape and dtype.

    Raises:
        ValueError: `rate` is outside [0, 1].

    Examples:
        >>> ids = ops.array([[5, 7, 0]])
        >>> ops.convert_to_numpy(UnknownDisturbance(1.0)(ids, training=True)).tolist()
        [[1, 1, 0]]
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self.rate, self.seed = checks.in_range(0, 1, rate=rate), seed
        self._draws = keras.random.SeedGenerator(seed)

    def call(self, ids, training=False):
        if not training:
            return ids
        draw = keras.random.uniform(ops.shape(ids), seed=self._draws)
        hidden = ops.logical_and(draw < self.rate, ops.not_equal(ids, MISSING_ID))
        return ops.where(hidden, ops.full_like(ids, UNKNOWN_ID), ids)

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


@keras.saving.register_keras_serializable(package="mmnet")
class ModalityDropout(keras.layers.Layer):
    """Drops modalities at random, in training only.

    A model cannot do without a modality that was never absent in training: it has no vector for
    the absence, and the others never had to predict alone. So each modality of an example is
    lost with one probability, independently of the others, with new draws at every step.

    Args:
        rate: probability of losing a modality that is present, in [0, 1].
        seed: repeats the same stream; None draws a new one.

    Call arguments:
        present: a flag per modality, list of [batch], 1.0 where it is present (see `Presence`).

    Returns:
        Flags of the same shapes and dtype; absent modalities stay absent.

    Raises:
        ValueError: `rate` is outside [0, 1].

    Examples:
        >>> present = [ops.ones(3), ops.ones(3)]  # of two modalities, for three examples
        >>> [ops.convert_to_numpy(p).tolist() for p in ModalityDropout(1.0)(present, training=True)]
        [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self.rate, self.seed = checks.in_range(0, 1, rate=rate), seed
        self._draws = keras.random.SeedGenerator(seed)

    def call(self, present, training=False):
        if not training:
            return list(present)
        draws = keras.random.uniform((len(present), *ops.shape(present[0])), seed=self._draws)
        # Kept where T >= rate, as T lies in [0, 1): rate 0 keeps and rate 1 loses everything.
        kept = ops.cast(draws >= self.rate, present[0].dtype)
        return [flag * kept[number] for number, flag in enumerate(present)]

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
