import functools
import shutil

import keras
import numpy as np
import pytest

from mmnet.checks import InputError
from mmnet.training import fitting, resume
from mmnet.training.averaging import WeightAverage

MOMENTUM = 0.6
"""Reached at the 13th step; the steps before it follow the rule of the start."""


def compiled(tiny, seed=0):
    model = tiny.model(seed)
    model.compile(keras.optimizers.Adam(0.01), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def arrays(variables):
    return [resume.to_array(variable) for variable in variables]


def test_is_what_a_loop_over_the_steps_gives(tiny):
    model = compiled(tiny)
    average = WeightAverage(model, MOMENTUM)
    wanted = None
    for n, batch in enumerate(tiny.batches(0).take(20), start=1):
        model.train_step(batch)
        weights = arrays(v for v in resume.model_variables(model) if v.dtype == "float32")
        kept = min(MOMENTUM, (n - 1) / (n + 8))
        wanted = [
            now.astype("float64") if n == 1 else kept * before + (1 - kept) * now
            for before, now in zip(wanted or weights, weights, strict=True)
        ]
        # float32 against float64, over twenty steps.
        for found, one in zip(arrays(average.variables), wanted, strict=True):
            np.testing.assert_allclose(found, one, rtol=1e-5, atol=1e-6)


def test_holds_weights_and_batch_statistics_but_no_counters_or_random_states(tiny):
    model = compiled(tiny)
    averaged = {v.shape for v in WeightAverage(model, MOMENTUM).variables}
    floats = [v for v in model.variables if v.dtype == "float32"]
    assert len(WeightAverage(compiled(tiny), MOMENTUM).variables) == len(floats)
    assert averaged == {v.shape for v in floats}
    assert any("moving_mean" in v.path for v in floats)


def test_a_momentum_of_one_is_refused(tiny):
    with pytest.raises(ValueError, match=r"`momentum` must be in \(0, 1\). Received: momentum=1"):
        WeightAverage(compiled(tiny), 1)


@pytest.fixture(scope="module")
def averaged(tiny, tmp_path_factory):
    """Two epochs whose averages are validated: model, result, run directory, what was validated."""
    run_dir, seen = tmp_path_factory.mktemp("averaged"), []

    def validate(trained):
        seen.append(tiny.arrays(trained))
        return tiny.validate(trained)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "Checkpoints", functools.partial(resume.Checkpoints, keep=100))
        trained, result = tiny.train(run_dir, validate=validate, weight_average=MOMENTUM)
    return trained, result, run_dir, seen


def test_the_training_itself_does_not_change(averaged, uninterrupted):
    _, plain, _ = uninterrupted
    losses = [row["loss"] for row in plain.history]
    # The same steps: their losses are those without an average, to the bit.
    assert [row["loss"] for row in averaged[1].history] == losses


def test_the_average_is_validated_and_left_in_the_model(tiny, averaged, uninterrupted):
    trained, result, run_dir, seen = averaged
    for found, wanted in zip(tiny.arrays(trained), seen[result.best_epoch - 1], strict=True):
        np.testing.assert_array_equal(found, wanted)
    newest = resume.Checkpoints(run_dir / "checkpoints").newest()
    averages = [array for name, array in newest.arrays.items() if name.startswith("average/")]
    floats = [array for array in seen[-1] if array.dtype == np.float32]
    for found, wanted in zip(averages, floats, strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert result.metrics != uninterrupted[1].metrics


def test_resumes_exactly(tiny, averaged, tmp_path):
    trained, result, run_dir, _ = averaged
    paths = resume.Checkpoints(run_dir / "checkpoints").paths()
    for path in (paths[0], paths[3]):  # within the first epoch, and after it
        resumed_dir = tmp_path / path.stem
        (resumed_dir / "checkpoints").mkdir(parents=True)
        shutil.copy(path, resumed_dir / "checkpoints")
        resumed, again = tiny.train(
            resumed_dir, tiny.model(seed=9), resume=True, weight_average=MOMENTUM
        )
        for found, wanted in zip(tiny.arrays(resumed), tiny.arrays(trained), strict=True):
            np.testing.assert_array_equal(found, wanted)
        assert again.metrics == result.metrics


def test_a_run_is_not_resumed_with_another_average(tiny, averaged, tmp_path):
    shutil.copytree(averaged[2] / "checkpoints", tmp_path / "checkpoints")
    with pytest.raises(
        InputError, match=r"trained with weight_average=0.6, this run has weight_average=None"
    ):
        tiny.train(tmp_path, resume=True)


def test_a_fit_after_another_ends_as_it_would_alone(tiny, tmp_path):
    given = {"jit": True, "weight_average": MOMENTUM}
    alone, expected = tiny.train(tmp_path / "alone", tiny.model(seed=1), seed=1, **given)
    trained = tiny.model(seed=0)
    trainer = tiny.trainer(trained, **given)
    trainer.fit(tiny.batches, tiny.validate, run_dir=tmp_path / "first", resume=False)
    trainer.start_over(tiny.model(seed=1), seed=1)
    found = trainer.fit(tiny.batches, tiny.validate, run_dir=tmp_path / "second", resume=False)
    for ours, theirs in zip(tiny.arrays(trained), tiny.arrays(alone), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert found.metrics == expected.metrics
