"""The steps of a night up to its verdict: data, drift, training, comparison, decision, refit."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmnet import config
from mmnet.checks import InputError
from mmnet.config import DriftConfig, NightlyConfig, TrainConfig
from mmnet.data import input_tables
from mmnet.data.content import Encoders
from mmnet.data.dataset import Dataset
from mmnet.data.earlier import NotAlike
from mmnet.data.tables import InMemory
from mmnet.files import read_json
from mmnet.flags import build
from mmnet.promotion import deciding, first_seen, history, nights, propensities, versions
from mmnet.promotion.history import Event, History, Outcome
from mmnet.promotion.nights import Begun, Night, Verdict
from mmnet.promotion.versions import Origin, Versions
from mmnet.serving import decision, exported
from mmnet.serving.parent import Parent
from mmnet.startup import load_tensorflow
from mmnet.tasks import warming
from mmnet.tasks.building import model_options
from mmnet.tasks.preparing import dataset_of_tables
from mmnet.tasks.shown import console, print_ledger
from mmnet.training.records import Stages

if TYPE_CHECKING:  # it needs TensorFlow
    from mmnet.promotion.comparing import Comparison, Judged

PARTIAL = "in a complete period"
"""The rule of the ledger that leaves out an incomplete last period."""
FIRST = "there is no champion yet, and the challenger passed its checks"


class Steps:
    """Steps of a night until it has decided; each is skipped if its files exist.

    Args:
        models: the directory of versions, locked.
        flags: flags of the night.

    Attributes:
        fingerprint: hash of the tables, and of the flags of how to read them.

    Raises:
        InputError: the tables are missing, or cannot be read.
    """

    def __init__(self, models: Versions, flags: NightlyConfig):
        self._models, self._flags, self._stages = models, flags, Stages()
        self._train = self._train_flags()
        self._tables, self._task = input_tables.table_flags(self._train)
        self.fingerprint, self._hashes = input_tables.fingerprint(
            self._read(), self._tables, self._task, Encoders(self._tables)
        )
        self._remarks: list[str] = []
        self._facts: dict[str, Any] = {}
        self._period = ""
        self._begun = Begun(identity="", champion=0)

    def decided(self, identity: str) -> Night:
        """Runs the steps; returns the night's directory, which has a verdict.

        Args:
            identity: of the night.

        Raises:
            InputError: the tables or the flags are wrong.
        """
        champion = self._models.champion()
        dataset, earlier = self._dataset(champion)
        first_seen.check_accepted(dataset.fitted, self._flags.accept_field)
        self._period = str(dataset.panel.label(dataset.panel.num_periods - 1))
        self._begun = Begun(identity=identity, champion=champion)
        night = nights.begin(self._models.directory, self._period, self._begun)
        console.print(f"night of {self._period}: {night.directory}")
        self._remarks += [str(rule) for rule in dataset.ledger if rule.rule == PARTIAL]
        found = self._unchanged_tables()
        with self._stages.stage("fields"):
            directory = self._models.directory / versions.FIRST_SEEN
            seen = first_seen.update(directory, found.items, self._tables)
        self._facts["changed_fields"] = seen.changed
        tables = dataclasses.replace(found, items=seen.apply(found.items, self._flags.accept_field))
        judged = None
        if champion:
            if self._drifted(night, champion) and not self._flags.allow_drift:
                why = f"the newest period has drifted from the training of version {champion}"
                self._decide(night, "drift", (why,))
                return night
            judged = self._judged(self._models.compared_path(champion), tables)
            if why := self._why_not_comparable(judged):
                self._decide(night, "kept", (why,))
                return night
        self._facts["trained_until"] = _before_test(dataset)
        export = self._trained(night, earlier)
        challenger = self._judged(export, tables)
        verdict, comparison = deciding.Decision(True, (FIRST,)), None
        if judged is not None:
            with self._stages.stage("compare"):
                comparison = self._compared(judged, challenger)
                comparison.write(night.directory / nights.COMPARISON)
                verdict = self._decision(judged, challenger, comparison, tables, seen)
        if not verdict.promote:
            self._decide(night, "kept", verdict.reasons, comparison)
            return night
        served = export
        if self._flags.refit:
            served = self._refitted(night, challenger, earlier, tables)
        origin = Origin(
            night=night.name,
            trained_until=self._facts["trained_until"],
            refitted_until=None if served == export else self._period,
            champion=champion,
            warm=earlier is not None,
        )
        exports = (served, None if served == export else export)
        self._decide(night, "promoted", verdict.reasons, comparison, origin, exports)
        return night

    # ------------------------------------------------------------------------------------ data

    def _train_flags(self, **changes: Any) -> TrainConfig:
        """The flags of the challenger's training, for tables."""
        flags = self._flags
        given = {
            name: getattr(flags, name)
            for name in flags.model_fields_set & set(TrainConfig.model_fields)
        }
        return build(TrainConfig, {**given, "test_periods": flags.compare_periods, **changes})

    def _read(self) -> InMemory:
        """The night's tables."""
        try:
            return input_tables.load_tables(
                self._tables,
                self._task,
                self._models.directory / versions.DATASET,
                grouped_by=self._task.split_group,
            )
        except InputError as error:
            error.of_tables = bool(error.ledger)
            raise

    def _unchanged_tables(self) -> InMemory:
        """The night's tables again.

        Raises:
            InputError: they have changed since the night began.
        """
        found = self._read()
        fingerprint, _ = input_tables.fingerprint(
            found, self._tables, self._task, Encoders(self._tables)
        )
        if fingerprint != self.fingerprint:
            raise InputError(
                "the tables have changed while the night was running; run it again once they are "
                "complete"
            )
        return found

    def _dataset(self, champion: int) -> tuple[Dataset, Parent | None]:
        """The night's dataset, and the model that the challenger starts from."""
        directory = self._models.directory / versions.DATASET
        with self._stages.stage("data"):
            earlier = None
            builder, _ = model_options(self._train)
            if champion and builder.kind == "network" and not self._flags.cold:
                warm = str(self._models.compared_path(champion))
                try:
                    earlier = warming.earlier_model(self._train_flags(warm_start=warm))
                    if earlier is not None:
                        dataset = dataset_of_tables(self._train, directory, earlier.fitted)
                        warming.check_start(dataset, earlier)
                except NotAlike as error:
                    earlier = None
                    self._remarks.append(f"the challenger does not start warm: {error}")
            if earlier is None:
                dataset = dataset_of_tables(self._train, directory)
            print_ledger(dataset)
            return dataset, earlier

    # ----------------------------------------------------------------------------------- steps

    def _drifted(self, night: Night, champion: int) -> bool:
        """Whether the newest period has drifted from the champion's training."""
        from mmnet.tasks.scoring import drift

        directory = night.directory / nights.DRIFT
        with self._stages.stage("drift"):
            if not (directory / "drift.md").exists():  # it is written last
                names = (*config.DriftFlags.model_fields, *config.TABLES)
                given = self._flags.model_fields_set & set(names)
                drift(
                    build(
                        DriftConfig,
                        {name: getattr(self._flags, name) for name in given}
                        | {
                            "saved_model": str(self._models.path(champion)),
                            "output": str(directory),
                        },
                    )
                )
            found = read_json(directory / "drift.json")
        drifted = [one for one in found["findings"] if one["drifted"]]
        self._facts["drift"] = {"drifted": found["drifted"], "findings": drifted}
        for one in drifted:
            self._remarks.append(
                f"drift: {one['name']} ({one['measure']} {one['value']:.3g}, limit "
                f"{one['limit']:.3g})"
            )
        return bool(found["drifted"])

    def _why_not_comparable(self, champion: Judged) -> str:
        """Why the champion cannot be compared on the last periods; empty if it can."""
        from mmnet.promotion import comparing

        try:
            comparing.compared_rows((champion,), self._flags.compare_periods)
        except comparing.NotComparableError as error:
            return str(error)
        return ""

    def _trained(self, night: Night, earlier: Parent | None) -> Path:
        """Trains the challenger, or resumes it; returns the version's directory of its export."""
        run_dir = night.directory / nights.RUN
        places = {*input_tables.PLACES, *config.ENGINE, "vectors"}
        flags = self._train_flags(
            run_dir=str(run_dir),
            dataset_dir=str(self._models.directory / versions.DATASET),
            resume=True,
            warm_start=str(earlier.directory) if earlier else "",
        )
        given = {name: getattr(flags, name) for name in flags.model_fields_set - places}
        return self._run(build(TrainConfig, given), "train")

    def _refitted(
        self, night: Night, challenger: Judged, earlier: Parent | None, found: InMemory
    ) -> Path:
        """Fits the challenger on all periods; returns the export to serve, that or the compared."""
        from mmnet.tasks import refitting

        directory, flags = night.directory / nights.REFIT, self._flags
        dataset_dir = directory / versions.DATASET
        with self._stages.stage("refit"):
            fitted = earlier.fitted if earlier else None
            dataset_of_tables(self._train, dataset_dir, fitted, refit=True)
            own = refitting.flags_of(
                night.directory / nights.RUN, directory / nights.RUN, dataset_dir
            )
            export = self._run(own, "refit: train")
            refitted = self._judged(export, found)
            apart = refitting.distance(challenger, refitted, flags.compare_periods)
        self._facts["refit"] = dataclasses.asdict(apart)
        if problem := apart.problem(flags.refit_distance):
            self._remarks.append(f"the refit on all periods is not served: {problem}")
            return challenger.path
        # Thresholds and intervals are those of the compared model: the refit has learned from the
        # rows that they are fitted on.
        decisions = exported.asset(challenger.path, decision.FILE)
        return versions.copy(export, directory / "export" / "1", {decision.FILE: decisions})

    def _run(self, flags: TrainConfig, stage: str) -> Path:
        """Trains a run, unless its export is there; returns the version's directory of that."""
        from mmnet.tasks.starting import train

        export = Path(flags.run_dir, "export")
        with contextlib.suppress(InputError):
            return exported.check_unchanged(export)
        with self._stages.stage(stage):
            train(flags)
        return exported.check_unchanged(export)

    def _judged(self, export: Path, found: InMemory) -> Judged:
        """An export with its own reading of the tables."""
        load_tensorflow()
        from mmnet.promotion import comparing

        return comparing.judge(export, found, self._tables)

    def _compared(self, champion: Judged, challenger: Judged) -> Comparison:
        """The challenger against the champion, or another version."""
        from mmnet.promotion import comparing

        flags = self._flags
        decisions = None
        if flags.decisions:
            names = propensities.Columns(
                item=flags.decisions_item_column,
                period=flags.decisions_period_column,
                decision=flags.decision_column,
                propensity=flags.propensity_column,
            )
            calendar = challenger.about.fitted.calendar
            decisions = propensities.read(flags.decisions, self._tables, calendar, names)
        return comparing.compare(
            champion,
            challenger,
            periods=flags.compare_periods,
            decisions=decisions,
            clip=flags.clip,
            missing_rate=flags.test_missing_rate,
            scenario_seed=flags.scenario_seed,
        )

    def _decision(
        self,
        champion: Judged,
        challenger: Judged,
        comparison: Comparison,
        found: InMemory,
        seen: first_seen.FirstSeen,
    ) -> deciding.Decision:
        """What the rule says about the challenger."""
        from mmnet.promotion import outages

        flags, rule = self._flags, deciding.parse(self._flags.promote)
        lost = outages.measure(champion, challenger, periods=flags.compare_periods)
        self._facts |= {"comparison": comparison.to_json(), "outages": lost.to_json()}
        anchor = None
        steps = history.anchor_steps(History(self._models.directory).events(), flags.anchor)
        best = deciding.anchor(steps) if rule.margin is not None and steps else 0
        if best not in (0, self._begun.champion):
            anchor = self._compared(
                self._judged(self._models.compared_path(best), found), challenger
            )
            self._facts |= {"anchor": best, "anchor_comparison": anchor.to_json()}
        return deciding.decide(
            comparison,
            rule,
            anchor=anchor,
            outages=lost,
            outage_budget=flags.outage_budget,
            refused=first_seen.refusals(
                champion.about.fitted, challenger.about.fitted, seen.changed, flags.accept_field
            ),
            alpha=flags.alpha,
            nights=flags.alpha_nights,
        )

    # --------------------------------------------------------------------------------- verdict

    def _decide(
        self,
        night: Night,
        outcome: Outcome,
        reasons: tuple[str, ...],
        comparison: Comparison | None = None,
        origin: Origin | None = None,
        exports: tuple[Path | None, Path | None] = (None, None),
    ) -> None:
        """Writes the verdict.

        Args:
            night: the night.
            outcome: what it decided.
            reasons: why.
            comparison: of the champion and the challenger.
            origin: origin of the new version; None without a new one.
            exports: the one to serve, and the one to compare by, if that is another.
        """
        events, champion = History(self._models.directory), self._begun.champion
        number = champion
        if origin is not None:
            known = [*self._models.numbers(), *(one.champion for one in events.events())]
            number = 1 + max(known, default=0)
        ratio = {"value": None, "low": None, "high": None}
        if comparison is not None:
            kind = "weighted" if comparison.weighting else "unweighted"
            ratio = self._facts["comparison"]["scenarios"]["normal"][kind]["ratio"]
        event = Event(
            number=events.next_number(),
            at=history.now(),
            outcome=outcome,
            identity=self._begun.identity,
            night=night.name,
            period=self._period,
            champion_before=champion,
            champion=number,
            ratio=ratio["value"],
            low=ratio["low"],
            high=ratio["high"],
            reasons=reasons,
        )

        def inside(path: Path | None) -> str:
            return path.relative_to(night.directory).as_posix() if path else ""

        night.decide(
            Verdict(
                event=event,
                origin=origin,
                export=inside(exports[0]),
                compared=inside(exports[1]),
                remarks=tuple(self._remarks),
                facts=self._facts,
                seconds=self._stages.seconds,
            )
        )


def _before_test(dataset: Dataset) -> str:
    """The last period before the test span, as users write it."""
    assert dataset.split is not None
    return str(dataset.panel.label(dataset.split.first_targets[2] - 1))
