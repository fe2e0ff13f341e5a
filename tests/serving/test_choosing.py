import time

import numpy as np
import pytest

from mmnet.checks import InputError
from mmnet.serving import choosing, exported, runtimes
from mmnet.serving.choosing import compare, fastest, quality
from mmnet.serving.runtimes import RUNTIMES, OpenSignature
from tests.models.tiny import SPEC, batch
from tests.serving.exported import needs


@pytest.fixture(scope="module")
def directory(small_export):
    return small_export


@pytest.fixture(scope="module")
def cache(onnx_cache):
    return onnx_cache


def stand_ins(monkeypatch, **behaviour):
    """Replaces each runtime by one that waits and errs by (seconds, sd of the rates)."""

    def opened(directory, signature, *, runtime, precision="float32", threads, cache):
        if runtime not in behaviour and precision not in behaviour:
            raise InputError(f"--runtime={runtime} is not there")
        seconds, error = behaviour.get(precision) or behaviour[runtime]

        def run(part):
            time.sleep(seconds)
            return {exported.OUTPUT: part["share_rate"][:, 0] + error * SPEC.rate_scale}

        inputs = {"share_rate": (np.dtype(np.float32), (6,))}
        return OpenSignature(run, inputs, runtime=runtime)

    monkeypatch.setattr(choosing, "opened", opened)


def test_takes_the_fastest_that_gives_the_same_scores(directory, monkeypatch):
    stand_ins(monkeypatch, tensorflow=(0.02, 0), xla=(0.01, 5e-5), onnx=(0, 5e-4))
    scorer, trials = fastest(directory, "serving_default", batch(SPEC, 8), rounds=3)
    assert scorer.runtime == "xla"
    assert [trial.runtime for trial in trials] == list(RUNTIMES)
    of = {trial.runtime: trial for trial in trials}
    # 8 rows in 10 ms; a sleep is never shorter than asked for.
    assert 100 < of["xla"].rows_per_second <= 800
    assert of["xla"].rows_per_second > of["tensorflow"].rows_per_second
    assert not of["xla"].refused
    assert np.isnan(of["onnx"].rows_per_second)
    assert "--runtime=onnx differs from TensorFlow" in of["onnx"].refused
    assert of["openvino"].refused == "--runtime=openvino is not there"


def test_scores_that_are_no_numbers_pass_for_nothing(directory, monkeypatch):
    stand_ins(monkeypatch, tensorflow=(0.001, 0), onnx=(0, np.nan))
    scorer, _ = fastest(directory, "serving_default", batch(SPEC, 8), rounds=1)
    assert scorer.runtime == "tensorflow"


def test_without_tensorflow_there_is_no_reference(directory, monkeypatch):
    stand_ins(monkeypatch, onnx=(0, 0))
    with pytest.raises(InputError, match="--runtime=tensorflow is not there"):
        fastest(directory, "serving_default", batch(SPEC, 8))


def test_a_relative_difference_is_allowed_where_a_score_is_large():
    wanted = np.array([100.0, 0.0])
    found = {exported.OUTPUT: np.array([101.0, 0.1])}
    # 1 of 100, and 0.1 of a sd of 20: the first is the larger one.
    assert choosing.deviation(
        {exported.OUTPUT: wanted}, found, {exported.OUTPUT: 20}
    ) == pytest.approx(0.01)
    assert choosing.deviation(
        {exported.OUTPUT: wanted}, found, {exported.OUTPUT: 2}
    ) == pytest.approx(0.05)


def test_every_output_is_compared_in_the_scale_of_its_rate():
    scales = {exported.OUTPUT: 20, "predicted_like": 2}
    wanted = dict.fromkeys(scales, np.array([0.0, 1.0]))
    found = wanted | {"predicted_like": np.array([0.1, 1.0])}
    assert choosing.deviation(wanted, found, scales) == pytest.approx(0.05)


def test_the_least_similar_output_decides():
    good, bad = compare(SCORES, SCORES, 2.0), compare(SCORES, SCORES + 0.05, 2.0)
    found = choosing.least_similar([good, bad])
    assert not found.is_kept
    assert found.deviation == bad.deviation
    assert found.correlation == min(good.correlation, bad.correlation)
    assert not choosing.least_similar([good, compare(SCORES, SCORES * np.nan, 2.0)]).is_kept


def test_the_runtimes_that_are_there_pass_on_a_real_export(directory, cache):
    needs("onnx"), needs("openvino")
    sample = batch(SPEC, 300)
    scorer, trials = fastest(directory, "serving_default", sample, cache=cache, rounds=1)
    assert [trial.refused for trial in trials] == [""] * 4
    # float32 in another order of sums: two digits of 6e-8 lost.
    assert max(trial.deviation for trial in trials) < 1e-5
    assert scorer(sample)[exported.OUTPUT].shape == (300,)


# ------------------------------------------------------------------------------------ quality

SCORES = np.random.default_rng(0).gamma(2, 2, 4000)


def test_equal_scores_are_kept():
    found = compare(SCORES, SCORES, 2.0)
    assert (found.deviation, found.largest, found.overlap) == (0, 0, 1)
    assert found.correlation == pytest.approx(1)
    assert found.is_kept


def test_a_deviation_is_in_units_of_the_sd_of_the_rates():
    found = compare(np.array([0.0, 10.0]), np.array([3.0, 14.0]), 2.0)
    assert found.largest == 2
    assert found.deviation == pytest.approx(np.sqrt((1.5**2 + 2**2) / 2))


@pytest.mark.parametrize(("noise", "kept"), [(0.003, True), (0.03, False)])
def test_noise_of_a_hundredth_of_the_sd_is_the_border(noise, kept):
    found = SCORES + np.random.default_rng(1).normal(0, noise * 2, len(SCORES))
    assert compare(SCORES, found, 2.0).is_kept == kept


def test_a_lost_top_is_not_kept_however_near_the_scores_are():
    tops = SCORES.copy()
    tops[np.argsort(SCORES)[-200:]] = 20.0 + 0.001 * np.arange(200)
    lost = tops.copy()
    lost[np.argsort(tops)[-200:-100]], lost[:100] = lost[:100].copy(), 20.05
    assert compare(tops, lost, 1e6).deviation < choosing.MOST_DEVIATION
    assert not compare(tops, lost, 1e6).is_kept


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_not_kept(wrong):
    assert not compare(SCORES, np.where(SCORES > 9, wrong, SCORES), 2.0).is_kept


def test_one_score_for_all_is_not_kept():
    assert not compare(SCORES, np.full_like(SCORES, SCORES.mean()), 1e6).is_kept


def test_too_few_rows_are_refused(directory):
    with pytest.raises(InputError, match="checked on at least 1,000 rows, but there are only 999"):
        quality(directory, "serving_default", batch(SPEC, 999))


def test_a_precision_that_spoils_the_scores_is_one_sentence(directory, monkeypatch):
    stand_ins(monkeypatch, float32=(0, 0), bfloat16=(0, 0.02))
    with pytest.raises(
        InputError, match=r"by 0\.0200 of the sd of rates \(0\.01 at most\)"
    ) as caught:
        quality(directory, "serving_default", batch(SPEC, 1000))
    assert "use --precision=float32" in str(caught.value)


def test_bfloat16_is_measured_on_a_real_export(directory, cache):
    needs("openvino")
    if not runtimes.has_bfloat16():
        pytest.skip("this processor has no bfloat16")
    found = quality(directory, "serving_default", batch(SPEC, 4000), cache=cache)
    assert 0 < found.deviation <= choosing.MOST_DEVIATION
