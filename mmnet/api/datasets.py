"""`Dataset`: tables in, batches for any Keras model out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmnet import checks
from mmnet.api.given import GivenTable, flags_of, silent
from mmnet.config import PrepareConfig
from mmnet.data import dataset as datasets
from mmnet.schema import SCENARIOS, FeatureSpec

if TYPE_CHECKING:
    import tensorflow as tf

SPLITS = ("train", "validation", "test")


class Dataset:
    """Examples made of counts and items, split into train, validation and test.

    Every flag of `python -m mmnet.prepare` is an option of the same name: `window=6`,
    `taxonomies=["category"]`, `texts=["title"]`, `split="by_item"`.

    >>> import pandas as pd
    >>> counts = pd.DataFrame({"item_id": [*"a" * 12, *"b" * 12], "period": [*range(12)] * 2})
    >>> counts["clicks"], counts["shares"] = 4, [1] * 12 + [2] * 12
    >>> items = pd.DataFrame({"item_id": ["a", "b"], "category": ["x", "x"]})
    >>> small = {"window": 2, "min_target_clicks": 1, "min_test_rows": 1}
    >>> dataset = Dataset.from_tables(counts, items, taxonomies=["category"], **small)
    >>> dataset
    Dataset(items=2, periods=12, train=18, validation=2, test=2)
    """

    def __init__(self, prepared: datasets.Dataset):
        self._prepared = prepared

    @classmethod
    def from_tables(
        cls,
        counts: GivenTable,
        items: GivenTable,
        *,
        vectors: Mapping[str, GivenTable] | None = None,
        directory: str | Path = "",
        verbose: bool = False,
        **options: Any,
    ) -> Dataset:
        """Make a dataset from two tables.

        Args:
            counts: a row per item and period: `item_id`, `period`, `clicks`, `shares`, or as
                `item_column`, `period_column`, `denominator` and `numerator` call them.
            items: a row per item, with its taxonomies, texts and further columns.
            vectors: name -> table of item id and one list-of-floats column.
            directory: where the dataset is kept; an unchanged one in it is used again. Without
                one, the dataset is in memory.
            verbose: prints what every rule left out.
            **options: flags of `mmnet.prepare`.

        Raises:
            InputError: a table or an option is invalid.
        """
        tables = {"counts": counts, "items": items, "vectors": vectors}
        return cls._made(directory, verbose, tables | options)

    @classmethod
    def from_events(
        cls,
        events: GivenTable,
        items: GivenTable,
        *,
        vectors: Mapping[str, GivenTable] | None = None,
        directory: str | Path = "",
        verbose: bool = False,
        **options: Any,
    ) -> Dataset:
        """Make a dataset from raw events; see `from_tables`.

        Args:
            events: a row per event; `time_column`, `numerator` and `denominator` define the
                meaning of its columns.
            items: a row per item.
            vectors: see `from_tables`.
            directory: likewise.
            verbose: likewise.
            **options: flags of `mmnet.prepare`.

        Raises:
            InputError: a table or an option is invalid.
        """
        tables = {"events": events, "items": items, "vectors": vectors}
        return cls._made(directory, verbose, tables | options)

    @classmethod
    def from_source(
        cls, source: str, *, directory: str | Path = "", verbose: bool = False, **options: Any
    ) -> Dataset:
        """Make a dataset from a log with a known layout, or from a generated one.

        Args:
            source: simulated, snapshots, kuairand, kuairec, wechat or tiktok.
            directory: see `from_tables`.
            verbose: likewise.
            **options: flags of `mmnet.prepare`, such as `source_dir`, or
                `source_set={"items": 500}`.

        Raises:
            InputError: a file or an option is invalid.
        """
        return cls._made(directory, verbose, {"source": source} | options)

    @classmethod
    def load(cls, directory: str | Path) -> Dataset:
        """Open a dataset directory that `mmnet.prepare` or `save` wrote.

        Raises:
            InputError: the directory has no dataset, or a damaged one.
        """
        return cls(datasets.load(directory))

    def save(self, directory: str | Path) -> Path:
        """Writes a dataset directory, whole or not at all, and returns it.

        Raises:
            InputError: it cannot be written, or holds something that is no dataset.
        """
        return datasets.save(self._prepared, directory)

    @property
    def spec(self) -> FeatureSpec:
        """The tensors of an example, and the statistics fitted on the training span."""
        return self._prepared.fitted.spec

    @property
    def item_ids(self) -> np.ndarray:
        """Ids of the items, object [items]."""
        return self._prepared.panel.item_ids

    @property
    def periods(self) -> list[int | str]:
        """The periods, oldest first, as the tables write them."""
        panel = self._prepared.panel
        return [panel.label(column) for column in range(panel.num_periods)]

    @property
    def ledger(self) -> list[str]:
        """Rows dropped by each rule, a line each."""
        return [str(rule) for rule in self._prepared.ledger]

    def num_examples(self, split: str) -> int:
        """Examples of a split.

        Raises:
            ValueError: there is no such split.
        """
        return len(self._prepared.examples(checks.one_of(SPLITS, split=split)))

    def describe(self) -> dict[str, Any]:
        """Summarize items, periods, examples, rates (percent) and inputs, as JSON values.

        With several outputs, also the number of targets of each in every split.
        """
        spec, periods = self.spec, self.periods
        found: dict[str, Any] = {
            "items": len(self.item_ids),
            "periods": len(periods),
            "first_period": periods[0],
            "last_period": periods[-1],
            "examples": {split: self.num_examples(split) for split in SPLITS},
            "first_targets": self._prepared.first_targets,
            "missing_share": self._prepared.missing_share("train"),
            "mean_rate": spec.rate_mean,
            "rate_scale": spec.rate_scale,
            "inputs": list(spec.tensors()),
        }
        outputs = spec.outputs()
        if len(outputs) > 1:
            found["targets"] = {
                output.name: {
                    split: len(self._prepared.examples(split).of_output(number)) for split in SPLITS
                }
                for number, output in enumerate(outputs)
            }
        return found

    def batches(
        self,
        split: str,
        size: int = 64,
        *,
        scenario: str = "normal",
        missing_rate: float = 0.5,
        scenario_seed: int = 0,
        shuffle_seed: int | None = None,
    ) -> tf.data.Dataset:
        """One pass over a split, as `keras.Model.fit` and `evaluate` read it.

        Args:
            split: train, validation or test.
            size: examples per batch; the last may hold fewer.
            scenario: normal, cold_start or noisy; it decides which steps of the items' histories
                are hidden.
            missing_rate: share of the steps that noisy hides, in [0, 1].
            scenario_seed: seed of these steps.
            shuffle_seed: another order in each pass; None keeps items and periods in order.

        Returns:
            `(inputs, target)`: a dict of the tensors of `spec`, batch first, and the share rate
            of the target period, float32 [batch], percent. With several outputs
            `(inputs, target, weight)`: targets and weights are [batch, outputs], and the weight is
            1 where a target belongs to the split and 0 elsewhere.

        Raises:
            ValueError: there is no such split or scenario, or a number is out of range.
        """
        checks.one_of(SPLITS, split=split)
        checks.one_of(SCENARIOS, scenario=scenario)
        checks.in_range(0, 1, missing_rate=missing_rate)
        checks.at_least(1, size=size)
        from mmnet.startup import load_tensorflow

        load_tensorflow()
        import tensorflow as tf

        from mmnet.data.windows import Windows
        from mmnet.evaluation.predicting import ScenarioSet
        from mmnet.evaluation.scenarios import disturb

        examples, windows = self._prepared.examples(split), Windows(self._prepared)
        shown = ScenarioSet(
            self._prepared,
            windows,
            examples,
            missing_rate=missing_rate,
            scenario_seed=scenario_seed,
        )
        items, times = tf.constant(examples.items), tf.constant(examples.times)
        hidden = tf.constant(shown.hidden[scenario])
        belongs = examples.eligible
        weights = None if belongs is None else tf.constant(belongs.astype(np.float32))

        def batch(rows: tf.Tensor) -> tuple[tf.Tensor | dict[str, tf.Tensor], ...]:
            who, when = tf.gather(items, rows), tf.gather(times, rows)
            inputs = disturb(windows.gather(who, when), tf.gather(hidden, rows))
            found = inputs, windows.target(who, when)
            return found if weights is None else (*found, tf.gather(weights, rows))

        order = tf.data.Dataset.range(len(examples))
        if shuffle_seed is not None:
            order = order.shuffle(len(examples), seed=shuffle_seed)
        return order.batch(size).map(batch).prefetch(2)

    @classmethod
    def _made(cls, directory: str | Path, verbose: bool, options: Mapping[str, Any]) -> Dataset:
        from mmnet.data import input_tables, pipeline
        from mmnet.data.content import Encoders
        from mmnet.tasks.preparing import dataset_of_tables
        from mmnet.tasks.shown import print_ledger

        with flags_of(PrepareConfig, options) as flags, silent(verbose):
            if directory:
                found = dataset_of_tables(flags, Path(directory))
            else:
                tables, task = input_tables.table_flags(flags)
                read = input_tables.load_tables(tables, task, grouped_by=task.split_group)
                encoders = Encoders(tables)
                found = pipeline.prepare(read, tables, task, encoders)
                found.fingerprint, found.inputs = input_tables.fingerprint(
                    read, tables, task, encoders
                )
            print_ledger(found)
        return cls(found)

    def __repr__(self) -> str:
        """One line of its sizes."""
        sizes = {"items": len(self.item_ids), "periods": self._prepared.panel.num_periods}
        sizes |= {split: self.num_examples(split) for split in SPLITS}
        return f"Dataset({', '.join(f'{name}={size}' for name, size in sizes.items())})"
