"""Training by epochs: published schedule, validation interrupt, resume at the end of an epoch."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mmnet import checks
from mmnet.checks import InputError
from mmnet.mma4ctr.baselines import Baseline, LogLikelihood, PairLoss
from mmnet.mma4ctr.config import NetworkFlags
from mmnet.mma4ctr.network import Clicks, ListwiseCrossEntropy
from mmnet.mma4ctr.protocols import Protocol
from mmnet.training import resume as resuming
from mmnet.training.fitting import Interrupted, Signals
from mmnet.training.progress import Display
from mmnet.training.resume import Checkpoint, Checkpoints, Progress
from mmnet.training.tensorboard import Logs

Model = Clicks | Baseline

LOSSES: dict[str, Callable[[], keras.losses.Loss]] = {
    "listwise": ListwiseCrossEntropy,
    "bce": keras.losses.BinaryCrossentropy,
    "pairs": PairLoss,
    "items": LogLikelihood,
}
HALF_EVERY = 5
MOST_RETRIES = 5
EPSILON = 1e-8
"""Adam's, as in PyTorch; Keras' own default is ten times that."""


@dataclass
class Fit:
    """What came of a training.

    Attributes:
        history: one row per epoch: epoch, loss, learning_rate, auc (validation), seconds.
        best_epoch: the one whose weights the model holds, counted from 1.
        reached: epoch -> the network's weights at its end, for `--evaluate_at`.
        retries: epochs that the validation interrupt undid.
        seconds: of all epochs, validation left out.
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    reached: dict[int, list[np.ndarray]] = field(default_factory=dict)
    retries: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0


def learning_rate(base: float, epoch: int, schedule: str) -> float:
    """The rate of an epoch, counted from 0: half every five epochs, or constant.

    >>> [learning_rate(1, epoch, "step") for epoch in (0, 4, 5, 9, 10, 29)]
    [1.0, 1.0, 0.5, 0.5, 0.25, 0.03125]
    """
    return float(base * 0.5 ** (epoch // HALF_EVERY)) if schedule == "step" else float(base)


class Batches:
    """Training batches of one protocol; every epoch in an order of its own.

    The order of an epoch is a pure function of seed and epoch. The last batch may be smaller.

    Args:
        protocol: the training rows.
        batch_size: rows of a batch.
        seed: of the orders.
        order: places of rows by epoch, always as many; None takes each row once, permuted.

    Raises:
        InputError: an order without rows.
    """

    def __init__(
        self,
        protocol: Protocol,
        batch_size: int,
        seed: int,
        order: Callable[[int], np.ndarray] | None = None,
    ):
        part = protocol.parts["train"]
        self._rows = (protocol.state[part], protocol.item[part], protocol.label[part])
        number = len(self._rows[0])
        self._order = order or (lambda epoch: _permuted(number, seed, epoch))
        self._batch_size = batch_size
        self.steps = -(-(len(order(0)) if order else number) // batch_size)
        if not self.steps:
            raise InputError("the training rows leave nothing to train on; take a larger log")

    def __call__(self, epoch: int) -> tf.data.Dataset:
        """The batches of an epoch: ({state, item}, label)."""
        order = self._order(epoch)
        state, item, label = (tf.constant(column[order]) for column in self._rows)
        size = self._batch_size

        def batch(step: tf.Tensor):
            rows = slice(step * size, (step + 1) * size)
            inputs = {"state": state[rows], "item": item[rows]}
            return inputs, tf.cast(label[rows], tf.float32)

        made = tf.data.Dataset.range(self.steps).map(batch).prefetch(4)
        options = tf.data.Options()
        # To rewrite a pipeline, tf.data first copies all the arrays that it slices.
        options.experimental_optimization.apply_default_optimizations = False
        options.autotune.enabled = False
        made = made.with_options(options)
        return made.apply(tf.data.experimental.assert_cardinality(self.steps))


def _permuted(number: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, 4, epoch]).permutation(number)


def scores(model: Model, protocol: Protocol, split: str, *, hidden: bool = False) -> np.ndarray:
    """Probabilities of a split's rows, float32 [rows]; or the last hidden layer, [rows, 4]."""
    part = protocol.parts[split]
    state, item = protocol.state[part], protocol.item[part]
    model.scale_for(split)
    run, size = _compiled(model)[hidden], model.score_rows
    found = [
        run(tf.constant(state[rows]), tf.constant(item[rows])).numpy()
        for rows in (slice(at, at + size) for at in range(0, len(state), size))
    ]
    model.scale_for("train")
    return np.concatenate(found)


def _compiled(model: Model) -> tuple[Callable, Callable]:
    """Functions for probabilities and for hidden vectors, kept with the model and gone with it."""
    if "_mma4ctr_scoring" not in model.__dict__:
        places = [tf.TensorSpec([None], tf.int32)] * 2  # one trace for all sizes of batches
        both = (
            tf.function(lambda state, item: model({"state": state, "item": item}), places),
            tf.function(lambda state, item: model.hidden({"state": state, "item": item}), places),
        )
        model.__dict__["_mma4ctr_scoring"] = both
    return model.__dict__["_mma4ctr_scoring"]


def fit(
    model: Model,
    protocol: Protocol,
    validate: Callable[[Model], float],
    flags: NetworkFlags,
    loss: str,
    *,
    run_dir: Path | None,
    fixed: Mapping[str, Any] | None = None,
    fresh: Callable[[], list[np.ndarray]] | None = None,
    order: Callable[[int], np.ndarray] | None = None,
) -> Fit:
    """Trains the model and leaves the chosen epoch's weights in it.

    Args:
        model: its network is trained, its tables are not.
        protocol: the training rows.
        validate: AUC on the validation rows.
        flags: how it is trained; --select=auto is validation here.
        loss: of `LOSSES`; see `System.loss`.
        run_dir: of checkpoints and logs; None keeps neither.
        fixed: what a resumed run must share besides the flags.
        fresh: new weights for the network, should the interrupt undo the first epoch.
        order: see `Batches`.

    Raises:
        InputError: the loss is no number, or the checkpoint does not fit.
        Interrupted: on Ctrl-C or SIGTERM, at the end of the running execution; the epoch is
            begun anew by `resume`.
    """
    keras.utils.set_random_seed(flags.seed)
    if flags.deterministic:
        tf.config.experimental.enable_op_determinism()
    # Pairs stand side by side, and none is cut in two.
    batch_size = flags.batch_size + flags.batch_size % 2 * (loss == "pairs")
    batches = Batches(protocol, batch_size, flags.seed, order)
    optimizer = keras.optimizers.Adam(flags.learning_rate, epsilon=EPSILON)
    model.compile(
        optimizer,
        LOSSES[checks.one_of(LOSSES, loss=loss)](),
        jit_compile=flags.jit,
        steps_per_execution=min(flags.steps_per_execution, batches.steps),
    )
    optimizer.build(model.trainable_variables)
    shared = {"loss": loss, "batch_size": batch_size, **(fixed or {})}
    run = _Run(model, flags, run_dir, shared)
    run.restore(flags.resume)
    steps = flags.epochs * batches.steps
    with Display(steps, run.epoch * batches.steps) as display, Signals() as signals:
        run.display = display
        while run.epoch < flags.epochs:
            before = run.weights() if flags.interrupt == "intent" else None
            mean_loss, seconds = _epoch(run, batches, signals)
            value = float(validate(model))
            if before is not None and value <= 0.5 and run.undo(before, value, fresh):
                continue
            run.ended(mean_loss, value, seconds)
    return run.result()


def _epoch(run: _Run, batches: Batches, signals: Signals) -> tuple[float, float]:
    rate = learning_rate(run.base_rate, run.epoch, run.flags.schedule)
    run.model.optimizer.learning_rate = rate
    began = time.monotonic()
    watch = _Watch(run, signals, batches.steps)
    run.model.fit(
        batches(run.epoch),
        initial_epoch=run.epoch,
        epochs=run.epoch + 1,
        verbose=0,
        shuffle=False,
        callbacks=[watch],
    )
    if signals.came:
        raise Interrupted(f"stopped in epoch {run.epoch + 1}; --resume goes on from its beginning")
    loss = float(run.model.get_metrics_result()["loss"])
    if not math.isfinite(loss):
        raise InputError(
            f"the loss is {loss} in epoch {run.epoch + 1}: lower --learning_rate (now {rate:g})"
        )
    return loss, time.monotonic() - began


class _Watch(keras.callbacks.Callback):
    def __init__(self, run: _Run, signals: Signals, steps: int):
        super().__init__()
        self._run, self._signals, self._steps = run, signals, steps

    def on_train_batch_end(self, batch, logs=None):
        done = self._run.epoch * self._steps + min(batch + 1, self._steps)
        self._run.display.step(done, self._run.epoch + 1, float(logs["loss"]))
        if self._signals.came:
            self.model.stop_training = True


class _Run:
    """The state of one training."""

    display: Display

    def __init__(self, model: Model, flags: NetworkFlags, run_dir: Path | None, fixed: dict):
        self.model, self.flags = model, flags
        self.epoch, self.base_rate = 0, flags.learning_rate
        self.fit = Fit()
        self.best: list[np.ndarray] = []
        self.best_value = -math.inf
        self.files = Checkpoints(run_dir / "checkpoints") if run_dir else None
        self.logs = run_dir / "logs" if run_dir else None
        # The tables are made anew from the dataset; they are as large as it is.
        self.variables = {
            name: variable
            for name, variable in resuming.training_variables(model).items()
            if "/rows/" not in name
        }
        names = ("learning_rate", "schedule", "interrupt", "select", "seed", "jit")
        shared = flags.model_dump(include=set(names))
        self.fixed = json.loads(json.dumps(shared | fixed))

    def weights(self) -> resuming.Arrays:
        """Everything that training changes."""
        return resuming.values(self.variables)

    def network(self) -> list[np.ndarray]:
        """The network's weights."""
        return [np.array(w) for w in self.model.net.get_weights()]

    def undo(self, before: resuming.Arrays, value: float, fresh) -> bool:
        """Goes back to the beginning of the epoch at half the rate, up to five times."""
        mine = [one for one in self.fit.retries if one["epoch"] == self.epoch + 1]
        if len(mine) >= MOST_RETRIES:
            return False
        resuming.assign(self.variables, before)
        if self.epoch == 0 and fresh is not None:
            self.model.net.set_weights(fresh())
        self.base_rate /= 2
        self.fit.retries.append(
            {"epoch": self.epoch + 1, "auc": value, "learning_rate": self.base_rate}
        )
        self.display.line(
            f"epoch {self.epoch + 1}  validation AUC {value:.4f}: undone, again at half the rate"
        )
        return True

    def ended(self, loss: float, value: float, seconds: float) -> None:
        """Notes an epoch, keeps its weights if they are the best so far."""
        self.epoch += 1
        self.fit.seconds += seconds
        rate = float(self.model.optimizer.learning_rate)
        row = {"epoch": self.epoch, "loss": loss, "learning_rate": rate, "auc": value}
        row["seconds"] = seconds
        skipped = self.flags.interrupt == "head" and value <= 0.5
        if not skipped:
            self.fit.history.append(row)
        better = self.flags.select == "last" or value > self.best_value
        if better or not self.best:
            self.best, self.best_value = self.network(), value
            self.fit.best_epoch = self.epoch
        if self.epoch in self.flags.evaluate_at:
            self.fit.reached[self.epoch] = self.network()
        self.display.epoch(self.epoch, loss, {"validation AUC": value})
        self._log(row)
        self._save()

    def _log(self, row: Mapping[str, float]) -> None:
        if self.logs is not None:
            with Logs(self.logs, self.epoch - 1) as logs:
                named = {"train/loss": row["loss"], "train/learning_rate": row["learning_rate"]}
                logs.scalars(self.epoch, named | {"validation/auc": row["auc"]})

    def _save(self) -> None:
        if self.files is None:
            return
        progress = Progress(self.epoch, self.epoch, self.best_value, self.fit.best_epoch)
        progress.history, progress.seconds = list(self.fit.history), self.fit.seconds
        arrays = self.weights() | {"run/base_rate": np.array(self.base_rate)}
        best = {f"best/{n}": array for n, array in enumerate(self.best)}
        for epoch, weights in self.fit.reached.items():
            best |= {f"reached/{epoch}/{n}": array for n, array in enumerate(weights)}
        shared = self.fixed | {"retries": self.fit.retries}
        self.files.write(Checkpoint(progress, shared, arrays, best))

    def restore(self, resume: bool) -> None:
        """Goes back to the newest checkpoint, or makes sure that none would be overwritten."""
        if self.files is None or not (self.files.paths()):
            return
        if not resume:
            raise InputError(
                f"{self.files.directory} holds the checkpoints of another run; go on with it by "
                "--resume, or choose another --run_dir"
            )
        stored = self.files.newest()
        if stored is None:
            return
        arrays = dict(stored.arrays)
        rate = arrays.pop("run/base_rate", np.array(self.base_rate))
        plain = Checkpoint(stored.progress, stored.settings, arrays, stored.best)
        resuming.check_fits(plain, self.variables, self.fixed, self.files.directory)
        resuming.assign(self.variables, arrays)
        progress = stored.progress
        self.epoch, self.base_rate = progress.epoch, float(rate)
        self.best_value = -math.inf if progress.best_value is None else progress.best_value
        self.fit.best_epoch, self.fit.seconds = progress.best_epoch, progress.seconds
        self.fit.history = list(progress.history)
        self.fit.retries = list(stored.settings.get("retries", []))
        number = len(self.model.net.get_weights())
        self.best = [stored.best[f"best/{n}"] for n in range(number)]
        for epoch in {int(name.split("/")[1]) for name in stored.best if name[:7] == "reached"}:
            self.fit.reached[epoch] = [stored.best[f"reached/{epoch}/{n}"] for n in range(number)]

    def result(self) -> Fit:
        """Gives the model the chosen weights."""
        self.model.net.set_weights(self.best)
        return self.fit
