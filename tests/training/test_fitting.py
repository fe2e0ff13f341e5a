import os
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

from mmnet.checks import InputError
from mmnet.training.sessions import Interrupted
from mmnet.training.tensorboard import PNG, Logs


class Call(keras.callbacks.Callback):
    """Calls a function as each execution begins, with the steps taken."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def on_train_batch_begin(self, batch, logs=None):
        self.function(int(self.model.optimizer.iterations))


def events(run_dir):
    accumulator = EventAccumulator(str(run_dir / "logs"), size_guidance={"tensors": 0})
    accumulator.Reload()
    return accumulator


def series(accumulator, tag):
    return [(e.step, float(tf.make_ndarray(e.tensor_proto))) for e in accumulator.Tensors(tag)]


def test_settings_are_checked(tiny):
    with pytest.raises(ValueError, match=r"monitor\n.*'mean_log_mse', 'normal', 'cold_start' or"):
        tiny.settings(monitor="normal_mse")
    with pytest.raises(ValueError, match=r"loss\n.*'mse', 'binomial' or 'poisson'"):
        tiny.settings(loss="mae")


def test_no_warning_about_a_compilation_that_is_ours(tiny, monkeypatch, recwarn):
    # Keras compiles nothing where operations are deterministic, and warns; our steps do.
    monkeypatch.setattr("keras.src.trainers.trainer.model_supports_jit", lambda model: False)
    tiny.trainer(tiny.headed(), jit=True)
    assert not recwarn.list


def test_a_likelihood_is_fitted_and_not_resumed_with_another_loss(tiny, tmp_path):
    def batches(first_step):
        return tiny.batches(first_step).map(lambda inputs, y: (inputs, 100 * tf.sigmoid(y)))

    model = tiny.headed(link="logit")
    given = {"batches": batches, "loss": "binomial"}
    _, result = tiny.train(tmp_path, model, epochs=4, **given)
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    with pytest.raises(InputError, match="loss"):
        tiny.train(tmp_path, model, epochs=5, resume=True, batches=batches)
    with pytest.raises(InputError, match="needs --set=link=logit"):
        tiny.train(tmp_path / "unfit", **given)


# ------------------------------------------------------------------------------ results


def test_result_describes_the_run(uninterrupted):
    trained, result, _ = uninterrupted
    assert (result.steps, result.epochs, len(result.history)) == (10, 2, 2)
    assert result.best_value == result.history[result.best_epoch - 1]["monitor"]
    # mean_log_mse of MSE, 2 MSE and 3 MSE.
    normal = result.metrics["normal_mse"]
    assert result.best_value == pytest.approx(np.log(normal) + np.log(6) / 3, rel=1e-12)
    assert int(trained.optimizer.iterations) == 10
    assert result.steps_per_second > 0


def test_same_seed_same_weights_after_fifty_steps(tiny, tmp_path):
    first, _ = tiny.train(tmp_path / "first", epochs=10, checkpoint_seconds=60)
    second, _ = tiny.train(tmp_path / "second", epochs=10, checkpoint_seconds=60)
    assert int(first.optimizer.iterations) == 50
    for array, wanted in zip(tiny.arrays(second), tiny.arrays(first), strict=True):
        np.testing.assert_array_equal(array, wanted)


def test_a_cosine_schedule_ends_at_zero(tiny, tmp_path):
    trained, result = tiny.train(tmp_path, schedule="cosine", epochs=2)
    assert int(trained.optimizer.iterations) == result.steps == 10
    # 0.01 * (1 + cos(pi * step / 10)) / 2; float32.
    assert float(trained.optimizer.learning_rate) == pytest.approx(0, abs=1e-9)


def test_a_cosine_run_is_not_resumed_with_other_epochs(tiny, tmp_path):
    tiny.train(tmp_path, schedule="cosine", epochs=1)
    with pytest.raises(InputError, match="schedule"):
        tiny.train(tmp_path, schedule="cosine", epochs=2, resume=True)


def test_weights_of_zero_leave_an_example_out(tiny, tmp_path):
    def weighted(first_step):
        half = np.arange(tiny.BATCH) < tiny.BATCH // 2

        def hide(inputs, target):
            return inputs, tf.where(half, target, 1e6), tf.cast(half, tf.float32)

        return tiny.batches(first_step).map(hide)

    _, result = tiny.train(tmp_path, batches=weighted, epochs=1)
    assert result.history[0]["loss"] < 1e3  # a target of 1e6 would make it 1e11


def test_what_validation_draws_or_changes_does_not_reach_training(tiny, uninterrupted, tmp_path):
    def validate(trained):
        metrics = tiny.validate(trained)
        inputs, _ = next(iter(tiny.batches(0)))
        trained(inputs, training=True)  # moves the layers' generators, statistics and counters
        keras.random.normal((3,))
        tf.random.normal((3,))
        np.random.rand(3)  # noqa: NPY002
        for variable in trained.trainable_variables:
            variable.assign(variable * 0)
        return metrics

    trained, result = tiny.train(tmp_path, validate=validate)
    assert result.metrics == uninterrupted[1].metrics
    for array, wanted in zip(tiny.arrays(trained), tiny.arrays(uninterrupted[0]), strict=True):
        np.testing.assert_array_equal(array, wanted)


def test_the_training_step_is_traced_once(tiny, tmp_path):
    traces, trained = [], tiny.model()
    compute_loss = trained.compute_loss
    trained.compute_loss = lambda *given, **named: traces.append(1) or compute_loss(*given, **named)
    tiny.train(tmp_path, trained, epochs=3)
    # TensorFlow may run a `while` body's Python twice while it traces; no epoch adds to it.
    assert len(traces) <= 2


def test_early_stopping_keeps_the_best_weights(tiny, tmp_path):
    values, seen = iter([3.0, 1.0, 1.0, 2.0, 0.5]), []

    def validate(trained):
        seen.append(tiny.arrays(trained))
        value = next(values)
        return {"normal_mse": 9.0, "cold_start_mse": value, "noisy_mse": 9.0}

    trained, result = tiny.train(
        tmp_path, validate=validate, epochs=5, patience=2, monitor="cold_start"
    )
    # Epoch 3 is no better than 2, epoch 4 is worse: patience of 2 is used up.
    assert (result.best_epoch, result.best_value, result.epochs) == (2, 1.0, 4)
    assert result.stopped_early
    for array, wanted in zip(tiny.arrays(trained), seen[1], strict=True):
        np.testing.assert_array_equal(array, wanted)
    assert any(not np.array_equal(a, b) for a, b in zip(seen[1], seen[3], strict=True))


# -------------------------------------------------------------------- what goes wrong


# ----------------------------------------------------------------- weights to start from


def worse_and_worse(values):
    """A validation whose MSE are these, one after the other."""
    left = iter(values)

    def validate(_):
        mse = next(left)
        return {"normal_mse": mse, "cold_start_mse": mse, "noisy_mse": mse}

    return validate


def test_weights_to_start_from_stay_where_no_epoch_is_better(tiny, tmp_path):
    start = tiny.arrays(tiny.model())
    validate = worse_and_worse([1.0, 2.0, 3.0])
    trained, result = tiny.train(tmp_path, validate=validate, epochs=2, from_start=True)
    assert (result.best_epoch, result.epochs) == (0, 2)
    assert result.metrics == result.start == validate_once(1.0)
    for array, wanted in zip(tiny.arrays(trained), start, strict=True):
        np.testing.assert_array_equal(array, wanted)


def validate_once(mse):
    return worse_and_worse([mse])(None)


def test_no_epoch_at_all_validates_the_weights_to_start_from(tiny, tmp_path):
    validate = worse_and_worse([1.0])
    _, result = tiny.train(
        tmp_path, validate=validate, max_epochs=0, from_start=True, weight_average=0.5
    )
    assert (result.best_epoch, result.epochs, result.steps) == (0, 0, 0)
    assert result.metrics == validate_once(1.0)


def test_an_epoch_that_is_better_than_the_start_is_kept(tiny, uninterrupted, tmp_path):
    trained, result = tiny.train(tmp_path, from_start=True)
    # Nothing else changes: the weights are those of a run that does not look at its start.
    for array, wanted in zip(tiny.arrays(trained), tiny.arrays(uninterrupted[0]), strict=True):
        np.testing.assert_array_equal(array, wanted)
    assert result.start["normal_mse"] > result.metrics["normal_mse"]
    assert result.metrics == uninterrupted[1].metrics


def test_the_start_is_validated_once_however_often_a_run_is_resumed(tiny, tmp_path):
    validate = worse_and_worse([1.0, 2.0])
    tiny.train(tmp_path, validate=validate, epochs=1, from_start=True)
    start = tiny.arrays(tiny.model())
    again = worse_and_worse([3.0])
    trained, result = tiny.train(
        tmp_path, tiny.model(seed=9), validate=again, epochs=2, from_start=True, resume=True
    )
    assert (result.best_epoch, result.epochs, result.best_value) == (0, 2, 0.0)
    for array, wanted in zip(tiny.arrays(trained), start, strict=True):
        np.testing.assert_array_equal(array, wanted)


def test_patience_counts_from_the_start(tiny, tmp_path):
    validate = worse_and_worse([1.0, 2.0, 3.0, 4.0])
    _, result = tiny.train(tmp_path, validate=validate, epochs=9, patience=2, from_start=True)
    assert (result.best_epoch, result.epochs, result.stopped_early) == (0, 2, True)


def test_a_loss_that_is_no_number_stops_training(tiny, tmp_path):
    def batches(first_step):
        def spoil(step, batch):
            inputs, target = batch
            return inputs, tf.where(step == 6, np.nan, 1.0) * target

        steps = tf.data.Dataset.range(first_step, 10**6)
        return tf.data.Dataset.zip(steps, tiny.batches(first_step)).map(
            lambda step, batch: spoil(step, batch)
        )

    with pytest.raises(
        InputError, match=r"the loss is nan at step 7 \(epoch 2\): lower --learning"
    ):
        tiny.train(tmp_path, batches=batches)
    assert [path.stem for path in sorted((tmp_path / "checkpoints").iterdir())][-1] == (
        "epoch_000001_step_0000000005"
    )


def test_a_validation_that_is_no_number_stops_training(tiny, tmp_path):
    def validate(_):
        return {"normal_mse": np.nan, "cold_start_mse": 1.0, "noisy_mse": 1.0}

    with pytest.raises(
        InputError, match="mean_log_mse is nan on the validation rows after epoch 1"
    ):
        tiny.train(tmp_path, validate=validate)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_session_with_a_checkpoint(number, tiny, uninterrupted, tmp_path):
    def interrupt(step):
        if step == 5:  # the execution that begins here ends with step 7
            os.kill(os.getpid(), number)

    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(
        Interrupted, match=r"stopped at step 7 of 10; --run_dir=.* --resume continues"
    ):
        tiny.train(tmp_path, checkpoint_seconds=60, callbacks=[Call(interrupt)])
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
    resumed, _ = tiny.train(tmp_path, tiny.model(seed=9), resume=True)
    for array, wanted in zip(tiny.arrays(resumed), tiny.arrays(uninterrupted[0]), strict=True):
        np.testing.assert_array_equal(array, wanted)

    # What was logged before and after joins without a gap or a repetition.
    logged = events(tmp_path)
    whole = events(uninterrupted[2])
    for tag in ("train/loss", "train/epoch_loss", "normal_mse"):
        np.testing.assert_allclose(series(logged, tag), series(whole, tag), rtol=1e-5)


# ------------------------------------------------------------------------------- logs


def test_tensorboard_has_the_scalars(uninterrupted):
    logged = events(uninterrupted[2])
    assert set(logged.Tags()["tensors"]) >= {
        "train/loss",
        "train/epoch_loss",
        "train/learning_rate",
        "train/steps_per_second",
        "monitor/mean_log_mse",
        "normal_mse",
        "cold_start_mse",
        "noisy_mse",
        "extra/n",
        "modes/normal",
        "modes/cold",
        "modes/noisy",
        "mode_counts/noisy",
        "best/normal_mse",
    }
    assert [step for step, _ in series(logged, "train/loss")] == [2, 4, 5, 7, 9, 10]
    history = uninterrupted[1].history
    # The executions of 2, 2 and 1 steps make up the epoch's mean.
    losses = [loss for _, loss in series(logged, "train/loss")]
    assert np.dot(losses[:3], [2, 2, 1]) / 5 == pytest.approx(history[0]["loss"], rel=1e-5)
    assert series(logged, "normal_mse") == [
        (row["step"], pytest.approx(row["metrics"]["normal_mse"], rel=1e-6)) for row in history
    ]
    # 10 steps of 16 examples.
    assert (
        sum(series(logged, f"mode_counts/{m}")[-1][1] for m in ("normal", "cold", "noisy")) == 160
    )


def test_tensorboard_has_the_hyperparameters(uninterrupted):
    logged = events(uninterrupted[2])
    assert set(logged.PluginTagToContent("hparams")) == {
        "_hparams_/experiment",
        "_hparams_/session_start_info",
        "_hparams_/session_end_info",
    }
    content = logged.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"ratios" in content
    assert b"8,1,1" in content


def test_tensorboard_shows_a_picture(tmp_path):
    png = PNG + b"\0\0\0\rIHDR" + (640).to_bytes(4, "big") + (480).to_bytes(4, "big")
    with Logs(tmp_path) as logs:
        logs.image(3, "evaluation/gates", png)
        with pytest.raises(ValueError, match="must be a PNG file"):
            logs.image(3, "evaluation/none", b"GIF")
    found = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0}).Reload()
    assert found.Tags()["tensors"] == ["evaluation/gates"]
    assert "evaluation/gates" in found.PluginTagToContent("images")
    (event,) = found.Tensors("evaluation/gates")
    assert (event.step, *event.tensor_proto.string_val) == (3, b"640", b"480", png)


def test_tensorboard_forgets_what_a_killed_session_logged_after_its_checkpoint(
    tiny, uninterrupted, tmp_path
):
    def fail(step):
        if step == 9:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):  # last checkpoint: step 5
        tiny.train(tmp_path, checkpoint_seconds=60, callbacks=[Call(fail)])
    tiny.train(tmp_path, resume=True, checkpoint_seconds=60)
    assert [step for step, _ in series(events(tmp_path), "train/loss")] == [2, 4, 5, 7, 9, 10]


def test_a_trace_of_the_chosen_steps_is_written(tiny, tmp_path):
    tiny.train(tmp_path, epochs=1, profile_steps=(3, 3))
    assert list((tmp_path / "logs").rglob("*.xplane.pb"))


# ------------------------------------------------------------------------- several seeds


@pytest.mark.parametrize("jit", [False, True])
def test_a_fit_after_another_ends_as_it_would_alone(tiny, tmp_path, jit):
    alone, expected = tiny.train(tmp_path / "alone", tiny.model(seed=1), jit=jit, seed=1)
    trained = tiny.model(seed=0)
    trainer = tiny.trainer(trained, jit=jit)
    trainer.fit(tiny.batches, tiny.validate, run_dir=tmp_path / "first", resume=False)
    trainer.start_over(tiny.model(seed=1), seed=1)
    found = trainer.fit(tiny.batches, tiny.validate, run_dir=tmp_path / "second", resume=False)
    for ours, theirs in zip(tiny.arrays(trained), tiny.arrays(alone), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert found.metrics == expected.metrics
    assert found.steps == expected.steps


def test_a_fit_after_another_goes_on_from_its_own_checkpoint(tiny, tmp_path):
    alone, _ = tiny.train(tmp_path / "alone", tiny.model(seed=1), epochs=2, seed=1)
    tiny.train(tmp_path / "half", tiny.model(seed=1), epochs=1, seed=1)
    trained = tiny.model(seed=0)
    trainer = tiny.trainer(trained, epochs=2)
    trainer.fit(tiny.batches, tiny.validate, run_dir=tmp_path / "first", resume=False)
    trainer.start_over(tiny.model(seed=1), seed=1)
    trainer.fit(tiny.batches, tiny.validate, run_dir=tmp_path / "half", resume=True)
    for ours, theirs in zip(tiny.arrays(trained), tiny.arrays(alone), strict=True):
        np.testing.assert_array_equal(ours, theirs)
