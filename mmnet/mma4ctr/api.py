"""The Python API of MMa4CTR: logs of clicks in, click probabilities out, as objects."""

from __future__ import annotations

import dataclasses
import functools
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmnet import checks
from mmnet.api.directories import ExportDirectory, RunDirectory
from mmnet.api.given import GivenTable, flags_of, in_memory, placed, silent, write_csv
from mmnet.checks import InputError
from mmnet.files import make_directory, scratch_directory
from mmnet.mma4ctr import config, tasks
from mmnet.mma4ctr.config import (
    EvaluateConfig,
    InteractionFlags,
    ModalityFlags,
    PredictConfig,
    PrepareConfig,
    ProtocolFlags,
    TrainConfig,
)
from mmnet.mma4ctr.data import dataset as datasets
from mmnet.mma4ctr.data.fusion import LARGEST_SCALED
from mmnet.mma4ctr.data.protocols import SPLITS
from mmnet.mma4ctr.models import REGISTRY, RowSpec
from mmnet.serving import exported
from mmnet.startup import load_tensorflow

if TYPE_CHECKING:
    import keras
    import pandas as pd
    import pyarrow as pa
    import tensorflow as tf

    from mmnet.mma4ctr.system import System

ROWS = {*ProtocolFlags.model_fields, *ModalityFlags.model_fields, "seed"}
"""Options that decide which rows and features are derived from a log."""
OPTIONS = {*InteractionFlags.model_fields, *ROWS}
"""Options of a dataset."""


class Dataset:
    """A log of clicks, and the rows of features that a protocol derives from it.

    Every flag of `python -m mmnet.mma4ctr.prepare` is an option of the same name, and so are the
    flags of `mmnet.mma4ctr.train` that choose rows and features: `protocol="c1"`,
    `matrix="visual"`, `user_features="rate"`, `item_scores=...`, `seed=0`.
    """

    def __init__(
        self,
        prepared: datasets.Dataset,
        options: Mapping[str, Any] | None = None,
        owned: tempfile.TemporaryDirectory | None = None,
    ):
        self._prepared, self._owned = prepared, owned
        self._options = {name: one for name, one in (options or {}).items() if name in ROWS}

    @classmethod
    def from_tables(
        cls,
        actions: pd.DataFrame | pa.Table,
        feeds: pd.DataFrame | pa.Table,
        *,
        directory: str | os.PathLike[str] = "",
        verbose: bool = False,
        **options: Any,
    ) -> Dataset:
        """Make a dataset from two tables with the columns of WeChat's files.

        Args:
            actions: a row per feed that a user was shown: `userid`, `feedid`, `date_` (day,
                counted from 1), `device`, and seven behaviours, each 0 or 1 (`read_comment`,
                `like`, `click_avatar`, `forward`, `favorite`, `comment`, `follow`).
            feeds: a row per feed, with ids of the words read off its pictures, spoken in it and
                written about it, as feed_info.csv has them.
            directory: where the dataset is kept. Without one it is removed with the object.
            verbose: prints how many rows each rule dropped.
            **options: see the class.

        Raises:
            InputError: a table or an option is invalid.
        """
        with scratch_directory(options.get("engine_spill", "")) as scratch:
            for name, table in (("user_action", actions), ("feed_info", feeds)):
                write_csv(table, Path(scratch, f"{name}.csv"))
            given = {"source": "wechat", "source_dir": scratch}
            return cls._made(directory, verbose, given | options)

    @classmethod
    def from_source(
        cls,
        source: str,
        *,
        directory: str | os.PathLike[str] = "",
        verbose: bool = False,
        **options: Any,
    ) -> Dataset:
        """Make a dataset from a publisher's files, or from generated ones in the same layout.

        Args:
            source: wechat or tiktok.
            directory: where the dataset is kept; an unchanged one in it is used again. Without
                one it is removed with the object.
            verbose: prints how many rows each rule dropped.
            **options: see the class; `source_dir` names the files, and
                `generate={"users": 150, "rows": 30_000}` generates some.

        Raises:
            InputError: a file or an option is invalid.
        """
        return cls._made(directory, verbose, {"source": source} | options)

    @classmethod
    def load(cls, directory: str | os.PathLike[str], **options: Any) -> Dataset:
        """Open a dataset directory that `mmnet.mma4ctr.prepare` or `save` wrote.

        Args:
            directory: directory of the dataset.
            **options: which rows and features are made, such as `protocol="c2"`.

        Raises:
            InputError: the directory has no dataset, or a damaged one; a wrong option.
        """
        _check_options(options, ROWS)
        with flags_of(TrainConfig, options):
            return cls(datasets.load(Path(directory)), options)

    def save(self, directory: str | os.PathLike[str]) -> Path:
        """Copies the dataset into a new or empty directory, and returns that.

        Raises:
            InputError: the directory holds something, or cannot be written.
        """
        place, folder = Path(directory), self._prepared.folder
        if place.is_dir() and any(place.iterdir()):
            raise InputError(f"{place} is not empty; name a new directory for the dataset")
        make_directory(place)
        shutil.copytree(folder, place / folder.name)
        # It makes the copy a dataset, so it comes last.
        shutil.copyfile(folder.parent / "dataset.json", place / "dataset.json")
        return place

    @property
    def spec(self) -> RowSpec:
        """Specification that networks are built from: number of features, architecture, seed."""
        features = self._system.features
        assert features is not None
        return RowSpec(features.in_features, self._system.flags.arch, self._system.flags.seed)

    @property
    def user_ids(self) -> np.ndarray:
        """Ids of the users, int64 [users], sorted."""
        return np.asarray(self._prepared.user_ids)

    @property
    def item_ids(self) -> np.ndarray:
        """Ids of the items, int64 [items], sorted."""
        return np.asarray(self._prepared.item_ids)

    @property
    def ledger(self) -> dict[str, int]:
        """Rule -> rows of the log that it kept."""
        return dict(self._prepared.spec.ledger)

    def num_examples(self, split: str) -> int:
        """Number of rows in a split.

        Raises:
            ValueError: there is no such split.
        """
        part = self._system.protocol.parts[checks.one_of(SPLITS, split=split)]
        return part.stop - part.start

    def describe(self) -> dict[str, Any]:
        """Summarize rows, users, items, positives and examples, as JSON values."""
        spec, protocol = self._prepared.spec, self._system.protocol
        return {
            **{name: getattr(spec, name) for name in ("source", "label", "rows")},
            **{name: getattr(spec, name) for name in ("users", "items", "positives")},
            "protocol": protocol.name,
            "examples": {split: self.num_examples(split) for split in SPLITS},
            "positives_per_split": {
                split: int(protocol.label[protocol.parts[split]].sum()) for split in SPLITS
            },
            "inputs": self.spec.in_features,
        }

    def batches(
        self, split: str, size: int = 8192, *, shuffle_seed: int | None = None
    ) -> tf.data.Dataset:
        """One pass over a split, as `keras.Model.fit` and `evaluate` read it.

        Args:
            split: train, validation or test.
            size: rows per batch; the last may hold fewer.
            shuffle_seed: another order in each pass; None keeps the protocol's order.

        Returns:
            `(features, label)`: float32 [batch, in_features], scaled, the user's columns first;
            and float32 [batch], 1.0 where the user responded.

        Raises:
            ValueError: there is no such split, or `size` is below 1.
        """
        number = self.num_examples(split)
        checks.at_least(1, size=size)
        import tensorflow as tf

        features, protocol = self._system.features, self._system.protocol
        assert features is not None
        part, scaler = protocol.parts[split], features.scalers[split]
        states, items = tf.constant(features.states), tf.constant(features.items)
        state, item = tf.constant(protocol.state[part]), tf.constant(protocol.item[part])
        label = tf.constant(protocol.label[part], tf.float32)

        def batch(rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            users = tf.gather(states, tf.gather(state, rows))
            found = tf.concat([users, tf.gather(items, tf.gather(item, rows))], axis=1)
            scaled = (found - scaler.low) * scaler.factor
            bounded = tf.clip_by_value(scaled, -LARGEST_SCALED, LARGEST_SCALED)
            return bounded, tf.gather(label, rows)

        order = tf.data.Dataset.range(number)
        if shuffle_seed is not None:
            order = order.shuffle(number, seed=shuffle_seed)
        return order.batch(size).map(batch).prefetch(2)

    @functools.cached_property
    def _system(self) -> System:
        """The rows and tables of the protocol, made when they are first needed."""
        load_tensorflow()
        from mmnet.mma4ctr.system import System

        with flags_of(TrainConfig, self._options) as flags:
            return System(self._prepared, tasks.as_prepared(flags, self._prepared))

    @classmethod
    def _made(
        cls, directory: str | os.PathLike[str], verbose: bool, options: Mapping[str, Any]
    ) -> Dataset:
        _check_options(options, OPTIONS)
        of_log = {name: one for name, one in options.items() if name not in ROWS}
        owned = None if directory else scratch_directory(options.get("engine_spill", ""))
        place = Path(owned.name, "dataset") if owned is not None else Path(directory)
        with (
            flags_of(TrainConfig, options),  # wrong ones are refused before a log is read
            flags_of(PrepareConfig, of_log) as flags,
            silent(verbose),
        ):
            prepared = datasets.prepare(flags, place)
            tasks.print_dataset(prepared)
        return cls(prepared, options, owned)

    def __repr__(self) -> str:
        """One line of its sizes."""
        spec = self._prepared.spec
        return f"Dataset(users={spec.users}, items={spec.items}, rows={spec.rows})"


class Run(RunDirectory[TrainConfig]):
    """A run directory: a trained model of clicks, its evaluation, and its export.

    Args:
        directory: the run directory.

    Attributes:
        directory: the run directory.
        flags: every flag that it was trained with.

    Raises:
        InputError: the directory holds no run.
    """

    KIND = tasks.RUNS

    @classmethod
    def train(
        cls,
        run_dir: str | os.PathLike[str],
        dataset: Dataset | None = None,
        *,
        item_scores: GivenTable | None = None,
        verbose: bool = True,
        **options: Any,
    ) -> Run:
        """Trains, evaluates and exports a model, as `python -m mmnet.mma4ctr.train` does.

        Args:
            run_dir: a new directory; or with `resume=True` that of a run to resume.
            dataset: dataset to train on, with its protocol; or `source` and `source_dir` instead.
            item_scores: what `mmnet.Export.score` returned for the items: their score becomes a
                feature, and rows of items decided "drop" are left out.
            verbose: prints what `mmnet.mma4ctr.train` prints.
            **options: flags of `mmnet.mma4ctr.train`: `model="din"`, `epochs=5`, `loss="bce"`.

        Raises:
            InputError: a file or an option is invalid.
            KeyboardInterrupt: on Ctrl-C, after a checkpoint; `resume=True` continues exactly.
        """
        run_dir = Path(run_dir)
        given = {**options, "item_scores": item_scores, "run_dir": str(run_dir)}
        options = dict(dataset._options) if dataset is not None else {}
        options |= {name: one for name, one in given.items() if one is not None}
        with flags_of(TrainConfig, options) as flags:  # refused before anything is written
            config.check(flags)
            if not flags.resume:
                tasks.RUNS.open(TrainConfig(run_dir=str(run_dir)))
        if dataset is not None and not flags.resume:
            if dataset._owned is None:
                options["dataset_dir"] = str(dataset._prepared.folder.parent)
            else:  # it goes with the object, and the run needs it to be evaluated
                options["dataset_dir"] = str(dataset.save(run_dir / "dataset"))
        if in_memory({"item_scores": options.get("item_scores")}):
            options["item_scores"] = placed(options["item_scores"], "item_scores", run_dir)
        with flags_of(TrainConfig, options) as flags, silent(verbose):
            tasks.train(flags)
        return cls(run_dir)

    @property
    def export(self) -> Export:
        """The exported model.

        Raises:
            InputError: the run has none, as runs of the baselines.
        """
        return Export.load(self.directory / "export")

    @property
    def dataset(self) -> Dataset:
        """Dataset that the run was trained on, with its protocol.

        Raises:
            InputError: the dataset does not exist any more.
        """
        options = self.flags.model_dump(include=ROWS)
        return Dataset(datasets.load(self._dataset_place), options)

    def evaluate(self, *, verbose: bool = False, **options: Any) -> dict[str, Any]:
        """Evaluates the trained model again, and writes tables, figures and predictions.

        Args:
            verbose: prints the table.
            **options: flags of `mmnet.mma4ctr.evaluate`, such as `umap=300`.

        Returns:
            The metrics.

        Raises:
            InputError: an option does not fit, or the run has not been finished.
        """
        given = {"run_dir": str(self.directory)} | options
        with flags_of(EvaluateConfig, given) as flags, silent(verbose):
            tasks.evaluate(flags)
        return self.metrics

    def model(self) -> keras.Model:
        """The trained network, from the features of `Dataset.batches` to probabilities.

        Raises:
            InputError: the model reads user and item numbers instead, or its weights are missing.
        """
        if REGISTRY[self.flags.model].reads != "rows":
            raise InputError(f"--model={self.flags.model} reads no rows of features")
        data = datasets.load(self._dataset_place)
        return _first_output(tasks.restored(data, self.flags, self.directory).model.net)


class Export(ExportDirectory):
    """An exported MMa4CTR: the SavedModel and the files with it.

    Attributes:
        path: directory of the version.
    """

    VERIFY = PredictConfig

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Export:
        """Opens an export; the network itself is loaded when it scores.

        Args:
            path: a version, `export/1`, or its parent, whose newest version is used.

        Raises:
            InputError: the path has no export of MMa4CTR.
        """
        directory = exported.version_directory(path)
        exported.about(directory, exported.AboutPairs)
        return cls(directory)

    def score(self, pairs: GivenTable, *, verbose: bool = False, **options: Any) -> pd.DataFrame:
        """Scores pairs of a user and an item.

        Args:
            pairs: a row per pair: `user_id` and `item_id`, whole numbers.
            verbose: prints how many users were unknown.
            **options: further flags of `mmnet.mma4ctr.predict`, such as `batch_size`.

        Returns:
            A row per pair, in the same order: `user_id`, `item_id`, `probability`,
            `calibrated_probability` (both in [0, 1]), `known_user` and `known_item`. Someone
            unknown counts as the mean of all that are known.

        Raises:
            InputError: the table or an option is invalid.
        """
        import pandas as pd

        for name in ("output", "verify", "saved_model"):
            if name in options:
                raise InputError(
                    f"score returns its rows; {name!r} is an option of "
                    "python -m mmnet.mma4ctr.predict only"
                )
        with scratch_directory(None) as scratch:
            output = Path(scratch, "scores.parquet")
            own = {"saved_model": str(self.path), "output": str(output), "pairs": pairs}
            with flags_of(PredictConfig, own | options) as flags, silent(verbose):
                self._predict()(flags)
            return pd.read_parquet(output)

    @staticmethod
    def _predict() -> Callable[[Any], None]:
        return tasks.predict


def MMa4CTR(
    data: Dataset | RowSpec,
    *,
    arch: str | None = None,
    seed: int | None = None,
    output_bias: float | None = None,
) -> keras.Model:
    """Builds the method's network: three tanh layers and a sigmoid over rows of features.

    Args:
        data: a dataset, or the spec of one.
        arch: "readme" has 128, 32 and 4 units; "head_adaptive" what the authors' code has for
            each number of features. None uses the spec's, which of a dataset is "readme".
        seed: seed of the weights; None uses the spec's.
        output_bias: initial bias of the last layer, a log-odds; None draws it.

    Returns:
        A model from features, float32 [batch, in_features], to the probability of a click,
        float32 [batch].

    Raises:
        ValueError: `arch` is unknown, or does not fit the number of features.
    """
    return _built("mma4ctr", data, arch=arch, seed=seed, output_bias=output_bias)


def LogisticRegression(
    data: Dataset | RowSpec, *, seed: int | None = None, output_bias: float | None = None
) -> keras.Model:
    """Builds a logistic regression over the same rows; arguments and result as of `MMa4CTR`."""
    return _built("lr", data, seed=seed, output_bias=output_bias)


def _built(name: str, data: Dataset | RowSpec, **changes: Any) -> keras.Model:
    load_tensorflow()
    spec = data.spec if isinstance(data, Dataset) else data
    given = {field: value for field, value in changes.items() if value is not None}
    spec = dataclasses.replace(spec, **given)
    return _first_output(REGISTRY[name](spec))


def _first_output(net: keras.Model) -> keras.Model:
    """The network without its hidden vectors."""
    import keras

    return keras.Model(net.input, net.outputs[0], name=net.name)


def _check_options(options: Mapping[str, Any], known: set[str]) -> None:
    for name in options:
        if name in TrainConfig.model_fields and name not in known:
            raise InputError(f"{name!r} is an option of Run.train, not of a dataset")
