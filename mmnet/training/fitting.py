"""Fitting a model: loss, early stopping, best weights, checkpoints, logs, progress.

`stepping.Steps` takes the training steps; this module decides what happens between its calls.
"""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from mmnet import checks
from mmnet.checks import InputError
from mmnet.config import TrainingFlags
from mmnet.evaluation.scenarios import SCENARIOS
from mmnet.training import resume as resuming
from mmnet.training.progress import Display
from mmnet.training.resume import Checkpoint, Checkpoints, Progress
from mmnet.training.stepping import Batches, Steps, affordable, stacked
from mmnet.training.tensorboard import Logs, disturbance_modes

LINKS = {"binomial": "logit", "poisson": "log"}
"""Loss -> the link of the model that keeps its rates where the loss is defined."""


@dataclass(frozen=True)
class FitResult:
    """What came of a fit; the model itself holds the best epoch's weights.

    Attributes:
        best_epoch: counted from 1.
        best_value: its monitored value.
        metrics: what `validate` returned for it.
        history: one row per epoch: epoch, step, loss, monitor (the value), seconds, metrics.
        epochs: epochs run, over all sessions.
        steps: training steps, over all sessions.
        seconds: wall time, over all sessions.
        steps_per_second: of this session, its first execution (which compiles) and validation
            left out; NaN when there was no second execution.
        stopped_early: patience ran out.
    """

    best_epoch: int
    best_value: float
    metrics: dict[str, float]
    history: list[dict[str, Any]]
    epochs: int
    steps: int
    seconds: float
    steps_per_second: float
    stopped_early: bool


class Interrupted(KeyboardInterrupt):
    """Training was stopped by Ctrl-C or SIGTERM, and a checkpoint written."""


@keras.saving.register_keras_serializable(package="mmnet")
class ScaledMeanSquaredError(keras.losses.Loss):
    """Mean squared error of rates in units of a scale: mean((y - ŷ)²) / scale² (Eq. 11).

    Args:
        scale: s, percent; the standard deviation of the observed training rates.

    Call arguments:
        y_true: target rate, [batch], percent.
        y_pred: predicted rate, [batch], percent.

    Raises:
        ValueError: `scale` is not positive and finite, or the two shapes differ.
    """

    def __init__(self, scale: float, name: str = "scaled_mean_squared_error", **kwargs):
        super().__init__(name=name, **kwargs)
        if not 0 < scale < math.inf:
            raise ValueError(f"`scale` must be positive and finite. Received: scale={scale}")
        self.scale = float(scale)

    def call(self, y_true, y_pred):
        """Squared errors in units of the scale, [batch]."""
        checks.same_shape(y_true=y_true, y_pred=y_pred)
        return ops.square((y_true - y_pred) / self.scale)

    def get_config(self):
        """The arguments."""
        return {**super().get_config(), "scale": self.scale}


@keras.saving.register_keras_serializable(package="mmnet")
class BinomialCrossEntropy(keras.losses.Loss):
    """Cross-entropy per click of rates in percent: −y log ŷ − (1 − y) log(1 − ŷ), both over 100.

    Beyond the paper. Times the clicks of the target it is the negative log-likelihood of its
    shares. The prediction is brought from [0, 1] to [10⁻⁶, 1 − 10⁻⁶], so that a certainty which
    turns out wrong costs no more than 13.8 and has a gradient.

    Call arguments:
        y_true: target rate, [batch], percent, in [0, 100].
        y_pred: predicted rate, [batch], percent, in [0, 100].

    Raises:
        ValueError: the two shapes differ.
    """

    def __init__(self, name: str = "binomial_cross_entropy", **kwargs):
        super().__init__(name=name, **kwargs)

    def call(self, y_true, y_pred):
        """Cross-entropies, [batch]."""
        checks.same_shape(y_true=y_true, y_pred=y_pred)
        shared, predicted = y_true / 100, 1e-6 + (1 - 2e-6) * y_pred / 100
        return -shared * ops.log(predicted) - (1 - shared) * ops.log(1 - predicted)


@keras.saving.register_keras_serializable(package="mmnet")
class PoissonLoss(keras.losses.Loss):
    """Negative Poisson log-likelihood per click of rates in percent: ŷ − y log ŷ, both over 100.

    Beyond the paper; for rates that may exceed one. What the prediction leaves alone (the
    logarithm of a factorial) is not in it. 10⁻⁶ is added to the prediction in the logarithm.

    Call arguments:
        y_true: target rate, [batch], percent, 0 or more.
        y_pred: predicted rate, [batch], percent, 0 or more.

    Raises:
        ValueError: the two shapes differ.
    """

    def __init__(self, name: str = "poisson_loss", **kwargs):
        super().__init__(name=name, **kwargs)

    def call(self, y_true, y_pred):
        """Losses, [batch]."""
        checks.same_shape(y_true=y_true, y_pred=y_pred)
        shares, expected = y_true / 100, y_pred / 100
        return expected - shares * ops.log(expected + 1e-6)


def check_loss(loss: str, model: keras.Model) -> None:
    """Makes sure that a model's rates stay where the loss is defined, in training as well.

    Raises:
        InputError: they may not.
    """
    if loss == "mse":
        return
    heads = [layer for layer in model.layers if hasattr(layer, "link")]
    if loss == "binomial" and any(head.max_rate is None for head in heads):
        raise InputError(
            "--loss=binomial is for rates within one; here they may exceed it: "
            "--loss=poisson --set=link=log"
        )
    if not heads or heads[0].link != LINKS[loss]:
        raise InputError(f"--loss={loss} needs --set=link={LINKS[loss]}")


def loss_weighting(loss: str) -> Literal["equal", "clicks"]:
    """How examples weigh where no `half_weight_clicks` is given; see `Windows.training_batches`.

    The likelihoods are per click, so a target counts by its clicks; the paper's MSE counts targets.
    """
    return "equal" if loss == "mse" else "clicks"


def _loss(loss: str, rate_scale: float) -> keras.losses.Loss:
    if loss == "binomial":
        return BinomialCrossEntropy()
    return PoissonLoss() if loss == "poisson" else ScaledMeanSquaredError(rate_scale)


class Trainer:
    """A model compiled for training: fits it, also to several seeds in turn, compiled once.

    Args:
        model: what it draws at random must come from `keras.random.SeedGenerator`s of its layers.
        flags: how it is fitted. The random streams differ with and without `jit`; `deterministic`
            holds for the rest of the process; `checkpoint_seconds=0` writes a checkpoint after
            every execution; the profiled steps are rounded out to whole executions, of which the
            first would show compilation.
        steps_per_epoch: batches of one epoch, at which a cosine schedule counts epochs.
        rate_scale: the MSE is in percent² over its square.
        batches: one element is what the model is built on where it was not built before.

    Attributes:
        model: see above.

    Raises:
        InputError: the loss does not fit the model's link.
    """

    def __init__(
        self,
        model: keras.Model,
        batches: Batches,
        steps_per_epoch: int,
        flags: TrainingFlags,
        *,
        rate_scale: float,
    ):
        checks.at_least(1, steps_per_epoch=steps_per_epoch)
        check_loss(flags.loss, model)
        self.model, self._flags = model, flags
        self._steps_per_epoch, self._rate_scale = steps_per_epoch, rate_scale
        _fix_randomness(flags)  # for the weights of a model that is built only here
        if not model.built:
            inputs, *_ = batches(0).element_spec
            model({name: tf.zeros(spec.shape, spec.dtype) for name, spec in inputs.items()})
        rate = flags.learning_rate
        if flags.schedule == "cosine":
            rate = keras.optimizers.schedules.CosineDecay(rate, flags.epochs * steps_per_epoch)
        optimizer = keras.optimizers.Adam(rate)
        model.compile(optimizer, _loss(flags.loss, rate_scale), jit_compile=flags.jit)
        optimizer.build(model.trainable_variables)  # else there would be nothing to restore into
        self._variables = resuming.training_variables(model)
        others = [name for name in self._variables if not name.startswith("model/")]
        self._untrained = {name: resuming.to_array(self._variables[name]) for name in others}
        self._steps_per_execution = min(flags.steps_per_execution, steps_per_epoch)
        self._take = Steps(model, flags.jit, affordable(batches, self._steps_per_execution))

    def start_over(self, model: keras.Model, seed: int) -> None:
        """Goes back to before the first step, with the weights and random states of another model.

        Args:
            model: of the same architecture, newly built with the seed; it is only read.
            seed: of the next fit.
        """
        resuming.copy_model(model, self.model)
        resuming.assign(self._variables, self._untrained)
        self._flags = self._flags.model_copy(update={"seed": seed})

    def fit(
        self,
        batches: Batches,
        validate: Callable[[keras.Model], dict[str, float]],
        *,
        run_dir: Path,
        resume: bool,
        callbacks: Iterable[keras.callbacks.Callback] = (),
        hparams: Mapping[str, Any] | None = None,
        fixed: Mapping[str, Any] | None = None,
    ) -> FitResult:
        """Fits the model and leaves the best epoch's weights in it.

        Killed at any moment and called again with `resume`, it ends with the weights of the
        uninterrupted run: the same ones bit for bit, on one machine, when
        `flags.deterministic`.

        Args:
            batches: the training batches `(inputs, target)` or `(inputs, target, weight)` from a
                global step on, a pure function of the step; an epoch later than the one asked for
                need not be in it. `StackedBatches` are read many at a time. The inputs are the
                model's, the target is [batch], percent.
            validate: returns `normal_mse`, `cold_start_mse`, `noisy_mse` and any other metrics,
                which are logged under their names. It may call the model in any way: its random
                states and statistics are put back afterwards.
            run_dir: `checkpoints/` and `logs/` are written in it.
            resume: go on from the newest checkpoint in `run_dir`, if there is one. The run must
                share the settings that the weights depend on (`epochs`, `patience` and the
                bookkeeping ones may change).
            callbacks: called at the beginning and end of this session, of each epoch (validation
                not included) and of each execution, which is a "batch" to them. They only watch:
                no checkpoint has what they keep, and `stop_training` has no effect.
            hparams: flags to show in TensorBoard's HParams tab.
            fixed: what else a resumed run must share, such as the batch size and a digest of the
                data; JSON values by name.

        Raises:
            InputError: the loss or the monitored value is no number; the checkpoint does not fit;
                or `run_dir` holds checkpoints and `resume` is off.
            Interrupted: on Ctrl-C or SIGTERM, after the running execution and a checkpoint.
        """
        flags, model, steps_per_epoch = self._flags, self.model, self._steps_per_epoch
        _fix_randomness(flags)
        # What the weights depend on, the architecture aside: JSON values, as a checkpoint has them.
        shared = {
            "learning_rate": flags.learning_rate,
            # Where a cosine ends depends on the epochs.
            "schedule": [flags.schedule, flags.epochs * (flags.schedule != "constant")],
            "loss": flags.loss,
            "monitor": flags.monitor,
            "seed": flags.seed,
            "jit": flags.jit,
            "precision": model.dtype_policy.name,
            "steps_per_epoch": steps_per_epoch,
            "rate_scale": float(self._rate_scale),
            **(fixed or {}),
        }
        shared = json.loads(json.dumps(shared))
        run = _Run(model, self._variables, steps_per_epoch, flags, shared, Path(run_dir))
        run.restore(resume)
        done, steps = run.progress.step, flags.epochs * steps_per_epoch
        with (
            Logs(Path(run_dir) / "logs", done) as run.logs,
            Display(steps, done) as run.display,
            Signals() as run.signals,
            _Profile(
                flags.profile_steps, self._steps_per_execution, Path(run_dir) / "logs"
            ) as run.profile,
        ):
            run.log_hparams(hparams or {})
            if done:
                run.display.line(f"going on from step {done:,}")
            watch = keras.callbacks.CallbackList([*callbacks], model=model)
            watch.on_train_begin()
            while not run.ended:
                _train_epoch(self._take, batches, run, watch)
                run.end_epoch(validate)
                run.stop_if_asked()
            watch.on_train_end()
            return run.result()


def _fix_randomness(flags: TrainingFlags) -> None:
    keras.utils.set_random_seed(flags.seed)
    if flags.deterministic:
        tf.config.experimental.enable_op_determinism()


def _train_epoch(take: Steps, batches: Batches, run: _Run, watch: keras.callbacks.CallbackList):
    """Trains what is left of the epoch."""
    watch.on_epoch_begin(run.progress.epoch)
    for number, batch in enumerate(run.stacked(batches, take.size)):
        run.before_execution()
        watch.on_train_batch_begin(number)
        steps = take(batch)
        watch.on_train_batch_end(number)
        run.after_execution(steps)
        run.stop_if_asked()
    watch.on_epoch_end(run.progress.epoch)


class _Run:
    """The state of one call of `fit`, and what happens between executions."""

    logs: Logs
    display: Display
    signals: Signals
    profile: _Profile

    def __init__(
        self, model, variables, steps_per_epoch, flags: TrainingFlags, fixed: dict, run_dir: Path
    ):
        self.model, self.variables = model, variables
        self.flags, self.run_dir, self.fixed = flags, run_dir, fixed
        self.steps_per_epoch = steps_per_epoch
        self.progress = Progress()
        self.best: resuming.Arrays = {}
        self.files = Checkpoints(run_dir / "checkpoints")
        self._start = self._saved = time.monotonic()
        self._seconds_before = 0.0
        self._timed = [0, 0.0]  # steps and seconds of all executions but the first
        self._compiled = False
        self._began = self._start

    def restore(self, resume: bool) -> None:
        """Goes back to the newest checkpoint, or makes sure that none would be overwritten."""
        if not resume:
            if self.files.paths():
                raise InputError(
                    f"{self.files.directory} holds the checkpoints of another run; "
                    "go on with it by --resume, or choose another --run_dir"
                )
            return
        checkpoint = self.files.newest()
        if checkpoint is None:
            return
        resuming.check_fits(checkpoint, self.variables, self.fixed, self.files.directory)
        resuming.assign(self.variables, checkpoint.arrays)
        self.progress, self.best = checkpoint.progress, checkpoint.best
        self._seconds_before = checkpoint.progress.seconds

    # -------------------------------------------------------------------- where it stands

    @property
    def steps_left(self) -> int:
        """Steps until the end of the running epoch; 0 when only its validation is left."""
        return (self.progress.epoch + 1) * self.steps_per_epoch - self.progress.step

    @property
    def stopped_early(self) -> bool:
        """Whether patience ran out."""
        return self.progress.epoch - self.progress.best_epoch >= self.flags.patience

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to train."""
        return self.progress.epoch >= self.flags.epochs or self.stopped_early

    @property
    def loss(self) -> float:
        """Mean loss over the steps of the running epoch."""
        return float(self.model.get_metrics_result()["loss"])

    # ---------------------------------------------------------------- between executions

    def stacked(self, batches: Batches, size: int) -> Iterable[Any]:
        """What is left of the epoch's batches, `size` at a time."""
        if self.steps_left == self.steps_per_epoch:
            self.model.reset_metrics()  # a resumed epoch keeps its running loss
        return stacked(batches, self.progress.step, self.steps_left, size)

    def before_execution(self) -> None:
        """Notes where an execution begins."""
        self.profile.before(self.progress.step)
        self._loss_before = self._summed_loss()
        self._began = time.monotonic()

    def after_execution(self, steps: int) -> None:
        """Checks, logs and shows one execution, and writes a checkpoint when it is time."""
        loss = self.loss  # waits for the execution's end
        seconds = time.monotonic() - self._began
        step, epoch = self.progress.step + steps, self.progress.epoch + 1
        if not math.isfinite(loss):
            raise InputError(
                f"the loss is {loss} at step {step:,} (epoch {epoch}): lower --learning_rate "
                f"(now {self.flags.learning_rate:g}), or look for extreme values in the rows "
                "of the tables; nothing was exported"
            )
        self.progress = replace(self.progress, step=step)
        self.profile.reached(step)
        self.display.step(step, epoch, loss)
        scalars = {
            "train/loss": (self._summed_loss() - self._loss_before) / steps,
            "train/learning_rate": float(self.model.optimizer.learning_rate),
        }
        if self._compiled:
            scalars["train/steps_per_second"] = steps / seconds
            self._timed = [self._timed[0] + steps, self._timed[1] + seconds]
        self._compiled = True
        self.logs.scalars(step, scalars)
        if time.monotonic() - self._saved >= self.flags.checkpoint_seconds:
            self.save()

    def _summed_loss(self) -> float:
        """Sum of the losses of the running epoch's steps so far."""
        steps = self.progress.step - self.progress.epoch * self.steps_per_epoch
        return steps * self.loss if steps else 0.0

    def end_epoch(self, validate) -> None:
        """Validates, keeps the best weights, writes a checkpoint."""
        epoch, loss = self.progress.epoch + 1, self.loss
        self.display.validating(epoch)
        reached = resuming.values(self.variables, "model/")
        metrics = {name: float(value) for name, value in validate(self.model).items()}
        resuming.assign(self.variables, reached)

        value = monitored(self.flags.monitor, metrics)
        if not math.isfinite(value):
            raise InputError(
                f"{self.flags.monitor} is {value} on the validation rows after epoch {epoch}: "
                f"lower --learning_rate (now {self.flags.learning_rate:g}), or look for extreme "
                "values in the rows of the tables; nothing was exported"
            )
        progress = self.progress
        row: dict[str, Any] = {
            "epoch": epoch,
            "step": progress.step,
            "loss": loss,
            "monitor": value,
        }
        row |= {"seconds": self._seconds(), "metrics": metrics}
        progress = replace(progress, epoch=epoch, history=[*progress.history, row])
        better = progress.best_value is None or value < progress.best_value
        if better:
            progress = replace(progress, best_value=value, best_epoch=epoch)
            self.best = reached
        self.progress = progress

        shown = {name: metrics[name] for name in _mse_names()} | {self.flags.monitor: value}
        self.display.epoch(epoch, loss, shown, "(best)" if better else "")
        scalars = {"train/epoch_loss": loss, f"monitor/{self.flags.monitor}": value}
        self.logs.scalars(progress.step, scalars | metrics | disturbance_modes(self.model))
        self.save()

    def save(self) -> None:
        """Writes a checkpoint."""
        self.logs.flush()  # what a resumed session does not log again must be in the file
        self.progress = replace(self.progress, seconds=self._seconds())
        arrays = resuming.values(self.variables)
        self.files.write(Checkpoint(self.progress, self.fixed, arrays, self.best))
        self._saved = time.monotonic()

    def stop_if_asked(self) -> None:
        """Ends the session with a checkpoint if a signal came."""
        if not self.signals.came:
            return
        self.save()
        step, steps = self.progress.step, self.flags.epochs * self.steps_per_epoch
        raise Interrupted(
            f"stopped at step {step:,} of {steps:,}; --run_dir={self.run_dir} --resume goes on "
            "exactly from here"
        )

    # ------------------------------------------------------------------ beginning and end

    def log_hparams(self, flags: Mapping[str, Any]) -> None:
        """Puts the flags into TensorBoard, once per run."""
        if flags and not self.progress.step:
            self.logs.hparams(flags, [f"best/{name}" for name in _mse_names()])

    def result(self) -> FitResult:
        """Gives the model its best weights, and says what they are worth."""
        resuming.assign(self.variables, self.best)
        progress, (steps, seconds) = self.progress, self._timed
        metrics = progress.history[progress.best_epoch - 1]["metrics"]
        self.logs.scalars(progress.step, {f"best/{name}": v for name, v in metrics.items()})
        self.logs.ended(progress.step)
        assert progress.best_value is not None  # every epoch has one
        return FitResult(
            best_epoch=progress.best_epoch,
            best_value=progress.best_value,
            metrics=metrics,
            history=progress.history,
            epochs=progress.epoch,
            steps=progress.step,
            seconds=self._seconds(),
            steps_per_second=steps / seconds if steps else math.nan,
            stopped_early=self.stopped_early,
        )

    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._start


# ------------------------------------------------------------------------------- monitoring


def monitored(monitor: str, metrics: Mapping[str, float]) -> float:
    """The value that the best epoch has the lowest of.

    >>> monitored("normal", {"normal_mse": 1.0, "cold_start_mse": 4.0, "noisy_mse": 2.0})
    1.0
    >>> round(math.exp(monitored("mean_log_mse", {
    ...     "normal_mse": 1.0, "cold_start_mse": 4.0, "noisy_mse": 2.0})), 6)
    2.0
    """
    if monitor != "mean_log_mse":
        return metrics[f"{monitor}_mse"]
    # An MSE of exactly 0 must not outweigh the two others; `np.maximum` keeps NaN.
    return float(np.mean([np.log(np.maximum(metrics[name], 1e-12)) for name in _mse_names()]))


def _mse_names() -> tuple[str, ...]:
    return tuple(f"{scenario}_mse" for scenario in SCENARIOS)


# ------------------------------------------------------------------- signals and profiling


class Signals:
    """Notes the first Ctrl-C or SIGTERM; the second Ctrl-C interrupts at once."""

    def __init__(self):
        self.came = False
        self._before = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():  # others may not ask for signals
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number, frame):
        self.came = True
        signal.signal(signal.SIGINT, signal.default_int_handler)


class _Profile:
    """Traces the executions that hold the given steps, for TensorBoard's profile tab."""

    def __init__(self, steps: tuple[int, ...], execution: int, directory: Path):
        self._steps, self._execution = steps, execution
        self._directory, self._running = directory, False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stop()

    def before(self, step: int) -> None:
        """An execution begins after `step` steps."""
        if not self._steps or self._running:
            return
        first, last = self._steps
        if first - self._execution <= step < last:
            tf.profiler.experimental.start(str(self._directory))
            self._running = True

    def reached(self, step: int) -> None:
        """An execution ended after `step` steps."""
        if self._steps and step >= self._steps[1]:
            self._stop()

    def _stop(self) -> None:
        if self._running:
            tf.profiler.experimental.stop()
            self._running = False
