"""The second pass of scoring: blocks of items, each scored independently."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmnet import schema
from mmnet.checks import InputError, quoted, shown
from mmnet.config import TableFlags
from mmnet.data import parquet, tables
from mmnet.data.columns import id_texts
from mmnet.data.dialects import text_options
from mmnet.data.ids import ItemIds, check_unknown, item_ids
from mmnet.data.ledger import Rule
from mmnet.data.tables import Block, Rows, Table
from mmnet.serving import bundle, decision, exported, reasons, runtimes
from mmnet.serving.budget import Measured
from mmnet.serving.decision import Asked
from mmnet.serving.exported import STATIC
from mmnet.serving.inputs import Arrays, Inputs
from mmnet.serving.job import Job
from mmnet.serving.runtimes import Runtime
from mmnet.serving.static_cache import StaticCache


class Scorer:
    """Scores items after the first pass, with the opened model of a job.

    Args:
        job: the items, and how to score them.
        runtime: inference runtime; default: that of the job.
    """

    def __init__(self, job: Job, runtime: Runtime | None = None):
        self._job = job
        self._fitted = exported.fitted(job.saved_model)
        self._cache = StaticCache(job.static_cache, job.model)
        self._only = _only(job.only_items, job.tables)
        wanted = runtime or job.runtime
        self._model = _Model(job, "tensorflow" if wanted == "fastest" else wanted)
        self.signature = self._model.signature
        self._decisions = self._quota = None
        if job.rule:
            self._decisions = exported.document(job.saved_model, decision.FILE, decision.Decisions)
            self._threshold = self._decisions.rule(job.rule).threshold
            self._quota = self._decisions.quota(job.rule, self._fitted)
        self.measured = Measured()

    def sample(self, inputs: Inputs, rows: int) -> Arrays:
        """Returns inputs of the model's last signature for at most so many of the first items."""
        return self._read(inputs, next(iter(inputs.pieces(rows))))

    def scores(self, inputs: Inputs, blocks: Sequence[Block] | None = None) -> Iterator[pa.Table]:
        """Scores all items, or those of some blocks, in their order.

        Args:
            inputs: inputs of the model.
            blocks: blocks to score; default: all.

        Yields:
            item_id, period (the predicted one, in the input's type), predicted_share_rate
            (percent), observed_periods (window entries that were not missing), seen_clicks (their
            clicks), weight_<modality> for each of the job's modalities, which sum to 1, the reasons
            if it asks for them, and the decision of its rule; one row per item.
        """
        for piece in inputs.pieces(self._job.tables.shard_items, blocks):
            yield self._score(inputs, piece)

    def _score(self, inputs: Inputs, piece: Table) -> pa.Table:
        spec, job = self._fitted.spec, self._job
        ids = id_texts(piece, job.tables.item_column, "item_column")
        if self._only is not None:
            wanted = self._only.rows(ids) >= 0
            piece, ids = piece.keep(wanted), ids.filter(pa.array(wanted))
        tensors = self._read(inputs, piece) if len(piece) else {}
        scores = np.empty(len(piece), np.float32)
        found_reasons = self._reasons(inputs, piece)
        weights = np.empty((len(piece), len(job.modalities)), np.float32)
        for part in tables.runs(slice(0, len(piece)), runtimes.TILE):
            start = time.perf_counter()
            found = self._model.score({name: array[part] for name, array in tensors.items()})
            scores[part] = found[exported.OUTPUT]
            if job.modalities:
                weights[part] = found[exported.WEIGHTS]
            self.measured.batch(part.stop - part.start, time.perf_counter() - start)
        target = inputs.first_period + spec.window - 1 + spec.horizon
        period = pa.array(self._fitted.calendar.periods(np.array([target])))
        missing = _sums(tensors[schema.MISSING_FLAG.name]) if len(piece) else np.zeros(0)
        clicks = _sums(tensors[schema.CLICKS.name]) if len(piece) else np.zeros(0)
        scored = pa.table(
            {
                "item_id": ids.cast(pa.string()),
                "period": period.take(pa.array(np.zeros(len(piece), np.int64))),
                "predicted_share_rate": scores.astype(np.float64),
                "observed_periods": (spec.window - missing).astype(np.int32),
                "seen_clicks": clicks.astype(np.int64),
                **{f"weight_{name}": weights[:, n] for n, name in enumerate(job.modalities)},
                **found_reasons,
            }
        )
        if self._decisions is None:
            return scored
        threshold = self._threshold
        if self._quota is not None:
            field, thresholds = self._quota
            threshold = thresholds[inputs.groups(piece, field)]
        asked = Asked(job.rule, threshold, explore=job.explore, period=target)
        return decision.add(scored, self._decisions, asked)

    def _reasons(self, inputs: Inputs, piece: Table) -> Arrays:
        """Returns the reasons of the scores of some items by column, float32 [items]."""
        if not self._job.reasons:
            return {}
        spec = self._fitted.spec
        names = reasons.columns(spec)
        if not len(piece):
            return {name: np.zeros(0, np.float32) for name in names}
        tensors = inputs.history(piece) | inputs.static(piece)
        score = self._model.whole(tensors)
        found = {}
        for name, gone in zip(names, reasons.hidden(spec).values(), strict=True):
            found[name] = score - self._model.whole(tensors | reasons.filled(tensors, gone))
        return found

    def _read(self, inputs: Inputs, piece: Table) -> Arrays:
        """Returns the inputs of the model's last signature for some items."""
        history = inputs.history(piece)
        if not self._model.is_cut:
            return history | inputs.static(piece)
        # Hashing the items' contents is only worth its time if their static parts are cached.
        key = inputs.key(piece) if self._job.static_cache else ""

        def compute() -> np.ndarray:
            return self._model.static(inputs.static(piece))

        return history | {STATIC: self._cache.get(key, len(piece), compute)}


def _sums(sequence: np.ndarray) -> np.ndarray:
    """Returns sums over the window, float64 [items]: float32 has no odd numbers above 2**24.

    >>> _sums(np.array([[2**24, 1]], np.float32)).tolist()
    [16777217.0]
    """
    return sequence.sum(axis=1, dtype=np.float64)


class _Model:
    """The signatures of a job's model, on its runtime.

    Attributes:
        is_cut: whether the static part of an item can be computed separately.
        signature: name of the one that returns the scores.
    """

    def __init__(self, job: Job, runtime: Runtime):
        self.is_cut = {"static", "from_static"} <= bundle.signatures(job.saved_model)
        whole = "explained" if job.modalities else "serving_default"
        self.signature = "from_static" if self.is_cut else whole
        self._score = runtimes.opened(
            job.saved_model, self.signature, runtime=runtime, precision=job.precision
        )
        if self.is_cut:  # always in float32, so that cached parts are valid for every job
            self._static = runtimes.opened(job.saved_model, "static", runtime=runtime)
        if job.reasons:  # in float32, since they are small differences
            self._whole = runtimes.opened(job.saved_model, "serving_default", runtime=runtime)

    def whole(self, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
        """Returns the scores of items by `serving_default`, percent, float32 [items]."""
        return _tile_by_tile(self._whole, tensors)[exported.OUTPUT]

    def static(self, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
        """Returns the static parts of items, float32 [items, width]."""
        return _tile_by_tile(self._static, tensors)[STATIC]

    def score(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Returns the outputs of the last signature for at most `TILE` items."""
        return _tile_by_tile(self._score, inputs)


def _tile_by_tile(
    signature: runtimes.OpenSignature, inputs: Mapping[str, np.ndarray]
) -> Mapping[str, np.ndarray]:
    """Scores rows in tiles of one size; the last one is padded.

    The order of float32 sums depends on the shapes of a product. In tiles of another size, the
    last bit of a score could differ, and scores would depend on how a catalogue is cut into blocks.
    """
    rows = len(next(iter(inputs.values())))
    more = -rows % runtimes.TILE
    if more:
        inputs = {
            name: np.concatenate([array, np.zeros((more, *array.shape[1:]), array.dtype)])
            for name, array in inputs.items()
        }
    return {name: array[:rows] for name, array in signature(inputs).items()}


def known_only(job: Job, items: Rows) -> Rule:
    """Checks the ids of `--only_items`, and returns how many are in the items table.

    Args:
        job: job with the table of items to score.
        items: the items table.

    Raises:
        InputError: none of them is in the items table, or they have another spelling there.
    """
    wanted = _only(job.only_items, job.tables)
    if wanted is None:
        raise ValueError("this job scores all items")
    ids = item_ids(items, job.tables)
    unknown = wanted.values.filter(pa.array(ids.rows(wanted.values) < 0))
    where = f"{shown(job.only_items)} (--only_items)"
    check_unknown(ids, unknown.combine_chunks(), where, drop=True)
    if len(unknown) == len(wanted):
        raise InputError(
            f"{where}: none of its {len(wanted):,} items is in {items.origin()}; write ids the "
            f"same way in both tables. Received: {quoted(unknown[0].as_py())}"
        )
    known = len(wanted) - len(unknown)
    note = f"{shown(unknown[0].as_py(), 60)!r} is not" if len(unknown) else ""
    return Rule("only_items", "item is in the items table", len(wanted), known, note)


def _only(pattern: str, flags: TableFlags) -> ItemIds | None:
    """Returns the items to score; None means all."""
    if not pattern:
        return None
    column, flag = flags.item_column, "item_column"
    said = text_options(flags.text_set, "only_items")
    table = parquet.open_table(pattern, "only_items", columns=[column], said=said)
    pieces = table.pieces(parquet.PIECE_ROWS, {column: flag})
    parts = [id_texts(piece, column, flag).cast(pa.large_string()) for piece in pieces]
    chunks = [chunk for part in parts for chunk in part.chunks]
    return ItemIds(pa.chunked_array([pc.unique(pa.chunked_array(chunks, pa.large_string()))]))
