"""The items of a scoring job, and the inputs of the model for them.

Items come from tables, after a first pass over the counts (`first_pass`), or from a prepared
dataset. All later files are the same for both.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from mmnet import config
from mmnet.data import (
    content,
    dataset,
    histories,
    input_tables,
    items,
    lifetimes,
    moments,
    numbers,
    taxonomies,
)
from mmnet.data.columns import separator_of
from mmnet.data.content import Encoders
from mmnet.data.counts import Counts, Panel
from mmnet.data.dataset import Dataset, Fitted
from mmnet.data.item_tensors import Lookups, static_tensors
from mmnet.data.ledger import Rule
from mmnet.data.parquet import ParquetTable
from mmnet.data.tables import Block, Rows, Table, Tables
from mmnet.flags import as_before
from mmnet.schema import FieldSpec
from mmnet.serving import exported, first_pass, kept_pass, known_values
from mmnet.serving.job import Job
from mmnet.serving.static_cache import content_key

Arrays = dict[str, np.ndarray]


class Source(Protocol):
    """The items of a job, opened but not yet read.

    Attributes:
        items: one row per item, in the order of the scores.
        files: files that scores depend on.
        digests: other inputs that they depend on, name -> SHA-256.
    """

    items: Rows
    files: Sequence[Path]
    digests: Mapping[str, str]

    def survey(self, as_of: str, directory: Path, threads: int = 1) -> list[Rule]:
        """Writes the data shared by all blocks to a directory; returns the ledger of the counts.

        Args:
            as_of: the last as-of period.
            directory: an empty directory.
            threads: number of threads.

        Raises:
            InputError: the tables break a rule of the input format.
        """
        ...

    def survey_key(self, as_of: str) -> str:
        """Returns a hash of all that `survey` depends on; empty if it should not be kept."""
        ...

    def inputs(self, directory: Path) -> Inputs:
        """Opens the inputs of the model, after `survey` has written into the directory."""
        ...


class Inputs(Protocol):
    """The inputs of the model for some items.

    Attributes:
        first_period: the calendar number of the window's first period.
    """

    first_period: int

    def pieces(
        self, rows: int, blocks: Sequence[Block] | None = None, *, only: Sequence[str] | None = None
    ) -> Iterator[Table]:
        """Divides the items, or some blocks of them, into chunks of at most `rows` items.

        Args:
            rows: maximum number of items at a time.
            blocks: blocks to read; default: all.
            only: names of fields to read, for chunks that are passed to `history` and `groups`
                only; default: all columns.
        """
        ...

    def identity(self, block: Block, rows: slice) -> str:
        """Returns a hash of the files of some items, and of all else that their `key` depends on.

        It is known without reading the items. Empty if it is unknown.
        """
        ...

    def history(self, piece: Table) -> Arrays:
        """Returns tensors that change between periods, [items, window, ...]."""
        ...

    def static(self, piece: Table) -> Arrays:
        """Returns tensors of items alone, float32 and int32, [items, ...]."""
        ...

    def groups(self, piece: Table, field: FieldSpec) -> np.ndarray:
        """Returns the ids of a field that has one value per item, int32 [items]."""
        ...

    def key(self, piece: Table) -> str:
        """Returns a hash of all that `static` depends on."""
        ...


def source_of(job: Job) -> Source:
    """Opens the source of a job, in any process."""
    fitted = exported.fitted(job.saved_model).model_copy(update={"tables": job.tables})
    allow_short = job.allow_short_history
    if job.dataset_dir:
        return DatasetSource(dataset.load(job.dataset_dir), fitted, allow_short=allow_short)
    found = input_tables.open_catalogue(job.tables)
    return TableSource(found, fitted, allow_short=allow_short)


def _moment(fitted: Fitted, origins: np.ndarray, first_period: int) -> Arrays:
    """Returns the age and calendar inputs; see `moments.tensors`."""
    spec = fitted.spec
    if not spec.age and not spec.cycles:
        return {}
    target = np.full(len(origins), first_period + spec.window - 1 + spec.horizon, np.int64)
    found = moments.tensors(spec, fitted.calendar, origins, target)
    return {name: np.asarray(tensor) for name, tensor in found.items()}


def _lifetime(before: Counts) -> Arrays:
    """Returns the inputs made from counts before the window; see `lifetimes.tensors`."""
    return {name: np.asarray(tensor) for name, tensor in lifetimes.tensors(*before).items()}


# -------------------------------------------------------------------------------------- tables


class TableSource:
    """Items from tables.

    Args:
        found: the tables.
        fitted: values that the model was fitted with; its table flags are those of `found`.
        allow_short: see `moments.origins`.
    """

    def __init__(self, found: Tables, fitted: Fitted, *, allow_short: bool = False):
        self.items: Rows = found.items
        self.files: Sequence[Path] = found.inputs
        self.digests: Mapping[str, str] = found.digests
        self._found, self._fitted, self._allow_short = found, fitted, allow_short

    def survey(self, as_of: str, directory: Path, threads: int = 1) -> list[Rule]:
        """Reads all counts; see `first_pass.survey`."""
        how: dict[str, Any] = {"allow_short": self._allow_short, "threads": threads}
        return first_pass.survey(self._found, self._fitted, as_of, directory, **how)

    def survey_key(self, as_of: str) -> str:
        """Returns a hash of the files, the flags and what the model was fitted with."""
        fitted = self._fitted
        if not kept_pass.are_settled(self.files):
            return ""
        left_out = {*config.ENGINE, *as_before(fitted.tables)} - {"shard_items"}
        # What is fitted on rates and numbers takes no part in the pass.
        of_model = {"rate_scale", "rate_mean", "max_rate", "numerics", "texts", "cycles"}
        spec = fitted.spec.model_dump(mode="json", exclude=of_model)
        about = {
            "tables": fitted.tables.model_dump(mode="json", exclude=left_out),
            "files": [kept_pass.identity(path) for path in self.files],
            "digests": dict(self.digests),
            "task": fitted.task.model_dump(mode="json", exclude=as_before(fitted.task)),
            "spec": spec,
            "calendar": fitted.calendar.model_dump(mode="json"),
            "marks": {name: (one.decimal, one.thousands) for name, one in fitted.marks.items()},
            "vocabularies": {
                field.tensor: fitted.vocabularies[field.tensor] for field in fitted.spec.fields
            },
            "as_of": as_of,
            "allow_short": self._allow_short,
        }
        return kept_pass.hashed(about)

    def inputs(self, directory: Path) -> Inputs:
        """Maps the files of the first pass."""
        return _TableInputs(self._found, self._fitted, directory)


class _TableInputs:
    def __init__(self, found: Tables, fitted: Fitted, directory: Path):
        self._found, self._fitted = found, fitted
        self.first_period = first_pass.first_period(directory)

        def array(name: str) -> np.ndarray:
            return np.load(directory / f"{name}.npy", mmap_mode="r", allow_pickle=False)

        self._release, self._origins = array("release"), array("origins")
        self._release_given = array("release_given")
        self._earlier = None
        if fitted.spec.lifetime:
            self._earlier = Counts(*(array(name) for name in first_pass.BEFORE))
        rates = ("", *(rate.name for rate in fitted.spec.rates))
        self._counts = {
            rate: Counts(*(array(name) for name in first_pass.names_of(rate))) for rate in rates
        }
        self._taxonomies = {
            rate: taxonomies.load(
                *(fitted.spec.taxonomies, fitted.task, fitted.spec.window, directory),
                separator=separator_of(fitted.tables),
                rate=rate,
            )
            for rate in rates
        }
        self._marks = numbers.of_numerics(found.items, fitted.tables, fitted.marks)
        self._lookups = Lookups(fitted)
        self._encoders = Encoders(fitted.tables)
        content.check_same(self._encoders.fingerprints(), fitted.encoders)
        given = [vector for vector in fitted.spec.vectors if vector.of == "given"]
        columns = [vector for vector in given if first_pass.beside(found, vector.name)]
        self._columns = items.columns(fitted.tables) | {
            items.vector_column(vector.name, found.vectors[vector.name]): "vectors"
            for vector in columns
        }
        self._given = {
            vector.tensor: array(vector.tensor) for vector in given if vector not in columns
        }
        self._of_given = [
            path
            for vector in given
            if vector not in columns
            for path in found.vectors[vector.name].paths
        ]

    def pieces(
        self, rows: int, blocks: Sequence[Block] | None = None, *, only: Sequence[str] | None = None
    ) -> Iterator[Table]:
        wanted = self._columns
        if only is not None:
            needed = {self._fitted.tables.item_column, *only}
            taxonomies_of = self._taxonomies[""]
            needed |= {one.column for one in taxonomies_of if one.of_items is None}
            wanted = {name: flag for name, flag in wanted.items() if name in needed}
        return self._found.items.pieces(rows, wanted, blocks)

    def identity(self, block: Block, rows: slice) -> str:
        items = self._found.items
        of_images = any(column.kind == "image" for column in self._encoders.columns)
        if not isinstance(items, ParquetTable) or of_images:
            return ""
        paths = [items.files[block.file].path, *self._of_given]
        if not kept_pass.are_settled(paths):
            return ""
        start = items.starts[block.file]
        about = {
            "files": [kept_pass.identity(path) for path in paths],
            "rows": [rows.start - start, rows.stop - start],
            "columns": [(name, str(items.schema.field(name).type)) for name in self._key_columns()],
            "given": list(self._given),
            "about": self._about(),
        }
        return kept_pass.hashed(about)

    def history(self, piece: Table) -> Arrays:
        fitted, rows = self._fitted, piece.places
        found: Arrays = {}
        for rate, counts in self._counts.items():
            panel = Panel(
                item_ids=rows,
                **{name: array[rows] for name, array in counts._asdict().items()},
                release=self._release[rows],
                calendar=fitted.calendar,
                first_period=self.first_period,
                release_given=self._release_given[rows],
            )
            means = [taxonomy.means(panel, piece) for taxonomy in self._taxonomies[rate]]
            _, _, channels = histories.shape(len(piece), fitted.spec.window, fitted.spec)
            history = np.empty((len(piece), fitted.spec.window, channels), np.float32)
            histories.fill(history, panel, means, fitted.task.min_clicks)
            found |= histories.inputs(history, fitted.spec, rate)
        if self._earlier:
            found |= _lifetime(Counts(*(array[rows] for array in self._earlier)))
        return found | _moment(fitted, self._origins[rows], self.first_period)

    def static(self, piece: Table) -> Arrays:
        encoded = list(self._encoders.encode(piece))
        tensors = static_tensors(piece, self._fitted, encoded, self._marks, self._lookups)
        for vector in self._fitted.spec.vectors:
            if vector.of != "given":
                tensors[vector.tensor] = tensors[vector.tensor].astype(np.float32)
            elif vector.tensor in self._given:
                tensors[vector.tensor] = self._given[vector.tensor][piece.places]
            else:
                column = items.vector_column(vector.name, self._found.vectors[vector.name])
                numbers, full = items.vectors_of(piece, column, vector)
                if not full.all():
                    some, numbers = numbers, np.zeros((len(piece), vector.dim), np.float32)
                    numbers[full] = some
                tensors[vector.tensor] = numbers
        return tensors

    def groups(self, piece: Table, field: FieldSpec) -> np.ndarray:
        flags = self._fitted.tables
        flag = "taxonomies" if field.name in flags.taxonomies else "categoricals"
        ids = self._lookups.of_field(field)
        return items.encode_field(piece, field, ids, flag, separator_of(flags))[:, 0]

    def key(self, piece: Table) -> str:
        given = [array[piece.places] for array in self._given.values()]
        encoders, *more = self._about()
        about = [encoders, self._encoders.files(piece), *more]
        return content_key(piece.data.select(self._key_columns()), *given, about=json.dumps(about))

    def _key_columns(self) -> list[str]:
        return [name for name, flag in self._columns.items() if flag != "item_column"]

    def _about(self) -> list[Any]:
        """Returns what keys depend on besides the items: encoders, and meanings of texts."""
        marks = {
            name: (one.decimal, one.thousands)
            for name, one in self._marks.items()
            if one != numbers.PLAIN
        }
        if marks or self._fitted.tables.list_separator:  # the same text may have another meaning
            return [self._fitted.encoders, [marks, self._fitted.tables.list_separator]]
        return [self._fitted.encoders]


# ------------------------------------------------------------------------------------- dataset


class DatasetSource:
    """Items from a prepared dataset.

    Args:
        data: counts, histories and static tensors of all items.
        fitted: values that the model was fitted with, which the dataset was prepared with too.
        allow_short: see `moments.origins`.
    """

    def __init__(self, data: Dataset, fitted: Fitted, *, allow_short: bool = False):
        self.items: Rows = _items(data, fitted)
        self.files: Sequence[Path] = ()
        self.digests: Mapping[str, str] = {"dataset": data.fingerprint}
        self._data, self._fitted, self._allow_short = data, fitted, allow_short

    def survey_key(self, as_of: str) -> str:
        """Returns nothing: the pass is short, since everything is prepared."""
        del as_of
        return ""

    def survey(self, as_of: str, directory: Path, threads: int = 1) -> list[Rule]:
        """Writes the position of the window; everything else is already prepared."""
        del threads
        last = first_pass.as_of_column(self._data.panel, as_of)
        first = self._data.panel.first_period + last + 1 - self._fitted.spec.window
        values = known_values.of_tensors(self._data.tensors, self._fitted)
        first_pass.write_about(directory, first, values)
        return self._data.ledger

    def inputs(self, directory: Path) -> Inputs:
        """Maps the dataset's arrays."""
        first = first_pass.first_period(directory)
        last = first + self._fitted.spec.window - 1 - self._data.panel.first_period
        return DatasetInputs(self._data, self._fitted, last, allow_short=self._allow_short)


class DatasetInputs:
    """The inputs of the model for the items of a dataset as of one period.

    Args:
        data: dataset; mapped arrays are not copied.
        fitted: values that the model was fitted with.
        last: the panel's column of the last as-of period.
        allow_short: see `moments.origins`.
    """

    def __init__(self, data: Dataset, fitted: Fitted, last: int, *, allow_short: bool = False):
        self._data, self._fitted, self._items = data, fitted, _items(data, fitted)
        start = data.panel.first_period
        self._origins = moments.origins(
            data.panel, fitted.spec, start=start, allow_short=allow_short
        )
        self._last, self._first = last, None
        if spec := fitted.spec.lifetime:
            how = {"allow_short": allow_short}
            self._first = lifetimes.first_column(spec, start, fitted.calendar, **how)
        # Histories begin `window - 1` periods before the panel's first one.
        self._columns = slice(last, last + fitted.spec.window)
        self.first_period = data.panel.first_period + last + 1 - fitted.spec.window

    def pieces(
        self, rows: int, blocks: Sequence[Block] | None = None, *, only: Sequence[str] | None = None
    ) -> Iterator[Table]:
        """Yields chunks of items, with ids as their only column."""
        del only
        return self._items.pieces(rows, blocks=blocks)

    def identity(self, block: Block, rows: slice) -> str:
        """Returns a hash of the fingerprint of the dataset, if it has one, and the rows."""
        if not self._data.fingerprint:  # it was not prepared in a directory
            return ""
        return kept_pass.hashed([self._data.fingerprint, block.file, rows.start, rows.stop])

    def history(self, piece: Table) -> Arrays:
        """Returns histories cut to the window, and the age and calendar of the target."""
        found: Arrays = {}
        for rate, history in {"": self._data.history, **self._data.rate_histories}.items():
            of_window = history[piece.places, self._columns]
            found |= histories.inputs(of_window, self._fitted.spec, rate)
        if self._fitted.spec.lifetime:
            found |= _lifetime(self._before(piece.places))
        return found | _moment(self._fitted, self._origins[piece.places], self.first_period)

    def _before(self, rows: np.ndarray | slice) -> Counts:
        panel = self._data.panel
        counts = Counts(panel.clicks[rows], panel.shares[rows])
        if self._first is None:
            return lifetimes.unknown(len(counts.clicks))
        stop = self._last + 1 - self._fitted.spec.window
        return lifetimes.sums(counts, lifetimes.lower(panel, self._first)[rows], stop)

    def static(self, piece: Table) -> Arrays:
        """Returns static tensors; encoded vectors are converted from float16 to float32."""
        found = {name: array[piece.places] for name, array in self._data.tensors.items()}
        return {
            name: array.astype(np.float32) if array.dtype == np.float16 else array
            for name, array in found.items()
        }

    def groups(self, piece: Table, field: FieldSpec) -> np.ndarray:
        """Returns prepared ids."""
        return self._data.tensors[field.tensor][piece.places, 0]

    def key(self, piece: Table) -> str:
        """Returns a hash of the tensors themselves."""
        static = self.static(piece)
        return content_key(pa.table({}), *static.values(), about=json.dumps(list(static)))


def _items(data: Dataset, fitted: Fitted) -> Table:
    ids = pa.array(data.panel.item_ids, pa.string())
    return Table(pa.table({fitted.tables.item_column: ids}), "items")
