"""A prepared dataset: dense arrays, what was fitted, and the ledger, in one directory."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from pydantic import BaseModel, ConfigDict

from mmnet.checks import InputError
from mmnet.config import TableFlags, TaskFlags
from mmnet.data.counts import Calendar, Panel
from mmnet.data.items import Vocabularies
from mmnet.data.splits import SPLITS, Examples, Split
from mmnet.data.tables import Rule, ledger_table
from mmnet.files import problem_of_place, write_directory
from mmnet.schema import FeatureSpec

FORMAT = 2


class Fitted(BaseModel):
    """All that was decided or fitted on the training span; it travels into the SavedModel.

    Attributes:
        spec: shapes and statistics of the model's inputs.
        calendar: what a period is.
        vocabularies: tensor name -> values of ids 2, 3, ...
        tables: column names.
        task: how examples are made.
        encoders: text, image -> fingerprint of the frozen encoder whose vectors the model reads.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    spec: FeatureSpec
    calendar: Calendar
    vocabularies: Vocabularies
    tables: TableFlags
    task: TaskFlags
    encoders: dict[str, str] = {}


@dataclass
class Dataset:
    """Everything a model is trained, evaluated or scored on.

    Attributes:
        fitted: vocabularies, scales, flags.
        panel: dense counts.
        share_rate, missing_flag: float32 [items, periods], percent and 0/1.
        taxonomy_rate, taxonomy_missing_flag: float32 [items, periods, taxonomies].
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
    share_rate: np.ndarray
    missing_flag: np.ndarray
    taxonomy_rate: np.ndarray
    taxonomy_missing_flag: np.ndarray
    tensors: dict[str, np.ndarray]
    split: Split | None = None
    ledger: list[Rule] = field(default_factory=list)
    inputs: dict[str, str] = field(default_factory=dict)
    fingerprint: str = ""
    true_share_rate: np.ndarray | None = None
    kept: tuple[Path, ...] = ()

    @property
    def first_targets(self) -> dict[str, int | str]:
        """The first target period of each split, where the calendar decides."""
        columns = self.split.first_targets if self.split else ()
        return dict(zip(SPLITS, map(self.panel.label, columns), strict=False))

    def missing_share(self, split: str = "train") -> float:
        """Share of window entries of a split that are missing by nature."""
        examples = self.split[split]
        window = self.fitted.spec.window
        padded = np.pad(self.missing_flag, ((0, 0), (window - 1, 0)), constant_values=1)
        total = np.cumsum(np.pad(padded, ((0, 0), (1, 0))), axis=1, dtype=np.float64)
        missing = (total[:, window:] - total[:, :-window])[examples.items, examples.times]
        return float(missing.mean() / window)


_ARRAYS = ("share_rate", "missing_flag", "taxonomy_rate", "taxonomy_missing_flag")


def save(dataset: Dataset, directory: str | Path) -> Path:
    """Writes a dataset directory; it appears whole or not at all, replacing an older one.

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
        write_directory(directory, lambda beside: _write(dataset, beside))
    except OSError as error:
        reason = error.strerror or problem_of_place(error) or error
        raise InputError(f"{directory}: cannot write a dataset there: {reason}") from None
    return directory


def _write(dataset: Dataset, directory: Path) -> None:
    panel, split = dataset.panel, dataset.split
    arrays = {name: getattr(dataset, name) for name in _ARRAYS}
    arrays |= {name: getattr(panel, name) for name in ("clicks", "shares", "release")}
    arrays |= {f"tensor-{name}": array for name, array in dataset.tensors.items()}
    for name in SPLITS if split else ():
        arrays |= {f"{name}-items": split[name].items, f"{name}-times": split[name].times}
    if dataset.true_share_rate is not None:
        arrays["true_share_rate"] = dataset.true_share_rate
    for name, array in arrays.items():
        np.save(directory / f"{name}.npy", array, allow_pickle=False)
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
            "make one with python -m mmnet.prepare"
        )
    if about.get("format") != FORMAT:
        raise InputError(f"{directory} has another version's format; prepare it again")

    def array(name: str, mode: Literal["r", "c"] = "r") -> np.ndarray:
        try:
            return np.load(directory / f"{name}.npy", mmap_mode=mode, allow_pickle=False)
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
        parts = {
            name: Examples(np.array(array(f"{name}-items")), np.array(array(f"{name}-times")))
            for name in SPLITS
        }
        split = Split(**parts, first_targets=tuple(about["first_targets"]))
    return Dataset(
        fitted=fitted,
        panel=panel,
        **{name: array(name) for name in _ARRAYS},
        # Copied on writing, since TensorFlow maps no array that cannot be written.
        tensors={name: array(f"tensor-{name}", "c") for name in about["tensors"]},
        split=split,
        ledger=[Rule(**rule) for rule in about["ledger"]],
        inputs=about["inputs"],
        fingerprint=about["fingerprint"],
        true_share_rate=array("true_share_rate")
        if (directory / "true_share_rate.npy").exists()
        else None,
    )
