"""A night: newest data in, a challenger out, and the next version or a reason to keep the old one.

Every step leaves whole files, and what is decided is written before it is carried out. The same
command therefore resumes a night that was killed, and answers at once for one that has ended.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmnet import config
from mmnet.checks import InputError
from mmnet.config import NightlyConfig, PredictConfig
from mmnet.data import input_tables, table_paths, tables
from mmnet.data.dialects import text_options
from mmnet.files import only_one
from mmnet.flags import as_before, build
from mmnet.hashing import sha256
from mmnet.promotion import history, nights, versions
from mmnet.promotion.history import Event, History
from mmnet.promotion.nights import Night, Verdict
from mmnet.promotion.versions import Versions
from mmnet.promotion_flags import PREVIOUS
from mmnet.serving import rules
from mmnet.startup import load_tensorflow
from mmnet.tasks.building import model_options
from mmnet.tasks.shown import console

DRIFTED = 3
"""Exit code of a night that drift stopped."""
OF_THE_NIGHT = (
    *("dataset_dir", "run_dir", "resume", "outputs", "profile_steps"),
    *("test_periods", "origin", "warm_start"),
)
"""Flags of train that the night sets."""
NOT_DECIDING = (
    *("models", "keep", "rollback", "history", "allow_drift", "exit_code_kept", "output"),
    *(*config.ScoringFlags.model_fields, *input_tables.PLACES, "vectors", "decisions"),
)
"""Flags with which a night is the same night: they change neither the challenger nor the choice."""


def nightly(flags: NightlyConfig) -> int:
    """Trains, compares and promotes by the newest data; or rolls back; or prints the history.

    Returns:
        The exit code: 0, 3 where drift stops the night, or `--exit_code_kept`.
    """
    if not flags.models:
        raise InputError("--models not given; name the directory of the model's versions")
    models = Versions(flags.models)
    if flags.history:
        _print_history(models)
        return 0
    if flags.rollback:
        if not models.directory.is_dir():
            raise InputError(f"--models={flags.models}: no such directory; run a night first")
        with _only_night(models):
            _finish_all(models, flags)
            _roll_back(models, flags.rollback)
        return 0
    night = Night(models.directory / versions.NIGHTS / run_night(flags))
    outcome = night.document()["outcome"]
    if outcome == "drift":
        return DRIFTED
    return flags.exit_code_kept if outcome == "kept" else 0


def run_night(flags: NightlyConfig) -> str:
    """One night, or the answer of the same night before; returns the name of its directory.

    Raises:
        InputError: a flag or a table is wrong, or another night is running.
    """
    check(flags)
    models = Versions(flags.models)
    with _only_night(models):
        night = _night(models, flags)
        _finish(models, night, flags)
        _answer(models, night, flags)
    return night.name


def check(flags: NightlyConfig) -> None:
    """Refuses wrong flags and paths, without TensorFlow.

    Raises:
        InputError: a flag is wrong, or does not go with a night.
    """
    from mmnet.promotion import deciding

    for name in OF_THE_NIGHT:
        if name in flags.model_fields_set:
            raise InputError(f"--{name} is set by the night itself; leave it out")
    if flags.split != "chronological":
        raise InputError(
            f"--split={flags.split}: models of different nights are compared on periods that "
            "neither has learned from, which needs --split=chronological"
        )
    builder, _ = model_options(flags)
    if builder.kind == "floor":
        raise InputError(
            f"--model={flags.model} is not exported, so it cannot be a version; choose another, "
            "such as --model=smoothed_history"
        )
    for rule in flags.rules:
        rules.parse(rule)
    deciding.parse(flags.promote)
    if flags.decisions:
        names = (
            *("decisions_item_column", "decisions_period_column"),
            *("decision_column", "propensity_column"),
        )
        columns = {getattr(flags, name): name for name in names}
        said = text_options(flags.text_set, "decisions")
        tables.check_header(flags.decisions, "decisions", columns, said)


@contextlib.contextmanager
def _only_night(models: Versions) -> Iterator[None]:
    refusal = (
        f"--models={models.directory} is in use by another night; wait for it, or choose another "
        "directory"
    )
    with only_one(models.directory, refusal, remove=True):
        models.clear()
        yield


def _night(models: Versions, flags: NightlyConfig) -> Night:
    """The night of these tables and flags, with its verdict."""
    from mmnet.tasks.night_steps import Steps

    _finish_all(models, flags)
    steps = Steps(models, flags)
    identity = nights.identity(
        steps.fingerprint,
        deciding_flags(flags),
        [sha256(path) for path in table_paths.find(flags.decisions, "decisions")]
        if flags.decisions
        else [],
    )
    before = [one for one in History(models.directory).events() if one.identity == identity]
    if before and not (before[-1].outcome == "drift" and flags.allow_drift):
        night = Night(models.directory / versions.NIGHTS / before[-1].night)
        console.print(f"this night has been decided already: {night.directory}")
        return night
    return steps.decided(identity)


def deciding_flags(flags: NightlyConfig) -> dict[str, Any]:
    """Returns the flags that make a night another night.

    A flag that later versions add is left out at its default, so that after an upgrade the same
    command still finds the night that it has ended.
    """
    left_out = {*config.PLACES, *NOT_DECIDING, *as_before(flags)}
    return flags.model_dump(mode="json", exclude=left_out)


def _finish_all(models: Versions, flags: NightlyConfig) -> None:
    """Finishes nights that had decided, and a rollback that had begun, when they were killed."""
    for event in History(models.directory).events()[-1:]:
        if event.outcome == "rollback" and models.champion() == event.champion_before:
            models.promote(event.champion)
            console.print(f"finished an earlier --rollback: {history.headline(event)}")
    for night in nights.all_nights(models.directory):
        if not night.is_finished() and night.verdict() is not None:
            console.print(f"finishing the night {night.name}, which had decided")
            _finish(models, night, flags)


def _finish(models: Versions, night: Night, flags: NightlyConfig) -> None:
    """Carries out what a night has decided; each step may have been done before."""
    if night.is_finished():
        return
    verdict = night.verdict()
    assert verdict is not None  # it is written before
    event = verdict.event
    if verdict.origin is not None and models.champion() != event.champion:
        load_tensorflow(keras=False)
        from mmnet.serving import bundle

        compared = night.directory / verdict.compared if verdict.compared else None
        path = models.publish(
            event.champion, night.directory / verdict.export, verdict.origin, compared
        )
        try:
            bundle.check(path)
        except InputError:
            versions.remove(path)  # it was copied badly, and will be copied again
            raise
        models.promote(event.champion)
    History(models.directory).write(event)
    _prune(models, night, flags)
    if (scratch := night.directory / nights.REFIT / versions.DATASET).is_dir():
        versions.remove(scratch)
    _report(night, verdict)


def _report(night: Night, verdict: Verdict, scores: dict[str, Any] | None = None) -> None:
    """Writes the pages of a night, and `nightly.json` last."""
    from mmnet.files import write_atomic
    from mmnet.promotion import night_report

    event = verdict.event
    document: dict[str, Any] = {
        **event.model_dump(mode="json"),
        "trained_until": "",
        "refitted_until": verdict.origin.refitted_until if verdict.origin else None,
        "comparison": None,
        "outages": None,
        "refit": None,
        "changed_fields": {},
        **verdict.facts,
        "remarks": list(verdict.remarks),
        "seconds": verdict.seconds,
        "scores": scores,
    }
    write_atomic(night.directory / night_report.PAGE, night_report.page(event, document))
    write_atomic(night.directory / night_report.HTML, night_report.html(event, document))
    night.finish(document)


def _prune(models: Versions, last: Night, flags: NightlyConfig) -> None:
    """Removes old versions, and the heavy files of old nights."""
    events = History(models.directory).events()
    kept: list[int] = []
    for event in reversed(events):
        if event.champion and event.champion not in kept:
            kept.append(event.champion)
    steps = {version for version, _ in history.anchor_steps(events, flags.anchor)}
    keep = {*kept[: flags.keep]} | (steps if flags.promote.startswith("not_worse") else set())
    models.prune(keep)
    recent = {event.night for event in events[-flags.keep :]} | {last.name}
    for night in nights.all_nights(models.directory):
        if night.name not in recent and night.is_finished():
            for path in night.directory.iterdir():
                if path.is_dir():
                    versions.remove(path)


def _answer(models: Versions, night: Night, flags: NightlyConfig) -> None:
    """Scores if asked, and prints what the night did."""
    verdict = night.verdict()
    assert verdict is not None
    event = verdict.event
    _score(models, night, verdict, flags)
    console.print()
    for sentence in (*event.reasons, *verdict.remarks):
        console.print(f"  {sentence}")
    console.print(history.headline(event))
    champion = models.champion()
    if champion != event.champion:
        console.print(f"since then, version {champion} has become the champion")
    console.print(f"report       {night.directory / 'nightly.html'}")


def _score(models: Versions, night: Night, verdict: Verdict, flags: NightlyConfig) -> None:
    """Scores all items by the champion, unless this night has done so."""
    if not flags.output or verdict.event.outcome == "drift":
        return
    champion = models.champion()
    how = {name: getattr(flags, name) for name in config.ScoringFlags.model_fields}
    wanted = {"output": flags.output, "champion": champion, "flags": how}
    if night.document().get("scores") == wanted and Path(flags.output).exists():
        console.print(f"scores       {flags.output}")
        return
    from mmnet.tasks.scoring import predict

    given = {**tables_given(flags), **how, "output": flags.output}
    given["saved_model"] = str(models.path(champion))
    predict(build(PredictConfig, given))
    _report(night, verdict, wanted)


def tables_given(flags: NightlyConfig) -> dict[str, Any]:
    """Collects the flags of the night's tables and of how to read them."""
    return {name: getattr(flags, name) for name in config.TABLES if name in flags.model_fields_set}


def _roll_back(models: Versions, version: str) -> None:
    """Makes an earlier version the champion.

    Raises:
        InputError: no such version, it is the champion already, or it does not pass its checks.
    """
    events, champion = History(models.directory), models.champion()
    if not champion:
        raise InputError(f"--rollback: {models.directory} has no champion yet; run a night first")
    number = history.promoted_before(events.events(), champion)
    if version != PREVIOUS:
        number = int(version)
    if not number:
        raise InputError(
            f"--rollback: version {champion} is the first champion; name a version of "
            f"{', '.join(map(str, models.numbers()))} with --rollback=VERSION"
        )
    if number == champion:
        raise InputError(f"--rollback={number}: version {number} is the champion already")
    path = models.path(number)
    load_tensorflow(keras=False)
    from mmnet.serving import bundle

    bundle.check(path)
    event = Event(
        number=events.next_number(),
        at=history.now(),
        outcome="rollback",
        champion_before=champion,
        champion=number,
        reasons=("asked for by --rollback",),
    )
    events.write(event)  # first: one that is killed here is finished by the next command
    models.promote(number)
    console.print(history.headline(event))


def _print_history(models: Versions) -> None:
    events = History(models.directory).events()
    if not events:
        raise InputError(f"--models={models.directory}: no night has ended there yet")
    console.table(*history.table(events), optional=[1, 5])
