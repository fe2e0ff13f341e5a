"""The cells of an experiment: rows x seeds x origins, each a training run of its own."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from mmnet.checks import InputError, did_you_mean
from mmnet.flags import PACKAGE, as_before, find, parse, to_flagfile
from mmnet.training.records import Record

ExperimentFlags = Any
"""An experiment's flags: `config.GridFlags` and all the training flags of its system."""
TrainFlags = Any
"""The training flags of a system, with `seed`, `run_dir`, `dataset_dir` and `outputs` at least."""


class System(Protocol):
    """Properties of a system that the runner needs to train its rows and compare them.

    Attributes:
        train_flags: the flags of one training run.
        tasks: module whose `trainer()` trains the cells, see `mmnet.series`.
        example: a value of `--table`, for the message where none is given.
        runs: default folder of the experiments' cells.
        own_flags: flags that each cell decides itself, so that no row may set them.
        dataset_flags: flags that decide what a dataset holds.
        decides_nothing: flags that decide no number of a run: where tables are (the dataset's
            fingerprint covers their content), and bookkeeping.
        known_to_dataset: flags that a run on a prepared dataset must not be given again.
    """

    train_flags: type[TrainFlags]
    tasks: str
    example: str
    runs: str
    own_flags: frozenset[str]
    dataset_flags: frozenset[str]
    decides_nothing: frozenset[str]
    known_to_dataset: tuple[str, ...]

    def kind(self, flags: TrainFlags) -> Kind:
        """Checks a row's flags; raises `InputError` where no run can have them."""

    def check(self, planned: Plan, flags: ExperimentFlags) -> None:
        """Raises `InputError` where settings of the tables name no row."""

    def of_cell(self, flags: TrainFlags, seed: int, origin: int) -> TrainFlags:
        """A row's flags with a cell's own seed and origin."""

    def shown(self, record: Record) -> str:
        """The scores of a finished cell, for its line of progress."""

    def files(
        self, planned: Plan, records: Mapping[Cell, Record], flags: ExperimentFlags
    ) -> dict[str, Any]:
        """The files of the results directory: name -> text, table or figure."""


@dataclass(frozen=True)
class Kind:
    """Repetition of a row's runs over seeds and origins.

    Attributes:
        seeded: its predictions depend on the seed.
        rolls: its split is by time, so that it can be cut off earlier.
    """

    seeded: bool = True
    rolls: bool = False


@dataclass(frozen=True)
class Row:
    """One system of the tables.

    Attributes:
        name: the stem of its flagfile.
        title: what the tables call it: the flagfile's first comment up to a colon.
        note: the text after the colon.
        path: its flagfile; None for one of `--row`.
        flags: everything but seed, origin and places.
        kind: how its runs repeat.
    """

    name: str
    title: str
    note: str
    path: Path | None
    flags: TrainFlags
    kind: Kind


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
    flags: TrainFlags
    directory: Path

    @property
    def name(self) -> str:
        """Name of the cell in progress messages."""
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
        return self.seeds[: most if self.rows[row].kind.seeded else 1]

    def origins_of(self, row: str) -> int:
        """Number of a row's origins; only a split by time can end earlier."""
        return self.origins if self.rows[row].kind.rolls else 1

    def cells_of(self, row: str) -> list[tuple[int, int]]:
        """Seed and origin of each of a row's cells."""
        return [
            (seed, origin) for seed in self.seeds_of(row) for origin in range(self.origins_of(row))
        ]


def plan(flags: ExperimentFlags, system: System) -> Plan:
    """Read the rows of all tables.

    Raises:
        InputError: no table, a row without a flagfile, a flag that cells decide themselves.
    """
    given = given_rows(flags, system)
    if not flags.table and not given:
        raise InputError(
            f"no {'--row and no ' if hasattr(flags, 'row') else ''}--table given; add "
            f"--experiment=FOLDER, whose experiment.txt has them, or --table={system.example!r}"
        )
    for name in sorted(flags.model_fields_set & {"seed", "origin"}):
        raise InputError(f"--{name} is set for each cell by the experiment; use --{name}s")
    if len(set(flags.seeds)) < len(flags.seeds):
        raise InputError(f"--seeds must differ. Received: {','.join(map(str, flags.seeds))}")
    tables = tuple(_table(text, len(flags.seeds)) for text in flags.table)
    if given:
        tables = (TablePlan("Rows", tuple(given), len(flags.seeds)), *tables)
    slugs = [slug(table.title) for table in tables]
    if "" in slugs or len(set(slugs)) < len(slugs):
        raise InputError("--table: titles must differ in their letters a to z and digits")
    names = dict.fromkeys(name for table in tables for name in table.rows)
    read = rows([name for name in names if name not in given], flags, system)
    known = given | {row.name: row for row in read}
    found = {name: known[name] for name in names}
    for name in flags.reference:
        if name not in found:
            raise InputError(f"--reference={name} is not in any table{did_you_mean(name, found)}")
    return Plan(found, tables, flags.seeds, getattr(flags, "origins", 1))


def given_rows(flags: ExperimentFlags, system: System) -> dict[str, Row]:
    """Read rows from the command line, `--row='NAME: --flag=value ...'`, if it has that flag.

    Raises:
        InputError: two rows of one name, or flags that no row can have.
    """
    found: dict[str, Row] = {}
    for text in getattr(flags, "row", ()):
        name, _, arguments = text.partition(":")
        if (name := name.strip()) in found:
            raise InputError(f"--row={text!r}: two rows have this name")
        found[name] = _checked(f"--row={text!r}", name, shlex.split(arguments), flags, system)
    return found


def rows(names: Iterable[str], flags: ExperimentFlags, system: System) -> list[Row]:
    """Read rows by name, from the experiment's own folder first.

    Raises:
        InputError: a row without a flagfile, or one that sets what its cells decide.
    """
    own = [Path(flags.experiment) / "rows"] if flags.experiment else []
    packaged = PACKAGE / type(flags).model_fields["rows"].default
    folders = dict.fromkeys([*own, Path(find(flags.rows)), packaged])
    return [_row(name, list(folders), flags, system) for name in names]


def _table(text: str, num_seeds: int) -> TablePlan:
    """Reads `TITLE: row, row, ...` or `TITLE: row, row, ...: SEEDS`."""
    title, *rest = (part.strip() for part in text.split(":"))
    rows = tuple(name.strip() for name in rest[0].split(",") if name.strip()) if rest else ()
    if not title or not rows or len(rest) > 2 or len(set(rows)) < len(rows):
        raise InputError(f"--table must be 'TITLE: row, row, ...[: SEEDS]'. Received: {text!r}")
    if len(rest) == 2:
        if not rest[1].isdigit() or not 1 <= int(rest[1]) <= num_seeds:
            raise InputError(
                f"--table={text!r}: a number of seeds from 1 to {num_seeds} must follow the rows. "
                f"Received: {rest[1]!r}"
            )
        num_seeds = int(rest[1])
    return TablePlan(title, rows, num_seeds)


def _row(name: str, folders: Sequence[Path], flags: ExperimentFlags, system: System) -> Row:
    for folder in folders:
        path = folder / f"{name}.txt"
        if path.is_file():
            return _checked(str(path), name, [f"--flagfile={path}"], flags, system, path)
    known = [found.stem for folder in folders for found in sorted(folder.glob("*.txt"))]
    raise InputError(
        f"no flagfile {name}.txt in {' or '.join(map(str, folders))}{did_you_mean(name, known)}"
    )


def _checked(
    source: str,
    name: str,
    arguments: Sequence[str],
    flags: ExperimentFlags,
    system: System,
    path: Path | None = None,
) -> Row:
    """A row of the arguments that are its own; `source` is where they are, for messages."""
    resolved = _read(arguments, flags, system)
    for given in sorted(resolved.model_fields_set & system.own_flags):
        raise InputError(f"{source}: --{given} is set for each cell by the experiment; remove it")
    try:
        kind = system.kind(resolved)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    first = path.read_text(encoding="utf-8").partition("\n")[0] if path else ""
    title, _, note = first.removeprefix("#").partition(":")
    title = title.strip() if first.startswith("#") else name
    return Row(name, title, note.strip(), path, resolved, kind)


def _read(arguments: Sequence[str], flags: ExperimentFlags, system: System) -> TrainFlags:
    """Training flags: those that every cell shares, and then the arguments."""
    # Only flags that were given are passed on, so that a recipe may decide the others.
    unset = set(type(flags).model_fields) - flags.model_fields_set
    own = set(type(flags).model_fields) - set(system.train_flags.model_fields)
    text = to_flagfile(flags, leave_out=sorted(own | unset))
    common = [line for line in text.splitlines() if line]
    return parse(system.train_flags, [*common, *arguments])


def dataset_directory(flags: TrainFlags, cells: Path, system: System) -> Path:
    """Directory of a cell's dataset, one for each way to prepare the tables."""
    if flags.dataset_dir:
        return Path(flags.dataset_dir)
    # The name depends on the flags that decide a dataset, so cells with equal ones share it.
    others = set(type(flags).model_fields) - system.dataset_flags
    return cells / "datasets" / _digest(_lines(flags, others))


def cells(
    planned: Plan, directory: Path, fingerprints: Mapping[Path, str], system: System
) -> list[Cell]:
    """List every cell, seed by seed; rows with equal flags have one run directory between them.

    Args:
        planned: the experiment.
        directory: parent of the run directories.
        fingerprints: fingerprint of every dataset directory; other data make another cell.
        system: the system of the rows.
    """
    found = [
        _cell(row, row.flags, seed, origin, "predictions", directory, fingerprints, system)
        for seed in planned.seeds
        for origin in range(planned.origins)
        for row in planned.rows.values()
        if (seed, origin) in planned.cells_of(row.name)
    ]
    first: dict[str, Cell] = {}  # by the digest of all that decides a run's numbers
    shared = []
    for cell in found:
        one = first.setdefault(cell.directory.name.rpartition("-")[2], cell)
        shared.append(replace(cell, flags=one.flags, directory=one.directory))
    return shared


def trials(
    row: Row,
    settings: Iterable[Sequence[str]],
    flags: ExperimentFlags,
    directory: Path,
    fingerprints: Mapping[Path, str],
    system: System,
) -> list[Cell]:
    """A cell per list of settings (arguments over the row's own), scored on validation only."""
    seed, outputs = flags.seeds[0], "validation"
    read = [_read([f"--flagfile={row.path}", *one], flags, system) for one in settings]
    return [_cell(row, one, seed, 0, outputs, directory, fingerprints, system) for one in read]


def _cell(
    row: Row,
    flags: TrainFlags,
    seed: int,
    origin: int,
    outputs: str,
    directory: Path,
    fingerprints: Mapping[Path, str],
    system: System,
) -> Cell:
    flags = system.of_cell(flags, seed, origin)
    dataset = dataset_directory(flags, directory, system)
    flags = flags.model_copy(update={"outputs": outputs, "dataset_dir": str(dataset)})
    # A changed flag or changed data give a new directory; everything else is found again.
    text = _lines(flags, system.decides_nothing)
    digest = _digest(text + fingerprints[dataset] + outputs)
    name = re.sub(r"[^\w.-]+", "_", row.name)  # that of --row may hold what no file's name can
    run = directory / f"{name}-{seed}-{origin}-{digest}"
    return Cell(row.name, seed, origin, flags.model_copy(update={"run_dir": str(run)}), run)


def study(
    row: Row, flags: ExperimentFlags, fingerprint: str, system: System, space: str = ""
) -> str:
    """Name of a row's study; it is unique to the row, the flags and the data.

    Args:
        row: that is tuned.
        flags: flags of the experiment.
        fingerprint: fingerprint of its data.
        system: the system of the row.
        space: the user's own search space as text.
    """
    text = _lines(row.flags, system.decides_nothing)
    return f"{row.name}-{_digest(f'{text}{fingerprint}{flags.seeds[0]}{flags.trials}{space}')}"


def _lines(flags: TrainFlags, leave_out: Iterable[str]) -> str:
    """Flags that a name depends on, sorted: the order of their declaration does not matter."""
    without = [*leave_out, *as_before(flags)]
    return "".join(sorted(to_flagfile(flags, leave_out=without).splitlines(keepends=True)))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def slug(title: str) -> str:
    """A file name of a table's title.

    >>> slug("Table 1, as published")
    'table_1_as_published'
    """
    return re.sub(r"[^0-9a-z]+", "_", title.lower()).strip("_")
