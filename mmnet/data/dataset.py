"""A prepared dataset: dense arrays, what was fitted, and the ledger, in one directory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from pydantic import BaseModel, ConfigDict, Field

from mmnet.checks import InputError
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import histories
from mmnet.data.arrays import new_array
from mmnet.data.calendars import Calendar
from mmnet.data.counts import Panel
from mmnet.data.items import Vocabularies
from mmnet.data.ledger import Rule, ledger_table
from mmnet.data.numbers import Marks
from mmnet.data.splits import SPLITS, Examples, Split
from mmnet.files import problem_of_place, write_directory
from mmnet.schema import FeatureSpec

FORMAT = 3
ROWS_AT_ONCE = 1 << 18
"""Examples whose windows are looked at together."""


class Fitted(BaseModel):
    """All that was decided or fitted on the training span; it travels into the SavedModel.

    Attributes:
        spec: shapes and statistics of the model's inputs.
        calendar: what a period is.
        vocabularies: tensor name -> values of ids 2, 3, ...
        tables: column names.
        task: how examples are made.
        encoders: text, image -> fingerprint of the frozen encoder whose vectors the model reads.
        marks: numeric column -> how its numbers were written, where they were not plain.
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
    """Everything a model is trained, evaluated or scored on.

    Attributes:
        fitted: vocabularies, scales, flags.
        panel: dense counts.
        history: float32 [items, window - 1 + periods, channels], see `histories`.
        tensors: static inputs by tensor name, [items, ...]; encoded vectors are float16.
        split: examples; None for a dataset made only to be scored.
        ledger: what every rule dropped.
        inputs: file -> SHA-256.
        fingerprint: of the inputs and flags that the dataset was made from.
        true_share_rate: float64 [items, periods], percent, NaN where unknown; planted, if any.
        kept: files to keep beside the arrays: the counts that events were turned into.
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
    kept: tuple[Path, ...] = ()

    @property
    def share_rate(self) -> np.ndarray:
        """Percent, 0 where missing, float32 [items, periods]."""
        return self._periods[..., histories.SHARE_RATE]

    @property
    def missing_flag(self) -> np.ndarray:
        """1 where missing, float32 [items, periods]."""
        return self._periods[..., histories.MISSING_FLAG]

    @property
    def taxonomy_rate(self) -> np.ndarray:
        """Percent, float32 [items, periods, taxonomies]."""
        return np.split(self._periods[..., histories.TAXONOMIES :], 2, axis=-1)[0]

    @property
    def taxonomy_missing_flag(self) -> np.ndarray:
        """1 where missing, float32 [items, periods, taxonomies]."""
        return np.split(self._periods[..., histories.TAXONOMIES :], 2, axis=-1)[1]

    @property
    def _periods(self) -> np.ndarray:
        return self.history[:, self.fitted.spec.window - 1 :]

    @property
    def first_targets(self) -> dict[str, int | str]:
        """The first target period of each split, where the calendar decides."""
        columns = self.split.first_targets if self.split else ()
        return dict(zip(SPLITS, map(self.panel.label, columns), strict=False))

    def missing_flags(self, examples: Examples) -> np.ndarray:
        """Which steps of the examples' windows are missing by nature, bool [examples, window]."""
        found = np.empty((len(examples), self.fitted.spec.window), bool)
        steps = np.arange(self.fitted.spec.window)
        for start in range(0, len(examples), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            columns = examples.times[part, None] + steps
            items = examples.items[part, None]
            found[part] = self.history[items, columns, histories.MISSING_FLAG] == 1
        return found

    def missing_share(self, split: str = "train") -> float:
        """Share of window entries of a split that are missing by nature."""
        return float(self.missing_flags(self.examples(split)).mean())

    def examples(self, split: str) -> Examples:
        """The examples of a split.

        Raises:
            ValueError: the dataset was made to be scored only.
        """
        if self.split is None:
            raise ValueError("a dataset that was made to be scored has no examples")
        return self.split[split]


class NewDirectory:
    """A dataset directory that is being written beside its place.

    Attributes:
        path: where it is written.
    """

    def __init__(self, path: Path):
        self.path = path

    def array(self, name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """An array of the dataset, to be filled in: a mapped file, as it may not fit in memory."""
        return new_array(self.path / f"{name}.npy", shape, dtype)


def create(directory: str | Path, make: Callable[[NewDirectory], Dataset]) -> Path:
    """Makes a dataset directory; it appears whole or not at all, replacing an older one.

    Args:
        directory: its place.
        make: makes the dataset; arrays that it took from the new directory are there already.

    Raises:
        InputError: the place cannot be written, or holds something that is no dataset.
    """
    directory = Path(directory)
    if directory.exists() and not directory.is_dir():
        raise InputError(f"{directory} is a file; choose another --dataset_dir")
    if (
        directory.exists()
        and not (directory / "dataset.json").is_file()
        and any(directory.iterdir())
    ):
        raise InputError(f"{directory} holds other files; choose another --dataset_dir")
    try:
        write_directory(directory, lambda beside: _fill(NewDirectory(beside), make))
    except OSError as error:
        reason = error.strerror or problem_of_place(error) or error
        raise InputError(f"{directory}: cannot write a dataset there: {reason}") from None
    return directory


def _fill(new: NewDirectory, make: Callable[[NewDirectory], Dataset]) -> None:
    _write(make(new), new.path)


def save(dataset: Dataset, directory: str | Path) -> Path:
    """Writes a dataset directory; see `create`.

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
    return create(directory, lambda _: dataset)


def _write(dataset: Dataset, directory: Path) -> None:
    panel, split = dataset.panel, dataset.split
    arrays = {name: getattr(panel, name) for name in ("clicks", "shares", "release")}
    arrays["history"] = dataset.history
    arrays |= {f"tensor-{name}": array for name, array in dataset.tensors.items()}
    if split:
        for name in SPLITS:
            arrays |= {f"{name}-items": split[name].items, f"{name}-times": split[name].times}
    if dataset.true_share_rate is not None:
        arrays["true_share_rate"] = dataset.true_share_rate
    for name, array in arrays.items():
        file = directory / f"{name}.npy"
        if isinstance(array, np.memmap) and Path(str(array.filename)) == file:
            array.flush()
        else:
            np.save(file, array, allow_pickle=False)
    ids = pa.table({"item_id": pa.array(panel.item_ids, pa.string())})
    pa.parquet.write_table(ids, directory / "items.parquet")
    about = {
        "format": FORMAT,
        "fingerprint": dataset.fingerprint,
        "fitted": dataset.fitted.model_dump(mode="json"),
        "first_period": panel.first_period,
        "first_targets": list(split.first_targets) if split else None,
        "tensors": list(dataset.tensors),
        "ledger": [asdict(rule) for rule in dataset.ledger],
        "inputs": dataset.inputs,
    }
    for path in dataset.kept:
        copy = shutil.copytree if path.is_dir() else shutil.copy2
        copy(path, directory / path.name)
    (directory / "ledger.md").write_text(ledger_table(dataset.ledger), encoding="utf-8")
    text = json.dumps(about, indent=1, ensure_ascii=False) + "\n"
    (directory / "dataset.json").write_text(text, encoding="utf-8")


def fingerprint_of(directory: str | Path) -> str | None:
    """The fingerprint of a dataset directory; None if there is none of this format."""
    about = _about(Path(directory))
    return about.get("fingerprint") if about and about.get("format") == FORMAT else None


def _about(directory: Path) -> dict[str, Any] | None:
    try:
        about = json.loads((directory / "dataset.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return about if isinstance(about, dict) else None


def load(directory: str | Path) -> Dataset:
    """Reads a dataset directory; arrays are memory-mapped.

    Raises:
        InputError: it is not there, or not whole, or of another format.
    """
    directory = Path(directory)
    about = _about(directory)
    if about is None:
        raise InputError(
            f"{directory} is not a dataset directory (no readable dataset.json); "
            "make one with python -m mmnet.prepare, or name another by --dataset_dir"
        )
    if about.get("format") != FORMAT:
        raise InputError(f"{directory} has another version's format; prepare it again")

    def array(name: str) -> np.ndarray:
        try:
            # Copied on writing, since TensorFlow maps no array that cannot be written.
            return np.load(directory / f"{name}.npy", mmap_mode="c", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            raise InputError(
                f"{directory}/{name}.npy is missing or cut off; prepare the dataset again"
            ) from None

    fitted = Fitted.model_validate(about["fitted"])
    try:
        ids = pa.parquet.read_table(directory / "items.parquet")["item_id"]
    except (OSError, pa.ArrowInvalid):
        raise InputError(
            f"{directory}/items.parquet is missing or cut off; prepare the dataset again"
        ) from None
    panel = Panel(
        item_ids=ids.to_numpy(zero_copy_only=False).astype(object),
        clicks=array("clicks"),
        shares=array("shares"),
        release=array("release"),
        calendar=fitted.calendar,
        first_period=about["first_period"],
    )
    split = None
    if about["first_targets"] is not None:
        parts = {name: Examples(array(f"{name}-items"), array(f"{name}-times")) for name in SPLITS}
        split = Split(**parts, first_targets=tuple(about["first_targets"]))
    return Dataset(
        fitted=fitted,
        panel=panel,
        history=array("history"),
        tensors={name: array(f"tensor-{name}") for name in about["tensors"]},
        split=split,
        ledger=[Rule(**rule) for rule in about["ledger"]],
        inputs=about["inputs"],
        fingerprint=about["fingerprint"],
        true_share_rate=array("true_share_rate")
        if (directory / "true_share_rate.npy").exists()
        else None,
    )
