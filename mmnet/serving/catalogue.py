"""Scoring a catalogue that need not fit in memory: block by block of items, in any process.

A first pass lays out what spans blocks, in a directory beside the scores: the counts of the
window, and the sums behind the taxonomies' means. After it every block is scored on its own and
written as one Parquet file, whole or not at all; which file it is depends on the block alone, so
a job that was killed goes on where it stopped, and no item is lost or scored twice.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from mmnet.checks import InputError
from mmnet.data import engines, input_tables
from mmnet.data.dataset import Fitted
from mmnet.data.ledger import Rule
from mmnet.data.tables import Tables
from mmnet.files import only_one, write_atomic
from mmnet.serving import (
    exported,
    first_pass,
    runtimes,
    settling,
    workers,
)
from mmnet.serving.blocks import Scorer
from mmnet.serving.budget import Budget, Cost, Measured, budget
from mmnet.serving.job import Job

SURVEY, JOB = "_survey", "_job.json"
"""In the output directory; what reads Parquet directories leaves names with an underscore out."""

WORKER = f"{__name__}:worker"


@dataclass(frozen=True)
class Scored:
    """What a session did.

    Attributes:
        ledger: of the counts.
        notes: what was found out about runtimes.
        period: that was scored for, as users write it.
        own: what this process spent, from its start to its end.
        costs: what the processes spent that scored, which may be this one.
        survey_seconds: wall seconds of the first pass.
        processes: that scored at a time.
    """

    ledger: list[Rule]
    notes: list[str]
    period: int | str
    own: Cost
    costs: list[Cost]
    survey_seconds: float
    processes: int

    @property
    def items(self) -> int:
        """Items that were scored in this session."""
        return sum(cost.items for cost in self.costs)

    def budget(self, items_a_day: int) -> Budget | None:
        """What the session cost; None where an earlier one had scored all."""
        return budget(
            self.own,
            self.costs,
            processes=self.processes,
            survey_seconds=self.survey_seconds,
            batch_items=runtimes.TILE,
            items_a_day=items_a_day,
        )


def to_file(
    job: Job, found: Tables, fitted: Fitted, path: str | Path, done: Callable[[int], None]
) -> Scored:
    """Scores a catalogue into one Parquet file, whole or not at all.

    Args:
        job: what is scored, and how.
        found: its tables.
        fitted: what its model was fitted with.
        path: the file.
        done: is told how many items have been scored after each block.

    Raises:
        InputError: the tables are not as the contract wants them, or the file cannot be written.
    """
    led = Measured()
    spill = fitted.tables.engine_spill or None
    with tempfile.TemporaryDirectory(prefix="mmnet-", dir=spill) as scratch:
        ledger = first_pass.survey(found, fitted, job.as_of, Path(scratch))
        notes = settling.settle_runtime(job, Path(scratch))
        seconds = led.cost().wall_seconds
        period = first_pass.period_of(fitted, Path(scratch))
        scorer = Scorer(job, found, fitted, Path(scratch))

        def write(beside: Path) -> None:
            blocks = found.items.blocks(fitted.tables.shard_items)
            scored = itertools.chain.from_iterable(map(scorer.scores, blocks))
            first = next(scored)
            with pa.parquet.ParquetWriter(beside, first.schema) as writer:
                for table in itertools.chain([first], scored):
                    writer.write_table(table)
                    done(len(table))

        try:
            write_atomic(path, write)
        except OSError as error:
            raise InputError(f"--output={path}: {error.strerror or error}") from None
    return Scored(ledger, notes, period, led.cost(), [scorer.measured.cost()], seconds, 1)


def to_directory(
    job: Job,
    found: Tables,
    fitted: Fitted,
    directory: str | Path,
    done: Callable[[int], None],
    *,
    processes: int,
    session: Any = None,
) -> Scored:
    """Scores a catalogue into a directory, one Parquet file a block; goes on where it was killed.

    Args:
        job: what is scored, and how.
        found: its tables.
        fitted: what its model was fitted with.
        directory: made if need be; it must be empty, or hold a part of the same scores.
        done: is told how many items have been scored after each block, also those of an earlier
            session.
        processes: that score at a time; 1 = this one.
        session: of Spark, whose executors score instead.

    Raises:
        InputError: the tables are not as the contract wants them, the directory cannot be written,
            holds something else, or another process works in it.
    """
    led, directory = Measured(), Path(directory)
    try:
        refusal = (
            f"--output={directory} is in use by another process; wait for it, or choose another "
            "directory"
        )
        with only_one(directory, refusal):
            ledger = _begin(job, found, fitted, directory)
            notes = settling.settle_runtime(job, directory / SURVEY)
            seconds = led.cost().wall_seconds
            period = first_pass.period_of(fitted, directory / SURVEY)
            blocks = found.items.blocks(fitted.tables.shard_items)
            todo = []
            for number, block in enumerate(blocks):
                if _part(directory, number).exists():
                    done(block.rows.stop - block.rows.start)
                else:
                    todo.append(number)
            costs: list[Cost] = []
            place = str(directory)
            if session is not None and todo:
                with engines.errors_explained(f"--output={directory}"):
                    costs = workers.spark(WORKER, place, todo, done, session)
            elif processes > 1 and todo:
                costs = workers.processes(WORKER, place, todo, done, number=processes)
            elif todo:
                costs = [workers.here(WORKER, place, todo, done)]
            shutil.rmtree(directory / SURVEY)
    except OSError as error:
        raise InputError(f"--output={directory}: {error.strerror or error}") from None
    return Scored(ledger, notes, period, led.cost(), costs, seconds, processes)


def _begin(job: Job, found: Tables, fitted: Fitted, directory: Path) -> list[Rule]:
    """Claims the directory for the job, and makes the first pass unless it is there."""
    fingerprint = job.fingerprint(found)
    about = _about(directory)
    others = [path for path in directory.iterdir() if path.name != JOB]
    if about is None and others:
        raise InputError(
            f"--output={directory} holds other files; choose another directory, or a name that "
            "ends in .parquet for one file"
        )
    if about is not None and about.get("fingerprint") != fingerprint:
        raise InputError(
            f"--output={directory} holds scores of other tables, or of another model, period or "
            "runtime; choose another directory, or remove this one"
        )
    if about is None:
        text = json.dumps({"fingerprint": fingerprint, "job": job.model_dump(mode="json")})
        write_atomic(directory / JOB, text + "\n")
    place = directory / SURVEY
    if place.exists():
        return []
    for left in directory.glob(f"{SURVEY}-*"):  # of a session that was killed in its first pass
        shutil.rmtree(left)
    beside = directory / f"{SURVEY}-{uuid.uuid4().hex[:12]}"
    beside.mkdir()
    try:
        ledger = first_pass.survey(found, fitted, job.as_of, beside)
        os.replace(beside, place)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return ledger


def _about(directory: Path) -> dict[str, Any] | None:
    try:
        return json.loads((directory / JOB).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        raise InputError(f"{directory / JOB} is damaged; remove the directory") from None


def _part(directory: Path, number: int) -> Path:
    return directory / f"part-{number:05d}.parquet"


def worker(directory: str) -> _Worker:
    """Makes what scores and writes the blocks of a job, by their numbers."""
    return _Worker(Path(directory))


class _Worker:
    def __init__(self, directory: Path):
        self._directory = directory
        about = _about(directory)
        if about is None:
            raise InputError(f"{directory} is no job: it has no {JOB}")
        job = Job.model_validate(about["job"])
        fitted = exported.fitted(job.saved_model).model_copy(update={"tables": job.tables})
        found = input_tables.open_catalogue(job.tables)
        self._blocks = found.items.blocks(job.tables.shard_items)
        self._scorer = Scorer(job, found, fitted, directory / SURVEY)

    def __call__(self, number: int) -> int:
        scored = pa.concat_tables(list(self._scorer.scores(self._blocks[number])))
        path = _part(self._directory, number)
        write_atomic(path, lambda beside: pa.parquet.write_table(scored, beside))
        return len(scored)

    def cost(self) -> Cost:
        return self._scorer.measured.cost()
