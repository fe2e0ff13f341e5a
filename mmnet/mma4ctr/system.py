"""One system: the rows of its protocol, its tables, its network, and its metrics."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Literal

import numpy as np
import tensorflow as tf

from mmnet.checks import InputError
from mmnet.console import console
from mmnet.mma4ctr import config
from mmnet.mma4ctr.config import TrainConfig
from mmnet.mma4ctr.data import features, fusion, item_scores, protocols
from mmnet.mma4ctr.data.dataset import Dataset
from mmnet.mma4ctr.data.features import Features
from mmnet.mma4ctr.data.protocols import Protocol
from mmnet.mma4ctr.evaluation import metrics, references, trees
from mmnet.mma4ctr.evaluation.metrics import Platt, Scores
from mmnet.mma4ctr.evaluation.report import Report
from mmnet.mma4ctr.models import REGISTRY, NumberSpec, RowSpec, deviations
from mmnet.mma4ctr.models.baselines.model import Baseline
from mmnet.mma4ctr.models.baselines.rows import graph, histories, other_histories
from mmnet.mma4ctr.models.network import Clicks
from mmnet.mma4ctr.serving import scoring
from mmnet.mma4ctr.training import fitting
from mmnet.training import mirrored
from mmnet.training.records import Stages

CHECKED_PAIRS = 1000
"""Number of pairs that SavedModel and model both score before an export is written."""


class System:
    """One system: the rows of its protocol, its tables and its network.

    Args:
        data: the log.
        flags: everything else.
        stages: times are added to.
    """

    protocol: Protocol
    features: Features | None
    model: fitting.Model

    def __init__(self, data: Dataset, flags: TrainConfig, stages: Stages | None = None):
        stages = stages or Stages()
        self.data, self.flags, self.stages = data, flags, stages
        self.builder = REGISTRY[flags.model]
        present = {name: np.asarray(raw.present) for name, raw in data.modalities.items()}
        config.check(flags)
        with stages.stage("protocol"), console.status("choosing rows"):
            self.needed, more, by_day = fusion.needed(flags.matrix, present), None, None
            if flags.item_scores:
                ids, days = np.asarray(data.item_ids), None
                if data.spec.daily and flags.protocol == "c1":
                    first, last = int(data.time.min()), int(data.time.max())
                    days = item_scores.Days(first, last - first + 1)
                scores = item_scores.read(flags.item_scores, ids, flags.text_set, days)
                self.needed &= scores.kept
                if flags.score_column:
                    by_day = scores.by_day
                    more = scores.columns if by_day is None else None
            self.protocol = protocols.build(
                data, flags, self.needed, flags.seed, sequential=self.builder.sequential
            )
        self.features = None
        if self.builder.reads == "rows":
            with stages.stage("features"), console.status("building tables of users and items"):
                how = features.reduction(data, flags, flags.protocol)
                self.features = features.build(data, self.protocol, flags, how, more, by_day)
        self.model = self.fresh()

    @property
    def loss(self) -> str:
        """Loss that the model is trained with; `--loss` applies to models without their own."""
        if self.builder.loss == "pairs" and self.flags.negatives == "shown":
            return "shown_pairs"
        return self.builder.loss or self.flags.loss

    @property
    def deviations(self) -> frozenset[str]:
        """Deviations from its paper that the model is built with; see `--faithful`."""
        return deviations.of(self.flags.model, self.flags.faithful, self.flags.protocol)

    def fresh(self, again: int = 0) -> fitting.Model:
        """Build the model with new weights; `again` draws different ones."""
        protocol, flags = self.protocol, self.flags
        label, seed = protocol.label[protocol.parts["train"]], flags.seed + 1_000_003 * again
        bias = float(metrics.logit(label.mean()))
        if self.features is None:
            length, others = self.builder.history, None
            if "fixed_auxiliary_negatives" in self.deviations:
                others = other_histories(protocol, length, flags.seed)
            spec = NumberSpec(
                users=len(self.data.user_ids),
                items=len(self.data.item_ids),
                history=length,
                pairs=graph(protocol),
                batch_size=flags.batch_size,
                seed=seed,
                output_bias=bias,
                deviations=self.deviations,
                others=others is not None,
            )
            net, history = self.builder(spec), histories(protocol, length)
            # TensorFlow keeps int32 variables on the CPU, where XLA does not reach them.
            tables: Literal["int32", "int64"] = (
                "int64" if tf.config.list_physical_devices("GPU") else "int32"
            )
            rows = self.builder.score_rows
            return Baseline(net, protocol.state_user, history, rows, others, tables)
        start = bias if fitting.OBJECTIVES[self.loss].base_rate else None
        try:
            net = self.builder(RowSpec(self.features.in_features, flags.arch, seed, start))
        except ValueError as error:
            raise InputError(f"--arch: {error}") from None
        return Clicks(self.features, net)

    @property
    def digest(self) -> str:
        """Digest of the data that the weights belong to."""
        return self.data.spec.content

    @property
    def parameters(self) -> int:
        """Number of trainable parameters; the tables are not trainable."""
        return int(sum(np.prod(w.shape) for w in self.model.trainable_variables))

    def fit(self, run_dir: Path | None) -> fitting.Fit:
        """Trains the network."""
        flags = self.flags
        select = flags.select
        if select == "auto":
            select = "last" if flags.protocol == "p0" else "validation"
        flags = flags.model_copy(update={"select": select})
        part = self.protocol.parts["validation"]
        trained = self.model
        if flags.devices > 1:
            trained = mirrored.twin_of(self.model, self.fresh, flags.devices)

        def copy_trained() -> None:
            if trained is not self.model:
                self.model.net.set_weights(trained.net.get_weights())

        def validate(_: fitting.Model) -> float:
            copy_trained()
            return metrics.auc(self.protocol.label[part], self.outputs("validation"))

        with self.stages.stage("train"):
            found = fitting.fit(
                trained,
                self.protocol,
                validate,
                flags,
                self.loss,
                run_dir=run_dir,
                fixed={"dataset": self.digest, "protocol": flags.protocol, "model": flags.model}
                # A model without deviations resumes from checkpoints of earlier versions.
                | ({"deviations": sorted(self.deviations)} if self.deviations else {}),
                fresh=lambda again: self.fresh(again).net.get_weights(),
                hparams=flags.model_dump(mode="json", include=config.DECIDES),
            )
        copy_trained()
        return found

    def scores(self, split: str) -> np.ndarray:
        """Probabilities of a split's rows."""
        return fitting.scores(self.model, self.protocol, split)

    def outputs(self, split: str) -> np.ndarray:
        """Ranking of a split's rows: probabilities, or under recbole what RecBole's models return.

        Those of DIN and DIEN return probabilities, all others scores of any size.
        """
        raw = self.flags.protocol == "recbole" and self.loss in ("pairs", "items")
        return fitting.scores(self.model, self.protocol, split, "raw" if raw else "probability")

    def calibration(self) -> Platt:
        """Calibration fitted to the validation rows."""
        part = self.protocol.parts["validation"]
        return metrics.platt(self.protocol.label[part], self.scores("validation"))

    def test(self) -> Scores:
        """Compute the metrics of the test rows with the current weights."""
        part = self.protocol.parts["test"]
        return metrics.report(
            self.protocol.label[part],
            self.scores("test"),
            self.protocol.user[part],
            self.calibration(),
            self.outputs("test") if self.flags.protocol == "recbole" else None,
        )

    def report(self, fitted: fitting.Fit) -> Report:
        """Metrics of the chosen epoch, of the requested epochs, and of the references."""
        test, chosen = self.test(), self.model.net.get_weights()
        at_epoch = {}
        for epoch, weights in sorted(fitted.reached.items()):
            self.model.net.set_weights(weights)
            at_epoch[str(epoch)] = self.test()
        self.model.net.set_weights(chosen)
        return Report(
            protocol=self.flags.protocol,
            seed=self.flags.seed,
            model=self.flags.model,
            in_features=self.features.in_features if self.features else 0,
            parameters=self.parameters,
            epoch=fitted.best_epoch,
            test=test,
            references={
                name: references.scores(self.protocol, values)
                for name, values in self.references.items()
            },
            at_epoch=at_epoch,
        )

    @functools.cached_property
    def references(self) -> dict[str, np.ndarray]:
        """Probabilities of the references for all rows; see `references.probabilities`."""
        flags = self.flags
        found = references.probabilities(self.data, self.protocol, shuffled=flags.shuffle_labels)
        if flags.lightgbm and self.features is not None:
            found["LightGBM"] = trees.probabilities(self.features, self.protocol, flags.seed)
        return found

    def export(self, directory: Path) -> Path:
        """Writes the SavedModel: users as known after the log's end, scaled as in training."""
        protocol, data = self.protocol, self.data
        assert isinstance(self.model, Clicks)
        states = protocol.last_state
        users = np.zeros(len(data.user_ids), bool)
        users[protocol.edges.user] = True
        self.model.scale_for("train")
        calibration = self.calibration()
        folded = scoring.Folded(
            self.model,
            states,
            np.asarray(data.user_ids),
            np.asarray(data.item_ids),
            users,
            self.needed,
            calibration,
        )
        draw = np.random.default_rng(0)
        user = draw.choice(np.flatnonzero(users), CHECKED_PAIRS)
        item = draw.choice(np.flatnonzero(self.needed), CHECKED_PAIRS)
        wanted = self.model(
            {"state": states[user].astype(np.int32), "item": item.astype(np.int32)}
        ).numpy()
        check = np.asarray(data.user_ids)[user], np.asarray(data.item_ids)[item], wanted
        about = {
            "flags": self.flags.model_dump(mode="json", exclude=set(config.PLACES)),
            "dataset": self.digest,
        }
        return scoring.export(folded, directory, check, about)
