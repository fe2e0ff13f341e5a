import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmnet.models.mmved import (
    ProductOfExperts,
    TimeDecoder,
    divergence_from_standard_normal,
    mmved,
    product_of_gaussians,
)
from mmnet.models.options import MmvedOptions
from tests.conformance import check_layer, check_model
from tests.models.test_step_vectors import BARE, SMALL, trainable
from tests.models.tiny import SPEC, batch

# Three experts, [batch=2, latent_units=2] each.
MEANS = [np.array([[1, -2], [n, 0.5]], "float32") for n in range(3)]
LOG_SDS = [np.array([[0, 0.3], [-0.2 * n, 1]], "float32") for n in range(3)]


def product(means, log_sds, present=(), **options):
    options = {"prior_expert": False, **options}
    mean, log_sd = product_of_gaussians(means, log_sds, present, **options)
    return np.asarray(mean), np.exp(log_sd)


@given(st.integers(1, 9), st.floats(-5, 5, width=32), st.floats(-6, 2, width=32))
@settings(max_examples=25, deadline=None)
def test_equal_experts_agree_and_are_surer_by_the_root_of_their_number(number, mean, log_sd):
    one = np.full((1, 1), mean, "float32"), np.full((1, 1), log_sd, "float32")
    found, sd = product([one[0]] * number, [one[1]] * number)
    # Sums of nine float32, and their logarithm.
    np.testing.assert_allclose(found, one[0], rtol=1e-5, atol=1e-30)
    np.testing.assert_allclose(sd, np.exp(one[1]) / np.sqrt(number), rtol=1e-5)


def test_an_expert_that_is_not_sure_barely_matters():
    sure, unsure = np.zeros((1, 1), "float32"), np.full((1, 1), 2, "float32")
    mean, sd = product([1 + sure, 1 - 9 * unsure], [sure, unsure])
    # The weight of the second is e^-4 / (1 + e^-4) = 0.018.
    np.testing.assert_allclose(mean, 1 - 0.018 * 18, atol=0.01)
    np.testing.assert_allclose(sd, 1, atol=0.01)


def test_an_expert_cannot_be_less_sure_or_surer_than_the_clip():
    far = [np.full((1, 1), value, "float32") for value in (-50, 50)]
    for log_sd, clipped in zip(far, (-20, 2), strict=True):
        # The square of exp(20) and its root, in float32.
        np.testing.assert_allclose(product([log_sd], [log_sd])[1], np.exp(clipped), rtol=1e-4)


def test_the_prior_is_one_more_expert():
    zeros = np.zeros_like(MEANS[0])
    expected = product([*MEANS, zeros], [*LOG_SDS, zeros])
    np.testing.assert_allclose(product(MEANS, LOG_SDS, prior_expert=True), expected, rtol=1e-6)


def test_an_expert_that_is_not_there_leaves_the_product():
    there, gone = np.ones(2, "float32"), np.zeros(2, "float32")
    # The sum of three precisions, one of them 0, is that of the other two.
    found = product(MEANS, LOG_SDS, [gone, there])
    np.testing.assert_allclose(found, product(MEANS[::2], LOG_SDS[::2]), rtol=1e-6)
    np.testing.assert_array_equal(product(MEANS, LOG_SDS, [there, there]), product(MEANS, LOG_SDS))
    alone = product(MEANS, LOG_SDS, [gone, gone])
    np.testing.assert_allclose(alone, (MEANS[0], np.exp(LOG_SDS[0])), rtol=1e-6)


def test_each_example_has_experts_of_its_own():
    found = product(MEANS, LOG_SDS, [np.array([0, 1], "float32"), np.array([1, 1], "float32")])
    for row, experts in enumerate(([0, 2], [0, 1, 2])):
        expected = product([MEANS[n] for n in experts], [LOG_SDS[n] for n in experts])
        np.testing.assert_allclose(
            [one[row] for one in found], [one[row] for one in expected], rtol=1e-6
        )


def test_the_product_is_that_of_the_densities():
    grid = np.linspace(-10, 10, 20_001)
    density = np.ones_like(grid)
    for mean, log_sd in zip(MEANS, LOG_SDS, strict=True):
        density *= np.exp(-((grid - mean[1, 0]) ** 2) / (2 * np.exp(2 * log_sd[1, 0])))
    mean = np.average(grid, weights=density)
    sd = np.sqrt(np.average((grid - mean) ** 2, weights=density))
    found = [one[1, 0] for one in product(MEANS, LOG_SDS)]
    # The inputs are float32.
    np.testing.assert_allclose(found, [mean, sd], rtol=1e-5)


def test_the_divergence_of_the_standard_normal_is_zero_and_else_by_the_formula():
    zeros = np.zeros((3, 4), "float32")
    np.testing.assert_array_equal(divergence_from_standard_normal(zeros, zeros), np.zeros(3))
    # ½ (e² + 4 - 1 - 2) per dimension with μ = 2 and σ = e.
    found = divergence_from_standard_normal(zeros + 2, zeros + 1)
    np.testing.assert_allclose(found, np.full(3, 4 * (np.e**2 + 1) / 2), rtol=1e-6)


def test_draws_in_training_and_takes_the_mean_elsewhere():
    means = [np.full((50_000, 1), value, "float32") for value in (1, 3)]
    log_sds = [np.zeros_like(mean) for mean in means]
    layer = ProductOfExperts(0.3, False, seed=0)
    np.testing.assert_allclose(layer(means, log_sds), 2 * np.ones((50_000, 1)), rtol=1e-6)
    assert not layer.losses
    drawn = np.asarray(layer(means, log_sds, training=True))
    # Three standard errors of 50,000 draws from N(2, 1/2), for its mean and its sd.
    assert np.mean(drawn) == pytest.approx(2, abs=3 * 0.71 / 224)
    assert np.std(drawn) == pytest.approx(0.7071, abs=3 * 0.71 / 316)


@pytest.mark.filterwarnings("ignore:The model does not have any trainable weights")
def test_under_xla_fit_adds_the_divergence_times_its_weight():
    means = np.array([[0, 1], [2, 0], [3, 3], [0, 0]], "float32")
    # As sure as may be, so the draw is the mean, and a row's divergence ½ Σ (μ² - 1 + 40).
    log_sds = np.full_like(means, -20)
    divergence = [39.5, 41, 48, 39]
    inputs = [keras.Input((2,)) for _ in range(2)]
    code = ProductOfExperts(0.3, False)(inputs[:1], inputs[1:])
    model = keras.Model(inputs, code)
    model.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=True, steps_per_execution=2)
    fitted = model.fit([means, log_sds], means + 2, batch_size=2, shuffle=False, verbose=0)
    # Each prediction is off by 2. The sum of a few float32.
    expected = 4 + 0.3 * np.mean(divergence)
    assert fitted.history["loss"] == pytest.approx([expected], rel=1e-5)


def test_the_time_decoder_starts_at_the_code_and_reads_the_time():
    layer, code = TimeDecoder(2), MEANS[1]
    layer.build(code.shape)
    kernel, recurrent, _ = (np.asarray(weight) for weight in layer.weights)
    bias = np.array([0.1, -0.2], "float32")
    layer.set_weights([kernel, recurrent, bias])
    half = np.tanh(0.5 * kernel + code @ recurrent + bias)
    end = np.tanh(kernel + half @ recurrent + bias)
    np.testing.assert_allclose(layer(code), end, rtol=1e-5)


def test_has_the_published_number_of_parameters():
    # 79,105 with the experts of u, c and v, which test_step_vectors counts.
    assert trainable(mmved(BARE, MmvedOptions())) == 448 + 79_105 - 3 * 12_480
    latent = 8
    narrow = 24_960 + (64 * 64 + 64 + 2 * (64 * latent + latent)) + (64 * latent + 64 + 65)
    assert trainable(mmved(BARE, MmvedOptions(latent_units=latent))) == 448 + narrow
    further = mmved(BARE.model_copy(update={"horizon": 3}), MmvedOptions())
    assert further.get_layer("time_decoder").count_params() == 64 + 64 * 64 + 64


def test_an_expert_for_the_history_and_each_modality():
    names = {
        layer.name
        for layer in mmved(SPEC, MmvedOptions(**SMALL)).layers
        if layer.name.endswith("_expert")
    }
    assert names == {
        "history_expert",
        "meta_expert",
        "text_title_expert",
        "vector_cover_expert",
    }


def test_refuses_a_negative_weight():
    with pytest.raises(ValueError, match="`kl_weight` must be at least 0"):
        mmved(SPEC, MmvedOptions(kl_weight=-1.0))


def test_the_product_conforms(tmp_path):
    check_layer(ProductOfExperts(0.3, True), MEANS, LOG_SDS, tmp_path=tmp_path)


def test_the_product_conforms_with_absent_experts(tmp_path):
    present = [np.array([0, 1], "float32"), np.array([1, 0], "float32")]
    golden = "ProductOfExperts_absent"
    check_layer(
        ProductOfExperts(0.3, False), MEANS, LOG_SDS, present, tmp_path=tmp_path, golden=golden
    )


def test_the_time_decoder_conforms(tmp_path):
    check_layer(TimeDecoder(3), MEANS[1], tmp_path=tmp_path)


def test_conforms(tmp_path):
    check_model(mmved(SPEC, MmvedOptions(seed=0, **SMALL)), batch(), tmp_path=tmp_path)
