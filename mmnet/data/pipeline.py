"""All steps of preparation on one page: tables -> panel -> examples -> features -> dataset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from mmnet.config import TableFlags, TaskFlags
from mmnet.data import (
    content,
    counts,
    groups,
    histories,
    items,
    moments,
    numbers,
    rates,
    splits,
    taxonomies,
)
from mmnet.data.arrays import Allocate, in_memory
from mmnet.data.columns import separator_of
from mmnet.data.content import Encoders
from mmnet.data.counts import Counted, Panel
from mmnet.data.dataset import Dataset, Fitted
from mmnet.data.earlier import carried
from mmnet.data.input_tables import without_places
from mmnet.data.item_tensors import (
    Lookups,
    check_tensor_names,
    given_vectors,
    static_arrays,
    static_tensors,
)
from mmnet.data.ledger import Rule, joined_rules, so_far
from mmnet.data.numbers import Marks
from mmnet.data.rate_scale import rate_scale
from mmnet.data.share_rates import true_share_rates
from mmnet.data.splits import Examples
from mmnet.data.tables import InMemory, Table
from mmnet.schema import FeatureSpec, RateSpec


def prepare(
    found: InMemory,
    flags: TableFlags,
    task: TaskFlags,
    encoders: Encoders | None = None,
    allocate: Allocate = in_memory,
    *,
    earlier: Fitted | None = None,
    refit: bool = False,
) -> Dataset:
    """Builds a dataset from tables, and fits vocabularies and scales on the training span.

    Args:
        found: the tables.
        flags: meaning of their columns, and the number of items to process at a time.
        task: how examples are built.
        encoders: encoders of the flags, if they are already loaded.
        allocate: allocates the arrays of items by name, shape and dtype, filled with zeros.
        earlier: values that a model was trained with from which training starts, see
            `earlier.carried`; None fits all values on these tables.
        refit: whether to train and fit on the targets of validation and test as well.

    Raises:
        InputError: the tables break a rule of the input format, or do not fit `earlier`.

    >>> import pyarrow as pa
    >>> periods = [*range(12), *range(12)]
    >>> columns = {"item_id": [*"a" * 12, *"b" * 12], "period": periods, "clicks": [4] * 24}
    >>> columns["shares"] = [1] * 12 + [2] * 12
    >>> items = pa.table({"item_id": ["a", "b"]})
    >>> found = InMemory(Table(pa.table(columns), "counts"), Table(items, "items"))
    >>> task = TaskFlags(window=2, min_target_clicks=1, min_test_rows=1)
    >>> dataset = prepare(found, TableFlags(), task)
    >>> dataset.share_rate[:, :3]  # two items, three of twelve periods
    array([[25., 25., 25.],
           [50., 50., 50.]], dtype=float32)
    >>> dataset.fitted.spec.rate_scale, len(dataset.examples("train"))
    (12.5, 18)
    """
    encoders = encoders or Encoders(flags)
    done = [*found.ledger]
    with so_far(lambda: done):
        return _prepared(found, flags, task, encoders, allocate, done, earlier, refit)


def _prepared(
    found: InMemory,
    flags: TableFlags,
    task: TaskFlags,
    encoders: Encoders,
    allocate: Allocate,
    done: list[Rule],
    earlier: Fitted | None,
    refit: bool,
) -> Dataset:
    """Does the work of `prepare`; rules that have run are added to `done`."""
    marks = numbers.of_numerics(found.items, flags)
    counted = counts.count(found.counts, found.items, flags, task)
    panel, shards = counted.panel(allocate), counted.shards
    done += counted.ledger
    grouped = groups.hashes(found.items, found.vectors, counted.ids, flags, task)
    hashes, of_groups = (None, []) if grouped is None else (grouped[0], [grouped[1]])
    done += of_groups
    split, example_ledger = splits.split_examples(
        panel, task, shards=shards, groups=hashes, refit=refit
    )
    done += example_ledger
    of_moment, moment_ledger = moments.fit(counted, flags, task, split.train)
    fitted_on = np.zeros(len(found.items), bool)
    fitted_on[split.train.items] = True

    fields, field_vocabularies = items.fit_fields(
        found.items, fitted_on, flags, hashed=task.hash_vocabularies
    )
    texts, text_vocabularies = items.fit_texts(found.items, fitted_on, flags, task)
    vectors = [items.fit_vector(name, table) for name, table in found.vectors.items()]
    vectors += encoders.specs()
    most = None if flags.rate_may_exceed_one else 100.0
    (_, scale, mean), *others = _scales(panel, split.train, task, shards, flags)
    further = [
        RateSpec(name=name, rate_scale=sd, rate_mean=of_targets, max_rate=most)
        for name, sd, of_targets in others
    ]
    spec = FeatureSpec(
        window=task.window,
        horizon=task.main_horizon,
        horizons=task.horizon[1:],
        rates=tuple(further),
        taxonomies=flags.taxonomies,
        fields=tuple(fields),
        numerics=tuple(items.fit_numerics(found.items, fitted_on, flags, marks)),
        texts=tuple(texts),
        vectors=tuple(vectors),
        **of_moment,
        rate_scale=scale,
        rate_mean=mean,
        max_rate=most,
    )
    check_tensor_names(spec)
    fitted = Fitted(
        spec=spec,
        calendar=counted.calendar,
        vocabularies={
            one.tensor: vocabularies[one.name]
            for specs, vocabularies in (
                (spec.fields, field_vocabularies),
                (spec.texts, text_vocabularies),
            )
            for one in specs
        },
        tables=without_places(flags),
        task=task,
        encoders=encoders.fingerprints(),
        marks={column: one for column, one in marks.items() if one != numbers.PLAIN},
    )
    if earlier is not None:
        fitted = carried(fitted, earlier)
    dataset = _assemble(found, counted, panel, fitted, encoders, marks, allocate)
    dataset.split = split
    before = (found.ledger, counted.ledger, of_groups)
    rules = (*before, dataset.ledger, example_ledger, moment_ledger)
    dataset.ledger = [rule for part in rules for rule in part]
    return dataset


def _scales(
    panel: Panel, train: Examples, task: TaskFlags, shards: Sequence[slice], flags: TableFlags
) -> Iterator[tuple[str, float, float]]:
    """Yields the name, the scale and the mean of every rate, the main one first."""
    horizons = len(task.horizon)
    for number, rate in enumerate(("", *panel.rates)):
        outputs = range(number * horizons, (number + 1) * horizons)
        targets = [train.of_output(output) for output in outputs]
        of_rate = panel.of_rate(rate)
        yield rate, *rate_scale(of_rate, train, targets, task, shards, flags.engine_spill or None)


def transform(found: InMemory, fitted: Fitted, allocate: Allocate = in_memory) -> Dataset:
    """Builds a dataset from new tables with values fitted before; it fits and splits nothing.

    Raises:
        InputError: the tables break a rule of the input format, their periods differ from those
            of the fitted calendar, or the encoders or further rates from those of training.
    """
    rates.check_same(fitted.tables, fitted.spec)
    encoders = Encoders(fitted.tables)
    content.check_same(encoders.fingerprints(), fitted.encoders)
    marks = numbers.of_numerics(found.items, fitted.tables, fitted.marks)
    done = [*found.ledger]
    with so_far(lambda: done):
        counted = counts.count(
            found.counts, found.items, fitted.tables, fitted.task, calendar=fitted.calendar
        )
        panel = counted.panel(allocate)
        done += counted.ledger
        dataset = _assemble(found, counted, panel, fitted, encoders, marks, allocate)
    dataset.ledger = [*found.ledger, *counted.ledger, *dataset.ledger]
    return dataset


def _assemble(
    found: InMemory,
    counted: Counted,
    panel: Panel,
    fitted: Fitted,
    encoders: Encoders,
    marks: Mapping[str, Marks],
    allocate: Allocate,
) -> Dataset:
    """Fills the arrays that a model reads, one shard of items at a time."""
    spec, shards = fitted.spec, counted.shards
    history = _history(found, panel, shards, fitted, allocate, "history")
    rate_histories = {
        rate: _history(found, panel.of_rate(rate), shards, fitted, allocate, f"history-{rate}")
        for rate in panel.rates
    }
    tensors = {
        name: allocate(f"tensor-{name}", (len(panel.clicks), *inner), dtype)
        for name, inner, dtype in static_arrays(spec)
    }
    # Given vectors are in a table of their own order, so they are aligned for all items at once.
    of_vectors: list[Rule] = []
    for vector in spec.vectors:
        if vector.of == "given":
            table = given_vectors(found, vector.name)
            out = tensors[vector.tensor]
            items.encode_vectors(table, vector, counted.ids, fitted.tables, out, of_vectors)
    ledger: list[list[Rule]] = []
    lookups = Lookups(fitted)
    for rows in shards:
        part = found.items.rows(rows)
        encoded = list(encoders.encode(part))
        ledger.append([one.rule for one in encoded])
        for name, array in static_tensors(part, fitted, encoded, marks, lookups).items():
            tensors[name][rows] = array
    return Dataset(
        fitted=fitted,
        panel=panel,
        history=history,
        tensors=tensors,
        rate_histories=rate_histories,
        ledger=[
            *of_vectors,
            *numbers.reported(found.items, marks),
            *(joined_rules(rules) for rules in zip(*ledger, strict=True)),
        ],
        true_share_rate=None if found.truth is None else true_share_rates(found.truth, panel),
    )


def _history(
    found: InMemory,
    panel: Panel,
    shards: Sequence[slice],
    fitted: Fitted,
    allocate: Allocate,
    name: str,
) -> np.ndarray:
    """Fills the history array of one rate, one shard of items at a time."""
    spec, task = fitted.spec, fitted.task

    def parts(column: str = "") -> Iterator[tuple[Panel, Table]]:
        del column  # the items are in memory, with all of their columns
        return ((panel.part(rows), found.items.rows(rows)) for rows in shards)

    # Two passes over the shards, since every mean needs the sums of all of them.
    fitted_taxonomies = taxonomies.fit(
        *(spec.taxonomies, task, panel.num_periods, parts, len(shards)),
        separator=separator_of(fitted.tables),
    )
    means = [one.means_of_shards(parts(), len(shards)) for one in fitted_taxonomies]
    shape = histories.shape(len(panel.clicks), panel.num_periods, spec)
    history = allocate(name, shape, "float32")
    for rows, (part, _) in zip(shards, parts(), strict=True):
        histories.fill(history[rows], part, [next(one) for one in means], task.min_clicks)
    return history
