"""Exports and newer tables in; the errors of one model, or of two on the same rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmnet.config import PredictConfig, TableFlags, TrainConfig
from mmnet.data import input_tables
from mmnet.serving import exported
from mmnet.startup import load_tensorflow
from mmnet.tasks.scoring import tables_of_export

if TYPE_CHECKING:
    from mmnet.promotion.comparing import Comparison, Judged

COLUMNS = ("item_id", "period", "decision", "propensity")
"""Columns of a table of logged decisions."""


def compare(
    flags: PredictConfig, champion: Path, *, periods: int, decisions: str = "", clip: float
) -> Comparison:
    """Compares an export with another one on the last periods of tables.

    Args:
        flags: names the tables, and the export as `saved_model`.
        champion: the other export.
        periods: number of periods, the last ones.
        decisions: table of logged decisions; empty for equal weights.
        clip: largest weight of a row.

    Raises:
        InputError: tables or exports are invalid, or a model has learned from these periods.
    """
    (before, now), tables = _judged(flags, (str(champion), flags.saved_model))
    from mmnet.promotion import comparing, propensities

    calendar = now.about.fitted.calendar
    names = propensities.Columns(*COLUMNS)
    logged = propensities.read(decisions, tables, calendar, names) if decisions else None
    return comparing.compare(
        *(before, now), periods=periods, decisions=logged, clip=clip, **_noisy()
    )


def evaluate(flags: PredictConfig, *, periods: int) -> dict[str, Any]:
    """Measures the errors of an export on the last periods of tables.

    Args:
        flags: names the tables, and the export as `saved_model`.
        periods: number of periods, the last ones.

    Returns:
        The content of a run's metrics.json; see `report.metrics`.

    Raises:
        InputError: as `compare`.
    """
    (judged,), tables = _judged(flags, (flags.saved_model,))
    from mmnet.evaluation import report
    from mmnet.promotion import comparing

    rows = comparing.compared_rows((judged,), periods)
    (shown,) = comparing.scenario_sets((judged,), rows, **_noisy())
    frame = shown.frame(shown.predictions(judged.predict))
    setting = report.Setting(
        split=judged.about.fitted.task.split,
        taxonomy_mean=judged.about.fitted.task.taxonomy_mean,
        seed=int(dict(judged.about.model_extra or {}).get("flags", {}).get("seed", 0)),
        binomial=not tables.rate_may_exceed_one,
    )
    return report.metrics(frame, setting)


def _judged(flags: PredictConfig, paths: tuple[str, ...]) -> tuple[list[Judged], TableFlags]:
    """Opens exports on the tables of the last one's flags."""
    fitted = exported.fitted(flags.saved_model)
    tables = tables_of_export(flags, fitted)
    found = input_tables.load_tables(tables, fitted.task)
    load_tensorflow()
    from mmnet.promotion import comparing

    return [comparing.judge(path, found, tables) for path in paths], tables


def _noisy() -> Mapping[str, Any]:
    """The noisy scenario that runs are evaluated in by default."""
    default = TrainConfig()
    return {
        "missing_rate": default.test_missing_rate,
        "scenario_seed": default.scenario_seed,
    }
