"""The order of preparation on one page: tables -> panel -> examples -> features -> dataset."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

import mmnet
from mmnet import config
from mmnet.checks import InputError, did_you_mean
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import (
    content,
    counts,
    events,
    items,
    share_rates,
    sources,
    splits,
    tables,
    taxonomies,
)
from mmnet.data.content import Encoded, Encoders
from mmnet.data.counts import Panel
from mmnet.data.dataset import FORMAT, Dataset, Fitted
from mmnet.data.splits import Split
from mmnet.data.tables import Table, Tables
from mmnet.schema import (
    FeatureSpec,
    FieldSpec,
    NumericSpec,
    TextSpec,
    VectorSpec,
    tensor_name,
)

PLACES = (
    *("counts", "events", "items", "source_dir"),
    *("text_handle", "text_preprocessor", "image_weights", "image_root", "encoder_cache"),
)
"""Table flags that say where files lie; what is fitted does not depend on them."""


def load_tables(
    flags: TableFlags, task: TaskFlags | None = None, directory: Path | None = None
) -> Tables:
    """Reads what `--counts` or `--events`, `--items` and `--vectors`, or `--source`, name.

    Args:
        flags: where the tables are.
        task: its first period bounds the events that are counted.
        directory: a dataset directory, which may hold the counts of unchanged events.

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
    elif flags.counts and flags.items:
        parts = [
            tables.read(flags.counts, "counts", text_columns=[flags.item_column]),
            tables.read(flags.items, "items", text_columns=tables.text_columns(flags)),
        ]
        found = Tables(parts[0], parts[1], inputs=parts[0].files + parts[1].files)
    elif flags.events and flags.items:
        found = _count_events(flags, task or TaskFlags(), directory)
    else:
        given = "events" if flags.events else "counts"
        missing = [f"--{name}" for name in (given, "items") if not getattr(flags, name)]
        raise InputError(f"{' and '.join(missing)} not given; name the tables, or a --source")
    for setting in flags.vectors:
        name, sign, path = setting.partition(":")
        if not sign or not name:
            raise InputError(f"--vectors takes NAME:FILE. Received: {setting!r}")
        if name in found.vectors:
            raise InputError(f"--vectors names {name!r} twice; each modality has one table")
        found.vectors[name] = tables.read(path, "vectors", text_columns=[flags.item_column])
        found.inputs += found.vectors[name].files
    return found


def _count_events(flags: TableFlags, task: TaskFlags, directory: Path | None) -> Tables:
    catalogue = tables.read(flags.items, "items", text_columns=tables.text_columns(flags))
    counted = events.load(flags, task, counts.item_ids(catalogue, flags), directory)
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
    hashes = [tables.sha256(path) for path in found.inputs]
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


def prepare(
    found: Tables, flags: TableFlags, task: TaskFlags, encoders: Encoders | None = None
) -> Dataset:
    """Makes a dataset of tables, fitting vocabularies and scales on the training span.

    Args:
        found: the tables.
        flags: what their columns mean.
        task: how examples are made.
        encoders: of the flags, if they are loaded already.

    Raises:
        InputError: the tables are not as the contract wants them.
    """
    encoders = encoders or Encoders(flags)
    panel, ledger = counts.panel(found.counts, found.items, flags, task)
    split, example_ledger = splits.split_examples(panel, task)

    fitted_on = np.zeros(len(found.items), bool)
    fitted_on[split.train.items] = True
    fields, field_vocabularies = items.fit_fields(found.items, fitted_on, flags)
    texts, text_vocabularies = items.fit_texts(found.items, fitted_on, flags, task)
    vectors = [items.fit_vector(name, table) for name, table in found.vectors.items()]
    vectors += encoders.specs()
    scale, mean = _rate_statistics(panel, split, task)
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
        calendar=panel.calendar,
        vocabularies=field_vocabularies | text_vocabularies,
        tables=_without_places(flags),
        task=task,
        encoders=encoders.fingerprints(),
    )
    dataset = _assemble(found, panel, fitted, encoders)
    dataset.split = split
    dataset.ledger = [*found.ledger, *ledger, *dataset.ledger, *example_ledger]
    dataset.kept = found.kept
    return dataset


def _without_places(flags: TableFlags) -> TableFlags:
    places = (*PLACES, *config.ENGINE, "vectors")
    return flags.model_copy(update={name: TableFlags.model_fields[name].default for name in places})


def transform(found: Tables, fitted: Fitted) -> Dataset:
    """Makes a dataset of new tables with what was fitted before; nothing is fitted, nor split.

    Raises:
        InputError: the tables are not as the contract wants them, or have other periods than those
            the calendar was fitted on; or content would be read by other encoders.
    """
    encoders = Encoders(fitted.tables)
    content.check_same(encoders.fingerprints(), fitted.encoders)
    now = counts.calendar_of(found.counts, fitted.tables)
    if now != fitted.calendar:
        raise InputError(
            f"{found.counts.origin()}: the model was trained on {fitted.calendar.describe()}, but "
            f"these counts (with --period and --time_zone) have {now.describe()}"
        )
    panel, ledger = counts.panel(
        found.counts, found.items, fitted.tables, fitted.task, calendar=fitted.calendar
    )
    dataset = _assemble(found, panel, fitted, encoders)
    dataset.ledger = [*found.ledger, *ledger, *dataset.ledger]
    return dataset


def _assemble(found: Tables, panel: Panel, fitted: Fitted, encoders: Encoders) -> Dataset:
    task, spec = fitted.task, fitted.spec
    share_rate, missing_flag = share_rates.share_rates(panel, task.min_clicks)
    means = [
        taxonomies.taxonomy_means(
            panel,
            taxonomies.members(found.items, column),
            min_clicks=task.min_clicks,
            leave_one_out=task.taxonomy_mean == "leave_one_out",
            weighting=task.taxonomy_weighting,
        )
        for column in spec.taxonomies
    ]
    nothing = np.zeros((*share_rate.shape, 0), np.float32)
    encoded = list(encoders.encode(found.items))
    return Dataset(
        fitted=fitted,
        panel=panel,
        share_rate=share_rate,
        missing_flag=missing_flag,
        taxonomy_rate=np.stack([rate for rate, _ in means], -1) if means else nothing,
        taxonomy_missing_flag=np.stack([flag for _, flag in means], -1) if means else nothing,
        tensors=_static_tensors(found, panel, fitted, encoded),
        ledger=[one.rule for one in encoded],
        true_share_rate=_truth(found, panel) if found.truth is not None else None,
    )


def _static_tensors(
    found: Tables, panel: Panel, fitted: Fitted, encoded: Sequence[Encoded]
) -> dict[str, np.ndarray]:
    spec, flags = fitted.spec, fitted.tables
    tensors = {}
    for field in spec.fields:
        flag = "taxonomies" if field.name in flags.taxonomies else "categoricals"
        vocabulary = fitted.vocabularies[field.tensor]
        tensors[field.tensor] = items.encode_field(found.items, field, vocabulary, flag)
    for numeric in spec.numerics:
        tensors[numeric.tensor] = items.encode_numeric(found.items, numeric)
    for text in spec.texts:
        vocabulary = fitted.vocabularies[text.tensor]
        tensors[text.tensor] = items.encode_text(found.items, text, vocabulary)
    computed = {(one.column.name, one.column.kind): one.vectors for one in encoded}
    for vector in spec.vectors:
        if vector.of != "given":
            tensors[vector.tensor] = computed[vector.name, vector.of]
            continue
        if vector.name not in found.vectors:
            raise InputError(f"the model reads vectors {vector.name!r}; give --vectors=NAME:FILE")
        table = found.vectors[vector.name]
        tensors[vector.tensor] = items.encode_vectors(table, vector, panel.item_ids, flags)
    return tensors


def _rate_statistics(panel: Panel, split: Split, task: TaskFlags) -> tuple[float, float]:
    """Sd of the rates observed in training windows and targets; mean of the training targets."""
    rate, _ = share_rates.share_rates(panel, 1)
    examples = split.train
    used = np.zeros(rate.shape, bool)
    for back in range(task.window):
        column = examples.times - back
        inside = column >= 0
        used[examples.items[inside], column[inside]] = True
    used &= share_rates.observed(panel, task.min_clicks)
    used[examples.items, examples.times + task.horizon] = True
    targets = rate[examples.items, examples.times + task.horizon]
    _, sd = items.mean_and_sd(rate[used].astype(np.float64))
    mean, _ = items.mean_and_sd(targets.astype(np.float64))
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
