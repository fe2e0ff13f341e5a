"""A SavedModel and tables in; scores, decisions, ranking features or a drift report out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from mmnet import config
from mmnet.checks import InputError
from mmnet.config import (
    DriftConfig,
    PredictConfig,
    TableFlags,
)
from mmnet.console import Progress
from mmnet.data import dataset as datasets
from mmnet.data import engines, input_tables, pipeline, rates, table_files, tables
from mmnet.data.dataset import Dataset, Fitted
from mmnet.data.dialects import text_options
from mmnet.data.outputs import write_tables
from mmnet.files import scratch_directory, write_atomic
from mmnet.flags import build
from mmnet.serving import decision, exported, known_values, lakehouse, profile
from mmnet.startup import load_tensorflow
from mmnet.tasks.shown import console, print_ledger, print_rules, print_values

if TYPE_CHECKING:
    from mmnet.serving import catalogue
    from mmnet.serving.job import Job


def predict(flags: PredictConfig) -> None:
    """A SavedModel and tables (or a dataset directory) in, scores out."""
    if not flags.saved_model:
        raise InputError("--saved_model not given; name a run's export directory")
    if flags.verify:
        exported.version_directory(flags.saved_model)  # refuses at once without an export
        load_tensorflow(keras=False)
        from mmnet.serving import bundle

        bundle.check(flags.saved_model, report=console.print)
        return
    exported.check_unchanged(flags.saved_model)
    if flags.ranking_features:
        _ranking_features(flags)
    else:
        _score(flags)


def _dataset_of_export(flags: PredictConfig | DriftConfig, fitted: Fitted) -> Dataset:
    """Tables or a dataset directory, read with what the exported model was fitted with."""
    if flags.dataset_dir:
        if given := _tables_given(flags):
            raise InputError(f"--dataset_dir already has its tables; remove --{min(given)}")
        dataset = datasets.load(flags.dataset_dir)
        if _reads(dataset.fitted) != _reads(fitted):
            raise InputError(
                f"--dataset_dir={flags.dataset_dir} was prepared for another model; give its "
                "tables instead, so that they are read with this model's vocabularies"
            )
        return dataset
    table_flags = tables_of_export(flags, fitted)
    return pipeline.transform(
        input_tables.load_tables(table_flags, fitted.task),
        fitted.model_copy(update={"tables": table_flags}),
    )


def _tables_given(flags: PredictConfig | DriftConfig) -> dict[str, Any]:
    """The table flags that were given."""
    names = (set(config.TABLES) - set(config.ENGINE)) & flags.model_fields_set
    return {name: getattr(flags, name) for name in names}


def tables_of_export(flags: PredictConfig | DriftConfig, fitted: Fitted) -> TableFlags:
    """Returns the table flags: those that were given, and the exported model's own for the rest.

    Raises:
        InputError: no tables are given, or further rates other than the model's.
    """
    given = _tables_given(flags)
    if not given:
        raise InputError(
            "no tables given; name --counts or --events and --items, --source_dir or --dataset_dir"
        )
    own = fitted.tables.model_dump()
    if {"counts", "events", "items"} & set(given):
        own |= {"source": "", "source_set": ()}
    if flags.checked if isinstance(flags, DriftConfig) else flags.as_of:
        given["use_partial"] = True  # a period that is named is used, complete or not
    engine = {name: getattr(flags, name) for name in config.ENGINE}
    found = build(TableFlags, own | given | engine)
    rates.check_same(found, fitted.spec)
    return found


SCORES_ONLY = (
    *("output", "only_items", "processes", "static_cache", "runtime", "precision"),
    *("items_a_day", "rule", "explore"),
)
"""Flags of scores and decisions, which do not apply to ranking features."""


def _ranking_features(flags: PredictConfig) -> None:
    """Scores of a range of periods, with the further features that a ranker may use."""
    if given := [name for name in SCORES_ONLY if name in flags.model_fields_set]:
        raise InputError(
            f"--{given[0]} does not go with --ranking_features, which writes its own file of all "
            "items; leave it out"
        )
    about = exported.about(flags.saved_model, exported.AboutShareRates)
    if flags.explain:
        exported.modalities(flags.saved_model)  # refused where there is no gated fusion
    decisions = exported.document(flags.saved_model, decision.FILE, decision.Decisions)
    dataset = _dataset_of_export(flags, about.fitted)
    load_tensorflow(keras=False)
    from mmnet.serving import features

    print_ledger(dataset)
    values = known_values.of_tensors(dataset.tensors, dataset.fitted)
    print_values(values, flags.dataset_dir or dataset.fitted.tables.items or "items table")
    trained_before = None
    if "validation" in about.first_targets:
        calendar = dataset.panel.calendar
        trained_before = calendar.number(str(about.first_targets["validation"]), "first_targets")
    job = _job(flags, dataset.fitted.tables, modalities=about.modalities)
    rows = 0

    def counted() -> Iterator[pa.Table]:
        nonlocal rows
        for part in features.tables(
            job, dataset, decisions, first=flags.ranking_from, trained_before=trained_before
        ):
            rows += len(part)
            yield part

    path = write_tables(counted(), flags.ranking_features, "ranking_features")
    console.print(f"{rows:,} rows of ranking features: {path}")


def _decisions(flags: PredictConfig, fitted: Fitted) -> decision.Decisions | None:
    """What scores are to be decided by; None where nothing is.

    Raises:
        InputError: the export has no such rule.
    """
    if not (flags.rule or flags.explore):
        return None
    found = exported.document(flags.saved_model, decision.FILE, decision.Decisions)
    name = flags.rule or "stored"
    found.rule(name)  # refused before anything is read
    found.of(found.output_of(name, fitted.spec.outputs()))
    if flags.explore:
        found.explore_probability(name)
    if not exported.has_asset(flags.saved_model, profile.FILE):  # exported by an earlier version
        return found
    described = exported.document(flags.saved_model, profile.FILE, profile.Profile)
    if (rate := described.constant_rate) is not None:
        console.print(
            f"note: all targets that this model was validated on have the rate {rate:g} %, so its "
            "decisions are meaningless"
        )
    return found


def _score(flags: PredictConfig) -> None:
    """Scores of the items of tables or of a dataset directory, as of one period."""
    if flags.ranking_from:
        raise InputError(
            "--ranking_from needs --ranking_features; to score as of one period, give --as_of"
        )
    delta_place = lakehouse.place_of(flags.output)
    about = exported.about(flags.saved_model, exported.AboutShareRates)
    if delta_place:
        lakehouse.check(delta_place, lakehouse.keys(about.fitted.spec))
    decisions = _decisions(flags, about.fitted)
    explained: dict[str, Any] = {}
    if flags.explain:
        explained = {"modalities": about.modalities, "reasons": bool(about.reasons)}
        if not about.reasons:  # exported by an earlier version
            exported.modalities(flags.saved_model)  # refused where there are no weights either
    fitted = about.fitted
    if flags.as_of:
        fitted.calendar.number(flags.as_of, "as_of")
    if flags.only_items:
        said = text_options(flags.text_set or fitted.tables.text_set, "only_items")
        column = {fitted.tables.item_column: "item_column"}
        tables.check_header(flags.only_items, "only_items", column, said)
        print_rules(table_files.found_out(flags.only_items, "only_items", said, column))
    found: Dataset | tables.Tables
    if flags.dataset_dir:
        found = _dataset_of_export(flags, fitted)
        engine = {name: getattr(flags, name) for name in config.ENGINE}
        table_flags = found.fitted.tables.model_copy(update=engine)
    else:
        table_flags = tables_of_export(flags, fitted)
        found = input_tables.open_tables(table_flags, fitted.task)
        print_rules(found.ledger)
    fitted = fitted.model_copy(update={"tables": table_flags})
    load_tensorflow(keras=False)
    from mmnet.serving import catalogue, inputs
    from mmnet.serving.blocks import known_only

    source: inputs.Source
    if isinstance(found, Dataset):
        source = inputs.DatasetSource(found, fitted, allow_short=flags.allow_short_history)
    else:
        source = inputs.TableSource(found, fitted, allow_short=flags.allow_short_history)
    rule = (flags.rule or "stored") if decisions else ""
    job = _job(flags, table_flags, rule=rule, **explained)
    if job.only_items:
        print_rules([known_only(job, source.items)])
    one_file = bool(delta_place) or flags.output.endswith(".parquet")
    with contextlib.ExitStack() as stack:
        session = None
        if table_flags.engine.startswith("pyspark:") and not one_file:
            spill = stack.enter_context(scratch_directory(table_flags.engine_spill))
            session = stack.enter_context(engines.connected(table_flags, Path(spill))).session
        progress = stack.enter_context(Progress("first pass over the counts", len(source.items)))

        def done(items: int) -> None:
            progress.advance(items, "scoring")

        place = flags.output
        how: dict[str, Any] = {"processes": flags.processes, "session": session}
        if delta_place:
            scored = catalogue.to_delta(job, source, delta_place, done, **how)
        elif one_file:
            scored = catalogue.to_file(job, source, place, done, **how)
        else:
            scored = catalogue.to_directory(job, source, place, done, **how)
    print_rules(scored.ledger)
    for note in scored.notes:
        console.print(f"  {note}")
    print_values(scored.values, source.items.origin())
    _print_budget(scored, flags, one_file)


def _job(flags: PredictConfig, table_flags: TableFlags, **more: Any) -> Job:
    """What is scored, and how; `more` is what is not a flag."""
    from mmnet.serving import conversion
    from mmnet.serving.job import Job

    directory = exported.version_directory(flags.saved_model)
    names = (
        *("as_of", "runtime", "precision", "static_cache"),
        *("only_items", "explore", "dataset_dir", "allow_short_history"),
    )
    return Job(
        saved_model=str(directory),
        model=conversion.fingerprint(directory),
        tables=table_flags,
        **{name: getattr(flags, name) for name in names},
        **more,
    )


def _print_budget(scored: catalogue.Scored, flags: PredictConfig, one_file: bool) -> None:
    cost = scored.budget(flags.items_a_day)
    console.print(f"{scored.items:,} items scored for {scored.period}: {flags.output}")
    if cost is None:
        console.print("all of them by an earlier session")
        return
    console.print(cost.lines())
    if not one_file:
        write_atomic(Path(flags.output, "_budget.json"), cost.model_dump_json(indent=1) + "\n")
        write_atomic(Path(flags.output, "_budget.md"), cost.lines())


def _reads(fitted: Fitted) -> tuple[Any, ...]:
    """What decides how a dataset's inputs are made."""
    task = fitted.task
    rules = (task.min_clicks, task.taxonomy_mean, task.taxonomy_weighting, task.first_period)
    return fitted.spec, fitted.vocabularies, fitted.encoders, fitted.calendar, rules


def drift(flags: DriftConfig) -> int:
    """A SavedModel and tables in, a report of one period out; returns the exit code."""
    if not flags.saved_model:
        raise InputError("--saved_model not given; name a run's export directory")
    exported.check_unchanged(flags.saved_model)
    fitted = exported.fitted(flags.saved_model)
    described = exported.document(flags.saved_model, profile.FILE, profile.Profile)
    dataset = _dataset_of_export(flags, fitted)
    dataset = dataset.of_output(fitted.spec.outputs()[0])  # drift is about the main one
    load_tensorflow(keras=False)
    from mmnet.data.windows import Windows
    from mmnet.serving import bundle, first_pass
    from mmnet.serving import drift as drifting

    loaded, _ = bundle.load(flags.saved_model, exported.AboutShareRates)
    panel, spec = dataset.panel, fitted.spec
    column = first_pass.as_of_column(panel, flags.checked, flag="checked")
    rows = profile.of_period(dataset, column)
    if column < spec.horizon or not len(rows):
        raise InputError(
            f"--checked={panel.label(column)}: no item with clicks in this period has an earlier "
            "period to predict it from; check another period"
        )
    windows = Windows(dataset)
    judged = profile.of_period(dataset, column, fitted.task.min_target_clicks)
    signature = loaded.signatures["serving_default"]
    predicted = [
        signature(**inputs)[exported.OUTPUT].numpy() for _, inputs in windows.batches(judged)
    ]
    findings = drifting.compare(
        described,
        profile.observe(dataset, windows, rows),
        np.concatenate([np.zeros(0, np.float32), *predicted]),
        windows.targets(judged).astype(np.float64),
        panel.clicks_in(column),
        drifting.Limits(flags.psi, flags.ks, flags.volume, flags.bias),
    )
    period = panel.label(column)
    about = {"period": period, "rows": len(rows), "judged": len(judged)}
    drifting.write(Path(flags.output), findings, about)
    found = [f"{one.name} ({one.measure} {one.value:.3g})" for one in findings if one.drifted]
    console.print(f"{period}: {len(rows):,} rows; report: {Path(flags.output) / 'drift.md'}")
    if not found:
        console.print("no drift")
        return 0
    console.print(f"drifted: {', '.join(found)}")
    return drifting.EXIT_CODE
