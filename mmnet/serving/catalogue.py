"""Scoring a catalogue that need not fit in memory: block by block of items, in any process.

A first pass lays out what spans blocks, in a directory beside the scores: the counts of the
window, and the sums behind the taxonomies' means. After it every block is scored on its own and
written as one Parquet file, whole or not at all; which file it is depends on the block alone, so
a job that was killed goes on where it stopped, and no item is lost or scored twice.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
from pydantic import ValidationError

from mmnet.checks import InputError
from mmnet.data import engines
from mmnet.data.outputs import write_tables
from mmnet.data.tables import Rule
from mmnet.files import UNREADABLE, only_one, read_json, scratch_directory, write_atomic
from mmnet.serving import (
    exported,
    first_pass,
    runtimes,
    settling,
    workers,
)
from mmnet.serving.blocks import Scorer
from mmnet.serving.budget import Budget, Cost, Measured, budget
from mmnet.serving.inputs import Source, source_of
from mmnet.serving.job import Job
from mmnet.serving.known_values import Seen

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
        values: of the items' fields, and how many of them are unknown.
    """

    ledger: list[Rule]
    notes: list[str]
    period: int | str
    own: Cost
    costs: list[Cost]
    survey_seconds: float
    processes: int
    values: list[Seen]

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
    job: Job,
    source: Source,
    path: str | Path,
    done: Callable[[int], None],
    *,
    processes: int,
    session: Any = None,
) -> Scored:
    """Scores items into one Parquet file, whole or not at all; see `to_directory`.

    The parts are written into a directory of their own first, since several processes write them.
    """
    with scratch_directory(job.tables.engine_spill) as scratch:
        place = Path(scratch, "scores")
        scored = []

        def parts() -> Iterator[pa.Table]:
            # The file's place is tried before anything is scored.
            how: dict[str, Any] = {"processes": processes, "session": session}
            scored.append(to_directory(job, source, place, done, **how, flag="engine_spill"))
            for number in range(len(source.items.blocks(job.tables.shard_items))):
                yield pa.parquet.read_table(_part(place, number)).replace_schema_metadata(None)

        write_tables(parts(), path, "output")
    return scored[0]


def to_directory(
    job: Job,
    source: Source,
    directory: str | Path,
    done: Callable[[int], None],
    *,
    processes: int,
    session: Any = None,
    flag: str = "output",
) -> Scored:
    """Scores items into a directory, one Parquet file a block; goes on where it was killed.

    Args:
        job: what is scored, and how.
        source: of its items.
        directory: made if need be; it must be empty, or hold a part of the same scores.
        done: is told how many items have been scored after each block, also those of an earlier
            session.
        processes: that score at a time; 1 = this one.
        session: of Spark, whose executors score instead.
        flag: that decides where the directory is, for the message of a full disk.

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
        with only_one(directory, refusal, remove=True), _removed_if_refused(directory):
            ledger = _begin(job, source, directory)
            notes = settling.settle_runtime(job, directory / SURVEY)
            seconds = led.cost().wall_seconds
            period = first_pass.period_of(exported.fitted(job.saved_model), directory / SURVEY)
            values = first_pass.values(directory / SURVEY)
            todo = []
            for number, block in enumerate(source.items.blocks(job.tables.shard_items)):
                items = block.rows.stop - block.rows.start
                if (part := _part(directory, number)).exists():
                    _check_part(part, _id_of_part(directory, number), items)
                    done(items)
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
                costs = [workers.here(_Worker(directory, job, source), todo, done)]
            shutil.rmtree(directory / SURVEY)
    except OSError as error:
        raise InputError(f"--{flag}={directory}: {error.strerror or error}") from None
    return Scored(ledger, notes, period, led.cost(), costs, seconds, processes, values)


@contextlib.contextmanager
def _removed_if_refused(directory: Path) -> Iterator[None]:
    """Removes what a job has begun in a directory, if it is refused before any block is scored."""
    begun_before = (directory / JOB).exists()
    try:
        yield
    except InputError:
        begun = not begun_before and (directory / JOB).exists()
        if begun and not any(directory.glob("part-*")):
            shutil.rmtree(directory / SURVEY, ignore_errors=True)
            (directory / JOB).unlink()
        raise


def _begin(job: Job, source: Source, directory: Path) -> list[Rule]:
    """Claims the directory for the job, and makes the first pass unless it is there."""
    fingerprint = job.fingerprint(source.files, source.digests)
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
    # Workers read the job from its file, so an earlier session's, or a foreign one, is replaced.
    own = {"fingerprint": fingerprint, "job": job.model_dump(mode="json")}
    if about != own:
        write_atomic(directory / JOB, json.dumps(own) + "\n")
    place = directory / SURVEY
    if place.exists():
        if first_pass.is_intact(place):
            return []
        shutil.rmtree(place)
    for left in directory.glob(f"{SURVEY}-*"):  # of a session that was killed in its first pass
        shutil.rmtree(left)
    beside = directory / f"{SURVEY}-{uuid.uuid4().hex[:12]}"
    beside.mkdir()
    try:
        ledger = source.survey(job.as_of, beside)
        first_pass.seal(beside)
        os.replace(beside, place)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return ledger


def _about(directory: Path) -> dict[str, Any] | None:
    try:
        found = read_json(directory / JOB)
        if isinstance(found, dict):
            return found
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        pass
    raise InputError(f"{directory / JOB} is damaged; remove the directory") from None


def _part(directory: Path, number: int) -> Path:
    return directory / f"part-{number:05d}.parquet"


_PART = b"mmnet.part"
"""Key of a part's metadata: of which job it is, and which of its parts."""


def _id_of_part(directory: Path, number: int) -> bytes:
    about = _about(directory) or {}
    return f"{about.get('fingerprint')} {number}".encode()


def _check_part(path: Path, wanted: bytes, items: int) -> None:
    """Refuses a finished part that is damaged, or is not a part of this job."""
    try:
        found = pa.parquet.read_table(path, page_checksum_verification=True)
        metadata = found.schema.metadata or {}
        problem = "" if len(found) == items and metadata.get(_PART) == wanted else "of another job"
    except (*UNREADABLE, pa.ArrowException):
        problem = "damaged"
    if problem:
        raise InputError(f"{path} is {problem}; delete it, and run the same command again")


def worker(directory: str) -> _Worker:
    """Makes what scores and writes the blocks of a job, by their numbers."""
    about = _about(Path(directory))
    if about is None:
        raise InputError(f"{directory} is no job: it has no {JOB}")
    try:
        job = Job.model_validate(about["job"])
    except (KeyError, ValidationError):
        raise InputError(f"{directory}/{JOB} is damaged; remove the directory") from None
    return _Worker(Path(directory), job, source_of(job))


class _Worker:
    def __init__(self, directory: Path, job: Job, source: Source):
        self._directory = directory
        self._blocks = source.items.blocks(job.tables.shard_items)
        survey = directory / SURVEY
        self._inputs = source.inputs(survey)
        self._scorer = Scorer(job, first_pass.about(survey).get("runtime"))

    def __call__(self, number: int) -> int:
        scored = pa.concat_tables(self._scorer.scores(self._inputs, [self._blocks[number]]))
        path = _part(self._directory, number)
        part = {_PART: _id_of_part(self._directory, number)}
        scored = scored.replace_schema_metadata({**(scored.schema.metadata or {}), **part})
        write_atomic(
            path,
            lambda beside: pa.parquet.write_table(scored, beside, write_page_checksum=True),
        )
        return len(scored)

    def cost(self) -> Cost:
        return self._scorer.measured.cost()
