"""Which runtime, and which precision: chosen by what they do to real rows, never by their names."""

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
from mmnet.serving.conversion import CACHE
from mmnet.serving.exported import OUTPUT, fitted
from mmnet.serving.runtimes import PRECISIONS, RUNTIMES, Arrays, OpenSignature, Runtime, opened

PARITY = 1e-4
"""Largest difference from TensorFlow, relative to a score, or to the sd of the rates where that is
more: float32 rounds at 6e-8, and other orders of sums through a dozen layers lose two to three
digits of it."""

# -------------------------------------------------------------------------------------- speed


@dataclass(frozen=True)
class Trial:
    """How one runtime did on a sample.

    Attributes:
        runtime: which.
        rows_per_second: median over the rounds; NaN where it was not timed.
        deviation: largest difference of any output from TensorFlow's, in units of what `PARITY`
            is relative to; NaN where it was not run.
        refused: why it cannot be used, one sentence; empty where it can.
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
    """Finds the runtime that scores a sample fastest, of those that score it as TensorFlow does.

    They take turns, round by round, so that a machine whose speed drifts does not decide.

    Args:
        directory: of the export, as `opened` takes it.
        signature: of named tensors.
        sample: real inputs, as many rows as are scored at a time.
        runtimes: to choose from; TensorFlow is always among them.
        threads: as `opened` takes them. TensorFlow's are those of the process.
        rounds: of timing, each over the whole sample.
        cache: where converted signatures are kept.

    Returns:
        The scorer in float32, and what was measured, in the order of `RUNTIMES`.

    Raises:
        InputError: there is no such export or signature.
    """
    at_least(1, rounds=rounds)
    scale = _rate_scale(directory)
    scorers: dict[Runtime, OpenSignature] = {}
    refused: dict[Runtime, str] = {}
    deviation: dict[Runtime, float] = {}
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
        found = scorer(sample)  # compiles, too
        wanted = wanted or found
        deviation[runtime] = _deviation(wanted, found, scale)
        if not deviation[runtime] <= PARITY:
            refused[runtime] = (
                f"--runtime={runtime} differs from TensorFlow by {deviation[runtime]:.1e} of a "
                f"score, where {PARITY:g} is allowed"
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
            deviation.get(runtime, math.nan),
            refused.get(runtime, ""),
        )
        for runtime in RUNTIMES
        if runtime in medians or runtime in refused
    ]
    return scorers[min(medians, key=lambda runtime: medians[runtime])], trials


def _deviation(wanted: Arrays, found: Arrays, rate_scale: float) -> float:
    """Largest difference, relative to a score or to the sd of the rates, of other outputs to 1."""
    far = [0.0]
    for name, array in wanted.items():
        least = rate_scale if name == OUTPUT else 1.0
        relative = np.abs(found[name] - array) / np.maximum(np.abs(array), least)
        far.append(float(np.max(relative, initial=0.0)))
    return float(np.max(far))  # NaN where there is one


def _rate_scale(directory: str | Path) -> float:
    """The sd of the training rates, percent."""
    return fitted(directory).spec.rate_scale


# ------------------------------------------------------------------------------------ quality


LEAST_ROWS = 1000
"""Fewer have too few in their top 5 % to tell a lost one from chance."""
MOST_DEVIATION = 0.01
LEAST_CORRELATION = 0.999
LEAST_OVERLAP = 0.95
"""What a lower precision must keep to. Random noise of a hundredth of the rates' sd still passes,
and changes what a model is judged by less than another seed would: measured, beside bfloat16, in
experiments/performance/precision.md. The rows that leave a top 5 % stand at its border, as near to
the next as that noise."""


@dataclass(frozen=True)
class Quality:
    """What a lower precision does to the scores of a sample.

    Attributes:
        deviation: root of the mean squared difference from float32, in units of the sd of the
            training rates.
        largest: difference, in the same units.
        correlation: Spearman's, with the scores of float32.
        overlap: part of the top 5 % that is in the top 5 % of float32.
    """

    deviation: float
    largest: float
    correlation: float
    overlap: float

    @property
    def is_kept(self) -> bool:
        """Whether the scores are as good as those of float32; False where one is not finite."""
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
        directory: of the export, as `opened` takes it.
        signature: of named tensors, one that gives scores.
        sample: real inputs, `LEAST_ROWS` or more; for `from_static` with a float32 `static`.
        threads: as `opened` takes them.
        cache: where converted signatures are kept.

    Returns:
        How near its scores are to those of float32.

    Raises:
        InputError: they are not near enough, the sample is too small, or as `opened` says.
    """
    rows = len(next(iter(sample.values())))
    if rows < LEAST_ROWS:
        raise InputError(
            f"--precision=bfloat16 is checked on {LEAST_ROWS:,} rows or more, and there are "
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
        )(sample)[OUTPUT]
        for precision in PRECISIONS
    )
    found = compare(wanted, lower, _rate_scale(directory))
    if not found.is_kept:
        raise InputError(
            "--precision=bfloat16 changes the scores of this model too much: by "
            f"{found.deviation:.4f} of the sd of rates ({MOST_DEVIATION:g} at most), correlation "
            f"of ranks {found.correlation:.5f} ({LEAST_CORRELATION:g} at least), overlap of the "
            f"top 5 % {found.overlap:.3f} ({LEAST_OVERLAP:g} at least); use --precision=float32"
        )
    return found


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
