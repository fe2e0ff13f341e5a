"""The second pass of scoring: blocks of items, each scored independently."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

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
from mmnet.schema import FeatureSpec, Tensor
from mmnet.serving import bundle, decision, exported, reasons, runtimes, score_rows
from mmnet.serving.budget import Measured
from mmnet.serving.decision import Asked, Thresholds
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

    Attributes:
        signature: name of the signature that returns the scores.
        measured: cost of scoring so far.
        rows_per_item: rows of scores of each item.
    """

    def __init__(self, job: Job, runtime: Runtime | None = None):
        self._job = job
        self._fitted = exported.fitted(job.saved_model)
        self.rows_per_item = len(score_rows.horizons(self._fitted.spec))
        self._cache = StaticCache(job.static_cache, job.model)
        self._only = _only(job.only_items, job.tables)
        wanted = runtime or job.runtime
        self._model = _Model(job, "tensorflow" if wanted == "fastest" else wanted)
        self.signature = self._model.signature
        self._decisions = self._quota = None
        if job.rule:
            self._decisions = exported.document(job.saved_model, decision.FILE, decision.Decisions)
            self._threshold: Thresholds = self._decisions.rule(job.rule).threshold
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
            if it asks for them, and the decision of its rule; one row per item, or per item and
            horizon with further columns, see `score_rows`.
        """
        size = self._job.tables.shard_items
        if blocks is None:
            for piece in inputs.pieces(size):
                yield self._score(inputs, piece)
            return
        for block in blocks:
            identities = self._identities(inputs, block)
            found = [self._cache.known(one, rows.stop - rows.start) for rows, one in identities]
            # Where all static parts are found by files, columns that only they depend on are left.
            only = None if any(one is None for one in found) else self._fields()
            pieces = inputs.pieces(size, [block], only=only)
            for piece, static, (_, one) in zip(pieces, found, identities, strict=True):
                yield self._score(inputs, piece, one, static if only is not None else None)

    def _identities(self, inputs: Inputs, block: Block) -> list[tuple[slice, str]]:
        """Returns the ranges of a block that are scored together, with the hash of their files."""
        parts = list(tables.runs(block.rows, self._job.tables.shard_items))
        whole = self._only is None and not self._job.reasons
        if not (self._model.is_cut and self._job.static_cache and whole):
            return [(rows, "") for rows in parts]
        return [(rows, inputs.identity(block, rows)) for rows in parts]

    def _fields(self) -> list[str]:
        """Returns the fields that the decisions of the job need."""
        return [] if self._quota is None else [self._quota[0].name]

    def _score(
        self, inputs: Inputs, piece: Table, identity: str = "", static: np.ndarray | None = None
    ) -> pa.Table:
        spec, job = self._fitted.spec, self._job
        ids = id_texts(piece, job.tables.item_column, "item_column")
        if self._only is not None:
            wanted = self._only.rows(ids) >= 0
            piece, ids = piece.keep(wanted), ids.filter(pa.array(wanted))
        tensors = self._read(inputs, piece, identity, static) if len(piece) else {}
        scores = {one.name: np.empty(len(piece), np.float32) for one in spec.outputs()}
        found_reasons = self._reasons(inputs, piece)
        weights = np.empty((len(piece), len(job.modalities)), np.float32)
        for part in tables.runs(slice(0, len(piece)), runtimes.TILE):
            start = time.perf_counter()
            found = self._model.score({name: array[part] for name, array in tensors.items()})
            for name, predicted in scores.items():
                predicted[part] = found[name]
            if job.modalities:
                weights[part] = found[exported.WEIGHTS]
            self.measured.batch(part.stop - part.start, time.perf_counter() - start)
        last = inputs.first_period + spec.window - 1
        missing = _sums(tensors, spec, schema.MISSING_FLAG)
        shared: Arrays = {"observed_periods": (spec.window - missing).astype(np.int32)}
        for rate in ("", *(one.name for one in spec.rates)):
            clicks = _sums(tensors, spec, schema.CLICKS, rate)
            shared[score_rows.seen_clicks(rate)] = clicks.astype(np.int64)
        shared |= {f"weight_{name}": weights[:, n] for n, name in enumerate(job.modalities)}
        parts = []
        for horizon in score_rows.horizons(spec):
            period = pa.array(self._fitted.calendar.periods(np.array([last + horizon])))
            columns: dict[str, Any] = {
                "item_id": ids.cast(pa.string()),
                "period": period.take(pa.array(np.zeros(len(piece), np.int64))),
            }
            if not score_rows.is_single(spec):
                columns[exported.HORIZON] = np.full(len(piece), horizon, np.int32)
            for rate, name in self._names(horizon).items():
                columns[self._names(spec.horizon)[rate]] = scores[name].astype(np.float64)
            parts.append(pa.table(columns | shared | found_reasons.get(horizon, {})))
        scored = score_rows.joined(parts)
        if self._decisions is None:
            return scored
        threshold = self._threshold
        if self._quota is not None:
            field, thresholds = self._quota
            threshold = thresholds[inputs.groups(piece, field)]
        by = self._decisions.output_of(job.rule, spec.outputs())
        asked = Asked(job.rule, threshold, explore=job.explore, period=last + by.horizon)
        return score_rows.add(scored, self._decisions, spec, asked)

    def _names(self, horizon: int) -> dict[str, str]:
        """Returns rate -> name of its prediction at a horizon."""
        outputs = self._fitted.spec.outputs()
        return {one.rate: one.name for one in outputs if one.horizon == horizon}

    def _reasons(self, inputs: Inputs, piece: Table) -> dict[int, Arrays]:
        """Returns the reasons of the scores of some items by horizon and column, float32 [items].

        They are of the rate that the job's rule decides by, or else of the main one.
        """
        if not self._job.reasons:
            return {}
        spec = self._fitted.spec
        names, rate = reasons.columns(spec), ""
        if self._decisions is not None:
            rate = self._decisions.output_of(self._job.rule, spec.outputs()).rate
        own = {one.horizon: one.name for one in spec.outputs() if one.rate == rate}
        if not len(piece):
            return {h: {name: np.zeros(0, np.float32) for name in names} for h in own}
        tensors = inputs.history(piece) | inputs.static(piece)
        score = self._model.whole(tensors)
        found: dict[int, Arrays] = {horizon: {} for horizon in own}
        for name, gone in zip(names, reasons.hidden(spec).values(), strict=True):
            without = self._model.whole(tensors | reasons.filled(tensors, gone))
            for horizon, output in own.items():
                found[horizon][name] = score[output] - without[output]
        return found

    def _read(
        self, inputs: Inputs, piece: Table, identity: str = "", static: np.ndarray | None = None
    ) -> Arrays:
        """Returns the inputs of the model's last signature for some items."""
        history = inputs.history(piece)
        if static is not None:
            return history | {STATIC: static}
        if not self._model.is_cut:
            return history | inputs.static(piece)
        # Hashing the items' contents is only worth its time if their static parts are cached.
        key = inputs.key(piece) if self._job.static_cache else ""

        def compute() -> np.ndarray:
            return self._model.static(inputs.static(piece))

        found = self._cache.get(key, len(piece), compute)
        self._cache.remember(identity, key)
        return history | {STATIC: found}


def _sums(tensors: Arrays, spec: FeatureSpec, of: Tensor, rate: str = "") -> np.ndarray:
    """Returns sums over the window, float64 [items]: float32 has no odd numbers above 2**24.

    >>> spec, clicks = FeatureSpec(window=2, horizon=1), np.array([[2**24, 1]], np.float32)
    >>> _sums({"clicks": clicks}, spec, schema.CLICKS).tolist()
    [16777217.0]
    """
    if not tensors:  # no items
        return np.zeros(0)
    return tensors[spec.sequences(rate)[of.name]].sum(axis=1, dtype=np.float64)


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

    def whole(self, tensors: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Returns the scores of items by `serving_default`, percent, float32 [items] by name."""
        return _tile_by_tile(self._whole, tensors)

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
