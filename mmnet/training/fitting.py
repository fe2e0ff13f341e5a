"""Fitting a model: early stopping, best weights, checkpoints, logs, progress.

One `Trainer` fits the models of both systems: the optimizer, the loss, the batches, what is
monitored and what happens between epochs are arguments. `stepping.Steps` takes the training steps;
this module decides what happens between its calls.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import keras
import tensorflow as tf

from mmnet import checks
from mmnet.checks import InputError
from mmnet.config import FitFlags
from mmnet.training import mirrored
from mmnet.training import resume as resuming
from mmnet.training.averaging import WeightAverage
from mmnet.training.mirrored import MirroredSteps
from mmnet.training.progress import Display
from mmnet.training.resume import Arrays, Checkpoint, Checkpoints, Progress
from mmnet.training.sessions import Interrupted, Profile, Signals
from mmnet.training.stepping import Batches, KerasSteps, Steps, steps_for
from mmnet.training.tensorboard import Logs, disturbance_modes

Metrics = Mapping[str, float]


@dataclass(frozen=True)
class Monitor:
    """Rule that decides which epoch is the best one.

    Attributes:
        name: name of the monitored value, in logs and messages.
        value: computes the monitored value from the metrics of an epoch.
        better: whether the best epoch has the lowest value or the highest, or is simply the last.
        shown: metrics that are printed after each epoch, and compare runs in TensorBoard.
    """

    name: str
    value: Callable[[Metrics], float]
    better: Literal["min", "max", "last"] = "min"
    shown: tuple[str, ...] = ()

    def improves(self, value: float, best: float | None) -> bool:
        """Return whether a value beats the best one so far; `best` is None before the first."""
        if best is None or self.better == "last":
            return True
        return value < best if self.better == "min" else value > best


class EpochHooks:
    """Decisions of a system between epochs; this base class decides nothing.

    A hook must depend on its arguments alone, so that a resumed run repeats its decisions.

    Attributes:
        can_undo: whether `after` may return "undo"; only then is the state at the beginning of an
            epoch kept in memory, and in checkpoints within the epoch.
    """

    can_undo = False

    def before(self, progress: Progress) -> None:
        """Prepare the model and its optimizer for an epoch of which no step has been taken."""

    def after(self, progress: Progress, metrics: Metrics) -> Literal["keep", "undo", "unlogged"]:
        """Decide whether an epoch that was trained and validated is kept.

        Args:
            progress: before the epoch is counted; `progress.undone` has the epochs undone so far.
            metrics: metrics of the validation.

        Returns:
            "undo" restores the state at the beginning of the epoch and repeats it; "unlogged" keeps
            it, and marks its row in the history.
        """
        return "keep"


@dataclass(frozen=True)
class FitResult:
    """Result of a fit; the model itself holds the best epoch's weights.

    Attributes:
        best_epoch: counted from 1; 0 are the weights that training started with, where they count.
        best_value: its monitored value.
        metrics: what `validate` returned for it.
        history: one row per epoch: epoch, step, loss, monitor (the value), learning_rate (at its
            end), epoch_seconds (of its steps), seconds (since the run began), metrics, and
            unlogged where `EpochHooks.after` returned it.
        epochs: epochs run, over all sessions.
        steps: training steps, over all sessions.
        seconds: wall time, over all sessions.
        steps_per_second: speed of this session, its first execution (which compiles) and validation
            left out; NaN when there was no second execution.
        stopped_early: patience ran out.
        undone: epochs that `EpochHooks.after` undid, with their metrics.
        reached: epoch -> the model's arrays at its end, of the epochs asked for.
        start: metrics before the first step, where the weights then count as epoch 0; else None.
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
    undone: list[dict[str, Any]]
    reached: dict[int, Arrays]
    start: dict[str, float] | None = None


class Trainer:
    """A model compiled for training: fits it, also to several seeds in turn, compiled once.

    Args:
        model: all its random draws must come from `keras.random.SeedGenerator`s of its layers. A
            model of `mirrored.twin_of` is trained on its devices, with `adam.Adam`, both created
            in `mirrored.scope_of`.
        batches: one element, on which the model is built if it has not been built.
        steps_per_epoch: batches of one epoch.
        flags: how it is fitted. The random streams differ with and without `jit`; `deterministic`
            holds for the rest of the process; `checkpoint_seconds=0` writes a checkpoint after
            every execution; the profiled steps are rounded out to whole executions, of which the
            first would show compilation.
        optimizer: new, of this model alone.
        loss: function of the targets and the model's outputs.
        monitor: chooses the best epoch.
        shared: what a resumed run must share besides the architecture and the flags that every
            system has, such as the name of the loss; JSON values by name.
        weight_average: momentum of the averaged weights that are validated, kept as the best and
            left in the model, see `averaging.WeightAverage`; 0 disables averaging.
        constants: variables that neither training nor validation changes, and that whoever builds
            the model fills; no checkpoint has them.

    Attributes:
        model: see above.
        variables: what training changes, by the names of `resume.training_variables`.
        average: the averaged weights; None without averaging.
    """

    def __init__(
        self,
        model: keras.Model,
        batches: Batches,
        steps_per_epoch: int,
        flags: FitFlags,
        *,
        optimizer: keras.optimizers.Optimizer,
        loss: keras.losses.Loss,
        monitor: Monitor,
        shared: Mapping[str, Any],
        weight_average: float = 0,
        constants: Iterable[keras.Variable] = (),
    ):
        checks.at_least(1, steps_per_epoch=steps_per_epoch)
        self.model, self._flags, self._monitor = model, flags, monitor
        self._steps_per_epoch, self._shared = steps_per_epoch, dict(shared)
        _fix_randomness(flags)  # for the weights of a model that is built only here
        if not model.built:
            inputs, *_ = batches(0).element_spec
            shapes = {name: [size or 1 for size in spec.shape] for name, spec in inputs.items()}
            with mirrored.scope_of(model):
                model({name: tf.zeros(shapes[name], spec.dtype) for name, spec in inputs.items()})
        model.compile(optimizer, loss, jit_compile=False)  # `Steps` compiles what it takes itself
        with mirrored.scope_of(model):
            optimizer.build(model.trainable_variables)  # else nothing could be restored into it
            self.average = WeightAverage(model, weight_average) if weight_average else None
        if weight_average:  # left out otherwise: checkpoints stay as they were before it
            self._shared[resuming.AVERAGED] = weight_average
        left_out = {id(variable) for variable in constants}
        averages = self.average.variables if self.average else ()
        self.variables = {
            name: variable
            for name, variable in resuming.training_variables(model, averages).items()
            if id(variable) not in left_out
        }
        others = [name for name in self.variables if not name.startswith("model/")]
        self._untrained = {name: resuming.to_array(self.variables[name]) for name in others}
        self._steps_per_execution = min(flags.steps_per_execution, steps_per_epoch)
        size = self._steps_per_execution
        self._take: Steps | KerasSteps | MirroredSteps
        if mirrored.is_mirrored(model):
            self._shared[resuming.DEVICES] = model.distribute_strategy.num_replicas_in_sync
            self._take = MirroredSteps(model, loss, batches, flags.jit, size, self.average)
        else:
            self._take = steps_for(model, batches, flags.jit, size)

    def start_over(self, model: keras.Model, seed: int) -> None:
        """Reset to before the first step, with the weights and random states of another model.

        Args:
            model: a model of the same architecture, newly built with the seed; it is only read.
            seed: seed of the next fit.
        """
        resuming.copy_model(model, self.model)
        resuming.assign(self.variables, self._untrained)
        self._flags = self._flags.model_copy(update={"seed": seed})

    def continue_with(self, flags: FitFlags) -> None:
        """Fits with the flags of the run that continues this training from its checkpoint.

        Args:
            flags: those on which the weights depend are the trainer's own, see `fit`.
        """
        self._flags = flags

    def fit(
        self,
        batches: Batches,
        validate: Callable[[keras.Model], Metrics],
        *,
        run_dir: Path | None,
        within: Path = Path(),
        resume: bool,
        epochs: int | None = None,
        from_start: bool = False,
        callbacks: Iterable[keras.callbacks.Callback] = (),
        hooks: EpochHooks | None = None,
        keep_epochs: Collection[int] = (),
        hparams: Mapping[str, Any] | None = None,
        fixed: Mapping[str, Any] | None = None,
    ) -> FitResult:
        """Fit the model and leave the best epoch's weights in it.

        Killed at any moment and called again with `resume`, it ends with the weights of the
        uninterrupted run: the same ones bit for bit, on one machine, when
        `flags.deterministic`.

        Args:
            batches: the training batches `(inputs, target)` or `(inputs, target, weight)` from a
                global step on, a pure function of the step; an epoch later than the one asked for
                need not be in it. See `stepping.steps_for` for what reads them. The inputs are the
                model's, the target is [batch] or, with weights of that shape,
                [batch, outputs].
            validate: returns the metrics that the monitor reads and shows, and any others, which
                are logged under their names. It may call the model in any way: its random
                states and statistics are put back afterwards.
            run_dir: `checkpoints/` and `logs/` are written in it; None writes neither.
            within: a folder of `run_dir` to write them in, where a run has several fits.
            resume: continue from the newest checkpoint in `run_dir`, if there is one. The run must
                share the settings that the weights depend on (`epochs`, `patience` and the
                bookkeeping ones may change).
            epochs: maximum number of epochs, including those before a resume; None: the flag's.
            from_start: validate the weights before the first step as epoch 0, and keep them where
                no epoch is better; there need not be an epoch then.
            callbacks: called at the beginning and end of this session, of each epoch (validation
                not included) and of each execution, which is a "batch" to them. They only watch:
                no checkpoint has what they keep, and `stop_training` has no effect.
            hooks: what happens between epochs; None: nothing.
            keep_epochs: epochs, counted from 1, at whose ends the arrays are kept; see `FitResult`.
            hparams: flags to show in TensorBoard's HParams tab.
            fixed: what else a resumed run must share, such as the batch size and a digest of the
                data; JSON values by name.

        Raises:
            InputError: the loss or the monitored value is not finite; the checkpoint does not fit;
                or `run_dir` holds checkpoints and `resume` is off.
            Interrupted: on Ctrl-C or SIGTERM, after the running execution and a checkpoint.
        """
        flags, model, steps_per_epoch = self._flags, self.model, self._steps_per_epoch
        if epochs is not None:
            flags = flags.model_copy(update={"epochs": epochs})
        _fix_randomness(flags)
        # What the weights depend on, the architecture aside: JSON values, as a checkpoint has them.
        shared = {
            **self._shared,
            **(fixed or {}),
            "seed": flags.seed,
            "jit": flags.jit,
            "precision": model.dtype_policy.name,
            "steps_per_epoch": steps_per_epoch,  # the last: it follows from the data and the flags
        }
        shared = json.loads(json.dumps(shared))
        run = _Run(self, flags, shared, run_dir and Path(run_dir), within, hooks or EpochHooks())
        run.restore(resume)
        done = run.progress.step
        with (
            Logs(run.logs_dir, done) as run.logs,
            Display(flags.epochs * steps_per_epoch, done) as run.display,
            Signals() as run.signals,
            Profile(flags.profile_steps, self._steps_per_execution, run.logs_dir) as run.profile,
        ):
            run.log_hparams(hparams or {})
            if done:
                run.display.line(f"resuming from step {done:,}")
            watch = keras.callbacks.CallbackList([*callbacks], model=model)
            watch.on_train_begin()
            if from_start:
                run.validate_start(validate)
            while not run.ended:
                run.begin_epoch()
                watch.on_epoch_begin(run.progress.epoch)
                left = self._take.executions(batches, run.progress.step, run.steps_left)
                for number, execution in enumerate(left):
                    run.before_execution()
                    watch.on_train_batch_begin(number)
                    steps = self._take(execution)
                    watch.on_train_batch_end(number)
                    run.after_execution(steps)
                    run.stop_if_asked()
                watch.on_epoch_end(run.progress.epoch)
                run.end_epoch(validate, keep_epochs)
                run.stop_if_asked()
            watch.on_train_end()
            return run.result()


def _fix_randomness(flags: FitFlags) -> None:
    keras.utils.set_random_seed(flags.seed)
    if flags.deterministic:
        tf.config.experimental.enable_op_determinism()


_BEGIN, _REACHED = "begin", "epoch-"
"""Names, in a checkpoint, of the arrays that the running epoch began with, and of those that an
epoch ended with."""


class _Run:
    """The state of one call of `fit`, and what happens between executions."""

    logs: Logs
    display: Display
    signals: Signals
    profile: Profile

    def __init__(
        self,
        trainer: Trainer,
        flags: FitFlags,
        shared: dict[str, Any],
        run_dir: Path | None,
        within: Path,
        hooks: EpochHooks,
    ):
        self.model, self.variables = trainer.model, trainer.variables
        self.average = trainer.average
        self.monitor, self.steps_per_epoch = trainer._monitor, trainer._steps_per_epoch
        self.flags, self.shared, self.run_dir, self.hooks = flags, shared, run_dir, hooks
        self.progress = Progress()
        self.best: Arrays = {}
        self.others: dict[str, Arrays] = {}
        self.files = Checkpoints(run_dir / within / "checkpoints") if run_dir else None
        self.logs_dir = run_dir / within / "logs" if run_dir else None
        self._start = self._saved = self._mark = time.monotonic()
        self._seconds_before = 0.0
        self._timed = [0, 0.0]  # steps and seconds of all executions but the first
        self._compiled = False
        self._began = self._start

    def restore(self, resume: bool) -> None:
        """Restore the newest checkpoint, or make sure that none would be overwritten."""
        if self.files is None:
            return
        if not resume:
            if self.files.paths():
                raise InputError(
                    f"{self.files.directory} holds the checkpoints of another run; "
                    "add --resume to continue it, or choose another --run_dir"
                )
            return
        checkpoint = self.files.newest()
        if checkpoint is None:
            return
        resuming.check_fits(checkpoint, self.variables, self.shared, self.files.directory)
        resuming.assign(self.variables, checkpoint.arrays)
        self.progress, self.best = checkpoint.progress, checkpoint.best
        self.others = dict(checkpoint.others)
        self._seconds_before = checkpoint.progress.seconds

    # -------------------------------------------------------------------- where it stands

    @property
    def steps_left(self) -> int:
        """Steps until the end of the running epoch; 0 when only its validation is left."""
        return (self.progress.epoch + 1) * self.steps_per_epoch - self.progress.step

    @property
    def stopped_early(self) -> bool:
        """Return whether patience ran out."""
        waited = self.progress.epoch - self.progress.best_epoch
        return bool(self.flags.patience) and waited >= self.flags.patience

    @property
    def ended(self) -> bool:
        """Return whether training is complete."""
        return self.progress.epoch >= self.flags.epochs or self.stopped_early

    @property
    def loss(self) -> float:
        """Mean loss over the steps of the running epoch."""
        return float(self.model.get_metrics_result()["loss"])

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next step."""
        # Not `float` of it: on several devices it is a variable of each.
        return float(tf.convert_to_tensor(self.model.optimizer.learning_rate))

    # ---------------------------------------------------------------- between executions

    def validate_start(self, validate: Callable[[keras.Model], Metrics]) -> None:
        """Validates the weights before the first step, unless an earlier session has."""
        if self.progress.start is not None:
            return
        before = resuming.values(self.variables, "model/")
        metrics, value = self._validated(validate, before, "before the first step")
        self.best = before
        self.progress = replace(self.progress, start=metrics, best_value=value)
        shown = {name: metrics[name] for name in self.monitor.shown} | {self.monitor.name: value}
        self.display.start(shown)
        self.logs.scalars(0, {f"monitor/{self.monitor.name}": value} | metrics)
        self.save()

    def _validated(
        self, validate: Callable[[keras.Model], Metrics], trained: Arrays, when: str
    ) -> tuple[dict[str, float], float]:
        """Metrics and the monitored value; then the model is as it was trained."""
        metrics = {name: float(value) for name, value in validate(self.model).items()}
        resuming.assign(self.variables, trained)
        value = self.monitor.value(metrics)
        if not math.isfinite(value):
            raise InputError(
                f"{self.monitor.name} is {value} on the validation rows {when}: "
                f"lower --learning_rate (now {self.flags.learning_rate:g}), or look for extreme "
                "values in the rows of the tables; nothing was exported"
            )
        return metrics, value

    def begin_epoch(self) -> None:
        """Prepares an epoch; one that was resumed keeps its running loss."""
        if self.steps_left == self.steps_per_epoch:
            self.hooks.before(self.progress)
            self.model.reset_metrics()
            if self.hooks.can_undo:
                self.others[_BEGIN] = resuming.values(self.variables)
        self._mark = time.monotonic()

    def before_execution(self) -> None:
        """Record the start of an execution."""
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
        spent = self.progress.epoch_seconds + time.monotonic() - self._mark
        self.progress = replace(self.progress, step=step, epoch_seconds=spent)
        self.profile.reached(step)
        self.display.step(step, epoch, loss)
        scalars = {
            "train/loss": (self._summed_loss() - self._loss_before) / steps,
            "train/learning_rate": self.learning_rate,
        }
        if self._compiled:
            scalars["train/steps_per_second"] = steps / seconds
            self._timed = [self._timed[0] + steps, self._timed[1] + seconds]
        self._compiled = True
        self.logs.scalars(step, scalars)
        if time.monotonic() - self._saved >= self.flags.checkpoint_seconds:
            self.save()
        self._mark = time.monotonic()

    def _summed_loss(self) -> float:
        """Sum of the losses of the running epoch's steps so far."""
        steps = self.progress.step - self.progress.epoch * self.steps_per_epoch
        return steps * self.loss if steps else 0.0

    def end_epoch(
        self, validate: Callable[[keras.Model], Metrics], keep_epochs: Collection[int]
    ) -> None:
        """Validates, keeps the best weights, writes a checkpoint; or undoes the epoch."""
        progress, monitor, loss = self.progress, self.monitor, self.loss
        epoch = progress.epoch + 1
        self.display.validating(epoch)
        trained = reached = resuming.values(self.variables, "model/")
        if self.average:
            self.average.show()
            reached = resuming.values(self.variables, "model/")
        metrics, value = self._validated(validate, trained, f"after epoch {epoch}")
        verdict = self.hooks.after(progress, metrics)
        begin = self.others.pop(_BEGIN, {})
        if verdict == "undo":
            self.display.line(f"epoch {epoch}  {monitor.name} {value:.4g}: undone")
            self._undo(begin, {"epoch": epoch, "metrics": metrics})
            return
        row: dict[str, Any] = {
            "epoch": epoch,
            "step": progress.step,
            "loss": loss,
            "monitor": value,
            "learning_rate": self.learning_rate,
            "epoch_seconds": progress.epoch_seconds,
            "seconds": self._seconds(),
            "metrics": metrics,
        }
        row |= {"unlogged": True} if verdict == "unlogged" else {}
        history = [*progress.history, row]
        progress = replace(progress, epoch=epoch, history=history, epoch_seconds=0.0)
        better = monitor.improves(value, progress.best_value)
        if better:
            progress = replace(progress, best_value=value, best_epoch=epoch)
            self.best = reached
        if epoch in keep_epochs:
            self.others[f"{_REACHED}{epoch}"] = reached
        self.progress = progress

        shown = {name: metrics[name] for name in monitor.shown} | {monitor.name: value}
        self.display.epoch(epoch, loss, shown, "(best)" if better else "")
        scalars = {"train/epoch_loss": loss, f"monitor/{monitor.name}": value}
        self.logs.scalars(progress.step, scalars | metrics | disturbance_modes(self.model))
        self.save()

    def _undo(self, begin: Arrays, row: dict[str, Any]) -> None:
        """Goes back to the beginning of the epoch, and remembers that it was undone."""
        resuming.assign(self.variables, begin)
        progress, step = self.progress, self.progress.epoch * self.steps_per_epoch
        self.progress = replace(
            progress, step=step, undone=[*progress.undone, row], epoch_seconds=0.0
        )
        self.logs.start(step)
        self.save(undone=True)

    def save(self, *, undone: bool = False) -> None:
        """Writes a checkpoint; see `Checkpoints.write`."""
        self.logs.flush()  # what a resumed session does not log again must be in the file
        self.progress = replace(self.progress, seconds=self._seconds())
        if self.files:
            arrays = resuming.values(self.variables)
            checkpoint = Checkpoint(self.progress, self.shared, arrays, self.best, self.others)
            self.files.write(checkpoint, undone=undone)
        self._saved = time.monotonic()

    def stop_if_asked(self) -> None:
        """End the session with a checkpoint if a signal has arrived."""
        if not self.signals.came:
            return
        self.save()
        step, steps = self.progress.step, self.flags.epochs * self.steps_per_epoch
        how = "no checkpoint was written"
        if self.run_dir:
            how = f"--run_dir={self.run_dir} --resume continues exactly from here"
        raise Interrupted(f"stopped at step {step:,} of {steps:,}; {how}")

    # ------------------------------------------------------------------ beginning and end

    def log_hparams(self, flags: Mapping[str, Any]) -> None:
        """Puts the flags into TensorBoard, once per run."""
        if flags and not self.progress.step:
            self.logs.hparams(flags, [f"best/{name}" for name in self.monitor.shown])

    def result(self) -> FitResult:
        """Load the best weights into the model, and return their metrics."""
        resuming.assign(self.variables, self.best)
        progress, (steps, seconds) = self.progress, self._timed
        metrics = progress.start or {}
        if progress.best_epoch:
            metrics = progress.history[progress.best_epoch - 1]["metrics"]
        reached = [name for name in self.others if name.startswith(_REACHED)]
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
            undone=progress.undone,
            reached={int(name.removeprefix(_REACHED)): self.others[name] for name in reached},
            start=progress.start,
        )

    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._start
