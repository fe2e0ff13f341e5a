import keras
import numpy as np
import pytest

from mmnet.layers.disturbance import (
    ColdStartDisturbance,
    HiddenHistory,
    ModalityDropout,
    MultiMode,
    NoisyDisturbance,
    UnknownDisturbance,
    hide_all,
    hide_steps,
)
from tests.conformance import check_layer

RATE = np.array([[2.0, 0.0, 4.0, 1.0, 3.0, 5.0]], "float32")  # [batch=1, window=6], percent
MISSING = np.array([[0, 1, 0, 0, 0, 0]], "float32")  # no clicks in the second period
CLICKS = np.array([[50, 0, 25, 100, 100, 20]], "float32")


def multi_mode(
    weights=(1, 1, 1), noisy_rate=0.5, adaptive_modes="none", adaptive_clicks=50, **more
):
    return MultiMode(weights, noisy_rate, adaptive_modes, adaptive_clicks, **more)


def test_hidden_steps_read_like_steps_without_clicks():
    hidden = np.array([[0, 0, 1, 0, 0, 1]])
    missing, rate, clicks = hide_steps(hidden, MISSING, RATE, CLICKS)
    np.testing.assert_array_equal(missing, [[0, 1, 1, 0, 0, 1]])
    np.testing.assert_array_equal(rate, [[2, 0, 0, 1, 3, 0]])
    np.testing.assert_array_equal(clicks, [[50, 0, 0, 100, 100, 0]])


def test_hiding_all_leaves_nothing():
    missing, rate, clicks = hide_all(MISSING, RATE, CLICKS)
    np.testing.assert_array_equal(missing, np.ones((1, 6)))
    np.testing.assert_array_equal(rate, np.zeros((1, 6)))
    np.testing.assert_array_equal(clicks, np.zeros((1, 6)))


def test_hiding_keeps_types():
    missing, rate, clicks = hide_all(
        MISSING.astype("int8"), RATE.astype("float64"), CLICKS.astype("int64")
    )
    assert (missing.dtype, rate.dtype, clicks.dtype) == ("int8", "float64", "int64")


def test_hiding_refuses_to_broadcast():
    with pytest.raises(ValueError, match="must have one shape"):
        hide_steps(np.ones((1, 1)), MISSING, RATE)


def test_cold_start_hides_the_history_in_training_only():
    rate, missing, clicks = ColdStartDisturbance()(RATE, MISSING, CLICKS, training=True)
    for seen in (rate, 1 - np.asarray(missing), clicks):
        np.testing.assert_array_equal(seen, np.zeros((1, 6)))
    rate, missing = ColdStartDisturbance()(RATE, MISSING)
    np.testing.assert_array_equal(rate, RATE)
    np.testing.assert_array_equal(missing, MISSING)


def test_noisy_rate_zero_hides_nothing_and_one_hides_all():
    rate, missing = NoisyDisturbance(0.0)(RATE, MISSING, training=True)
    np.testing.assert_array_equal(rate, RATE)
    np.testing.assert_array_equal(missing, MISSING)
    rate, missing = NoisyDisturbance(1.0)(RATE, MISSING, training=True)
    np.testing.assert_array_equal(rate, np.zeros((1, 6)))
    np.testing.assert_array_equal(missing, np.ones((1, 6)))


def test_noisy_hides_the_given_part_of_the_steps():
    seen = np.zeros((1000, 100), "float32")
    _, missing = NoisyDisturbance(0.3, seed=0)(seen, seen, training=True)
    # Three standard errors of a Bernoulli(0.3) mean over 1e5 steps.
    assert np.mean(missing) == pytest.approx(0.3, abs=0.0044)


def test_noisy_keeps_the_original_flags_and_the_seen_rates():
    many = 500
    rate, missing = np.repeat(RATE, many, 0), np.repeat(MISSING, many, 0)
    noisy_rate, noisy_missing = NoisyDisturbance(0.5, seed=0)(rate, missing, training=True)
    noisy_rate, noisy_missing = np.asarray(noisy_rate), np.asarray(noisy_missing)
    assert np.all(noisy_missing >= missing)
    np.testing.assert_array_equal(noisy_rate[noisy_missing == 0], rate[noisy_missing == 0])
    np.testing.assert_array_equal(noisy_rate[noisy_missing == 1], 0)


def modes_met(layer, examples=3000):
    """Counts (normal, cold, mixed) examples of one training batch by what became of them."""
    ones, zeros = np.ones((examples, 20), "float32"), np.zeros((examples, 20), "float32")
    hidden = np.sum(layer(ones, zeros, training=True)[1], axis=1)
    # A noisy example of 20 steps is all seen or all hidden with probability 2e-6 at τ = 0.5.
    return np.sum(hidden == 0), np.sum(hidden == 20), np.sum((hidden > 0) & (hidden < 20))


def test_one_batch_meets_all_modes_as_often_as_their_weights_say():
    met = modes_met(multi_mode((2, 1, 1), seed=0))
    for count, probability in zip(met, (0.5, 0.25, 0.25), strict=True):
        # Three standard deviations of a binomial count.
        assert abs(count - 3000 * probability) < 3 * (3000 * probability * (1 - probability)) ** 0.5


@pytest.mark.parametrize("mode", [0, 1, 2])
def test_a_mode_of_weight_zero_is_never_met(mode):
    weights = [0.3, 0.3, 0.3]
    weights[mode] = 0
    assert modes_met(multi_mode(weights, seed=0))[mode] == 0


def test_a_single_mode_is_always_met():
    assert modes_met(multi_mode((1, 0, 0))) == (3000, 0, 0)
    assert modes_met(multi_mode((0, 1, 0))) == (0, 3000, 0)
    assert modes_met(multi_mode((0, 0, 1), seed=0))[2] == 3000


def test_mode_counts_tell_what_training_met():
    layer = multi_mode(seed=0)
    met = np.add(modes_met(layer), modes_met(layer))
    np.testing.assert_array_equal(layer.mode_counts, met)


def test_mode_counts_survive_a_number_that_float32_would_lose():
    layer = multi_mode((1, 0, 0))
    layer.build()
    layer.mode_counts.assign([2**24, 0, 0])
    layer(RATE, MISSING, training=True)
    assert layer.mode_counts.numpy()[0] == 2**24 + 1


def test_multi_mode_is_the_identity_outside_training():
    layer = multi_mode(seed=0)
    for before, after in zip((RATE, MISSING, CLICKS), layer(RATE, MISSING, CLICKS), strict=True):
        np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(layer.mode_counts, [0, 0, 0])


def test_the_seed_repeats_the_disturbance_and_each_step_draws_afresh():
    rate = np.ones((50, 6), "float32")
    first, second = multi_mode(seed=3), multi_mode(seed=3)
    drawn = np.asarray(first(rate, 0 * rate, training=True)[1])
    np.testing.assert_array_equal(drawn, second(rate, 0 * rate, training=True)[1])
    assert np.any(drawn != np.asarray(first(rate, 0 * rate, training=True)[1]))


def test_clicks_are_hidden_with_the_rate():
    rate = np.ones((200, 6), "float32")
    _, missing, clicks = multi_mode(seed=0)(rate, 0 * rate, rate, training=True)
    np.testing.assert_array_equal(clicks, 1 - np.asarray(missing))


def test_rates_keep_float32_under_mixed_precision():
    layer = multi_mode(dtype="mixed_bfloat16")
    assert all(output.dtype == "float32" for output in layer(RATE, MISSING, CLICKS))


@pytest.mark.parametrize("weights", [(0, 0, 0), (1, -1, 1), (1, 1), (1, 1, float("nan"))])
def test_refuses_weights_that_are_no_frequencies(weights):
    with pytest.raises(ValueError, match=r"`mode_weights` must be three numbers"):
        multi_mode(weights)


def test_refuses_a_noisy_rate_outside_its_range():
    with pytest.raises(ValueError, match=r"`noisy_rate` must be in \[0, 1\]"):
        NoisyDisturbance(1.5)


def test_trains_under_xla_and_counts_every_example():
    inputs = [keras.Input((6,)) for _ in range(2)]
    layer = multi_mode(seed=0)
    rate, missing = layer(*inputs)
    model = keras.Model(inputs, keras.layers.Dense(1)(rate + missing))
    model.compile("sgd", "mse", jit_compile=True, steps_per_execution=2)
    rate = np.ones((96, 6), "float32")
    model.fit([rate, 0 * rate], rate[:, 0], batch_size=16, epochs=2, verbose=0)
    assert layer.mode_counts.numpy().sum() == 192
    assert layer.mode_counts.numpy().min() > 0


@pytest.mark.parametrize(
    "layer", [ColdStartDisturbance(), NoisyDisturbance(0.3, seed=1), multi_mode((2, 1, 1), seed=1)]
)
def test_conforms(layer, tmp_path):
    check_layer(layer, RATE, MISSING, CLICKS, tmp_path=tmp_path)


@pytest.mark.parametrize("training", [False, True])
def test_a_hidden_history_is_a_cold_start_always(training):
    rate, missing, clicks = HiddenHistory()(RATE, MISSING, CLICKS, training=training)
    for seen in (rate, 1 - np.asarray(missing), clicks):
        np.testing.assert_array_equal(seen, np.zeros((1, 6)))


def test_hidden_history_conforms(tmp_path):
    check_layer(HiddenHistory(), RATE, MISSING, CLICKS, tmp_path=tmp_path)


# ------------------------------------------------------------------------- unknown values

IDS = np.array([[5, 0, 2], [7, 3, 0]], "int32")  # [batch=2, values=3], 0 pads


def test_unknown_rate_one_reads_every_value_as_unknown_and_keeps_padding():
    hidden = UnknownDisturbance(1.0)(IDS, training=True)
    np.testing.assert_array_equal(hidden, [[1, 0, 1], [1, 1, 0]])


def test_unknown_is_the_identity_outside_training_and_at_rate_zero():
    np.testing.assert_array_equal(UnknownDisturbance(1.0)(IDS), IDS)
    np.testing.assert_array_equal(UnknownDisturbance(0.0)(IDS, training=True), IDS)


def test_unknown_hides_the_given_part_of_the_values():
    ids = np.full((1000, 100), 9, "int32")
    hidden = np.asarray(UnknownDisturbance(0.3, seed=0)(ids, training=True)) == 1
    # Three standard errors of a Bernoulli(0.3) mean over 1e5 values.
    assert hidden.mean() == pytest.approx(0.3, abs=0.0044)


def test_unknown_refuses_a_rate_outside_its_range():
    with pytest.raises(ValueError, match="`rate` must be in"):
        UnknownDisturbance(1.5)


def test_unknown_conforms(tmp_path):
    check_layer(UnknownDisturbance(0.5, seed=0), IDS, tmp_path=tmp_path)


# ------------------------------------------------------------------------ lost modalities


FLAGS = [np.array([1, 1, 0, 1], "float32"), np.array([0, 1, 1, 1], "float32")]


def test_modalities_are_lost_in_training_only():
    for flag, kept in zip(FLAGS, ModalityDropout(1.0)(FLAGS), strict=True):
        np.testing.assert_array_equal(kept, flag)
    for flag, kept in zip(FLAGS, ModalityDropout(0.0)(FLAGS, training=True), strict=True):
        np.testing.assert_array_equal(kept, flag)
    for kept in ModalityDropout(1.0)(FLAGS, training=True):
        np.testing.assert_array_equal(kept, np.zeros(4))


def test_modalities_are_lost_at_the_given_rate_and_independently():
    there = [np.ones(20_000, "float32")] * 2
    layer = ModalityDropout(0.3, seed=0)
    first, second = (np.asarray(flag) for flag in layer(there, training=True))
    for lost in (1 - first, 1 - second):
        # Three standard errors of a Bernoulli(0.3) mean over 2e4 examples.
        assert lost.mean() == pytest.approx(0.3, abs=3 * (0.21 / 20_000) ** 0.5)
    # Both at once: 0.3², the same.
    both = ((1 - first) * (1 - second)).mean()
    assert both == pytest.approx(0.09, abs=3 * (0.0819 / 20_000) ** 0.5)
    assert np.any(np.asarray(layer(there, training=True)[0]) != first)  # drawn anew


def test_what_is_absent_is_never_called_there():
    for _ in range(3):
        kept = ModalityDropout(0.5, seed=1)(FLAGS, training=True)
        assert all(np.all(np.asarray(new) <= old) for new, old in zip(kept, FLAGS, strict=True))


def test_equal_seeds_lose_the_same_modalities():
    there = [np.ones(50, "float32")] * 2
    one, other = (ModalityDropout(0.5, seed=4)(there, training=True) for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_modality_dropout_refuses_a_rate_outside_its_range():
    with pytest.raises(ValueError, match="`rate` must be in"):
        ModalityDropout(-0.1)


def test_modality_dropout_conforms(tmp_path):
    check_layer(ModalityDropout(0.5, seed=0), FLAGS, tmp_path=tmp_path)


# -------------------------------------------------------------------------- adaptive modes


def windows(clicks, examples=3000, steps=20):
    """Rates, flags and clicks of fully seen windows with `clicks` in each."""
    ones = np.ones((examples, steps), "float32")
    return ones, 0 * ones, np.broadcast_to(np.float32(clicks) / steps, ones.shape)


def adaptive(weights=(1, 1, 1), clicks=50, seed=0):
    return multi_mode(weights, seed=seed, adaptive_modes="evidence", adaptive_clicks=clicks)


@pytest.mark.parametrize(
    ("clicks", "frequencies"),
    [
        # e = 3/4: weights 1, 3/2, 3/2; e = 1/6: weights 1, 1/3, 1/3.
        (150, (0.25, 0.375, 0.375)),
        (10, (0.6, 0.2, 0.2)),
    ],
)
def test_rich_histories_are_disturbed_more_often_and_poor_ones_less(clicks, frequencies):
    layer = adaptive()
    layer(*windows(clicks), training=True)
    for count, probability in zip(layer.mode_counts.numpy(), frequencies, strict=True):
        # Three standard deviations of a binomial count.
        assert abs(count - 3000 * probability) < 3 * (3000 * probability * (1 - probability)) ** 0.5


def test_at_the_adaptive_clicks_the_weights_are_the_fixed_ones():
    seen = windows(40)
    fixed, equal = multi_mode((3, 2, 1), seed=0), adaptive((3, 2, 1), clicks=40)
    for one, other in zip(fixed(*seen, training=True), equal(*seen, training=True), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(fixed.mode_counts, equal.mode_counts)


def test_each_example_of_a_batch_has_weights_of_its_own():
    ones, zeros, many = windows(1e6, examples=600)
    clicks = np.where(np.arange(600)[:, None] < 300, many, 0)
    layer = adaptive((1, 1, 0))
    missing = np.asarray(layer(ones, zeros, clicks, training=True)[1])
    hidden = missing.all(axis=1)
    assert not hidden[300:].any()  # nothing to hide: normal
    # Weights 1 and 2; three standard deviations of a binomial share.
    assert hidden[:300].mean() == pytest.approx(2 / 3, abs=3 * (2 / 9 / 300) ** 0.5)
    np.testing.assert_array_equal(layer.mode_counts, [600 - hidden.sum(), hidden.sum(), 0])


@pytest.mark.parametrize("mode", [0, 1, 2])
@pytest.mark.parametrize("clicks", [0, 30])
def test_an_adaptive_mode_of_weight_zero_is_never_met(mode, clicks):
    weights = [1.0, 1.0, 1.0]
    weights[mode] = 0
    layer = adaptive(weights)
    layer(*windows(clicks), training=True)
    assert layer.mode_counts.numpy()[mode] == 0
    assert layer.mode_counts.numpy().sum() == 3000


def test_adaptive_modes_are_the_identity_outside_training():
    layer = adaptive()
    for before, after in zip((RATE, MISSING, CLICKS), layer(RATE, MISSING, CLICKS), strict=True):
        np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(layer.mode_counts, [0, 0, 0])


def test_adaptive_modes_need_the_clicks():
    with pytest.raises(ValueError, match="`clicks` must be given"):
        adaptive()(RATE, MISSING, training=True)


def test_the_modes_are_the_blocks_of_the_paper():
    ones, zeros, clicks = windows(20, examples=50)
    for weights, block in (((0, 1, 0), "cold_start"), ((0, 0, 1), "noisy")):
        layer = multi_mode(weights, seed=0)
        # Another block in its place is what the mode does then.
        setattr(layer, block, NoisyDisturbance(0.0, seed=0))
        np.testing.assert_array_equal(layer(ones, zeros, clicks, training=True)[1], zeros)


def test_refuses_adaptive_modes_that_do_not_exist():
    with pytest.raises(ValueError, match="`adaptive_modes` must be one of none, evidence"):
        multi_mode(adaptive_modes="age")
    with pytest.raises(ValueError, match="`adaptive_clicks` must be above 0"):
        multi_mode(adaptive_clicks=0)


def test_adaptive_modes_conform(tmp_path):
    # Outside training there is no difference: the golden file is that of the fixed weights.
    check_layer(adaptive((2, 1, 1), seed=1), RATE, MISSING, CLICKS, tmp_path=tmp_path)


def test_fixed_modes_draw_what_they_always_drew():
    # Recorded before modes could adapt; threefry gives the same numbers everywhere.
    missing = multi_mode(seed=5)(np.ones((8, 6)), np.zeros((8, 6)), training=True)[1]
    assert np.sum(missing, axis=1).tolist() == [0, 6, 3, 0, 4, 1, 0, 6]
    np.testing.assert_array_equal(missing[2], [0, 1, 1, 0, 1, 0])


def test_the_counts_before_the_window_are_hidden_with_the_oldest_step():
    rate, missing, clicks = (np.ones((200, 3), "float32") for _ in range(3))
    lifetime = np.full(200, 7.0, "float32"), np.full(200, 50.0, "float32")
    layer = MultiMode((1, 1, 1), 0.5, adaptive_modes="none", adaptive_clicks=50, seed=0)
    shown = layer(rate, 0 * missing, clicks, lifetime=lifetime, training=True)
    flag, *found = (np.asarray(one) for one in (shown[1], *shown[3:]))
    hidden = flag[:, 0] == 1
    assert 50 < hidden.sum() < 150
    np.testing.assert_array_equal(found[0], np.where(hidden, 0, 7))
    np.testing.assert_array_equal(found[1], np.where(hidden, -1, 50))
    # The draws are those without a lifetime.
    twin = MultiMode((1, 1, 1), 0.5, adaptive_modes="none", adaptive_clicks=50, seed=0)
    np.testing.assert_array_equal(twin(rate, 0 * missing, clicks, training=True)[1], flag)
    still = layer(rate, 0 * missing, clicks, lifetime=lifetime)
    np.testing.assert_array_equal(still[3:], lifetime)
