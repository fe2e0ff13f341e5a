"""Which cells an experiment has: rows x seeds x origins, each a training run of its own."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmnet import config
from mmnet.checks import InputError, did_you_mean
from mmnet.config import ExperimentConfig, TrainConfig
from mmnet.data import input_tables
from mmnet.flags import parse, to_flagfile
from mmnet.models import REGISTRY, resolve_options

_GIVEN_PER_CELL = ("seed", "origin", *config.PLACES)
_SHARED_PLACES = {"source_dir", "image_root", "encoder_cache", *config.ENGINE}
# Where tables lie, while the dataset's fingerprint says what is in them; and bookkeeping.
_DECIDES_NOTHING = (*config.PLACES, *input_tables.PLACES, "vectors", "checkpoint_seconds")


@dataclass(frozen=True)
class Row:
    """One system of the tables.

    Attributes:
        name: the stem of its flagfile.
        title: what the tables call it: the flagfile's first comment up to a colon.
        note: what stands behind the colon.
        path: its flagfile.
        flags: everything but seed, origin and places.
        seeded: its predictions depend on the seed.
    """

    name: str
    title: str
    note: str
    path: Path
    flags: TrainConfig
    seeded: bool


@dataclass(frozen=True)
class TablePlan:
    """One table: its title, its rows in order, and how many seeds it needs at least.

    It shows all the seeds that a row has, also those that another table asked for.
    """

    title: str
    rows: tuple[str, ...]
    num_seeds: int


@dataclass(frozen=True)
class Cell:
    """One training run.

    Attributes:
        row: name of its row.
        seed, origin: its own.
        flags: all of them, places included.
        directory: its run directory, named after the flags and data that decide its numbers. The
            code is not part of the name: the record has its commit, and the page names them all.
    """

    row: str
    seed: int
    origin: int
    flags: TrainConfig
    directory: Path

    @property
    def name(self) -> str:
        """What progress calls it."""
        origin = f" origin {self.origin}" if self.origin else ""
        return f"{self.row} seed {self.seed}{origin}"


@dataclass(frozen=True)
class Plan:
    """An experiment: rows by name, its tables, and the seeds and origins of a cell."""

    rows: dict[str, Row]
    tables: tuple[TablePlan, ...]
    seeds: tuple[int, ...]
    origins: int

    def seeds_of(self, row: str) -> tuple[int, ...]:
        """The seeds that a row is trained with: the most that any of its tables asks for."""
        most = max(table.num_seeds for table in self.tables if row in table.rows)
        return self.seeds[: most if self.rows[row].seeded else 1]

    def origins_of(self, row: str) -> int:
        """How many origins a row has: only a split by time can be cut off earlier."""
        return self.origins if self.rows[row].flags.split == "chronological" else 1


def plan(flags: ExperimentConfig) -> Plan:
    """Reads the rows of all tables.

    Raises:
        InputError: no table, a row without a flagfile, a flag that cells decide themselves.
    """
    if not flags.table:
        raise InputError(
            "no --table; --experiment=FOLDER reads them from its experiment.txt, or give e.g. "
            "--table='Table 1: ha, gru, mmnet'"
        )
    for name in sorted(flags.model_fields_set & {"seed", "origin"}):
        raise InputError(f"--{name} is each cell's own; give --{name}s")
    if len(set(flags.seeds)) < len(flags.seeds):
        raise InputError(f"--seeds must differ. Received: {','.join(map(str, flags.seeds))}")
    tables = tuple(_table(text, len(flags.seeds)) for text in flags.table)
    slugs = [slug(table.title) for table in tables]
    if "" in slugs or len(set(slugs)) < len(slugs):
        raise InputError("--table: titles must differ, in letters from a to z and digits")
    names = dict.fromkeys(name for table in tables for name in table.rows)
    found = {row.name: row for row in rows(names, flags)}
    for name in flags.reference:
        if name not in found:
            raise InputError(f"--reference={name} is in no table{did_you_mean(name, found)}")
    return Plan(found, tables, flags.seeds, flags.origins)


def rows(names: Iterable[str], flags: ExperimentConfig) -> list[Row]:
    """Reads rows by name, from the experiment's own folder first.

    Raises:
        InputError: a row without a flagfile, or one that sets what its cells decide.
    """
    own = [Path(flags.experiment) / "rows"] if flags.experiment else []
    folders = [*own, Path(flags.rows)]
    return [_row(name, folders, flags) for name in names]


def _table(text: str, num_seeds: int) -> TablePlan:
    """Reads `TITLE: row, row, ...` or `TITLE: row, row, ...: SEEDS`."""
    title, *rest = (part.strip() for part in text.split(":"))
    rows = tuple(name.strip() for name in rest[0].split(",") if name.strip()) if rest else ()
    if not title or not rows or len(rest) > 2 or len(set(rows)) < len(rows):
        raise InputError(f"--table takes 'TITLE: row, row, ...[: SEEDS]'. Received: {text!r}")
    if len(rest) == 2:
        if not rest[1].isdigit() or not 1 <= int(rest[1]) <= num_seeds:
            raise InputError(
                f"--table={text!r}: a number of seeds from 1 to {num_seeds} must follow the rows. "
                f"Received: {rest[1]!r}"
            )
        num_seeds = int(rest[1])
    return TablePlan(title, rows, num_seeds)


def _row(name: str, folders: Sequence[Path], flags: ExperimentConfig) -> Row:
    for folder in folders:
        path = folder / f"{name}.txt"
        if path.is_file():
            break
    else:
        known = [found.stem for folder in folders for found in sorted(folder.glob("*.txt"))]
        raise InputError(
            f"no flagfile {name}.txt in {' or '.join(map(str, folders))}{did_you_mean(name, known)}"
        )
    resolved = _read(path, flags)
    for given in sorted(resolved.model_fields_set & set(_GIVEN_PER_CELL) - _SHARED_PLACES):
        raise InputError(f"{path}: --{given} is each cell's own; leave it out")
    if resolved.model not in REGISTRY:
        raise InputError(
            f"{path}: --model must be one of {', '.join(REGISTRY)}. Received: {resolved.model}"
            f"{did_you_mean(resolved.model, REGISTRY)}"
        )
    try:
        resolve_options(resolved.model, resolved.set)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    title, _, note = first.removeprefix("#").partition(":")
    title = title.strip() if first.startswith("#") else name
    return Row(name, title, note.strip(), path, resolved, REGISTRY[resolved.model].seeded)


def _read(path: Path, flags: ExperimentConfig, settings: Sequence[str] = ()) -> TrainConfig:
    return parse(TrainConfig, [*_common(flags), f"--flagfile={path}", *settings])


def _common(flags: ExperimentConfig) -> list[str]:
    """The flags that every cell shares, as arguments."""
    own = set(ExperimentConfig.model_fields) - set(TrainConfig.model_fields)
    unset = set(ExperimentConfig.model_fields) - flags.model_fields_set
    text = to_flagfile(flags, leave_out=sorted(own | unset))
    return [line for line in text.splitlines() if line]


def dataset_directory(row: Row, origin: int, cells: Path) -> Path:
    """Where the dataset of a row lies: one directory per way to prepare the tables."""
    flags = row.flags.model_copy(update={"origin": origin})
    decides = {*config.TABLES, *config.TASK} - {*_DECIDES_NOTHING}
    return cells / "datasets" / _digest(_lines(flags, set(TrainConfig.model_fields) - decides))


def cells(planned: Plan, directory: Path, fingerprints: dict[Path, str]) -> list[Cell]:
    """Every cell, seed by seed.

    Args:
        planned: the experiment.
        directory: where the run directories are.
        fingerprints: of every dataset directory; other data make another cell.
    """
    found = []
    for seed in planned.seeds:
        for origin in range(planned.origins):
            for row in planned.rows.values():
                if seed not in planned.seeds_of(row.name) or origin >= planned.origins_of(row.name):
                    continue
                dataset = dataset_directory(row, origin, directory)
                update = {"seed": seed, "origin": origin, "outputs": "predictions"}
                found.append(_cell(row, row.flags, update, dataset, directory, fingerprints))
    return found


def trials(
    row: Row,
    settings: Iterable[Sequence[str]],
    flags: ExperimentConfig,
    directory: Path,
    fingerprints: dict[Path, str],
) -> list[Cell]:
    """A cell per list of settings (arguments over the row's own), scored on validation only."""
    dataset = dataset_directory(row, 0, directory)
    update = {"seed": flags.seeds[0], "outputs": "validation"}
    return [
        _cell(row, _read(row.path, flags, arguments), update, dataset, directory, fingerprints)
        for arguments in settings
    ]


def _cell(
    row: Row,
    flags: TrainConfig,
    update: dict[str, Any],
    dataset: Path,
    directory: Path,
    fingerprints: dict[Path, str],
) -> Cell:
    flags = flags.model_copy(update=update | {"dataset_dir": str(dataset)})
    digest = _digest(_lines(flags, _DECIDES_NOTHING) + fingerprints[dataset] + flags.outputs)
    run = directory / f"{row.name}-{flags.seed}-{flags.origin}-{digest}"
    flags = flags.model_copy(update={"run_dir": str(run)})
    return Cell(row.name, flags.seed, flags.origin, flags, run)


def study(row: Row, flags: ExperimentConfig, fingerprint: str) -> str:
    """What a study of a row is called: a study of anything else has another name."""
    text = _lines(row.flags, _DECIDES_NOTHING)
    return f"{row.name}-{_digest(f'{text}{fingerprint}{flags.seeds[0]}{flags.trials}')}"


def _lines(flags: TrainConfig, leave_out: Iterable[str]) -> str:
    """The flags that a name depends on, in an order that their declaration has no part in."""
    return "".join(sorted(to_flagfile(flags, leave_out=[*leave_out]).splitlines(keepends=True)))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def slug(title: str) -> str:
    """A file name of a table's title.

    >>> slug("Table 1, as published")
    'table_1_as_published'
    """
    return re.sub(r"[^0-9a-z]+", "_", title.lower()).strip("_")
