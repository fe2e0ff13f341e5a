"""A prepared log in a dataset directory: rows as codes, raw modalities, and their sources.

The folder of the dataset, see `mmnet.data.store`, holds

    ledger.md, user.npy, ...   arrays of the log
    truth.npz                  the truth that a generated log was drawn from
    tables-....npz             modalities as tables, by protocol

and the directory holds raw/, the generated files, unless another place was given for them. No path
in a dataset points outside, so that it can be moved or copied.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmnet.checks import InputError
from mmnet.console import console
from mmnet.data import store
from mmnet.data.ledger import Rule, ledger_table, so_far
from mmnet.data.table_reading import RULES
from mmnet.files import UNREADABLE, make_directory, only_one, write_atomic
from mmnet.flags import as_before, named_options
from mmnet.hashing import sha256
from mmnet.mma4ctr import config
from mmnet.mma4ctr.config import MODALITIES, InteractionFlags
from mmnet.mma4ctr.data import generator, interactions
from mmnet.mma4ctr.data.interactions import Interactions
from mmnet.mma4ctr.data.modalities import Catalogue, Raw
from mmnet.mma4ctr.data.sources import SOURCES, Source
from mmnet.mma4ctr.data.specification import DatasetSpec

FORMAT = 2
ROWS = ("user", "item", "time", "device", "label")


@dataclass(frozen=True)
class Log:
    """Rows of a log in the order of user, time, item, label, device.

    Attributes:
        user, item: places in `user_ids` and `item_ids`, int32 [rows].
        time, device: int64 [rows].
        label: int8 [rows].
        user_ids, item_ids: int64, sorted.
        modalities: raw, by name.
    """

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray
    device: np.ndarray
    label: np.ndarray
    user_ids: np.ndarray
    item_ids: np.ndarray
    modalities: dict[str, Raw]

    def __len__(self) -> int:
        return len(self.user)


@dataclass(frozen=True)
class Dataset(Log):
    """A log in a dataset directory.

    Attributes:
        spec: sources and settings of the dataset, and the names of its arrays.
        folder: folder of the arrays and of derived tables, inside the dataset directory.
    """

    spec: DatasetSpec
    folder: Path

    @property
    def source(self) -> Source:
        """Source that defines how the log was written, read and labelled."""
        return SOURCES[self.spec.source]


def prepare(flags: InteractionFlags, directory: Path) -> Dataset:
    """Prepare a dataset directory from files, or reuse it if nothing has changed.

    Raises:
        InputError: the files are missing or do not match the source's layout; or another
            process prepares the same directory.
    """
    flags = flags.model_copy(update={"label": interactions.label_of(flags)})
    if flags.generate and SOURCES[flags.source].generator is None:
        raise InputError(
            f"--generate: nothing generates logs of --source={flags.source}; name --source_dir, "
            "the directory of the publisher's files"
        )
    if not flags.source_dir and not flags.generate:
        raise InputError(
            f"--source={flags.source} needs --source_dir, the directory of the publisher's files"
            + (
                ", or --generate=name=value to generate such files"
                if SOURCES[flags.source].generator
                else ""
            )
        )
    flags = flags.model_copy(update={"min_rows": interactions.min_rows_of(flags)})
    place = Path(flags.source_dir or directory / RAW)
    to_read = flags.model_copy(update={"source_dir": str(place), "generate": ()})
    if not flags.generate or _is_generated(flags, place):
        found = STORE.unchanged(directory, _fingerprint(to_read))
        if found is not None:
            with contextlib.suppress(InputError), STORE.only_one(directory):
                pass  # no process writes it: what killed processes left is removed
            return found
    with STORE.only_one(directory, directory / RAW, place):
        if flags.generate:
            refusal = (
                f"{place} is being prepared by another process; wait for it, or choose another"
            )
            inside = directory in (place, *place.parents)  # and locked with it
            with contextlib.nullcontext() if inside else only_one(place, refusal, remove=True):
                _generate(flags, place)
        # First: files that change while they are read are another log.
        fingerprint = _fingerprint(to_read)
        found = STORE.unchanged(directory, fingerprint)
        return _made(to_read, directory, fingerprint) if found is None else found


def _made(flags: InteractionFlags, directory: Path, fingerprint: str) -> Dataset:
    planted = Path(flags.source_dir, generator.TRUTH)
    truth = _planted(planted)
    rows, ledger, paths = interactions.read(flags)
    source = SOURCES[flags.source]
    with so_far(lambda: ledger):
        ids = np.unique(rows.item_id)
        catalogue = source.catalogue(Path(flags.source_dir), ids, flags.text_set)
        log, rule = _joined(rows, catalogue, flags)
        if truth is not None and not truth.knows(log.user_ids, log.item_ids):
            raise _other_truth(planted, "is of another log: it lacks users or items of this log")
    ledger += [rule, *catalogue.ledger]
    inputs = {path.name: sha256(path) for path in (*paths, *catalogue.paths)}
    return _write(log, directory, fingerprint, ledger, inputs, flags, rows.daily)


def _planted(path: Path) -> generator.Truth | None:
    """The truth beside the files; a damaged one would be found out only after training."""
    if not os.path.lexists(path):
        return None
    try:
        return generator.Truth.read(path)
    except UNREADABLE:
        raise _other_truth(path, "is damaged") from None


def _other_truth(path: Path, what: str) -> InputError:
    return InputError(
        f"{path} {what}; generate the log again, or delete the file to do without the planted "
        "probability in the results"
    )


RAW, GENERATED = "raw", "generated.json"


def _options(flags: InteractionFlags) -> dict[str, Any]:
    made_by = SOURCES[flags.source].generator
    return {} if made_by is None else named_options(made_by, flags.generate, "generate")


def _is_generated(flags: InteractionFlags, place: Path) -> bool:
    """Whether the files there are those of these options, all of them."""
    about = place / GENERATED
    text = json.dumps([flags.source, _options(flags)], sort_keys=True)
    return about.exists() and about.read_text(encoding="utf-8") == text


def _generate(flags: InteractionFlags, place: Path) -> None:
    """Writes generated files, unless the same ones are there."""
    if _is_generated(flags, place):
        return
    make_directory(place)
    (place / GENERATED).unlink(missing_ok=True)  # until all files are of these options
    options = _options(flags)
    SOURCES[flags.source].generate(place, options)
    write_atomic(place / GENERATED, json.dumps([flags.source, options], sort_keys=True))


def _fingerprint(flags: InteractionFlags) -> str:
    """Digest of all that decides a dataset: flags, and the names and contents of the files."""
    directory = Path(flags.source_dir)
    files = sorted(directory.iterdir()) if directory.is_dir() else []
    # Not sizes and times: a copy has other times, and an edit may keep both.
    seen = [(file.name, sha256(file)) for file in files if file.is_file()]
    decides = flags.model_dump(exclude={*config.PLACES, "generate", *as_before(flags)})
    text = json.dumps([FORMAT, RULES, seen, decides], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _joined(rows: Interactions, catalogue: Catalogue, flags: InteractionFlags) -> tuple[Log, Rule]:
    """Ids become places; rows of unknown items are left out or refused."""
    items = catalogue.item_ids
    place = np.minimum(np.searchsorted(items, rows.item_id), len(items) - 1)
    known = items[place] == rows.item_id
    if not known.all() and flags.unknown_items == "fail":
        first = int(np.argmin(known))
        raise InputError(
            f"{catalogue.paths[0]} lacks item {rows.item_id[first]}, which user "
            f"{rows.user_id[first]} was shown ({int((~known).sum())} rows are of such items); add "
            "the item, or drop such rows with --unknown_items=drop"
        )
    rule = Rule("log", "the item is in the item files", len(known), int(known.sum()))
    if not known.any():
        raise InputError(f"{catalogue.paths[0]} contains none of the log's items")
    user_ids, user = np.unique(rows.user_id[known], return_inverse=True)
    log = Log(
        user.astype(np.int32),
        place[known].astype(np.int32),
        rows.time[known],
        rows.device[known],
        rows.label[known],
        user_ids,
        items,
        catalogue.modalities,
    )
    return log, rule


def _write(
    log: Log,
    directory: Path,
    fingerprint: str,
    ledger: list[Rule],
    inputs: dict[str, str],
    flags: InteractionFlags,
    daily: bool,
) -> Dataset:
    digest = hashlib.sha256()
    arrays = {name: getattr(log, name) for name in (*ROWS, "user_ids", "item_ids")}
    for modality, raw in log.modalities.items():
        arrays |= {f"{modality}.{name}": array for name, array in raw.arrays().items()}
    arrays = {name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.data if array.size else b"")
    planted = Path(flags.source_dir) / generator.TRUTH
    spec = DatasetSpec(
        source=flags.source,
        label=flags.label,
        min_rows=flags.min_rows,
        daily=daily,
        rows=len(log),
        users=len(log.user_ids),
        items=len(log.item_ids),
        positives=int(log.label.sum()),
        arrays=tuple(arrays),
        inputs=inputs,
        ledger={f"{rule.table}: {rule.rule}": rule.rows_out for rule in ledger},
        content=digest.hexdigest(),
        truth=generator.TRUTH if planted.exists() else "",
    )

    def fill(folder: Path) -> store.About:
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
        (folder / store.LEDGER).write_text(ledger_table(ledger), encoding="utf-8")
        if spec.truth:
            shutil.copyfile(planted, folder / generator.TRUTH)
        return spec.model_dump()

    return STORE.write(directory, fingerprint, fill)


def _open(folder: Path, about: store.About) -> Dataset:
    spec = DatasetSpec.model_validate(about)
    arrays = {name: store.mapped(folder, name) for name in spec.arrays}
    raws = {
        modality: Raw.of(
            {
                name.partition(".")[2]: array
                for name, array in arrays.items()
                if name.startswith(f"{modality}.")
            }
        )
        for modality in MODALITIES
    }
    plain = {name: arrays[name] for name in (*ROWS, "user_ids", "item_ids")}
    found = Dataset(**plain, modalities=raws, spec=spec, folder=folder)
    right, planted = _right(found), Path(spec.truth)
    if planted.name and not planted.is_absolute():  # its own copy
        known = store.opened(folder / planted.name, generator.Truth.read)
        right["user_ids"] = right["user_ids"] and known.knows(found.user_ids, found.item_ids)
    store.check(folder, right)
    return found


def _right(found: Dataset) -> dict[str, bool]:
    """Array -> whether it goes with the others; for `store.check`."""
    spec = found.spec
    right = {name: getattr(found, name).shape == (spec.rows,) for name in ROWS}
    for ids, size, name in (("user_ids", spec.users, "user"), ("item_ids", spec.items, "item")):
        right[ids] = getattr(found, ids).shape == (size,)
        right[name] = right[name] and store.within(getattr(found, name), size)
    for modality, raw in found.modalities.items():
        named = raw.arrays()
        for name, array in named.items():
            values = named.get(name.removesuffix("_offsets"))
            if name.endswith("_offsets") and values is not None:
                fine = len(array) == spec.items + 1 and array[0] == 0 and array[-1] == len(values)
                right[f"{modality}.{name}"] = bool(fine and (np.diff(array) >= 0).all())
            elif f"{name}_offsets" not in named:
                right[f"{modality}.{name}"] = len(array) == spec.items
    return right


STORE = store.Store("mmnet.mma4ctr.prepare", f"mma4ctr-{FORMAT}", _open)
load = STORE.load


def truth(dataset: Dataset) -> generator.Truth | None:
    """Truth that a generated log was drawn from; None for a log that was not generated.

    Raises:
        InputError: the dataset's copy is missing or damaged.
    """
    path = _truth_path(dataset)
    return None if path is None else store.opened(path, generator.Truth.read)


def _truth_path(dataset: Dataset) -> Path | None:
    """Where the truth of a log is: in the dataset's folder, or where an earlier version found it.

    That version stored an absolute path, also where nothing had been generated. It no longer holds
    in a dataset that was moved; generated files are then in its own raw/ in most cases.
    """
    stored = Path(dataset.spec.truth or ".")
    if not stored.name:
        return None
    if not stored.is_absolute():
        return dataset.folder / stored.name
    for path in (stored, dataset.folder.parent / RAW / stored.name):
        if path.exists():
            return path
    # Files that are still there without a truth were not generated; of others nothing is known.
    if not stored.parent.exists() or (stored.parent / GENERATED).exists():
        console.print(
            f"{stored} is missing: if the log of {dataset.folder.parent} was generated, the "
            "results lack the row 'planted probability'. Prepare the dataset again to include it"
        )
    return None
