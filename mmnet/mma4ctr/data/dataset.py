"""A prepared log on disk: rows as codes, raw modalities, and where they came from.

    DIRECTORY/dataset.json         what is there, and which folder it is in; written last
    DIRECTORY/3f1c0a6be2d94477/    the first 16 digits of the rows' fingerprint
        ledger.md, user.npy, ...   arrays of the log
        truth.npz                  what a generated log was drawn from
        tables-....npz             modalities as tables, by protocol
    DIRECTORY/raw/                 generated files

A directory that is prepared again has the old dataset until it has the new one. No path in it
points outside, so that it can be moved or copied.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmnet.checks import InputError
from mmnet.console import console
from mmnet.data.ledger import Rule, ledger_table, so_far
from mmnet.files import make_directory, only_one, write_atomic, write_directory
from mmnet.flags import named_options
from mmnet.hashing import sha256
from mmnet.mma4ctr import config
from mmnet.mma4ctr.config import MODALITIES, InteractionFlags
from mmnet.mma4ctr.data import generator, interactions, modalities
from mmnet.mma4ctr.data.interactions import Interactions
from mmnet.mma4ctr.data.modalities import Catalogue, Raw

FORMAT = 2
SPEC, LEDGER = "dataset.json", "ledger.md"
ROWS = ("user", "item", "time", "device", "label")


@dataclass(frozen=True)
class Dataset:
    """Rows of a log in the order of user, time, item, label, device.

    Attributes:
        user, item: places in `user_ids` and `item_ids`, int32 [rows].
        time, device: int64 [rows].
        label: int8 [rows].
        user_ids, item_ids: int64, sorted.
        modalities: raw, by name.
        spec: source, label, min_rows, daily, folder, inputs, ledger, fingerprint and more.
        directory: where it lies.
    """

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray
    device: np.ndarray
    label: np.ndarray
    user_ids: np.ndarray
    item_ids: np.ndarray
    modalities: dict[str, Raw]
    spec: dict[str, Any]
    directory: Path

    def __len__(self) -> int:
        return len(self.user)

    @property
    def folder(self) -> Path:
        """Of the arrays, and of what is made of them."""
        return self.directory / self.spec["folder"]


def prepare(flags: InteractionFlags, directory: Path) -> Dataset:
    """Files in, a dataset directory out; one that is there already is taken if nothing changed.

    Raises:
        InputError: the files are not as the source's layout says, or are not there; or another
            process prepares the same directory.
    """
    if not flags.source_dir and not flags.generate:
        raise InputError(
            f"--source={flags.source} needs --source_dir, the directory of the publisher's files, "
            "or --generate=name=value to make some"
        )
    flags = flags.model_copy(update={"label": interactions.label_of(flags)})
    flags = flags.model_copy(update={"min_rows": interactions.min_rows_of(flags)})
    place = Path(flags.source_dir or directory / "raw")
    to_read = flags.model_copy(update={"source_dir": str(place), "generate": ()})
    if not flags.generate or _is_generated(flags, place):
        found = _unchanged(directory, to_read)
        if found is not None:
            with contextlib.suppress(InputError), _only_one(directory):
                _clear(found)
            return found
    with _only_one(directory):
        if flags.generate:
            inside = directory in (place, *place.parents)  # and locked with it
            with contextlib.nullcontext() if inside else _only_one(place):
                _generate(flags, place)
        found = _unchanged(directory, to_read)
        if found is None:
            found = _made(to_read, directory)
        _clear(found)
        return found


def _only_one(directory: Path) -> contextlib.AbstractContextManager[int]:
    return only_one(
        directory,
        f"{directory} is being made by another process; wait for it, or choose another",
        remove=True,
    )


def _unchanged(directory: Path, flags: InteractionFlags) -> Dataset | None:
    """The dataset that is there, if it was made of the same and is whole."""
    if _stored_spec(directory).get("key") == _key(flags):
        with contextlib.suppress(InputError):  # it is damaged: made anew
            return load(directory)
    return None


def _made(flags: InteractionFlags, directory: Path) -> Dataset:
    key = _key(flags)  # first: files that change while they are read are another log
    rows, ledger, paths = interactions.read(flags)
    with so_far(lambda: ledger):
        if flags.source == "wechat":
            catalogue = modalities.wechat(Path(flags.source_dir))
        else:
            catalogue = modalities.tiktok_features(Path(flags.source_dir), np.unique(rows.item_id))
        dataset, rule = _joined(rows, catalogue, flags)
    ledger += [rule, *catalogue.ledger]
    inputs = {path.name: sha256(path) for path in (*paths, *catalogue.paths)}
    _write(dataset, directory, ledger, key, inputs, flags, rows.daily)
    return load(directory)


GENERATED = "generated.json"


def _options(flags: InteractionFlags) -> dict[str, Any]:
    return named_options(generator.GENERATORS[flags.source], flags.generate, "generate")


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
    generator.generate(flags.source, place, options)
    write_atomic(place / GENERATED, json.dumps([flags.source, options], sort_keys=True))


def _key(flags: InteractionFlags) -> str:
    """Digest of all that decides a dataset: flags, and the names and contents of the files."""
    directory = Path(flags.source_dir)
    files = sorted(directory.iterdir()) if directory.is_dir() else []
    # Not sizes and times: a copy has other times, and an edit may keep both.
    seen = [(file.name, sha256(file)) for file in files if file.is_file()]
    decides = flags.model_dump(exclude={*config.PLACES, "generate"})
    text = json.dumps([FORMAT, seen, decides], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _joined(
    rows: Interactions, catalogue: Catalogue, flags: InteractionFlags
) -> tuple[Dataset, Rule]:
    """Ids become places; rows of unknown items are left out or refused."""
    items = catalogue.item_ids
    place = np.minimum(np.searchsorted(items, rows.item_id), len(items) - 1)
    known = items[place] == rows.item_id
    if not known.all() and flags.unknown_items == "fail":
        first = int(np.argmin(known))
        raise InputError(
            f"{catalogue.paths[0]} lacks item {rows.item_id[first]}, which user "
            f"{rows.user_id[first]} was shown ({int((~known).sum())} rows are of such items); add "
            "it, or leave such rows out by --unknown_items=drop"
        )
    rule = Rule("log", "the item is in the item files", len(known), int(known.sum()))
    if not known.any():
        raise InputError(f"{catalogue.paths[0]} has none of the log's items")
    user_ids, user = np.unique(rows.user_id[known], return_inverse=True)
    dataset = Dataset(
        user.astype(np.int32),
        place[known].astype(np.int32),
        rows.time[known],
        rows.device[known],
        rows.label[known],
        user_ids,
        items,
        catalogue.modalities,
        {},
        Path(),
    )
    return dataset, rule


def _write(
    dataset: Dataset,
    directory: Path,
    ledger: list[Rule],
    key: str,
    inputs: dict[str, str],
    flags: InteractionFlags,
    daily: bool,
) -> None:
    digest = hashlib.sha256()
    arrays = {name: getattr(dataset, name) for name in (*ROWS, "user_ids", "item_ids")}
    for modality, raw in dataset.modalities.items():
        arrays |= {f"{modality}.{name}": array for name, array in raw.arrays().items()}
    arrays = {name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.data if array.size else b"")
    folder, planted = digest.hexdigest()[:16], Path(flags.source_dir) / generator.TRUTH

    def fill(beside: Path) -> None:
        for name, array in arrays.items():
            np.save(beside / f"{name}.npy", array, allow_pickle=False)
        (beside / LEDGER).write_text(ledger_table(ledger), encoding="utf-8")
        if planted.exists():
            shutil.copyfile(planted, beside / generator.TRUTH)

    write_directory(directory / folder, fill)
    spec = {
        "source": flags.source,
        "label": flags.label,
        "min_rows": flags.min_rows,
        "daily": daily,
        "rows": len(dataset),
        "users": len(dataset.user_ids),
        "items": len(dataset.item_ids),
        "positives": int(dataset.label.sum()),
        "folder": folder,
        "arrays": sorted(arrays),
        "inputs": inputs,
        "ledger": {f"{rule.table}: {rule.rule}": rule.rows_out for rule in ledger},
        "fingerprint": digest.hexdigest(),
        "key": key,
        "truth": f"{folder}/{generator.TRUTH}" if planted.exists() else "",
    }
    write_atomic(directory / SPEC, json.dumps(spec, indent=1) + "\n")


def _clear(found: Dataset) -> None:
    """Takes away the folders of older datasets, and of those that a killed process left."""
    for old in found.directory.iterdir():
        if _FOLDER.fullmatch(old.name) and old.name != found.spec["folder"]:
            shutil.rmtree(old, ignore_errors=True)


_FOLDER = re.compile(r"[0-9a-f]{16}|\.[0-9a-f]{16}\.new-.*")
"""Folders of datasets, and what a killed process left of one."""


def _stored_spec(directory: Path) -> dict[str, Any]:
    try:
        return json.loads((directory / SPEC).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def load(directory: Path) -> Dataset:
    """Opens a dataset directory; arrays are mapped, not read.

    Raises:
        InputError: there is none.
    """
    spec = _stored_spec(directory)
    try:
        return _loaded(directory, spec)
    except InputError:
        newer = _stored_spec(directory)
        if newer.get("folder") == spec.get("folder"):
            raise
        return _loaded(directory, newer)  # it was made anew between the two looks


def _loaded(directory: Path, spec: dict[str, Any]) -> Dataset:
    if "folder" not in spec:  # a dataset of an older format is none
        raise InputError(f"--dataset_dir={directory}: no prepared dataset there")
    try:
        arrays = {
            name: np.load(
                directory / spec["folder"] / f"{name}.npy", mmap_mode="r", allow_pickle=False
            )
            for name in spec["arrays"]
        }
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
        if not Path(spec["truth"]).is_absolute():  # its own copy, or no truth and the directory
            (directory / spec["truth"]).stat()
        return Dataset(**plain, modalities=raws, spec=spec, directory=directory)
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise InputError(
            f"--dataset_dir={directory} is not whole ({error}); prepare it again"
        ) from None


def truth(dataset: Dataset) -> generator.Truth | None:
    """What a generated log was drawn from; None for a log that was not generated.

    Raises:
        InputError: the dataset's copy is missing or damaged.
    """
    path = _truth_path(dataset)
    if path is None:
        return None
    try:
        return generator.Truth.read(path)
    except (OSError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(
            f"--dataset_dir={dataset.directory} is not whole ({error}); prepare it again"
        ) from None


def _truth_path(dataset: Dataset) -> Path | None:
    """Where the truth of a log is, in a dataset of this format or of the one before.

    The format before had an absolute path, also where nothing had been generated. It no longer
    holds in a dataset that was moved; generated files are then in its own raw/ in most cases.
    """
    stored = Path(dataset.spec["truth"] or ".")
    if not stored.name:
        return None
    if not stored.is_absolute():
        return dataset.directory / stored
    for path in (stored, dataset.directory / "raw" / stored.name):
        if path.exists():
            return path
    # Files that are still there without a truth were not generated; of others nothing is known.
    if not stored.parent.exists() or (stored.parent / GENERATED).exists():
        console.print(
            f"{stored} is gone: if the log of {dataset.directory} was generated, the row 'planted "
            "probability' is missing. Prepare the dataset again to have it",
            markup=False,
            soft_wrap=True,
        )
    return None
