"""Scoring a catalogue that need not fit in memory: block by block of items, in any process.

A first pass lays out what spans blocks, in a directory beside the scores: the counts of the
window, and the sums behind the taxonomies' means. After it every block is scored on its own and
written as one Parquet file, whole or not at all; which file it is depends on the block alone, so
a job that was killed goes on where it stopped, and no item is lost or scored twice.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from pydantic import BaseModel, ConfigDict

from mmnet import schema
from mmnet.checks import InputError
from mmnet.config import TableFlags
from mmnet.data import content, counts, engines, histories, items, parquet, pipeline, tables
from mmnet.data.arrays import new_array
from mmnet.data.content import Encoders
from mmnet.data.counts import ItemIds, Panel
from mmnet.data.dataset import Fitted
from mmnet.data.parquet import ParquetTable
from mmnet.data.tables import Block, Rule, Table, Tables
from mmnet.data.taxonomies import Survey
from mmnet.files import only_one, write_atomic
from mmnet.serving import choosing, decision, export, runtimes, scoring, workers
from mmnet.serving.budget import Budget, Cost, Measured, budget
from mmnet.serving.halves import STATIC
from mmnet.serving.runtimes import Precision, Runtime
from mmnet.serving.static_cache import StaticCache, content_key

SURVEY, JOB = "_survey", "_job.json"
"""In the output directory; what reads Parquet directories leaves names with an underscore out."""

WORKER, CHOOSE = f"{__name__}:worker", f"{__name__}:choose_runtime"
SAMPLE = 4096
"""Items that runtimes are tried on."""


class Job(BaseModel):
    """How a catalogue is scored; with the directory of its survey, all that a process needs.

    Attributes:
        saved_model: the version's directory.
        model: its fingerprint.
        tables: where the tables are and what their columns mean.
        as_of: the last period read, as users write it; empty = the last there is.
        modalities: names of the fusion's weights to write; none = they are not wanted.
        runtime: what computes; "fastest" is what is fastest on some of the items.
        precision: of the arithmetic.
        static_cache: directory of static parts; empty = none is kept.
        only_items: table of the items to score; empty = all.
        rule: of the export's, to decide by; empty decides nothing.
        explore: see `decision.decide`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    saved_model: str
    model: str
    tables: TableFlags
    as_of: str = ""
    modalities: tuple[str, ...] = ()
    runtime: Runtime | Literal["fastest"] = "tensorflow"
    precision: Precision = "float32"
    static_cache: str = ""
    only_items: str = ""
    rule: str = ""
    explore: bool = False

    def fingerprint(self, found: Tables) -> str:
        """A hash of all that scores depend on; of files, size and time stand for contents."""
        files = [*found.inputs, *_files(self.only_items, "only_items")]
        about = {
            "job": self.model_dump(mode="json", exclude={"static_cache"}),
            "files": [(str(path), *_size_and_time(path)) for path in files],
            "digests": found.digests,
        }
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _files(pattern: str, name: str) -> list[Path]:
    return tables.find(pattern, name) if pattern else []


def _size_and_time(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


# ---------------------------------------------------------------------------- the first pass


def survey(found: Tables, fitted: Fitted, as_of: str, directory: Path) -> list[Rule]:
    """The first pass: reads all counts, and writes what the blocks need.

    Args:
        found: the tables.
        fitted: what the model was fitted with.
        as_of: the last period read.
        directory: to write into.

    Returns:
        The ledger of the counts.

    Raises:
        InputError: the tables are not as the contract wants them.
    """
    flags, window = fitted.tables, fitted.spec.window
    pipeline.check_calendar(found, fitted)
    borders = [
        part.start
        for block in found.items.blocks(flags.shard_items)
        for part in tables.runs(block.rows, flags.shard_items)
    ]
    counted = counts.count(
        found.counts,
        found.items,
        flags,
        fitted.task,
        calendar=fitted.calendar,
        borders=[*borders, len(found.items)],
    )
    last = scoring.as_of_column(counted, as_of)
    shape = (len(counted.ids), window)
    arrays = {
        name: new_array(directory / f"{name}.npy", shape, "int64") for name in ("clicks", "shares")
    }
    sums = Survey(window, fitted.spec.taxonomies, fitted.task)
    pieces = found.items.pieces(flags.shard_items, dict.fromkeys(flags.taxonomies, "taxonomies"))
    for (rows, panel), piece in zip(counted.panels(), pieces, strict=True):
        recent = panel.columns(last + 1 - window, last + 1)
        arrays["clicks"][rows], arrays["shares"][rows] = recent.clicks, recent.shares
        sums.add(recent, piece)
    first_period = counted.first_period + last + 1 - window
    np.save(directory / "release.npy", counted.release - (last + 1 - window), allow_pickle=False)
    sums.save(directory)
    for vector in fitted.spec.vectors:
        if vector.of == "given" and not _beside(found, vector.name):
            file = directory / f"{vector.tensor}.npy"
            shape = (len(counted.ids), vector.dim)
            out = new_array(file, shape, "float32")
            table = pipeline.given_vectors(found, vector.name)
            items.encode_vectors(table, vector, counted.ids, flags, out)
    text = json.dumps({"first_period": first_period}) + "\n"
    (directory / "survey.json").write_text(text, encoding="utf-8")
    return counted.ledger


def _about_survey(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "survey.json").read_text(encoding="utf-8"))


def _first_period(directory: Path) -> int:
    """The calendar number of the window's first period, from a survey."""
    return _about_survey(directory)["first_period"]


def period_of(fitted: Fitted, directory: Path) -> int | str:
    """The period that a survey's scores are for, as users write it."""
    number = _first_period(directory) + fitted.spec.window - 1 + fitted.spec.horizon
    return fitted.calendar.label(number)


def _beside(found: Tables, name: str) -> bool:
    """Whether vectors are a column of the items table itself."""
    table = pipeline.given_vectors(found, name)
    return (
        isinstance(table, ParquetTable)
        and isinstance(found.items, ParquetTable)
        and table.files == found.items.files
    )


# --------------------------------------------------------------------------- the second pass


class Scorer:
    """Scores blocks of the items table, after the first pass.

    Args:
        job: what is scored, and how.
        found: its tables.
        fitted: what its model was fitted with.
        directory: of the survey.
    """

    def __init__(self, job: Job, found: Tables, fitted: Fitted, directory: Path):
        self._job, self._found, self._fitted, self._survey = job, found, fitted, directory
        spec = fitted.spec
        self._first_period = _first_period(directory)
        self._arrays = {name: self._array(name) for name in ("clicks", "shares", "release")}
        self._sums = Survey(spec.window, spec.taxonomies, fitted.task)
        self._sums.load(directory)
        self._encoders = Encoders(fitted.tables)
        content.check_same(self._encoders.fingerprints(), fitted.encoders)
        self._cache = StaticCache(job.static_cache, f"{job.model}")
        self._columns = _columns(found, fitted)
        self._given = {
            vector.tensor: self._array(vector.tensor)
            for vector in spec.vectors
            if vector.of == "given" and not _beside(found, vector.name)
        }
        self._only = _only(job.only_items, fitted.tables)
        runtime = _about_survey(directory).get("runtime", job.runtime)
        self._model = _Model(job, "tensorflow" if runtime == "fastest" else runtime)
        self.signature = self._model.signature
        self._decisions = None
        if job.rule:
            self._decisions = export.document(job.saved_model, decision.FILE, decision.Decisions)
        self.measured = Measured()

    def _array(self, name: str) -> np.ndarray:
        return np.load(self._survey / f"{name}.npy", mmap_mode="r", allow_pickle=False)

    def sample(self, rows: int) -> dict[str, np.ndarray]:
        """Inputs of the model's last signature, of the first items: at most so many."""
        piece = next(iter(self._found.items.pieces(rows, self._columns)))
        return self._inputs(piece, piece.places)

    def scores(self, block: Block) -> Iterator[pa.Table]:
        """Scores of the items of a block, in their order; see `scoring.score`."""
        shard = self._fitted.tables.shard_items
        for piece in self._found.items.pieces(shard, self._columns, [block]):
            yield self._score(piece)

    def _score(self, piece: Table) -> pa.Table:
        fitted, flags = self._fitted, self._fitted.tables
        ids = tables.texts(piece, flags.item_column, "item_column")
        rows = piece.places
        if self._only is not None:
            wanted = self._only.rows(ids) >= 0
            piece, rows, ids = piece.keep(wanted), rows[wanted], ids.filter(pa.array(wanted))
        inputs = self._inputs(piece, rows) if len(piece) else {}
        scores = np.empty(len(piece), np.float32)
        weights = np.empty((len(piece), len(self._job.modalities)), np.float32)
        for part in tables.runs(slice(0, len(piece)), runtimes.TILE):
            start = time.perf_counter()
            found = self._model.score({name: array[part] for name, array in inputs.items()})
            scores[part] = found[export.OUTPUT]
            if self._job.modalities:
                weights[part] = found[export.WEIGHTS]
            self.measured.batch(part.stop - part.start, time.perf_counter() - start)
        target = self._first_period + fitted.spec.window - 1 + fitted.spec.horizon
        period = pa.array(fitted.calendar.periods(np.array([target])))
        missing = inputs[schema.MISSING_FLAG.name].sum(axis=1) if len(piece) else np.zeros(0)
        clicks = inputs[schema.CLICKS.name].sum(axis=1) if len(piece) else np.zeros(0)
        scored = pa.table(
            {
                "item_id": ids.cast(pa.string()),
                "period": period.take(pa.array(np.zeros(len(piece), np.int64))),
                "predicted_share_rate": scores.astype(np.float64),
                "observed_periods": (fitted.spec.window - missing).astype(np.int32),
                "seen_clicks": clicks.astype(np.int64),
                **{f"weight_{name}": weights[:, n] for n, name in enumerate(self._job.modalities)},
            }
        )
        if self._decisions is None:
            return scored
        return decision.add(scored, self._decisions, self._job.rule, explore=self._job.explore)

    def _inputs(self, piece: Table, rows: np.ndarray) -> dict[str, np.ndarray]:
        """What the model's last signature reads of some items."""
        fitted = self._fitted
        counted = {name: array[rows] for name, array in self._arrays.items()}
        panel = Panel(
            item_ids=rows,
            **counted,
            calendar=fitted.calendar,
            first_period=self._first_period,
        )
        means = self._sums.taxonomy_means(panel, piece)
        _, _, channels = histories.shape(len(piece), fitted.spec.window, fitted.spec)
        history = np.empty((len(piece), fitted.spec.window, channels), np.float32)
        histories.fill(history, panel, means, fitted.task.min_clicks)
        static = self._static(piece, rows) if self._model.is_cut else self._tensors(piece, rows)
        return histories.inputs(history, fitted.spec) | static

    def _static(self, piece: Table, rows: np.ndarray) -> dict[str, np.ndarray]:
        """The static parts of some items: kept ones, or computed now."""
        key = ""
        if self._job.static_cache:
            columns = [name for name, flag in self._columns.items() if flag != "item_column"]
            given = [array[rows] for array in self._given.values()]
            about = json.dumps([self._fitted.encoders, self._encoders.files(piece)])
            key = content_key(piece.data.select(columns), *given, about=about)

        def compute() -> np.ndarray:
            return self._model.static(self._tensors(piece, rows))

        return {STATIC: self._cache.get(key, len(piece), compute)}

    def _tensors(self, piece: Table, rows: np.ndarray) -> dict[str, np.ndarray]:
        """All static tensors of the model, float32 and int32."""
        encoded = list(self._encoders.encode(piece))
        tensors = pipeline.static_tensors(piece, self._fitted, encoded)
        for vector in self._fitted.spec.vectors:
            if vector.of != "given":
                tensors[vector.tensor] = tensors[vector.tensor].astype(np.float32)
            elif vector.tensor in self._given:
                tensors[vector.tensor] = self._given[vector.tensor][rows]
            else:
                column = items.vector_column(vector.name, self._found.vectors[vector.name])
                numbers, full = items.vectors_of(piece, column, vector)
                if not full.all():
                    some, numbers = numbers, np.zeros((len(piece), vector.dim), np.float32)
                    numbers[full] = some
                tensors[vector.tensor] = numbers
        return tensors


class _Model:
    """The signatures of a job's model, on its runtime.

    Attributes:
        is_cut: whether the static part of an item can be computed by itself.
        signature: that gives the scores.
    """

    def __init__(self, job: Job, runtime: Runtime):
        self.is_cut = {"static", "from_static"} <= export.signatures(job.saved_model)
        whole = "explained" if job.modalities else "serving_default"
        self.signature = "from_static" if self.is_cut else whole
        self._score = runtimes.opened(
            job.saved_model, self.signature, runtime=runtime, precision=job.precision
        )
        if self.is_cut:  # in float32 whatever the precision: what is kept serves every job
            self._static = runtimes.opened(job.saved_model, "static", runtime=runtime)

    def static(self, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
        """Static parts of items, float32 [items, width]."""
        return _tile_by_tile(self._static, tensors)[STATIC]

    def score(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """What the last signature gives of at most `TILE` items."""
        return _tile_by_tile(self._score, inputs)


def _tile_by_tile(
    scorer: runtimes.Scorer, inputs: Mapping[str, np.ndarray]
) -> Mapping[str, np.ndarray]:
    """Scores rows in tiles of one size, the last one filled up.

    Sums of float32 are ordered by the shapes of a product: in a tile of another size the same item
    could score another last bit, and how a catalogue is cut into blocks would show in its scores.
    """
    rows = len(next(iter(inputs.values())))
    more = -rows % runtimes.TILE
    if more:
        inputs = {
            name: np.concatenate([array, np.zeros((more, *array.shape[1:]), array.dtype)])
            for name, array in inputs.items()
        }
    return {name: array[:rows] for name, array in scorer(inputs).items()}


def _columns(found: Tables, fitted: Fitted) -> dict[str, str]:
    """The columns of the items table that scoring reads -> the flags that name them."""
    flags = fitted.tables
    named = {
        "item_column": (flags.item_column,),
        "taxonomies": flags.taxonomies,
        "categoricals": flags.categoricals,
        "numerics": flags.numerics,
        "texts": flags.texts if flags.text_encoder != "none" else (),
        "images": flags.images,
    }
    columns = {column: flag for flag, names in named.items() for column in names}
    for vector in fitted.spec.vectors:
        if vector.of == "given" and _beside(found, vector.name):
            columns[items.vector_column(vector.name, found.vectors[vector.name])] = "vectors"
    return columns


def _only(pattern: str, flags: TableFlags) -> ItemIds | None:
    """The items that are wanted; none: all."""
    if not pattern:
        return None
    column, flag = flags.item_column, "item_column"
    table = parquet.open_table(pattern, "only_items", text_columns=[column])
    pieces = table.pieces(counts.PIECE_ROWS, {column: flag})
    parts = [tables.texts(piece, column, flag).cast(pa.large_string()) for piece in pieces]
    chunks = [chunk for part in parts for chunk in part.chunks]
    return ItemIds(pc.unique(pa.chunked_array(chunks, pa.large_string())))


# ------------------------------------------------------------------------------- the runtime


def choose_runtime(job_text: str, directory: str) -> None:
    """Settles what computes, and writes it beside the survey; for a process of its own.

    Args:
        job_text: the job as JSON.
        directory: of the survey.

    Raises:
        InputError: the precision changes the scores too much.
    """
    job, place = Job.model_validate_json(job_text), Path(directory)
    fitted = export.fitted(job.saved_model).model_copy(update={"tables": job.tables})
    plain = job.model_copy(update={"runtime": "tensorflow", "precision": "float32"})
    scorer = Scorer(plain, pipeline.load_catalogue(job.tables), fitted, place)
    sample, signature = scorer.sample(SAMPLE), scorer.signature
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
    about = _about_survey(place) | {"runtime": chosen, "trials": told}
    write_atomic(place / "survey.json", json.dumps(about, indent=1) + "\n")


def _settle_runtime(job: Job, directory: Path) -> list[str]:
    """Has the runtime chosen where that is asked for; what was found out, in sentences."""
    if job.runtime != "fastest" and job.precision == "float32":
        return []
    if "runtime" not in _about_survey(directory):
        workers.apart(CHOOSE, job.model_dump_json(), str(directory))
    about = _about_survey(directory)
    return [*about["trials"], f"runtime: {about['runtime']}, {job.precision}"]


# -------------------------------------------------------------------------------- the drivers


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
        ledger = survey(found, fitted, job.as_of, Path(scratch))
        notes = _settle_runtime(job, Path(scratch))
        seconds = led.cost().wall_seconds
        period = period_of(fitted, Path(scratch))
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
    processes: int = 1,
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
            notes = _settle_runtime(job, directory / SURVEY)
            seconds = led.cost().wall_seconds
            period = period_of(fitted, directory / SURVEY)
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
        ledger = survey(found, fitted, job.as_of, beside)
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
        fitted = export.fitted(job.saved_model).model_copy(update={"tables": job.tables})
        found = pipeline.load_catalogue(job.tables)
        self._blocks = found.items.blocks(job.tables.shard_items)
        self._scorer = Scorer(job, found, fitted, directory / SURVEY)

    def __call__(self, number: int) -> int:
        scored = pa.concat_tables(list(self._scorer.scores(self._blocks[number])))
        path = _part(self._directory, number)
        write_atomic(path, lambda beside: pa.parquet.write_table(scored, beside))
        return len(scored)

    def cost(self) -> Cost:
        return self._scorer.measured.cost()
