"""Choice of the runtime of a job, measured on its own items."""

from __future__ import annotations

import json
from pathlib import Path

from mmnet.files import write_atomic
from mmnet.serving import choosing, first_pass, workers
from mmnet.serving.blocks import Scorer
from mmnet.serving.inputs import source_of
from mmnet.serving.job import Job

CHOOSE = f"{__name__}:choose_runtime"
SAMPLE = 4096
"""Number of items that runtimes are measured on."""


def choose_runtime(job_text: str, directory: str) -> None:
    """Chooses the runtime, and writes it next to the survey; for a separate process.

    Args:
        job_text: the job as JSON.
        directory: directory of the survey.

    Raises:
        InputError: the precision changes the scores too much.
    """
    job, place = Job.model_validate_json(job_text), Path(directory)
    plain = job.model_copy(update={"runtime": "tensorflow", "precision": "float32"})
    scorer = Scorer(plain)
    sample, signature = scorer.sample(source_of(job).inputs(place), SAMPLE), scorer.signature
    chosen, told = job.runtime, []
    if job.precision != "float32":
        kept = choosing.quality(job.saved_model, signature, sample)
        chosen = "openvino"
        told = [
            f"bfloat16 moves scores by {kept.deviation:.5f} of the sd of rates; top 5 % that "
            f"stay: {kept.overlap:.3f}"
        ]
    elif job.runtime == "fastest":
        best, trials = choosing.fastest(job.saved_model, signature, sample)
        chosen = best.runtime
        told = [
            trial.refused or f"{trial.runtime}: {trial.rows_per_second:,.0f} items/s on one core"
            for trial in trials
        ]
    about = first_pass.about(place) | {"runtime": chosen, "trials": told}
    write_atomic(place / "survey.json", json.dumps(about, indent=1) + "\n")


def settle_runtime(job: Job, directory: Path) -> list[str]:
    """Has the runtime chosen if requested; returns remarks about it as sentences."""
    if job.runtime != "fastest" and job.precision == "float32":
        return []
    if "runtime" not in first_pass.about(directory):
        workers.apart(CHOOSE, job.model_dump_json(), str(directory))
    about = first_pass.about(directory)
    return [*about["trials"], f"runtime: {about['runtime']}, {job.precision}"]
