"""The flags of experiments: rows and seeds, their comparison, and tuning."""

from __future__ import annotations

from pydantic import Field

from mmnet.flags import Columns, Flags, Numbers, Repeated


class GridFlags(Flags):
    """The rows and seeds of an experiment, how rows are compared, and where results are written."""

    experiment: str = Field(
        "", description="Folder of the experiment; its experiment.txt is read as a flagfile."
    )
    title: str = Field("", description="Title of the results page.")
    table: Repeated = Field(
        (),
        description="Table to print, as 'TITLE: row, row, ...[: SEEDS]', where a row is the name "
        "of a flagfile without .txt (repeatable).",
    )
    rows: str = Field(
        "experiments/rows",
        description="Folder of row flagfiles, searched after the experiment's own rows/; the "
        "default is part of the package.",
    )
    seeds: Numbers = Field(
        (0, 1, 2, 3, 4),
        min_length=1,
        description="Training seeds; rows without randomness run once.",
    )
    reference: Columns = Field(
        ("mmnet",),
        description="Rows to compare the others with; each table uses the first one it contains.",
    )
    significance: float = Field(
        0.01,
        gt=0,
        lt=1,
        description="Significance level of differences from the reference, for p-values adjusted "
        "for their number, and of the checks of the paper's claims. Letters and bold are at 0.05.",
    )
    jobs: int = Field(1, ge=1, description="Number of runs to train in parallel.")
    cells: str = Field(
        "",
        description="Directory of the runs; default: runs/experiments/<name>, for MMa4CTR "
        "runs/mma4ctr/<name>.",
    )
    results: str = Field(
        "", description="Directory of the result tables; default: inside --experiment."
    )


class StudyFlags(Flags):
    """Rolling origins, confidence intervals of P@N %, repeated tests, and tuning."""

    origins: int = Field(
        1,
        ge=1,
        description="Number of rolling origins (test spans), counted back from the last one.",
    )
    replicates: int = Field(
        1000, ge=100, description="Bootstrap replicates for the confidence intervals of P@N %."
    )
    retest: bool = Field(
        False,
        description="Recompute intervals, p-values and claims of existing tables from the "
        "tests.json next to them, without training.",
    )
    tune: Columns = Field(
        (),
        description="Rows whose hyperparameters to tune on validation; writes ROW_tuned.txt "
        "instead of tables.",
    )
    trials: int = Field(20, ge=1, description="Number of tuning trials, the same for every row.")
    prune: bool = Field(
        True,
        description="End a trial of --tune early whose validation error, after as many epochs, is "
        "above the median of the earlier ones.",
    )
    space: str = Field(
        "",
        description="Text file with the search space of --tune, one line per hyperparameter, such "
        "as 'learning_rate = 0.0003 .. 0.005 log'; default: the search space of the model.",
    )
