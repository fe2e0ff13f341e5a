"""The order of preparation on one page: tables -> panel -> examples -> features -> dataset."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

import mmnet
from mmnet import config, schema
from mmnet.checks import InputError, did_you_mean
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import (
    calendars,
    content,
    counts,
    engines,
    events,
    histories,
    items,
    parquet,
    share_rates,
    sources,
    splits,
    tables,
)
from mmnet.data.content import Encoded, Encoders
from mmnet.data.counts import Counted, Panel
from mmnet.data.dataset import FORMAT, Dataset, Fitted
from mmnet.data.ids import item_ids
from mmnet.data.ledger import Rule, joined_rules
from mmnet.data.splits import Examples
from mmnet.data.spool import Spool
from mmnet.data.tables import Rows, Table, Tables
from mmnet.data.taxonomies import TaxonomySums
from mmnet.hashing import sha256
from mmnet.schema import (
    FeatureSpec,
    FieldSpec,
    NumericSpec,
    TextSpec,
    VectorSpec,
    tensor_name,
)

Allocate = Callable[[str, tuple[int, ...], str], np.ndarray]

PLACES = (
    *("counts", "events", "items", "source_dir"),
    *("text_handle", "text_preprocessor", "image_weights", "image_root", "encoder_cache"),
)
"""Table flags that say where files lie; what is fitted does not depend on them."""


def load_tables(
    flags: TableFlags,
    task: TaskFlags | None = None,
    directory: Path | None = None,
    *,
    items_in_pieces: bool = False,
) -> Tables:
    """Reads what `--counts` or `--events`, `--items` and `--vectors`, or `--source`, name.

    Args:
        flags: where the tables are.
        task: its first period bounds the events that are counted.
        directory: a dataset directory, which may hold the counts of unchanged events.
        items_in_pieces: leaves an items table of Parquet files where it is, to be read in pieces.

    Raises:
        InputError: nothing is named, too much is, or it cannot be read.
    """
    if flags.source and (flags.counts or flags.events or flags.items):
        raise InputError("--source brings its own tables; leave out --counts and --items")
    if flags.counts and flags.events:
        raise InputError("--counts and --events are both given; the counts are made of the events")
    if flags.source:
        found = sources.load(flags)
        _leave_out(found.vectors, flags.leave_out_vectors)
        tables.need_columns(found.counts, counts.columns(flags))
        tables.need_columns(found.items, _items_columns(flags))
    elif flags.counts and flags.items:
        tables.check_header(flags.counts, "counts", counts.columns(flags))
        tables.check_header(flags.items, "items", _items_columns(flags))
        rows = parquet.open_table(flags.counts, "counts", text_columns=[flags.item_column])
        catalogue = _items(flags, items_in_pieces)
        found = Tables(rows, catalogue, inputs=rows.files + catalogue.files)
    elif flags.events and flags.items:
        tables.check_header(flags.items, "items", _items_columns(flags))
        engines.files_of(flags)  # refused before the items are read
        catalogue = _items(flags, items_in_pieces)
        found = _count_events(flags, catalogue, task or TaskFlags(), directory)
    else:
        given = "events" if flags.events else "counts"
        missing = [f"--{name}" for name in (given, "items") if not getattr(flags, name)]
        raise InputError(f"{' and '.join(missing)} not given; name the tables, or a --source")
    _add_vectors(found, flags)
    return found


def load_catalogue(flags: TableFlags) -> Tables:
    """The items and vectors of `load_tables` in pieces, without counts, where they have files.

    Raises:
        InputError: as `load_tables`.
    """
    if flags.source:
        return load_tables(flags)
    catalogue = _items(flags, in_pieces=True)
    found = Tables(Table(pa.table({}), "counts"), catalogue, inputs=catalogue.files)
    _add_vectors(found, flags)
    return found


def _items_columns(flags: TableFlags) -> dict[str, str]:
    """Columns of the items table that a dataset is made of -> the flag that names each."""
    return items.columns(flags) | ({flags.release: "release"} if flags.release else {})


def _items(flags: TableFlags, in_pieces: bool) -> Rows:
    read = parquet.open_table if in_pieces else tables.read
    return read(flags.items, "items", text_columns=tables.text_columns(flags))


def _add_vectors(found: Tables, flags: TableFlags) -> None:
    for setting in flags.vectors:
        name, sign, path = setting.partition(":")
        if not sign or not name:
            raise InputError(f"--vectors takes NAME:FILE. Received: {setting!r}")
        if name in found.vectors:
            raise InputError(f"--vectors names {name!r} twice; each modality has one table")
        found.vectors[name] = parquet.open_table(path, "vectors", text_columns=[flags.item_column])
        found.inputs += found.vectors[name].files


def _count_events(
    flags: TableFlags, catalogue: Rows, task: TaskFlags, directory: Path | None
) -> Tables:
    ids = item_ids(catalogue, flags)
    counted = events.load(flags, task, ids.part(slice(0, len(ids))), directory)
    return Tables(
        counted.table,
        catalogue,
        inputs=catalogue.files,
        ledger=counted.ledger,
        digests=counted.digests,
        kept=counted.kept,
        scratch=counted.scratch,
    )


def fingerprint(
    found: Tables, flags: TableFlags, task: TaskFlags, encoders: Encoders
) -> tuple[str, dict[str, str]]:
    """A hash of all that a dataset depends on, and the SHA-256 of each input file by its name.

    Names are those below the files' common directory: where it lies is not part of a record. Of
    images, sizes and times stand for the contents: there may be a million of them.
    """
    hashes = [sha256(path) for path in found.inputs]
    about = {
        "format": FORMAT,
        "version": mmnet.__version__,
        "tables": flags.model_dump(mode="json", exclude={*PLACES, *config.ENGINE, "vectors"}),
        "vectors": [setting.partition(":")[0] for setting in flags.vectors],
        "task": task.model_dump(mode="json"),
        "inputs": [*found.digests.values(), *hashes],
        "encoders": encoders.fingerprints(),
        "images": encoders.files(found.items),
    }
    text = json.dumps(about, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest(), found.digests | dict(
        zip(_short_names(found.inputs), hashes, strict=True)
    )


def _leave_out(vectors: dict[str, Table], names: Sequence[str]) -> None:
    for name in names:
        if name not in vectors:
            raise InputError(
                f"--leave_out_vectors={name}: the source has vectors "
                f"{', '.join(vectors) or 'of no name'}{did_you_mean(name, vectors)}"
            )
        del vectors[name]


def _short_names(paths: Sequence[Path]) -> list[str]:
    folders = [path.resolve().parent for path in paths]
    common = Path(os.path.commonpath(folders)) if folders else Path()
    return [str(path.resolve().relative_to(common)) for path in paths]


def in_memory(name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """An array of a dataset that fits in memory; `dataset.NewDirectory.array` is its twin."""
    del name
    return np.zeros(shape, dtype)


def prepare(
    found: Tables,
    flags: TableFlags,
    task: TaskFlags,
    encoders: Encoders | None = None,
    allocate: Allocate = in_memory,
) -> Dataset:
    """Makes a dataset of tables, fitting vocabularies and scales on the training span.

    Args:
        found: the tables.
        flags: what their columns mean, and how many items are handled at a time.
        task: how examples are made.
        encoders: of the flags, if they are loaded already.
        allocate: makes the arrays of items by name, shape and dtype, all zeros.

    Raises:
        InputError: the tables are not as the contract wants them.
    """
    encoders = encoders or Encoders(flags)
    counted = counts.count(found.counts, found.items, flags, task)
    splitter = splits.Splitter(counted, task)
    sums = TaxonomySums(counted.num_periods, flags.taxonomies, task)
    fitted_on = np.zeros(len(found.items), bool)
    rates = _RateStatistics(task, flags.engine_spill or None)
    for rows, panel in counted.panels():
        train = splitter.add(panel, rows.start)
        fitted_on[rows][train.items] = True
        rates.add(panel, train)
        sums.add(panel, found.items.rows(rows))
    split, example_ledger = splitter.split()

    fields, field_vocabularies = items.fit_fields(found.items, fitted_on, flags)
    texts, text_vocabularies = items.fit_texts(found.items, fitted_on, flags, task)
    vectors = [items.fit_vector(name, table) for name, table in found.vectors.items()]
    vectors += encoders.specs()
    scale, mean = rates.sd_and_mean()
    spec = FeatureSpec(
        window=task.window,
        horizon=task.horizon,
        taxonomies=flags.taxonomies,
        fields=tuple(fields),
        numerics=tuple(items.fit_numerics(found.items, fitted_on, flags)),
        texts=tuple(texts),
        vectors=tuple(vectors),
        rate_scale=scale,
        rate_mean=mean,
        max_rate=None if flags.rate_may_exceed_one else 100.0,
    )
    _check_tensor_names(spec)
    fitted = Fitted(
        spec=spec,
        calendar=counted.calendar,
        vocabularies=field_vocabularies | text_vocabularies,
        tables=_without_places(flags),
        task=task,
        encoders=encoders.fingerprints(),
    )
    dataset = _assemble(found, counted, sums, fitted, encoders, allocate)
    dataset.split = split
    dataset.ledger = [*found.ledger, *counted.ledger, *dataset.ledger, *example_ledger]
    dataset.kept = found.kept
    return dataset


def _without_places(flags: TableFlags) -> TableFlags:
    places = (*PLACES, *config.ENGINE, "vectors")
    return flags.model_copy(update={name: TableFlags.model_fields[name].default for name in places})


def transform(found: Tables, fitted: Fitted, allocate: Allocate = in_memory) -> Dataset:
    """Makes a dataset of new tables with what was fitted before; nothing is fitted, nor split.

    Raises:
        InputError: the tables are not as the contract wants them, or have other periods than those
            the calendar was fitted on; or content would be read by other encoders.
    """
    encoders = Encoders(fitted.tables)
    content.check_same(encoders.fingerprints(), fitted.encoders)
    check_calendar(found, fitted)
    counted = counts.count(
        found.counts, found.items, fitted.tables, fitted.task, calendar=fitted.calendar
    )
    sums = TaxonomySums(counted.num_periods, fitted.spec.taxonomies, fitted.task)
    for rows, panel in counted.panels():
        sums.add(panel, found.items.rows(rows))
    dataset = _assemble(found, counted, sums, fitted, encoders, allocate)
    dataset.ledger = [*found.ledger, *counted.ledger, *dataset.ledger]
    return dataset


def check_calendar(found: Tables, fitted: Fitted) -> None:
    """Refuses counts whose periods are not those that a model was trained on.

    Raises:
        InputError: the sentence names both.
    """
    now = calendars.calendar_of(found.counts, fitted.tables)
    if now != fitted.calendar:
        raise InputError(
            f"{found.counts.origin()}: the model was trained on {fitted.calendar.describe()}, but "
            f"these counts (with --period and --time_zone) have {now.describe()}"
        )


def _assemble(
    found: Tables,
    counted: Counted,
    sums: TaxonomySums,
    fitted: Fitted,
    encoders: Encoders,
    allocate: Allocate,
) -> Dataset:
    """The second pass: fills the arrays, shard by shard of items."""
    spec, num_items = fitted.spec, len(counted.ids)
    shape = (num_items, counted.num_periods)
    clicks, shares = allocate("clicks", shape, "int64"), allocate("shares", shape, "int64")
    history = allocate("history", histories.shape(*shape, spec), "float32")
    given = {vector.tensor for vector in spec.vectors if vector.of == "given"}
    tensors = {
        name: allocate(f"tensor-{name}", (num_items, *inner), dtype)
        for name, inner, dtype in static_arrays(spec)
    }
    for vector in spec.vectors:
        if vector.tensor in given:
            table = given_vectors(found, vector.name)
            items.encode_vectors(table, vector, counted.ids, fitted.tables, tensors[vector.tensor])
    ledger: list[list[Rule]] = []
    for rows, panel in counted.panels():
        part = found.items.rows(rows)
        clicks[rows], shares[rows] = panel.clicks, panel.shares
        means = sums.taxonomy_means(panel, part)
        histories.fill(history[rows], panel, means, fitted.task.min_clicks)
        encoded = list(encoders.encode(part))
        ledger.append([one.rule for one in encoded])
        for name, array in static_tensors(part, fitted, encoded).items():
            tensors[name][rows] = array
    panel = Panel(
        counted.ids.part(slice(0, num_items)),
        clicks,
        shares,
        counted.release,
        counted.calendar,
        counted.first_period,
    )
    return Dataset(
        fitted=fitted,
        panel=panel,
        history=history,
        tensors=tensors,
        ledger=[joined_rules(rules) for rules in zip(*ledger, strict=True)],
        true_share_rate=_truth(found, panel) if found.truth is not None else None,
    )


def static_arrays(spec: FeatureSpec) -> Iterator[tuple[str, tuple[int, ...], str]]:
    """Tensor, shape without the items' axis, and dtype of what depends on an item alone."""
    encoded = {vector.tensor for vector in spec.vectors if vector.of != "given"}
    for name, (inner, dtype) in spec.tensors().items():
        if name not in schema.OF_PERIODS:
            yield name, inner, "float16" if name in encoded else dtype


def given_vectors(found: Tables, name: str) -> Rows:
    """The table of vectors that a model reads.

    Raises:
        InputError: it was not given.
    """
    if name not in found.vectors:
        raise InputError(f"the model reads vectors {name!r}; give --vectors=NAME:FILE")
    return found.vectors[name]


def static_tensors(
    part: Table, fitted: Fitted, encoded: Sequence[Encoded]
) -> dict[str, np.ndarray]:
    """What depends on an item alone, but for the vectors that are given.

    Args:
        part: some rows of the items table.
        fitted: vocabularies and scales.
        encoded: the vectors of their texts and images.
    """
    spec, flags = fitted.spec, fitted.tables
    tensors = {}
    for field in spec.fields:
        flag = "taxonomies" if field.name in flags.taxonomies else "categoricals"
        vocabulary = fitted.vocabularies[field.tensor]
        tensors[field.tensor] = items.encode_field(part, field, vocabulary, flag)
    for numeric in spec.numerics:
        tensors[numeric.tensor] = items.encode_numeric(part, numeric)
    for text in spec.texts:
        vocabulary = fitted.vocabularies[text.tensor]
        tensors[text.tensor] = items.encode_text(part, text, vocabulary)
    computed = {(one.column.name, one.column.kind): one.vectors for one in encoded}
    for vector in spec.vectors:
        if vector.of != "given":
            tensors[vector.tensor] = computed[vector.name, vector.of]
    return tensors


class _RateStatistics:
    """Sd of the rates observed in training windows and targets; mean of the training targets."""

    def __init__(self, task: TaskFlags, spill: str | None):
        self._task = task
        self._used, self._targets = (Spool(np.dtype(np.float64), 1, spill) for _ in range(2))

    def add(self, panel: Panel, examples: Examples) -> None:
        """Takes in a shard, with its training examples."""
        task = self._task
        rate, _ = share_rates.share_rates(panel, 1)
        used = np.zeros(rate.shape, bool)
        for back in range(task.window):
            column = examples.times - back
            inside = column >= 0
            used[examples.items[inside], column[inside]] = True
        used &= share_rates.observed(panel, task.min_clicks)
        used[examples.items, examples.times + task.horizon] = True
        for spool, rates in (
            (self._used, rate[used]),
            (self._targets, rate[examples.items, examples.times + task.horizon]),
        ):
            spool.add(np.zeros(len(rates), np.int64), rates.astype(np.float64))

    def sd_and_mean(self) -> tuple[float, float]:
        """Both in percent, the same to the bit however the items were cut into shards."""
        _, sd = items.mean_and_sd(self._used.mapped(0))
        mean, _ = items.mean_and_sd(self._targets.mapped(0))
        return sd, mean


def _truth(found: Tables, panel: Panel) -> np.ndarray:
    """Planted true share rates on the panel, NaN where there is none."""
    who = pd.Index(panel.item_ids).get_indexer(found.truth["item_id"].to_pandas())
    column = found.truth["period"].to_numpy() - panel.first_period
    inside = (who >= 0) & (column >= 0) & (column < panel.num_periods)
    truth = np.full(panel.clicks.shape, np.nan)
    truth[who[inside], column[inside]] = found.truth["true_share_rate"].to_numpy()[inside]
    return truth


def _check_tensor_names(spec: FeatureSpec) -> None:
    """Refuses columns whose names cannot be told apart once they are tensors.

    One column may be a category and a text; both then read the same raw input.
    """
    features: list[FieldSpec | NumericSpec | TextSpec | VectorSpec] = [
        *spec.fields,
        *spec.numerics,
        *spec.texts,
        *spec.vectors,
    ]
    seen: dict[str, str] = {}
    for feature in features:
        if feature.tensor in seen:
            raise InputError(
                f"columns {seen[feature.tensor]!r} and {feature.name!r} both make the tensor "
                f"{feature.tensor}; rename one, or name it in one flag only"
            )
        seen[feature.tensor] = feature.name
    strings: dict[str, str] = {}
    for name in (feature.name for feature in (*spec.fields, *spec.texts)):
        other = strings.setdefault(tensor_name("item", name), name)
        if other != name:
            raise InputError(
                f"columns {other!r} and {name!r} cannot be told apart in a SavedModel; rename one"
            )


def table_flags(flags: config.TrainConfig | config.PrepareConfig) -> tuple[TableFlags, TaskFlags]:
    """The table and task parts of a driver's flags."""
    given = flags.model_dump()
    return (
        TableFlags(**{name: given[name] for name in config.TABLES}),
        TaskFlags(**{name: given[name] for name in config.TASK}),
    )
