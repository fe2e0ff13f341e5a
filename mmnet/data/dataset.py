"""A prepared dataset: dense arrays, fitted values, and the ledger, in a dataset directory."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from pydantic import BaseModel, ConfigDict, Field

from mmnet.config import TableFlags, TaskFlags
from mmnet.data import histories, rates, store
from mmnet.data.calendars import Calendar
from mmnet.data.counts import Counts, Panel
from mmnet.data.items import Vocabularies
from mmnet.data.ledger import Rule, ledger_table
from mmnet.data.numbers import Marks
from mmnet.data.splits import SPLITS, Examples, Split
from mmnet.schema import FeatureSpec, Output

FORMAT = 3
ROWS_AT_ONCE = 1 << 18
"""Number of examples whose windows are gathered at a time."""


class Fitted(BaseModel):
    """Everything decided or fitted on the training span; it is saved with the SavedModel.

    Attributes:
        spec: shapes and statistics of the model's inputs.
        calendar: division of time into periods.
        vocabularies: tensor name -> values of ids 2, 3, ...
        tables: flags of the tables, such as column names.
        task: flags of how examples are built.
        encoders: text, image -> fingerprint of the frozen encoder whose vectors the model reads.
        marks: numeric column -> its decimal mark and thousands separator, where unusual.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    spec: FeatureSpec
    calendar: Calendar
    vocabularies: Vocabularies
    tables: TableFlags
    task: TaskFlags
    encoders: dict[str, str] = {}
    marks: dict[str, Marks] = Field({}, exclude_if=lambda marks: not marks)


@dataclass
class Dataset:
    """Everything that a model is trained, evaluated or scored on.

    Attributes:
        fitted: vocabularies, scales, flags.
        panel: dense counts.
        history: float32 [items, window - 1 + periods, channels], see `histories`.
        tensors: static inputs by tensor name, [items, ...]; encoded vectors are float16.
        split: the examples; None for a dataset that is only scored.
        ledger: rows dropped by each rule.
        inputs: file -> SHA-256.
        fingerprint: hash of the inputs and flags that the dataset was built from.
        true_share_rate: float64 [items, periods], true rates of simulated data in percent, NaN
            where unknown; None for real data.
        rate_histories: name of a further rate -> its history, like `history`.
        inputs_of: the whole dataset, whose inputs the examples of a view have; see `of_output`.
    """

    fitted: Fitted
    panel: Panel
    history: np.ndarray
    tensors: dict[str, np.ndarray]
    split: Split | None = None
    ledger: list[Rule] = field(default_factory=list)
    inputs: dict[str, str] = field(default_factory=dict)
    fingerprint: str = ""
    true_share_rate: np.ndarray | None = None
    rate_histories: dict[str, np.ndarray] = field(default_factory=dict)
    inputs_of: Dataset | None = None

    def alone(self, output: Output) -> Dataset:
        """Returns the dataset of one output: its rate is the main one, and the only one.

        Args:
            output: one of the outputs of the spec.
        """
        outputs, spec = self.fitted.spec.outputs(), self.fitted.spec
        if len(outputs) == 1:
            return self
        tables, task = self.fitted.tables, self.fitted.task
        spec = spec.of_rate(output.rate)
        spec = spec.model_copy(update={"horizon": output.horizon, "horizons": ()})
        fitted = self.fitted.model_copy(
            update={
                "spec": spec,
                "task": task.model_copy(update={"horizon": (output.horizon,)}),
                "tables": rates.alone(tables, output.rate),
            }
        )
        return dataclasses.replace(
            self,
            fitted=fitted,
            panel=self.panel.of_rate(output.rate),
            history=self.rate_histories.get(output.rate, self.history),
            rate_histories={},
            split=self.split and self.split.of_output(outputs.index(output)),
            true_share_rate=None if output.rate else self.true_share_rate,
        )

    def of_output(self, output: Output) -> Dataset:
        """Returns a view, whose targets and examples are those of one output.

        Everything is as in `alone`, except that `Windows` gathers the inputs of this dataset, which
        a network of all outputs reads.

        Args:
            output: one of the outputs of the spec.
        """
        found = self.alone(output)
        return found if found is self else dataclasses.replace(found, inputs_of=self)

    @property
    def share_rate(self) -> np.ndarray:
        """Share rates in percent, 0 where missing, float32 [items, periods]."""
        return self._periods[..., histories.SHARE_RATE]

    @property
    def missing_flag(self) -> np.ndarray:
        """Missing flags, 1 where missing, float32 [items, periods]."""
        return self._periods[..., histories.MISSING_FLAG]

    @property
    def taxonomy_rate(self) -> np.ndarray:
        """Taxonomy means in percent, float32 [items, periods, taxonomies]."""
        return self._of_taxonomies(0)

    @property
    def taxonomy_missing_flag(self) -> np.ndarray:
        """Their missing flags, 1 where missing, float32 [items, periods, taxonomies]."""
        return self._of_taxonomies(1)

    @property
    def taxonomy_evidence(self) -> np.ndarray:
        """Evidence of the means, items or clicks, float32 [items, periods, taxonomies].

        Empty if it is not an input.
        """
        return self._of_taxonomies(2)

    def _of_taxonomies(self, place: int) -> np.ndarray:
        number = len(self.fitted.spec.taxonomies)
        start = histories.TAXONOMIES + place * number
        return self._periods[..., start : start + number]

    @property
    def _periods(self) -> np.ndarray:
        return self.history[:, self.fitted.spec.window - 1 :]

    @property
    def first_targets(self) -> dict[str, int | str]:
        """Returns the first target period of each split that is made by time."""
        columns = self.split.first_targets if self.split else ()
        return dict(zip(SPLITS, map(self.panel.label, columns), strict=False))

    def missing_flags(self, examples: Examples) -> np.ndarray:
        """Returns which steps of the examples' windows have no data, bool [examples, window]."""
        found = np.empty((len(examples), self.fitted.spec.window), bool)
        steps = np.arange(self.fitted.spec.window)
        for start in range(0, len(examples), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            columns = examples.times[part, None] + steps
            items = examples.items[part, None]
            found[part] = self.history[items, columns, histories.MISSING_FLAG] == 1
        return found

    def missing_share(self, split: str = "train") -> float:
        """Returns the fraction of window steps of a split that have no data."""
        return float(self.missing_flags(self.examples(split)).mean())

    def examples(self, split: str) -> Examples:
        """Returns the examples of a split.

        Raises:
            ValueError: the dataset was prepared for scoring only.
        """
        if self.split is None:
            raise ValueError("a dataset that was prepared for scoring has no examples")
        return self.split[split]


def save(dataset: Dataset, directory: str | Path) -> Path:
    """Writes a dataset in memory to a dataset directory, and returns the directory.

    Raises:
        InputError: the directory cannot be written, or contains something else than a dataset.

    >>> import tempfile
    >>> flags = {"tables": TableFlags(), "task": TaskFlags(window=1), "vocabularies": {}}
    >>> days, counts = Calendar(kind="integer"), np.array([[4, 2], [0, 5]])
    >>> spec = FeatureSpec(window=1, horizon=1)
    >>> panel = Panel(np.array(["a", "b"]), counts, counts // 2, np.zeros(2, int), days, 0)
    >>> history = np.zeros(histories.shape(2, 2, spec), np.float32)
    >>> dataset = Dataset(Fitted(spec=spec, calendar=days, **flags), panel, history, tensors={})
    >>> with tempfile.TemporaryDirectory() as place:
    ...     found = load(save(dataset, Path(place, "dataset")))
    >>> found.panel.item_ids, found.panel.clicks.tolist()
    (array(['a', 'b'], dtype=object), [[4, 2], [0, 5]])
    """
    with STORE.only_one(directory):
        STORE.write(directory, dataset.fingerprint, functools.partial(write, dataset))
    return Path(directory)


def write(dataset: Dataset, folder: Path) -> store.About:
    """Fills the folder of a dataset; called by `store.Store.write`.

    Args:
        dataset: the dataset, whose arrays may already be mapped files of the folder.
        folder: folder of the arrays.

    Returns:
        The rest of the dataset, for `dataset.json`.
    """
    panel, split = dataset.panel, dataset.split
    arrays = {name: getattr(panel, name) for name in ("clicks", "shares", "release")}
    if panel.release_given is not None:
        arrays["release_given"] = panel.release_given
    arrays["history"] = dataset.history
    arrays |= {f"tensor-{name}": array for name, array in dataset.tensors.items()}
    if split:
        for name in SPLITS:
            arrays |= {f"{name}-items": split[name].items, f"{name}-times": split[name].times}
            if (eligible := split[name].eligible) is not None:
                arrays[f"{name}-eligible"] = eligible
    for rate, counts in panel.rates.items():
        arrays |= {f"clicks-{rate}": counts.clicks, f"shares-{rate}": counts.shares}
        arrays[f"history-{rate}"] = dataset.rate_histories[rate]
    if dataset.true_share_rate is not None:
        arrays["true_share_rate"] = dataset.true_share_rate
    for name, array in arrays.items():
        file = folder / f"{name}.npy"
        if isinstance(array, np.memmap) and Path(str(array.filename)) == file:
            array.flush()
        else:
            np.save(file, array, allow_pickle=False)
    ids = pa.table({"item_id": pa.array(panel.item_ids, pa.string())})
    pa.parquet.write_table(ids, folder / "items.parquet")
    (folder / store.LEDGER).write_text(ledger_table(dataset.ledger), encoding="utf-8")
    return {
        "fitted": dataset.fitted.model_dump(mode="json"),
        "first_period": panel.first_period,
        "first_targets": list(split.first_targets) if split else None,
        "tensors": list(dataset.tensors),
        "true_share_rate": dataset.true_share_rate is not None,
        "release_given": panel.release_given is not None,
        "ledger": [asdict(rule) for rule in dataset.ledger],
        "inputs": dataset.inputs,
    }


def _open(folder: Path, about: store.About) -> Dataset:
    array = functools.partial(store.mapped, folder)
    fitted = Fitted.model_validate(about["fitted"])
    ids = store.opened(folder / "items.parquet", pa.parquet.read_table)["item_id"]
    panel = Panel(
        item_ids=ids.to_numpy(zero_copy_only=False).astype(object),
        clicks=array("clicks"),
        shares=array("shares"),
        release=array("release"),
        calendar=fitted.calendar,
        first_period=about["first_period"],
        # Earlier versions did not record which releases were given.
        release_given=array("release_given") if about.get("release_given") else None,
        rates={
            rate.name: Counts(array(f"clicks-{rate.name}"), array(f"shares-{rate.name}"))
            for rate in fitted.spec.rates
        },
    )
    # Earlier versions did not record whether there is one.
    truth = about.get("true_share_rate", (folder / "true_share_rate.npy").exists())
    split = None
    if about["first_targets"] is not None:
        several = len(fitted.spec.outputs()) > 1
        parts = {
            name: Examples(
                array(f"{name}-items"),
                array(f"{name}-times"),
                array(f"{name}-eligible") if several else None,
            )
            for name in SPLITS
        }
        split = Split(**parts, first_targets=tuple(about["first_targets"]))
    found = Dataset(
        fitted=fitted,
        panel=panel,
        history=array("history"),
        tensors={name: array(f"tensor-{name}") for name in about["tensors"]},
        split=split,
        ledger=[Rule(**rule) for rule in about["ledger"]],
        inputs=about["inputs"],
        fingerprint=about["fingerprint"],
        true_share_rate=array("true_share_rate") if truth else None,
        rate_histories={rate.name: array(f"history-{rate.name}") for rate in fitted.spec.rates},
    )
    store.check(folder, _right(found))
    return found


def _right(dataset: Dataset) -> dict[str, bool]:
    """Returns array -> whether it is consistent with the others; for `store.check`."""
    panel, spec, items = dataset.panel, dataset.fitted.spec, len(dataset.panel.item_ids)
    shape = panel.clicks.shape
    right = {
        "clicks": len(shape) == 2 and shape[0] == items,
        "shares": panel.shares.shape == shape,
        "release": panel.release.shape == (items,),
        "history": dataset.history.shape == histories.shape(items, shape[-1], spec),
    }
    for rate, counts in panel.rates.items():
        right |= {f"{name}-{rate}": getattr(counts, name).shape == shape for name in counts._fields}
        right[f"history-{rate}"] = dataset.rate_histories[rate].shape == dataset.history.shape
    if panel.release_given is not None:
        right["release_given"] = panel.release_given.shape == (items,)
    if dataset.true_share_rate is not None:
        right["true_share_rate"] = dataset.true_share_rate.shape == shape
    right |= {f"tensor-{name}": len(array) == items for name, array in dataset.tensors.items()}
    for name in SPLITS if dataset.split else ():
        part = dataset.examples(name)
        right[f"{name}-items"] = store.within(part.items, items)
        right[f"{name}-times"] = part.times.shape == part.items.shape and store.within(
            part.times, shape[1] - spec.horizon
        )
        if part.eligible is not None:
            of_outputs = (len(part), len(spec.outputs()))
            fits = part.eligible.shape == of_outputs and part.eligible.dtype == bool
            right[f"{name}-eligible"] = fits
    return right


STORE = store.Store("mmnet.prepare", FORMAT, _open)
load = STORE.load
