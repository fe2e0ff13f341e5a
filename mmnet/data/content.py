"""Content columns encoded by frozen encoders, once per distinct text or image."""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa

from mmnet.checks import InputError, shown
from mmnet.config import ContentFlags
from mmnet.console import Progress
from mmnet.data import items as items_room
from mmnet.data.columns import strings
from mmnet.data.ledger import Rule
from mmnet.data.outputs import write_tables
from mmnet.data.tables import Table
from mmnet.encoders import handles
from mmnet.encoders.cache import FrozenEncoder, VectorCache
from mmnet.schema import VectorSpec
from mmnet.startup import load_tensorflow

Kind = Literal["text", "image"]
ROWS_AT_ONCE = 16_384
"""Number of vectors to write to Parquet at a time."""


class Column(NamedTuple):
    """An items column that a frozen encoder reads."""

    name: str
    kind: Kind


@dataclass(frozen=True)
class Encoded:
    """The vectors of one column.

    Attributes:
        column: the column.
        vectors: float16 [items, dim]; zeros where an item has no such content.
        hits: number of distinct contents found in the cache.
        encoded: number of distinct contents that were encoded now.
        rule: rule for the ledger; it drops the items without a vector.
    """

    column: Column
    vectors: np.ndarray
    hits: int
    encoded: int
    rule: Rule


class Encoders:
    """The frozen encoders that the flags ask for, each loaded on first use.

    Args:
        flags: the columns, and the encoders for them.

    Raises:
        InputError: columns without an encoder, or an encoder without columns.
    """

    def __init__(self, flags: ContentFlags):
        self._flags = flags
        self.columns = _columns(flags)

    @functools.cached_property
    def _text(self) -> FrozenEncoder:
        flags = self._flags
        if not flags.text_handle:
            raise InputError(
                "--text_encoder=hub needs --text_handle: a TensorFlow Hub handle, or a directory "
                "with the SavedModels encoder/ and preprocess/"
            )
        handles.bert_folders(flags.text_handle, flags.text_preprocessor)  # before TensorFlow loads
        load_tensorflow(keras=False)
        from mmnet.encoders.hub_text import HubTextEncoder

        return HubTextEncoder(
            flags.text_handle,
            preprocessor=flags.text_preprocessor,
            max_tokens=flags.text_pieces,
            precision=flags.text_precision,
        )

    @functools.cached_property
    def _image(self) -> FrozenEncoder:
        from mmnet.encoders.pictures import Folder

        flags = self._flags
        Folder(flags.image_root)  # this and the weights are checked before TensorFlow is loaded
        if flags.image_encoder == "hub":
            handles.image_folder(flags.image_weights)
        else:
            handles.check_resnet50(flags.image_weights)
        load_tensorflow()
        from mmnet.encoders.image import ImageEncoder

        return ImageEncoder(flags.image_encoder, flags.image_weights, flags.image_root)

    def encoder(self, kind: Kind) -> FrozenEncoder:
        """Returns the encoder of one kind of content."""
        return self._text if kind == "text" else self._image

    def fingerprints(self) -> dict[str, str]:
        """Returns kind -> fingerprint of every encoder in use."""
        return {kind: self.encoder(kind).fingerprint for kind in sorted(self._kinds())}

    def specs(self) -> list[VectorSpec]:
        """Returns the model input made from each column."""
        return [
            VectorSpec(name=name, dim=self.encoder(kind).dim, of=kind)
            for name, kind in self.columns
        ]

    def files(self, items: Table) -> list[tuple[str, int, int]]:
        """Returns path, bytes and time (ns) of every existing image, on which the vectors depend.

        Raises:
            InputError: an image path leaves `--image_root`.
        """
        columns = [column for column in self.columns if column.kind == "image"]
        if not columns:
            return []
        from mmnet.encoders import pictures

        folder, found = pictures.Folder(self._flags.image_root), []
        for column in columns:
            for path in sorted(set(contents(items, column)) - {""}):
                try:
                    stat = os.stat(folder.path(path))
                except (OSError, pictures.Unusable):  # reported when it is read
                    continue
                found.append((path, stat.st_size, stat.st_mtime_ns))
        return found

    def encode(self, items: Table) -> Iterator[Encoded]:
        """Encodes every column, reusing the vectors in the cache.

        Raises:
            InputError: a column does not exist or is not text, an image path leaves
                `--image_root`, or the cache belongs to another encoder.
        """
        # All columns are read first, so that an error leaves no cache behind.
        found = [contents(items, column) for column in self.columns]
        for column, each in zip(self.columns, found, strict=True):
            yield self._encode(each, column)

    def _encode(self, found: np.ndarray, column: Column) -> Encoded:
        encoder = self.encoder(column.kind)
        cache = VectorCache(self._flags.encoder_cache, encoder)
        told = Counter({problem.reason: problem.count for problem in encoder.problems()})
        with Progress(f"encoding {shown(column.name, 60)}") as progress:
            vectors = cache.vectors(found, progress=progress.at)
        there = len(found) - cache.absent
        notes = [
            f"{problem.count - told[problem.reason]:,} {problem.reason}: "
            f"{', '.join(problem.examples)}"
            for problem in cache.problems()
            if problem.count > told[problem.reason]
        ]
        rule = f"{column.kind} of {column.name!r} exists"
        return Encoded(
            column,
            vectors,
            cache.hits,
            cache.encoded,
            Rule("items", rule, len(found), there, "; ".join(notes)),
        )

    def prune(self, items: Table) -> dict[str, int]:
        """Removes vectors of the encoders in use from the cache that the items do not use.

        Returns:
            Kind -> number of vectors removed.
        """
        dropped: dict[str, int] = {}
        for kind in sorted(self._kinds()):
            cache = VectorCache(self._flags.encoder_cache, self.encoder(kind))
            parts = [contents(items, column) for column in self.columns if column.kind == kind]
            dropped[kind] = cache.prune(np.concatenate(parts))
        return dropped

    def _kinds(self) -> set[Kind]:
        return {column.kind for column in self.columns}


def _columns(flags: ContentFlags) -> list[Column]:
    if flags.images and flags.image_encoder == "none":
        raise InputError(f"--images={','.join(flags.images)} needs --image_encoder=resnet50 or hub")
    if flags.images and not flags.image_root:
        raise InputError("--images needs --image_root, the directory that image paths are in")
    if flags.image_encoder != "none" and not flags.images:
        raise InputError(
            f"--image_encoder={flags.image_encoder} has nothing to encode; set --images"
        )
    if flags.text_encoder == "hub" and not flags.texts:
        raise InputError("--text_encoder=hub has nothing to encode; set --texts")
    texts = flags.texts if flags.text_encoder == "hub" else ()
    return [*(Column(n, "text") for n in texts), *(Column(n, "image") for n in flags.images)]


def contents(items: Table, column: Column) -> np.ndarray:
    """Returns texts or image paths, str [items]; empty where an item has none.

    Raises:
        InputError: the column does not exist, or has values of another type.

    >>> items = Table(pa.table({"title": ["One, two!", None]}), "items")
    >>> contents(items, Column("title", "text"))
    array(['One, two!', ''], dtype=object)
    """
    if column.kind == "text":
        return items_room.texts_of(items, column.name)
    return strings(items, column.name, "images")


def check_same(found: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    """Raises an error if encoders differ from those that a model was trained with.

    Args:
        found: fingerprints of the encoders in use.
        wanted: those of training.

    Raises:
        InputError: they differ.
    """
    for kind, fingerprint in wanted.items():
        if found.get(kind) != fingerprint:
            flag = "text_handle" if kind == "text" else "image_weights"
            raise InputError(
                f"the model was trained on vectors of another {kind} encoder (fingerprint "
                f"{fingerprint[:16]}; the one given has {found.get(kind, 'none')[:16]}); set "
                f"--{flag} to the encoder of training"
            )


def write(
    encoded: Encoded,
    ids: np.ndarray,
    item_column: str,
    directory: str | Path,
    rows_at_once: int = ROWS_AT_ONCE,
) -> Path:
    """Writes a column's vectors atomically as `directory/COLUMN.parquet`.

    Args:
        encoded: the vectors.
        ids: str [items].
        item_column: name of the id column.
        directory: output directory, created if needed.
        rows_at_once: number of rows to write at a time.

    Returns:
        The file, in the format of --vectors: item id, and `vector`, a list of float32 or null.

    Raises:
        InputError: it cannot be written.
    """
    path = Path(directory, f"{encoded.column.name}.parquet")
    return write_tables(_tables(encoded.vectors, ids, item_column, rows_at_once), path, "output")


def _tables(
    vectors: np.ndarray, ids: np.ndarray, item_column: str, at_once: int
) -> Iterator[pa.Table]:
    kind = pa.list_(pa.float32())
    schema = pa.schema([(item_column, pa.string()), ("vector", kind)])
    # Write one table even if there are no items, for the column names.
    for start in range(0, max(len(ids), 1), at_once):
        rows = vectors[start : start + at_once]
        there = rows.any(axis=1)
        ends = np.cumsum(there * vectors.shape[1])
        offsets = pa.array(np.append(0, ends).astype(np.int32))
        flat = pa.array(rows[there].astype(np.float32).ravel())
        lists = pa.ListArray.from_arrays(offsets, flat, kind, mask=pa.array(~there))
        names = pa.array(ids[start : start + at_once], pa.string())
        yield pa.table([names, lists], schema=schema)
