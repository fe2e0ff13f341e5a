"""Scoring of catalogues larger than memory, one block of items at a time, in several processes.

A first pass computes what blocks share, in a directory next to the scores: the counts of the
window, and the sums behind the taxonomies' means. Then every block is scored independently and
written atomically as one Parquet file, whose name depends on the block alone. A killed job thus
resumes where it stopped, and no item is lost or scored twice.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
from pydantic import ValidationError

from mmnet.checks import InputError
from mmnet.data import engines
from mmnet.data.outputs import write_tables
from mmnet.data.tables import Block, Rule
from mmnet.files import (
    UNREADABLE,
    only_one,
    read_json,
    reason,
    scratch_directory,
    write_atomic,
)
from mmnet.serving import (
    exported,
    first_pass,
    kept_pass,
    lakehouse,
    runtimes,
    score_rows,
    settling,
    workers,
)
from mmnet.serving.blocks import Scorer
from mmnet.serving.budget import Budget, Cost, Measured, budget
from mmnet.serving.inputs import Source, source_of
from mmnet.serving.job import Job
from mmnet.serving.known_values import Seen

SURVEY, JOB = "_survey", "_job.json"
"""Files in the output directory; readers of Parquet directories skip names with an underscore."""

FOUND = "found"
"""Key of what the first pass of a finished job has found, in `JOB`."""

WORKER = f"{__name__}:worker"


@dataclass(frozen=True)
class Scored:
    """Result of a session.

    Attributes:
        ledger: ledger of the counts.
        notes: remarks about runtimes.
        period: the scored period, as users write it.
        own: cost of this process, from its start to its end.
        costs: costs of the processes that scored, possibly this one.
        survey_seconds: wall seconds of the first pass.
        processes: number of processes that scored at the same time.
        values: values of the items' fields, and how many of them are unknown.
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
        """Number of items scored in this session."""
        return sum(cost.items for cost in self.costs)

    def budget(self, items_a_day: int) -> Budget | None:
        """Returns the cost of the session; None if an earlier one had scored all items."""
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
    """Scores items into one Parquet file, atomically; see `to_directory`.

    Several processes first write the parts into a temporary directory.
    """

    def write(parts: Iterator[pa.Table]) -> None:
        write_tables(parts, path, "output")

    return _to_one(job, source, write, done, processes=processes, session=session)


def to_delta(
    job: Job,
    source: Source,
    place: str,
    done: Callable[[int], None],
    *,
    processes: int,
    session: Any = None,
) -> Scored:
    """Scores items into the partition of their period in a Delta table; see `lakehouse`."""

    def write(parts: Iterator[pa.Table]) -> None:
        lakehouse.write(parts, place, Path(job.saved_model).name)

    return _to_one(job, source, write, done, processes=processes, session=session)


def _to_one(
    job: Job,
    source: Source,
    write: Callable[[Iterator[pa.Table]], object],
    done: Callable[[int], None],
    *,
    processes: int,
    session: Any,
) -> Scored:
    """Scores items into a temporary directory, from which `write` receives the parts."""
    with scratch_directory(job.tables.engine_spill) as scratch:
        place = Path(scratch, "scores")
        scored = []

        def parts() -> Iterator[pa.Table]:
            # Check that the file can be written before anything is scored.
            how: dict[str, Any] = {"processes": processes, "session": session}
            scored.append(to_directory(job, source, place, done, **how, flag="engine_spill"))
            for number in range(len(source.items.blocks(job.tables.shard_items))):
                yield pa.parquet.read_table(_part(place, number)).replace_schema_metadata(None)

        write(parts())
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
    """Scores items into a directory, one Parquet file per block; resumes after an interruption.

    Args:
        job: the items, and how to score them.
        source: source of its items.
        directory: output directory, created if needed; empty, or with part of the same scores.
        done: called after each block with the number of items scored so far, including those of
            earlier sessions.
        processes: number of scoring processes; 1 = only this one.
        session: Spark session, whose executors score instead.
        flag: flag that determines the directory, for the message about a full disk.

    Raises:
        InputError: the tables break a rule of the input format, the directory cannot be written or
            contains something else, or another process uses it.
    """
    led, directory = Measured(), Path(directory)
    try:
        refusal = (
            f"--output={directory} is in use by another process; wait for it, or choose another "
            "directory"
        )
        with only_one(directory, refusal, remove=True), _removed_if_refused(directory):
            earlier = _claim(job, source, directory)
            blocks = source.items.blocks(job.tables.shard_items)
            fitted = exported.fitted(job.saved_model)
            todo = _missing(
                job, directory, blocks, done, rows=len(score_rows.horizons(fitted.spec))
            )
            if earlier is not None and not todo:
                seconds = led.cost().wall_seconds
                return Scored(
                    **earlier, own=led.cost(), costs=[], survey_seconds=seconds, processes=processes
                )
            ledger = _survey(job, source, directory, threads=processes)
            notes = settling.settle_runtime(job, directory / SURVEY)
            seconds = led.cost().wall_seconds
            values = first_pass.values(directory / SURVEY)
            period = first_pass.period_of(fitted, directory / SURVEY)
            costs: list[Cost] = []
            place = str(directory)
            if session is not None and todo:
                with engines.errors_explained(f"--output={directory}"):
                    costs = workers.spark(WORKER, place, todo, done, session)
            elif processes > 1 and todo:
                costs = workers.processes(WORKER, place, todo, done, number=processes)
            elif todo:
                costs = [workers.here(_Worker(directory, job, source), todo, done)]
            _finish(directory, ledger, notes, period, values)
            shutil.rmtree(directory / SURVEY)
    except OSError as error:
        raise InputError(f"--{flag}={directory}: {reason(error)}") from None
    return Scored(ledger, notes, period, led.cost(), costs, seconds, processes, values)


@contextlib.contextmanager
def _removed_if_refused(directory: Path) -> Iterator[None]:
    """Removes the files of a job from a directory if it fails before any block is scored."""
    begun_before = (directory / JOB).exists()
    try:
        yield
    except InputError:
        begun = not begun_before and (directory / JOB).exists()
        if begun and not any(directory.glob("part-*")):
            shutil.rmtree(directory / SURVEY, ignore_errors=True)
            (directory / JOB).unlink()
        raise


def _claim(job: Job, source: Source, directory: Path) -> dict[str, Any] | None:
    """Claims the directory for the job; returns what an earlier session found, if it finished."""
    fingerprint = job.fingerprint(source.files, source.digests)
    about = _about(directory)
    others = [path for path in directory.iterdir() if path.name != JOB]
    if about is None and others:
        raise InputError(
            f"--output={directory} contains other files; choose another directory, or a name that "
            "ends in .parquet for one file"
        )
    if about is not None and about.get("fingerprint") != fingerprint:
        raise InputError(
            f"--output={directory} has scores of other tables, or of another model, period or "
            "runtime; choose another directory, or delete this one"
        )
    # Workers read the job from its file, so an earlier session's, or a foreign one, is replaced.
    own = {"fingerprint": fingerprint, "job": job.model_dump(mode="json")}
    found = (about or {}).pop(FOUND, None)
    if about != own:
        write_atomic(directory / JOB, json.dumps(own) + "\n")
    try:
        return {
            "ledger": [Rule(**rule) for rule in found["ledger"]],
            "notes": list(map(str, found["notes"])),
            "period": found["period"],
            "values": [Seen(**one) for one in found["values"]],
        }
    except (TypeError, KeyError, ValueError):  # nothing was found, or by another version
        return None


def _finish(
    directory: Path, ledger: list[Rule], notes: list[str], period: int | str, values: list[Seen]
) -> None:
    """Keeps what the first pass found, so that a finished job needs no other one."""
    found = {
        "ledger": [dataclasses.asdict(rule) for rule in ledger],
        "notes": notes,
        "period": period,
        "values": [dataclasses.asdict(one) for one in values],
    }
    write_atomic(directory / JOB, json.dumps({**(_about(directory) or {}), FOUND: found}) + "\n")


def _missing(
    job: Job,
    directory: Path,
    blocks: Sequence[Block],
    done: Callable[[int], None],
    *,
    rows: int,
) -> list[int]:
    """Checks the finished parts, and returns the numbers of the others.

    Args:
        job: the job.
        directory: its directory.
        blocks: the blocks of its items.
        done: called with the number of items of each finished part.
        rows: rows of scores of each item.

    Raises:
        InputError: a part is damaged, or is not a part of this job.
    """
    todo = []
    fingerprint = (_about(directory) or {}).get("fingerprint")
    for number, block in enumerate(blocks):
        items = block.rows.stop - block.rows.start
        if (part := _part(directory, number)).exists():
            wanted = _id_of_part(fingerprint, number)
            _check_part(part, wanted, items * rows, bool(job.only_items))
            done(items)
        else:
            todo.append(number)
    return todo


def _survey(job: Job, source: Source, directory: Path, threads: int) -> list[Rule]:
    """Makes the first pass, unless it was made before; returns its ledger."""
    place = directory / SURVEY
    if place.exists():
        if first_pass.is_intact(place):
            return []
        shutil.rmtree(place)
    # Left by a session that was killed in its first pass.
    for left in directory.glob(f"{SURVEY}-*"):
        shutil.rmtree(left)
    beside = directory / f"{SURVEY}-{uuid.uuid4().hex[:12]}"
    beside.mkdir()
    try:
        ledger = _passed(job, source, beside, threads)
        os.replace(beside, place)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return ledger


def _passed(job: Job, source: Source, place: Path, threads: int) -> list[Rule]:
    """Fills a directory with a first pass, a kept one if there is one."""
    cache = job.static_cache
    key = source.survey_key(job.as_of) if cache else ""
    if key and (ledger := kept_pass.take(cache, key, place, threads)) is not None:
        return ledger
    ledger = source.survey(job.as_of, place, threads)
    first_pass.seal(place)
    # Not if a file has changed while it was read.
    if key and key == source.survey_key(job.as_of):
        kept_pass.keep(cache, key, place, ledger, threads)
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
    raise InputError(
        f"{directory / JOB} is damaged; delete the directory and score again"
    ) from None


def _part(directory: Path, number: int) -> Path:
    return directory / f"part-{number:05d}.parquet"


_PART = b"mmnet.part"
"""Key of a part's metadata: of which job it is, and which of its parts."""


def _id_of_part(fingerprint: Any, number: int) -> bytes:
    return f"{fingerprint} {number}".encode()


def _check_part(path: Path, wanted: bytes, rows: int, only_some: bool) -> None:
    """Refuses a finished part that is damaged, or is not a part of this job."""
    try:
        found = pa.parquet.read_table(path, page_checksum_verification=True)
        metadata = found.schema.metadata or {}
        complete = len(found) <= rows if only_some else len(found) == rows
        problem = "" if complete and metadata.get(_PART) == wanted else "of another job"
    except (*UNREADABLE, pa.ArrowException):
        problem = "damaged"
    if problem:
        raise InputError(f"{path} is {problem}; delete it, and run the same command again")


def worker(directory: str) -> _Worker:
    """Creates the scorer and writer of a job's blocks, by their numbers."""
    about = _about(Path(directory))
    if about is None:
        raise InputError(f"{directory} is not the directory of a job: it has no {JOB}")
    try:
        job = Job.model_validate(about["job"])
    except (KeyError, ValidationError):
        raise InputError(
            f"{directory}/{JOB} is damaged; delete the directory and score again"
        ) from None
    return _Worker(Path(directory), job, source_of(job))


class _Worker:
    def __init__(self, directory: Path, job: Job, source: Source):
        self._directory = directory
        self._blocks = source.items.blocks(job.tables.shard_items)
        survey = directory / SURVEY
        self._inputs = source.inputs(survey)
        self._fingerprint = (_about(directory) or {}).get("fingerprint")
        self._scorer = Scorer(job, first_pass.about(survey).get("runtime"))

    def __call__(self, number: int) -> int:
        scored = pa.concat_tables(self._scorer.scores(self._inputs, [self._blocks[number]]))
        path = _part(self._directory, number)
        part = {_PART: _id_of_part(self._fingerprint, number)}
        scored = scored.replace_schema_metadata({**(scored.schema.metadata or {}), **part})
        write_atomic(
            path,
            lambda beside: pa.parquet.write_table(scored, beside, write_page_checksum=True),
        )
        return len(scored) // self._scorer.rows_per_item

    def cost(self) -> Cost:
        return self._scorer.measured.cost()
