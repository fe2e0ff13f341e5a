"""A promoted challenger once more, fitted on all periods, and how far that moves its scores."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import tensorflow as tf

from mmnet.checks import InputError
from mmnet.config import TrainConfig
from mmnet.promotion import comparing
from mmnet.promotion.comparing import Judged
from mmnet.serving import bundle, exported, golden
from mmnet.serving.exported import AboutShareRates
from mmnet.training.records import Record
from mmnet.training.run_directory import SHARE_RATES

RAW = "raw_columns"
"""The signature whose golden rows are compared: ids of vocabularies differ between two fits."""


@dataclasses.dataclass(frozen=True)
class Distance:
    """Distance of a refitted model from the compared one.

    Attributes:
        scores: root mean square difference of their scores of golden rows, relative to the sd of
            rates.
        error: growth of the MSE on the compared periods, which the refit has learned from, as a
            fraction; negative where it is smaller.
    """

    scores: float
    error: float

    def problem(self, most: float) -> str:
        """Describes what is beyond the largest distance; empty if nothing is.

        >>> Distance(0.1, -0.2).problem(0.2), Distance(0.3, 0.0).problem(0.2)
        ('', 'its scores of golden rows differ by 0.3 standard deviations of rates')
        """
        if not self.scores <= most:
            many = f"{self.scores:.3g} standard deviations of rates"
            return f"its scores of golden rows differ by {many}"
        if not self.error <= most:
            return f"its MSE on the compared periods is {self.error:.1%} larger"
        return ""


def flags_of(run_dir: Path, refit_dir: Path, dataset_dir: Path) -> TrainConfig:
    """The flags of the refit: those of the compared run, trained as long as its best epoch was.

    Args:
        run_dir: the compared run.
        refit_dir: run directory of the refit.
        dataset_dir: its dataset.
    """
    fitted = Record.read(run_dir / "record.json").fitted
    members = fitted.get("members", [fitted])
    best = [one["best_epoch"] for one in members if "best_epoch" in one]
    changes: dict[str, object] = {
        "run_dir": str(refit_dir),
        "dataset_dir": str(dataset_dir),
        "resume": True,
        "recipe": "",
        "budget": "",
    }
    if best:
        epochs = round(float(np.median(best)))
        # Validation is part of the training data here, so it can stop nothing.
        changes |= {"epochs": max(epochs, 1), "warm_epochs": epochs, "patience": 0}
    return SHARE_RATES.read(run_dir).model_copy(update=changes)


def distance(compared: Judged, refitted: Judged, periods: int) -> Distance:
    """Measures how far a refitted model is from the compared one.

    Args:
        compared: the model that was compared.
        refitted: the model that was fitted on all periods.
        periods: number of compared periods.

    Raises:
        InputError: the compared model has no golden rows of raw columns.
    """
    batches = [one for one in golden.read(compared.path / golden.FILE) if one.signature == RAW]
    if not batches:
        raise InputError(f"{compared.path} has no golden rows of the signature {RAW}")
    signature = bundle.load(refitted.path, AboutShareRates)[0].signatures[RAW]
    scales = exported.scales(compared.about.fitted.spec)
    differences: dict[str, list[np.ndarray]] = {name: [] for name in scales}
    for batch in batches:
        inputs = {name: tf.constant(array) for name, array in batch.inputs.items()}
        scores = signature(**inputs)
        for name, found in differences.items():
            found.append(scores[name].numpy() - batch.outputs[name])
    # The output that has moved most, where a model has several.
    apart = max(
        float(np.sqrt(np.mean(np.concatenate(found).astype(np.float64) ** 2))) / scales[name]
        for name, found in differences.items()
    )
    rows = comparing.compared_rows((compared,), periods)
    pair = (refitted, compared)
    shown = comparing.scenario_sets(pair, rows, missing_rate=0.0, scenario_seed=0)
    truth = shown[1].truth.astype(np.float64)
    after, before = (
        float(np.mean((one.outputs("normal", judged.predict) - truth) ** 2))
        for one, judged in zip(shown, pair, strict=True)
    )
    growth = after / before - 1 if before else float(after > 0)
    return Distance(apart, growth)
