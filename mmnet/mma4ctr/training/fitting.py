"""Fitting of click models: batches, published schedule, published interrupt."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict

import keras
import numpy as np
import tensorflow as tf

from mmnet import checks
from mmnet.checks import InputError
from mmnet.mma4ctr.config import NetworkFlags
from mmnet.mma4ctr.data.protocols import Protocol
from mmnet.mma4ctr.models.baselines.losses import LogLikelihood, PairLoss
from mmnet.mma4ctr.models.baselines.model import Baseline
from mmnet.mma4ctr.models.baselines.rows import (
    TrainingRows,
    paired_rows,
    permuted_rows,
    shown_pairs,
    taken_rows,
)
from mmnet.mma4ctr.models.network import Clicks, ListwiseCrossEntropy
from mmnet.mma4ctr.training import old_checkpoints
from mmnet.training import mirrored
from mmnet.training.adam import Adam
from mmnet.training.fitting import EpochHooks, Metrics, Monitor, Trainer
from mmnet.training.resume import Progress

Model = Clicks | Baseline


Rows = Callable[[Protocol, int, int], TrainingRows]


@dataclass(frozen=True)
class Objective:
    """Training objective of a model.

    Attributes:
        loss: makes the loss.
        rows: from protocol, seed and epoch to training rows, always as many.
        together: number of consecutive rows that must be in one batch.
        base_rate: whether the last layer may start at the share of positives; where the level of
            probabilities is arbitrary, its bias is drawn like the others.
    """

    loss: Callable[[], keras.losses.Loss]
    rows: Rows = permuted_rows
    together: int = 1
    base_rate: bool = True


OBJECTIVES: dict[str, Objective] = {
    "listwise": Objective(ListwiseCrossEntropy, base_rate=False),
    "bce": Objective(keras.losses.BinaryCrossentropy),
    "logits": Objective(functools.partial(keras.losses.BinaryCrossentropy, from_logits=True)),
    "pairs": Objective(PairLoss, paired_rows, together=2),
    "shown_pairs": Objective(PairLoss, shown_pairs, together=2),
    "items": Objective(LogLikelihood, taken_rows),
}
AUC = "validation/auc"
"""Name of an epoch's metric in the logs."""

HALF_EVERY = 5
MOST_RETRIES = 5
EPSILON = 1e-8
"""Adam's epsilon, as in PyTorch; Keras' default is ten times as large."""


class Epoch(TypedDict):
    """An epoch of the history, counted from 1; `auc` is of the validation rows."""

    epoch: int
    loss: float
    learning_rate: float
    auc: float
    seconds: float


class Retry(TypedDict):
    """An epoch that was undone, its validation AUC, and the rate that it was repeated with."""

    epoch: int
    auc: float
    learning_rate: float


@dataclass
class Fit:
    """Result of a training.

    Attributes:
        history: the epochs that were logged.
        best_epoch: the one whose weights the model holds, counted from 1.
        reached: epoch -> the network's weights at its end, for `--evaluate_at`.
        retries: epochs that the validation interrupt undid.
        seconds: seconds of all epochs, validation left out.
    """

    history: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    reached: dict[int, list[np.ndarray]] = field(default_factory=dict)
    retries: list[Retry] = field(default_factory=list)
    seconds: float = 0.0


def learning_rate(base: float, epoch: int, schedule: str) -> float:
    """Learning rate of an epoch, counted from 0: halved every five epochs, or constant.

    >>> [learning_rate(1, epoch, "step") for epoch in (0, 4, 5, 9, 10, 29)]
    [1.0, 1.0, 0.5, 0.5, 0.25, 0.03125]
    """
    return float(base * 0.5 ** (epoch // HALF_EVERY)) if schedule == "step" else float(base)


class Batches:
    """Training batches of one protocol, in a different order in every epoch.

    The order of an epoch is a pure function of seed and epoch. Its last batch may be smaller.

    Args:
        protocol: the training rows.
        batch_size: rows of a batch.
        seed: seed of the orders.
        rows: see `Objective`.

    Attributes:
        steps_per_epoch: batches of one epoch.

    Raises:
        InputError: there are no rows to train on.
    """

    def __init__(
        self,
        protocol: Protocol,
        batch_size: int,
        seed: int,
        rows: Rows = permuted_rows,
    ):
        self._rows = functools.partial(rows, protocol, seed)
        self._batch_size = batch_size
        self.steps_per_epoch = -(-len(self._rows(0).label) // batch_size)
        if not self.steps_per_epoch:
            raise InputError("no training rows remain after filtering; use a larger log")

    def __call__(self, first_step: int) -> tf.data.Dataset:
        """The batches of an epoch from a global step on: ({state, item}, label)."""
        epoch, first = divmod(first_step, self.steps_per_epoch)
        state, item, label = (tf.constant(column) for column in self._rows(epoch))
        size = self._batch_size

        def batch(step: tf.Tensor):
            rows = slice(step * size, (step + 1) * size)
            inputs = {"state": state[rows], "item": item[rows]}
            return inputs, tf.cast(label[rows], tf.float32)

        # AutoGraph has nothing to convert here, and would take longer than building the graph.
        plain = tf.autograph.experimental.do_not_convert(batch)
        made = tf.data.Dataset.range(first, self.steps_per_epoch).map(plain).prefetch(4)
        options = tf.data.Options()
        # To rewrite a pipeline, tf.data first copies all the arrays that it slices.
        options.experimental_optimization.apply_default_optimizations = False
        options.autotune.enabled = False
        return made.with_options(options)


def scores(
    model: Model,
    protocol: Protocol,
    split: str,
    what: Literal["probability", "hidden", "raw"] = "probability",
) -> np.ndarray:
    """Probabilities of a split's rows, float32 [rows].

    Args:
        model: network with its tables.
        protocol: the rows.
        split: which of them.
        what: hidden returns the last hidden layer of `Clicks` instead, [rows, 4]; raw the scores
            of a `Baseline` before the sigmoid, [rows].
    """
    part = protocol.parts[split]
    state, item = protocol.state[part], protocol.item[part]
    model.scale_for(split)
    run, size = _compiled(model, what), model.score_rows
    found = [
        run(tf.constant(state[rows]), tf.constant(item[rows])).numpy()
        for rows in (slice(at, at + size) for at in range(0, len(state), size))
    ]
    model.scale_for("train")
    return np.concatenate(found)


def _compiled(model: Model, what: str) -> Callable:
    """Function of states and items, kept with the model and gone with it."""
    kept = model.__dict__.setdefault("_mma4ctr_scoring", {})
    if what not in kept:
        call = model if what == "probability" else getattr(model, what)
        places = [tf.TensorSpec([None], tf.int32)] * 2  # one trace for all sizes of batches

        def run(state: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
            return call({"state": state, "item": item})

        kept[what] = tf.function(run, places, autograph=False)
    return kept[what]


def fit(
    model: Model,
    protocol: Protocol,
    validate: Callable[[Model], float],
    flags: NetworkFlags,
    loss: str,
    *,
    run_dir: Path | None,
    fixed: Mapping[str, Any] | None = None,
    fresh: Callable[[int], list[np.ndarray]] | None = None,
    hparams: Mapping[str, Any] | None = None,
) -> Fit:
    """Trains the model and leaves the chosen epoch's weights in it.

    Args:
        model: its network is trained, its tables are not; it may be one of `mirrored.twin_of`.
        protocol: the training rows.
        validate: AUC on the validation rows.
        flags: how it is trained; --select=auto is validation here.
        loss: a key of `OBJECTIVES`; see `System.loss`.
        run_dir: directory of checkpoints and logs; None keeps neither.
        fixed: further values that a resumed run must share, besides the flags.
        fresh: the n-th new weights of the network, should the interrupt undo the first epoch.
        hparams: flags to show in TensorBoard's HParams tab.

    Raises:
        InputError: the loss is not finite, or the checkpoint does not fit.
        Interrupted: see `Trainer.fit`.
    """
    objective = OBJECTIVES[checks.one_of(OBJECTIVES, loss=loss)]
    batch_size = -(-flags.batch_size // objective.together) * objective.together
    batches = Batches(protocol, batch_size, flags.seed, objective.rows)
    shared = flags.model_dump(include={"learning_rate", "schedule", "interrupt", "select"})
    with mirrored.scope_of(model):
        optimizer = Adam(flags.learning_rate, epsilon=EPSILON)
    trainer = Trainer(
        model,
        batches,
        batches.steps_per_epoch,
        flags,
        optimizer=optimizer,
        loss=objective.loss(),
        monitor=Monitor(
            AUC,
            lambda metrics: metrics[AUC],
            "last" if flags.select == "last" else "max",
            shown=(AUC,),
        ),
        shared=shared | {"loss": loss, "batch_size": batch_size},
        # The tables come from the dataset, and are as large as it is.
        constants=model.rows.variables,
    )
    names = {id(variable): name for name, variable in trainer.variables.items()}
    network = [names[id(weight)] for weight in model.net.weights]
    if run_dir and flags.resume:
        old_checkpoints.convert(run_dir / "checkpoints", network, batches.steps_per_epoch, AUC)
    fitted = trainer.fit(
        batches,
        lambda model: {AUC: validate(model)},
        run_dir=run_dir,
        resume=flags.resume,
        hooks=_Hooks(model, flags, fresh),
        keep_epochs=flags.evaluate_at,
        hparams=hparams,
        fixed=fixed,
    )
    return Fit(
        [_shown(row) for row in fitted.history if not row.get("unlogged")],
        fitted.best_epoch,
        {epoch: [arrays[name] for name in network] for epoch, arrays in fitted.reached.items()},
        [
            Retry(
                epoch=row["epoch"],
                auc=row["metrics"][AUC],
                learning_rate=flags.learning_rate * 0.5**number,
            )
            for number, row in enumerate(fitted.undone, start=1)
        ],
        sum(row["epoch_seconds"] for row in fitted.history),
    )


def _shown(row: Mapping[str, Any]) -> Epoch:
    """A row of the trainer's history as `Fit` has it."""
    return Epoch(
        epoch=row["epoch"],
        loss=row["loss"],
        learning_rate=row["learning_rate"],
        auc=row["metrics"][AUC],
        seconds=row["epoch_seconds"],
    )


class _Hooks(EpochHooks):
    """The published schedule, and the published interrupt where validation AUC is 0.5 or less."""

    def __init__(
        self,
        model: Model,
        flags: NetworkFlags,
        fresh: Callable[[int], list[np.ndarray]] | None,
    ):
        self._model, self._flags, self._fresh = model, flags, fresh
        self.can_undo = flags.interrupt == "intent"

    def before(self, progress: Progress) -> None:
        """Sets the epoch's learning rate; an undone first epoch begins with other weights."""
        undone, flags = len(progress.undone), self._flags
        base = flags.learning_rate * 0.5**undone
        self._model.optimizer.learning_rate = learning_rate(base, progress.epoch, flags.schedule)
        if progress.epoch == 0 and undone and self._fresh is not None:
            self._model.net.set_weights(self._fresh(undone))

    def after(self, progress: Progress, metrics: Metrics) -> Literal["keep", "undo", "unlogged"]:
        """Undo an epoch up to five times, or only leave it out of the history."""
        if metrics[AUC] > 0.5 or self._flags.interrupt == "off":
            return "keep"
        if self._flags.interrupt == "head":
            return "unlogged"
        undone = [row for row in progress.undone if row["epoch"] == progress.epoch + 1]
        return "undo" if len(undone) < MOST_RETRIES else "keep"
