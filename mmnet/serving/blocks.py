"""The second pass: blocks of the items table, each scored on its own."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from mmnet import schema
from mmnet.config import TableFlags
from mmnet.data import content, histories, items, parquet, pipeline, tables
from mmnet.data.content import Encoders
from mmnet.data.counts import Panel
from mmnet.data.dataset import Fitted
from mmnet.data.ids import ItemIds
from mmnet.data.tables import Block, Table, Tables
from mmnet.data.taxonomies import TaxonomySums
from mmnet.serving import bundle, decision, exported, first_pass, runtimes
from mmnet.serving.budget import Measured
from mmnet.serving.exported import STATIC
from mmnet.serving.job import Job
from mmnet.serving.runtimes import Runtime
from mmnet.serving.static_cache import StaticCache, content_key


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
        self._first_period = first_pass.first_period(directory)
        self._arrays = {name: self._array(name) for name in ("clicks", "shares", "release")}
        self._sums = TaxonomySums(spec.window, spec.taxonomies, fitted.task)
        self._sums.load(directory)
        self._encoders = Encoders(fitted.tables)
        content.check_same(self._encoders.fingerprints(), fitted.encoders)
        self._cache = StaticCache(job.static_cache, f"{job.model}")
        self._columns = _columns(found, fitted)
        self._given = {
            vector.tensor: self._array(vector.tensor)
            for vector in spec.vectors
            if vector.of == "given" and not first_pass.beside(found, vector.name)
        }
        self._only = _only(job.only_items, fitted.tables)
        runtime = first_pass.about(directory).get("runtime", job.runtime)
        self._model = _Model(job, "tensorflow" if runtime == "fastest" else runtime)
        self.signature = self._model.signature
        self._decisions = None
        if job.rule:
            self._decisions = exported.document(job.saved_model, decision.FILE, decision.Decisions)
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
            scores[part] = found[exported.OUTPUT]
            if self._job.modalities:
                weights[part] = found[exported.WEIGHTS]
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
        self.is_cut = {"static", "from_static"} <= bundle.signatures(job.saved_model)
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
    columns = items.columns(fitted.tables)
    for vector in fitted.spec.vectors:
        if vector.of == "given" and first_pass.beside(found, vector.name):
            columns[items.vector_column(vector.name, found.vectors[vector.name])] = "vectors"
    return columns


def _only(pattern: str, flags: TableFlags) -> ItemIds | None:
    """The items that are wanted; none: all."""
    if not pattern:
        return None
    column, flag = flags.item_column, "item_column"
    table = parquet.open_table(pattern, "only_items", text_columns=[column])
    pieces = table.pieces(parquet.PIECE_ROWS, {column: flag})
    parts = [tables.texts(piece, column, flag).cast(pa.large_string()) for piece in pieces]
    chunks = [chunk for part in parts for chunk in part.chunks]
    return ItemIds(pc.unique(pa.chunked_array(chunks, pa.large_string())))
