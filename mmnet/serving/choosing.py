"""Choice of runtime and precision, by their measured effect on real rows."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmnet.checks import InputError, at_least
from mmnet.evaluation import metrics
from mmnet.evaluation.precision import precision_at
from mmnet.serving import exported
from mmnet.serving.conversion import CACHE
from mmnet.serving.runtimes import PRECISIONS, RUNTIMES, Arrays, OpenSignature, Runtime, opened

PARITY = 1e-4
"""Maximum difference from TensorFlow, relative to a score, or to the sd of the rates if that is
larger: float32 rounds at 6e-8, and another order of sums through a dozen layers loses two to three
digits."""

# -------------------------------------------------------------------------------------- speed


@dataclass(frozen=True)
class Trial:
    """Result of one runtime on a sample.

    Attributes:
        runtime: name of the runtime.
        rows_per_second: median over the rounds; NaN if it was not timed.
        deviation: largest difference of any output from TensorFlow's, relative as in `PARITY`; NaN
            if it was not run.
        refused: reason why it cannot be used, one sentence; empty if it can.
    """

    runtime: Runtime
    rows_per_second: float
    deviation: float
    refused: str


def fastest(
    directory: str | Path,
    signature: str,
    sample: Mapping[str, np.ndarray],
    *,
    runtimes: Sequence[Runtime] = RUNTIMES,
    threads: int = 1,
    rounds: int = 5,
    cache: str | Path = CACHE,
) -> tuple[OpenSignature, list[Trial]]:
    """Finds the fastest runtime on a sample, among those with the same scores as TensorFlow.

    Runtimes take turns in each round, so that changes in the machine's speed affect all of them.

    Args:
        directory: directory of the export, as for `opened`.
        signature: name of a signature of named tensors.
        sample: real inputs, with as many rows as are scored at a time.
        runtimes: runtimes to choose from; TensorFlow is always among them.
        threads: as for `opened`. TensorFlow uses those of the process.
        rounds: number of timing rounds, each over the whole sample.
        cache: directory of converted signatures.

    Returns:
        The scorer in float32, and the measurements, in the order of `RUNTIMES`.

    Raises:
        InputError: the export or signature does not exist.
    """
    at_least(1, rounds=rounds)
    scale = exported.scales(exported.fitted(directory).spec)
    scorers: dict[Runtime, OpenSignature] = {}
    refused: dict[Runtime, str] = {}
    far: dict[Runtime, float] = {}
    wanted: Arrays = {}
    for runtime in RUNTIMES:
        if runtime not in runtimes and runtime != "tensorflow":
            continue
        try:
            scorer = opened(directory, signature, runtime=runtime, threads=threads, cache=cache)
        except InputError as error:
            if runtime == "tensorflow":
                raise
            refused[runtime] = str(error)
            continue
        found = scorer(sample)  # this also compiles
        wanted = wanted or found
        far[runtime] = deviation(wanted, found, scale)
        if not far[runtime] <= PARITY:
            refused[runtime] = (
                f"--runtime={runtime} differs from TensorFlow by {far[runtime]:.1e} of a "
                f"score, but only {PARITY:g} is allowed"
            )
            continue
        scorers[runtime] = scorer
    seconds: dict[Runtime, list[float]] = {runtime: [] for runtime in scorers}
    for _ in range(rounds):
        for runtime, scorer in scorers.items():
            start = time.perf_counter()
            scorer(sample)
            seconds[runtime].append(time.perf_counter() - start)
    rows = len(next(iter(sample.values())))
    medians = {runtime: float(np.median(taken)) for runtime, taken in seconds.items()}
    trials = [
        Trial(
            runtime,
            rows / medians[runtime] if runtime in medians else math.nan,
            far.get(runtime, math.nan),
            refused.get(runtime, ""),
        )
        for runtime in RUNTIMES
        if runtime in medians or runtime in refused
    ]
    return scorers[min(medians, key=lambda runtime: medians[runtime])], trials


def deviation(wanted: Arrays, found: Arrays, scales: Mapping[str, float]) -> float:
    """Returns the largest difference, relative to a score or the sd of rates; for others to 1."""
    far = [0.0]
    for name, array in wanted.items():
        least = scales.get(name, 1.0)
        relative = np.abs(found[name] - array) / np.maximum(np.abs(array), least)
        far.append(float(np.max(relative, initial=0.0)))
    return float(np.max(far))  # NaN if any is


# ------------------------------------------------------------------------------------ quality


LEAST_ROWS = 1000
"""Minimum number of rows; fewer have too few in their top 5 % to distinguish a loss from chance."""
MOST_DEVIATION = 0.01
LEAST_CORRELATION = 0.999
LEAST_OVERLAP = 0.95
"""Limits for a lower precision. Random noise of a hundredth of the rates' sd still passes, and
changes the evaluation metrics less than another seed would; experiments/performance/precision.md
has measurements of it and of bfloat16. Rows that leave the top 5 % are at its border, as close to
the next ones as that noise."""


@dataclass(frozen=True)
class Quality:
    """Effect of a lower precision on the scores of a sample.

    Attributes:
        deviation: root mean squared difference from float32, in units of the sd of the training
            rates.
        largest: largest difference, in the same units.
        correlation: Spearman correlation with the scores of float32.
        overlap: share of the top 5 % that is also in the top 5 % of float32.
    """

    deviation: float
    largest: float
    correlation: float
    overlap: float

    @property
    def is_kept(self) -> bool:
        """True if the scores are as good as those of float32; False if one is not finite."""
        return (
            self.deviation <= MOST_DEVIATION
            and self.correlation >= LEAST_CORRELATION
            and self.overlap >= LEAST_OVERLAP
        )


def quality(
    directory: str | Path,
    signature: str,
    sample: Mapping[str, np.ndarray],
    *,
    threads: int = 1,
    cache: str | Path = CACHE,
) -> Quality:
    """Checks that bfloat16 keeps the scores of a trained model, on real rows.

    Args:
        directory: directory of the export, as for `opened`.
        signature: name of a signature of named tensors that returns scores.
        sample: real inputs, `LEAST_ROWS` or more; for `from_static` with a float32 `static`.
        threads: as for `opened`.
        cache: directory of converted signatures.

    Returns:
        The similarity of its scores to those of float32; of the least similar ones, where a model
        has several outputs.

    Raises:
        InputError: they are not similar enough, the sample is too small, or as for `opened`.
    """
    rows = len(next(iter(sample.values())))
    if rows < LEAST_ROWS:
        raise InputError(
            f"--precision=bfloat16 is checked on at least {LEAST_ROWS:,} rows, but there are only "
            f"{rows:,}; use --precision=float32"
        )
    wanted, lower = (
        opened(
            directory,
            signature,
            runtime="openvino",
            precision=precision,
            threads=threads,
            cache=cache,
        )(sample)
        for precision in PRECISIONS
    )
    scales = exported.scales(exported.fitted(directory).spec)
    found = least_similar(
        [compare(wanted[name], lower[name], scale) for name, scale in scales.items()]
    )
    if not found.is_kept:
        raise InputError(
            "--precision=bfloat16 changes the scores of this model too much: by "
            f"{found.deviation:.4f} of the sd of rates ({MOST_DEVIATION:g} at most), correlation "
            f"of ranks {found.correlation:.5f} ({LEAST_CORRELATION:g} at least), overlap of the "
            f"top 5 % {found.overlap:.3f} ({LEAST_OVERLAP:g} at least); use --precision=float32"
        )
    return found


def least_similar(found: Sequence[Quality]) -> Quality:
    """Returns the worst of each measure, NaN if any is."""
    return Quality(
        float(np.max([one.deviation for one in found])),
        float(np.max([one.largest for one in found])),
        float(np.min([one.correlation for one in found])),
        float(np.min([one.overlap for one in found])),
    )


def compare(wanted: np.ndarray, found: np.ndarray, rate_scale: float) -> Quality:
    """Compares scores of a lower precision with those of float32, percent, [rows]."""
    if not np.isfinite(found).all():
        return Quality(math.nan, math.nan, math.nan, math.nan)
    far = np.abs(found.astype(np.float64) - wanted) / rate_scale
    return Quality(
        float(np.sqrt(np.mean(np.square(far)))),
        float(far.max()),
        metrics.spearman(wanted, found),
        precision_at(5, wanted, found),
    )
