"""The ledger of the second paper: every published number next to ours, with a status by rule.

`experiments/mma4ctr/ledger.py` writes the page from the results in the repository.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from scipy import special

from mmnet.evaluation.report import markdown_table
from mmnet.mma4ctr.evaluation.metrics import RAW
from mmnet.mma4ctr.experiments import paper, records
from mmnet.mma4ctr.experiments.paper import Table
from mmnet.mma4ctr.experiments.records import Change, Results

CONFIDENCE = 0.95
SAME, DIFFERS, OPEN = "same shape", "differs", "open"
EQUAL, REFERENCE, NOT_RUN = "equal", "reference", "not run yet"
EARLIER, NOT_RECORDED = "earlier definition", "not recorded"
NOT_COMPARABLE = "not comparable"
STATUSES = {
    SAME: "the change from the reference is lower, higher or level in both",
    EQUAL: "a count, and ours is the same",
    DIFFERS: "the two changes, or counts, differ by more than their errors",
    OPEN: "our runs do not decide",
    REFERENCE: "the row or epoch that changes are taken from",
    NOT_COMPARABLE: "the two measure different things; the reason follows",
    EARLIER: "ours was trained before the baselines followed their papers: the runner kept no "
    "state.json",
    NOT_RECORDED: "our results do not have this quantity",
    NOT_RUN: "no results in this repository by the same protocol",
}
"""The first words of a status, and their meaning."""

REFERENCES = {
    "learning_rate": "learning_rate_1e-3",
    "batch_size": "batch_size_8192",
    "fusion": "vat_concat",
    "length": "length_21",
    "interrupt": "interrupt_off",
}
"""Row that the other rows of a kind are compared with, at the same epoch."""
FIRST_EPOCH = 10
"""Epoch that the other epochs of a kind without a reference are compared with."""
INTERRUPT_EPOCH = 30
"""Epoch of ours for 5.1.6 and 5.2.6, whose number of epochs is not published."""
BASELINES = tuple(name for name in paper.table("wechat", "comparison").rows if name != "mma4ctr")
RECBOLE = {"wechat": "recbole", "tiktok": "tiktok_recbole"}
"""Folder of the comparison by RecBole's definitions."""
LABELLED = {"wechat": "baselines", "tiktok": "tiktok_baselines"}
"""Folder of the comparison on labelled rows."""
RECBOLE_EPOCH = 30
"""The most epochs of ours under RecBole's protocol; validation stops them earlier."""
COUNTED = "`tests/mma4ctr/models/baselines/test_model.py`"
"""Test of the parameters of all baselines at the README's sizes."""
OTHER_MACHINE = "another machine and 1/50 of the rows"
OTHER_TASK = "labels instead of exposures"


@dataclass(frozen=True)
class Line:
    """One published number, and ours.

    Attributes:
        table: where it is published.
        row: name of the row's flagfile.
        epoch: None where the table has no epochs.
        published: the number.
        ours: mean over seeds; None where nothing was run or recorded.
        published_change: difference from the published reference.
        change: ours from our reference, by seed.
        status: begins with a key of `STATUSES`.
    """

    table: Table
    row: str
    epoch: int | None
    published: float
    ours: Change | None
    published_change: float | None
    change: Change | None
    status: str


class Repository:
    """The results of all experiments in a folder, read once."""

    def __init__(self, folder: Path):
        self._folder = folder
        self.of = cache(self._read)

    def _read(self, name: str) -> Results | None:
        return records.read(self._folder / name)


@cache
def noise(dataset: str) -> Change:
    """Variance of one published AUC, pooled over the configurations that are published repeatedly.

    Returns:
        A change of 0 with the variance of a difference of two published values.
    """
    groups = paper.repeats(dataset)
    freedom = sum(len(values) - 1 for values in groups)
    squares = sum(float(np.sum((np.array(one) - np.mean(one)) ** 2)) for one in groups)
    return Change(0.0, 2 * squares / freedom, freedom)


def status_of_change(published: float, ours: Change | None, error: Change) -> str:
    """Status of a change from the reference.

    A published change is lower or higher if it is outside the 95 % interval of two runs of one
    configuration, else level. Ours is lower, level or higher if its interval is wholly in that
    region. Equal kinds are the same shape. Otherwise the changes differ if the interval of their
    difference (Welch-Satterthwaite) leaves out 0, and the status is open if it does not.

    Args:
        published: the published change.
        ours: our change by seed.
        error: result of `noise`.
    """
    if ours is None:
        return NOT_RUN
    if ours.freedom < 1:
        return OPEN
    low, high = error.interval(CONFIDENCE)
    kind = "lower" if published < low else "higher" if published > high else "level"
    regions = {
        "lower": (-np.inf, low),
        "level": (low, high),
        "higher": (high, np.inf),
    }
    least, most = ours.interval(CONFIDENCE)
    if regions[kind][0] <= least and most <= regions[kind][1]:
        return SAME
    parts = np.array([error.variance, ours.variance])
    freedom = parts.sum() ** 2 / np.sum(parts**2 / np.array([error.freedom, ours.freedom]))
    half = float(special.stdtrit(freedom, (1 + CONFIDENCE) / 2)) * parts.sum() ** 0.5
    return DIFFERS if abs(published - ours.value) > half else OPEN


def status_of_order(published: Iterable[float], ours: Change | None) -> str:
    """Status of a baseline's difference from BPR: its sign in both published tables, and ours.

    The README's two tables of AUC differ by far more than the sampling error of a run, so only a
    sign that they share is compared.
    """
    if ours is None:
        return NOT_RUN
    signs = set(np.sign(list(published)))
    if len(signs) != 1 or 0 in signs:
        return f"{NOT_COMPARABLE}: the README's two tables disagree"
    least, most = ours.interval(CONFIDENCE)
    found = 1.0 if least > 0 else -1.0 if most < 0 else 0.0
    return OPEN if not found else SAME if found in signs else DIFFERS


def status_of_loss(published: float, ours: Change | None) -> str:
    """Status of RecBole's LogLoss: on which side of 1 it is.

    Scores that are probabilities stay below 1 here; clipped dot products do not.
    """
    if ours is None:
        return NOT_RUN
    least, most = ours.interval(CONFIDENCE)
    if least <= 1 <= most:
        return OPEN
    return SAME if (published > 1) == (least > 1) else DIFFERS


def lines(found: Repository) -> list[Line]:
    """Return a line for each published number, in the order of the README."""
    return [
        _line(table, row, epoch, value, found)
        for table in paper.TABLES
        for row, values in table.rows.items()
        for epoch, value in zip(table.epochs or (None,), values, strict=True)
        if value is not None
    ]


def _line(table: Table, row: str, epoch: int | None, value: float, found: Repository) -> Line:
    if table.metric in ("columns", "parameters"):
        return _count(table, row, value, found)
    if row in BASELINES:
        return _baseline(table, row, epoch, value, found)
    kind = "comparison" if table.kind in ("by_epoch", "cost") else table.kind
    results = found.of(f"{table.dataset}_{kind}")
    if table.kind == "cost":
        return _seconds(table, row, value, results)
    at = epoch or INTERRUPT_EPOCH
    ours = _mean(results, row, at, table.metric)
    if ours is None or results is None:
        return Line(table, row, epoch, value, None, None, None, NOT_RUN)
    if table.metric == "log_loss":
        reason = f"{NOT_COMPARABLE}: the loss leaves the level of probabilities free"
        return Line(table, row, epoch, value, ours, None, None, reason)
    reference, at_reference = _reference(table, row, at)
    if (row, at) == (reference, at_reference):
        return Line(table, row, epoch, value, ours, None, None, REFERENCE)
    published = value - _published_reference(table, reference, epoch)
    change = _change(results, (row, at), (reference, at_reference))
    status = status_of_change(published, change, noise(table.dataset))
    return Line(table, row, epoch, value, ours, published, change, status)


def _reference(table: Table, row: str, at: int) -> tuple[str, int]:
    """Row and epoch that a value is compared with."""
    return (REFERENCES[table.kind], at) if table.kind in REFERENCES else (row, FIRST_EPOCH)


def _published_reference(table: Table, reference: str, epoch: int | None) -> float:
    if table.kind == "fusion":  # all three, side by side, are in the table of lengths
        table, reference = paper.table(table.dataset, "length"), "length_21"
    at = epoch if table.kind in REFERENCES else FIRST_EPOCH
    found = table.at(reference, at)
    assert found is not None
    return found


def _mean(results: Results | None, row: str, at: str | int, metric: str) -> Change | None:
    return Change.of(results.by_seed(row, at, metric)) if results else None


def _change(
    results: Results, one: tuple[str, str | int], other: tuple[str, str | int]
) -> Change | None:
    return Change.of(records.difference(results.by_seed(*one), results.by_seed(*other)))


def _count(table: Table, row: str, value: float, found: Repository) -> Line:
    if row in BASELINES:
        results = found.of(RECBOLE[table.dataset]) or found.of(LABELLED[table.dataset])
    elif table.metric == "parameters":
        results = found.of(f"{table.dataset}_comparison")
    else:
        results = found.of(f"{table.dataset}_{'length' if 'length' in row else 'fusion'}")
    metric = "in_features" if table.metric == "columns" else table.metric
    ours = _mean(results, row, records.CHOSEN, metric)
    columns = _mean(results, row, records.CHOSEN, "in_features")
    if ours is None or columns is None:
        status = NOT_RUN
    elif row in BASELINES:
        status = f"{NOT_COMPARABLE}: fewer users and items"
    elif ours.value == value:
        status = EQUAL
    elif metric == "parameters" and columns.value != _published_columns(table.dataset):
        status = f"{NOT_COMPARABLE}: {columns.value:.0f} columns instead of the published ones"
    else:
        status = DIFFERS
    return Line(table, row, None, value, ours, None, None, status)


def _published_columns(dataset: str) -> float | None:
    """Columns of the configuration that the comparison uses."""
    tables = [one for one in paper.TABLES if (one.dataset, one.metric) == (dataset, "columns")]
    return next(one.at("length_21") for one in tables if "length_21" in one.rows)


def _seconds(table: Table, row: str, value: float, results: Results | None) -> Line:
    ours = _mean(results, row, records.CHOSEN, "training_seconds")
    if ours and table.metric == "test_seconds":
        return Line(table, row, None, value, None, None, None, NOT_RECORDED)
    status = f"{NOT_COMPARABLE}: {OTHER_MACHINE}" if ours else NOT_RUN
    return Line(table, row, None, value, ours, None, None, status)


def _baseline(table: Table, row: str, epoch: int | None, value: float, found: Repository) -> Line:
    """Line of a baseline, compared with ours by RecBole's definitions."""
    results = found.of(RECBOLE[table.dataset])
    change = None
    if table.kind == "cost":
        return _seconds(table, row, value, results or found.of(LABELLED[table.dataset]))
    metric = RAW if table.metric == "log_loss" else table.metric
    ours = _mean(results, row, records.CHOSEN, metric)
    if ours is None or results is None:
        status = NOT_RUN
    elif epoch != RECBOLE_EPOCH:
        status = f"{NOT_COMPARABLE}: validation chose our epoch"
    elif table.metric == "log_loss":
        status = status_of_loss(value, ours)
    elif row == "bpr":
        status = REFERENCE
    else:
        change = _change(results, (row, records.CHOSEN), ("bpr", records.CHOSEN))
        status = status_of_order(_published_orders(table.dataset, row), change)
    return Line(table, row, epoch, value, ours, None, change, status)


def _published_orders(dataset: str, row: str) -> list[float]:
    """Differences from BPR in the README's two tables of AUC, where they have the row."""
    found = []
    for kind in ("comparison", "by_epoch"):
        one, bpr = (paper.table(dataset, kind).at(name, RECBOLE_EPOCH) for name in (row, "bpr"))
        if one is not None and bpr is not None:
            found.append(one - bpr)
    return found


def labelled(table: Table, row: str, found: Repository) -> tuple[Change | None, str]:
    """Return ours on labelled rows, and its status; no published number was measured so."""
    results = found.of(LABELLED[table.dataset])
    ours = _mean(results, row, records.CHOSEN, table.metric)
    if ours is None or results is None:
        return None, NOT_RUN
    if results.earlier and row in BASELINES:
        return ours, f"{EARLIER}, {NOT_COMPARABLE}: {OTHER_TASK}"
    return ours, f"{NOT_COMPARABLE}: {OTHER_TASK}"


def counts(found: Iterable[Line]) -> Counter[str]:
    """Count lines by status, without the reasons."""
    return Counter(line.status.partition(":")[0] for line in found)


def reading(table: Table, found: list[Line]) -> str:
    """Return one line about a table, computed from its lines."""
    if table.metric == "log_loss":
        return _reading_of_losses(found)
    counted = counts(found)
    if counted[NOT_RUN] + counted[NOT_RECORDED] == len(found):
        return "Ours has not been run." if counted[NOT_RUN] else "Ours is not recorded."
    if table.metric in ("columns", "parameters"):
        total = counted[EQUAL] + counted[DIFFERS]
        text = f"{counted[EQUAL]} of {total} counts are equal" if total else "No count is compared"
        return f"{text}{_named(found, DIFFERS, '; these differ: ')}.{_why(table)}"
    if table.kind == "cost":
        return "Seconds of different machines and logs: not like for like."
    compared = [line for line in found if line.status in (SAME, DIFFERS, OPEN)]
    text = f"{counted[SAME]} of {len(compared)} changes have the published shape"
    text += _named(compared, DIFFERS, "; these differ: ") + _named(compared, OPEN, "; open: ")
    return text + (f"; {counted[NOT_RUN]} numbers not run yet." if counted[NOT_RUN] else ".")


def _why(table: Table) -> str:
    """Why counts of ours are smaller."""
    if table.metric == "columns":
        return " Generated texts have fewer words, and so fewer columns, than the contests'."
    return f" With the published numbers of users and items, {COUNTED} counts the published totals."


def _named(found: Iterable[Line], status: str, before: str) -> str:
    named = [
        records.title(line.row) if line.epoch is None else f"{_setting(line)}"
        for line in found
        if line.status == status
    ]
    more = f" and {len(named) - 5} more" if len(named) > 5 else ""
    return before + ", ".join(named[:5]) + more if named else ""


def _setting(line: Line) -> str:
    at = f"epoch {line.epoch}"
    return at if line.table.kind == "epochs" else f"{records.title(line.row)} at {at}"


def _reading_of_losses(found: list[Line]) -> str:
    own = [line for line in found if line.row == "mma4ctr"]
    published = [line.published for line in own]
    text = f"MMa4CTR: published {min(published):.2f} to {max(published):.2f}"
    ours = [line.ours.value for line in own if line.ours]
    return f"{text}, ours {min(ours):.2f} to {max(ours):.2f}." if ours else f"{text}; not run yet."


def markdown(found: Repository, claims: str) -> str:
    """Return the page.

    Args:
        found: the results of all experiments.
        claims: the verdicts as text, see `claims.ledger`.
    """
    every = lines(found)
    compared = counts(line for line in every if line.status in (SAME, DIFFERS, OPEN))
    absent = sum(counts(every)[status] for status in (NOT_RUN, NOT_RECORDED))
    shown = [
        f"{INTRODUCTION}\n\nOf {sum(compared.values())} changes that can be compared, "
        f"{compared[SAME]} have the published shape, {compared[DIFFERS]} differ and "
        f"{compared[OPEN]} are open. Of {len(every)} published numbers, "
        f"{absent} have no counterpart of ours yet.\n",
        f"## Claims\n\n{CLAIMS}\n\n{claims}",
        f"## Tables\n\n{_rules()}\n",
        "".join(f"- **{name}**: {meaning}\n" for name, meaning in STATUSES.items()),
        "One line about each table:\n",
        "".join(
            f"- **{table.title}**, {_numbers(own)}. {reading(table, own)}\n"
            for table, own in _by_table(every)
        ),
    ]
    for table, of_table in _by_table(every):
        shown.append(f"### {table.title}\n\n{_about(table)}\n")
        compact = table.kind in ("comparison", "by_epoch")
        shown.append(_cells(line for line in of_table if line.row == "mma4ctr" or not compact))
        if compact:
            shown.append(_models(table, of_table, found))
    return "\n".join(shown)


INTRODUCTION = """# Ledger of the second paper

`python experiments/mma4ctr/ledger.py` wrote this page and [claims.json](claims.json) from the
results in this folder: every number in the README of MMa4CTR's authors (sections 4 to 6) next to
ours. Published numbers are single runs on the contests' logs, ours are means over seeds on
generated logs of 1/50 of their size, so that changes can be compared and levels cannot."""
CLAIMS = """Each claim is checked by differences of AUC, seed by seed, with 95 % t intervals over
seeds. Every seed has a log of its own, so the sampling error of users and test rows is in the
spread over seeds; the intervals do not count it separately. A claim holds if the intervals of all
parts are above 0. It does not hold if an interval is below 0 even when the error of 5 % is divided
by the number of parts."""


def _rules() -> str:
    found = []
    for dataset, name in paper.DATASETS.items():
        error = noise(dataset)
        high = error.interval(CONFIDENCE)[1]
        found.append(f"{(error.variance / 2) ** 0.5:.4f} and {high:.4f} ({name})")
    return (
        "A change is the difference from the reference of its table: a row at the same epoch, or "
        f"epoch {FIRST_EPOCH} of the same row. The README has the AUC of some configurations twice "
        "or three times. The standard deviation of a run, pooled over these, and the largest "
        f"change that two runs of one configuration explain (95 %), are {' and '.join(found)}. A "
        "published change beyond that is lower or higher, else it is level; ours is what its whole "
        "interval is. If the two kinds are not equal, the changes differ where the 95 % interval "
        "of their difference leaves out 0, and are open where it does not; so about one in twenty "
        "changes that are alike in truth differs by chance. Baselines by RecBole's "
        f"definitions are compared at epoch {RECBOLE_EPOCH}, by the sign of their difference from "
        "BPR and by the side of 1 on which their LogLoss is."
    )


def _numbers(found: list[Line]) -> str:
    return f"{len(found)} number{'s' if len(found) > 1 else ''}"


def _by_table(every: Iterable[Line]) -> Iterator[tuple[Table, list[Line]]]:
    for _, group in itertools.groupby(every, key=lambda line: id(line.table)):
        found = list(group)
        yield found[0].table, found


def _about(table: Table) -> str:
    unit = paper.UNITS[table.metric]
    text = f"{unit[0].upper()}{unit[1:]}; {paper.PROTOCOLS[table.kind]}. {table.note}"
    return text.strip()


def _shown(value: float, metric: str) -> str:
    return f"{value:.4f}" if metric in ("auc", "log_loss") else f"{value:,.10g}"


def _ours(ours: Change | None, metric: str) -> str:
    """Mean and standard deviation over seeds."""
    if ours is None:
        return "–"
    if metric in ("columns", "parameters"):
        return f"{ours.value:,.0f}"
    places = ".1f" if metric.endswith("seconds") else ".4f"
    spread = (ours.variance * (ours.freedom + 1)) ** 0.5
    return f"{ours.value:{places}}" + (f" ± {spread:{places}}" if ours.freedom else "")


def _cells(found: Iterable[Line]) -> str:
    """A line per published number; changes only where there are some."""
    shown = [*found]
    header = ["row", "epoch", "published", "ours", "published change", "our change", "status"]
    rows = [
        [
            records.title(line.row),
            str(line.epoch or "–"),
            _shown(line.published, line.table.metric),
            _ours(line.ours, line.table.metric),
            "" if line.published_change is None else f"{line.published_change:+.4f}",
            _interval(line.change),
            line.status,
        ]
        for line in shown
    ]
    if not any(line.change for line in shown):
        header, *rows = ([*cells[:4], cells[6]] for cells in (header, *rows))
    return markdown_table(header, rows)


def _interval(change: Change | None) -> str:
    if change is None:
        return ""
    low, high = change.interval(CONFIDENCE)
    return f"{change.value:+.4f} [{low:+.4f}, {high:+.4f}]"


def _models(table: Table, of_table: list[Line], found: Repository) -> str:
    """A line per baseline, with both protocols of ours."""
    rows = []
    for row, values in table.rows.items():
        published = " ".join("–" if one is None else _shown(one, table.metric) for one in values)
        own = [line for line in of_table if line.row == row]
        at = next((line for line in own if line.epoch == RECBOLE_EPOCH), None)
        if row == "mma4ctr":
            published, metric = "above", RAW if table.metric == "log_loss" else table.metric
            ours = _mean(found.of(RECBOLE[table.dataset]), row, records.CHOSEN, metric)
            status = "" if ours else NOT_RUN
        else:
            ours = at.ours if at else None
            status = at.status if at else f"not published at {RECBOLE_EPOCH}"
        on_labels, status_on_labels = labelled(table, row, found)
        cells = [_ours(one, table.metric) for one in (ours, on_labels)]
        rows.append([records.title(row), published, cells[0], status, cells[1], status_on_labels])
    epochs = " ".join(map(str, table.epochs))
    header = ["model", f"published at {epochs}", "as RecBole", "status", "labelled rows", "status"]
    return markdown_table(header, rows)
