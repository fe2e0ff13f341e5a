"""A SavedModel and tables in; scores, decisions, ranking features or a drift report out."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.progress import Progress

from mmnet import config
from mmnet.checks import InputError
from mmnet.config import (
    DriftConfig,
    PredictConfig,
    TableFlags,
)
from mmnet.data import dataset as datasets
from mmnet.data import engines, pipeline, tables
from mmnet.data.dataset import Dataset, Fitted
from mmnet.files import write_atomic
from mmnet.serving import decision, exported, profile
from mmnet.startup import load_tensorflow
from mmnet.tasks.shown import console, print_ledger, print_rules

if TYPE_CHECKING:
    from mmnet.serving import catalogue

SHOWN_ITEMS = 50_000
"""Items from which on scoring shows its progress."""


def predict(flags: PredictConfig) -> None:
    """A SavedModel and tables (or a dataset directory) in, scores out."""
    if not flags.saved_model:
        raise InputError("--saved_model not given; name a run's export directory")
    exported.version_directory(flags.saved_model)  # refused at once where there is none
    if flags.verify:
        load_tensorflow(keras=False)
        from mmnet.serving import bundle

        bundle.check(flags.saved_model, report=console.print)
    elif flags.ranking_features:
        _ranking_features(flags)
    elif flags.dataset_dir:
        _score_dataset(flags)
    else:
        _score_catalogue(flags)


def _dataset_of_export(flags: PredictConfig | DriftConfig, fitted: Fitted) -> Dataset:
    """Tables or a dataset directory, read with what the exported model was fitted with."""
    if flags.dataset_dir:
        if given := _tables_given(flags):
            raise InputError(f"--dataset_dir holds its tables; leave out --{min(given)}")
        dataset = datasets.load(flags.dataset_dir)
        if _reads(dataset.fitted) != _reads(fitted):
            raise InputError(
                f"--dataset_dir={flags.dataset_dir} was prepared for another model; give its "
                "tables instead, so that they are read with this model's vocabularies"
            )
        return dataset
    table_flags = _tables_of_export(flags, fitted)
    return pipeline.transform(
        pipeline.load_tables(table_flags, fitted.task),
        fitted.model_copy(update={"tables": table_flags}),
    )


def _tables_given(flags: PredictConfig | DriftConfig) -> dict[str, Any]:
    """The table flags that were given."""
    names = (set(config.TABLES) - set(config.ENGINE)) & flags.model_fields_set
    return {name: getattr(flags, name) for name in names}


def _tables_of_export(flags: PredictConfig | DriftConfig, fitted: Fitted) -> TableFlags:
    """Where the tables are; what is not said is as the exported model's were.

    Raises:
        InputError: no tables are given.
    """
    given = _tables_given(flags)
    if not given:
        raise InputError(
            "no tables given; name --counts or --events and --items, --source_dir or --dataset_dir"
        )
    own = fitted.tables.model_dump()
    if {"counts", "events", "items"} & set(given):
        own |= {"source": "", "source_set": ()}
    engine = {name: getattr(flags, name) for name in config.ENGINE}
    return config.build(TableFlags, own | given | engine)


def _ranking_features(flags: PredictConfig) -> None:
    """Scores of a range of periods, with all that a ranker may want to know beside them."""
    about = exported.about(flags.saved_model, exported.AboutShareRates)
    decisions = exported.document(flags.saved_model, decision.FILE, decision.Decisions)
    dataset = _dataset_of_export(flags, about.fitted)
    load_tensorflow(keras=False)
    from mmnet.serving import bundle, features

    loaded, _ = bundle.load(flags.saved_model, exported.AboutShareRates)
    print_ledger(dataset)
    gated = "explained" in loaded.signatures
    trained_before = None
    if "validation" in about.first_targets:
        calendar = dataset.panel.calendar
        trained_before = calendar.number(str(about.first_targets["validation"]), "first_targets")
    parts = features.tables(
        loaded.signatures["explained" if gated else "serving_default"],
        dataset,
        decisions,
        first=flags.ranking_from,
        last=flags.as_of,
        modalities=about.modalities if gated else (),
        trained_before=trained_before,
    )
    path, rows = features.write(flags.ranking_features, parts)
    console.print(f"{rows:,} rows of ranking features: {path}")


def _score_dataset(flags: PredictConfig) -> None:
    for name in ("only_items", "static_cache"):
        if getattr(flags, name):
            raise InputError(f"--{name} needs tables; --dataset_dir is scored as it is")
    if not flags.output.endswith(".parquet"):
        raise InputError(
            f"--output={flags.output}: of --dataset_dir scores go to one .parquet file"
        )
    decisions = _decisions(flags)
    modalities = exported.modalities(flags.saved_model) if flags.explain else []
    dataset = _dataset_of_export(flags, exported.fitted(flags.saved_model))
    load_tensorflow(keras=False)
    from mmnet.serving import bundle, scoring

    loaded, _ = bundle.load(flags.saved_model, exported.AboutShareRates)
    print_ledger(dataset)
    signature = loaded.signatures["explained" if modalities else "serving_default"]
    scores = scoring.score(signature, dataset, as_of=flags.as_of, modalities=modalities)
    if decisions:
        scores = decision.add(scores, decisions, flags.rule or "stored", explore=flags.explore)
    path = scoring.write(scores, flags.output)
    console.print(f"{scores.num_rows:,} items scored for {scores['period'][0].as_py()}: {path}")


def _decisions(flags: PredictConfig) -> decision.Decisions | None:
    """What scores are to be decided by; None where nothing is.

    Raises:
        InputError: the export has no such rule.
    """
    if not (flags.rule or flags.explore):
        return None
    found = exported.document(flags.saved_model, decision.FILE, decision.Decisions)
    found.rule(flags.rule or "stored")  # refused before anything is read
    return found


def _score_catalogue(flags: PredictConfig) -> None:
    decisions = _decisions(flags)
    modalities = tuple(exported.modalities(flags.saved_model)) if flags.explain else ()
    fitted = exported.fitted(flags.saved_model)
    if flags.as_of:
        fitted.calendar.number(flags.as_of, "as_of")
    if flags.only_items:
        tables.check_header(
            flags.only_items, "only_items", {fitted.tables.item_column: "item_column"}
        )
    table_flags = _tables_of_export(flags, fitted)
    fitted = fitted.model_copy(update={"tables": table_flags})
    found = pipeline.load_tables(table_flags, fitted.task, items_in_pieces=True)
    load_tensorflow(keras=False)
    from mmnet.serving import catalogue, conversion
    from mmnet.serving.job import Job

    directory = exported.version_directory(flags.saved_model)
    job = Job(
        saved_model=str(directory),
        model=conversion.fingerprint(directory),
        tables=table_flags,
        as_of=flags.as_of,
        modalities=modalities,
        runtime=flags.runtime,
        precision=flags.precision,
        static_cache=flags.static_cache,
        only_items=flags.only_items,
        rule=(flags.rule or "stored") if decisions else "",
        explore=flags.explore,
    )
    print_rules(found.ledger)
    one_file = flags.output.endswith(".parquet")
    with contextlib.ExitStack() as stack:
        session = None
        if table_flags.engine.startswith("pyspark:") and not one_file:
            spill = stack.enter_context(tempfile.TemporaryDirectory(prefix="mmnet-"))
            session = stack.enter_context(engines.connected(table_flags, Path(spill))).session
        bar = stack.enter_context(Progress(disable=len(found.items) < SHOWN_ITEMS, transient=True))
        task = bar.add_task("first pass over the counts", total=len(found.items))

        def done(items: int) -> None:
            bar.update(task, description="scoring", advance=items)

        if one_file:
            scored = catalogue.to_file(job, found, fitted, flags.output, done)
        else:
            scored = catalogue.to_directory(
                job, found, fitted, flags.output, done, processes=flags.processes, session=session
            )
    print_rules(scored.ledger)
    for note in scored.notes:
        console.print(f"  {note}")
    _print_budget(scored, flags, one_file)


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
    fitted = exported.fitted(flags.saved_model)
    described = exported.document(flags.saved_model, profile.FILE, profile.Profile)
    dataset = _dataset_of_export(flags, fitted)
    load_tensorflow(keras=False)
    from mmnet.data.windows import Windows
    from mmnet.serving import bundle, scoring
    from mmnet.serving import drift as drifting

    loaded, _ = bundle.load(flags.saved_model, exported.AboutShareRates)
    panel, spec = dataset.panel, fitted.spec
    column = scoring.as_of_column(dataset.panel, flags.checked, flag="checked")
    rows = profile.of_period(dataset, column)
    if column < spec.horizon or not len(rows):
        raise InputError(
            f"--checked={panel.label(column)}: no item with a period to predict it from was "
            "clicked in it; check another period"
        )
    windows = Windows(dataset)
    judged = profile.of_period(dataset, column, fitted.task.min_target_clicks)
    signature = loaded.signatures["serving_default"]
    predicted = [
        signature(**inputs)[exported.OUTPUT].numpy()
        for _, inputs in windows.batches(judged, scoring.BATCH)
    ]
    findings = drifting.compare(
        described,
        profile.observe(dataset, windows, rows),
        np.concatenate([np.zeros(0, np.float32), *predicted]),
        windows.targets(judged).astype(np.float64),
        int(panel.clicks[:, column].sum()),
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
