"""Items that a split by item keeps together, since they share a text, a vector or a category.

The rate of one variant of a headline, or of a copy of a film, reveals that of the other. If one is
in training and the other in test, a split by item measures memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from mmnet.checks import InputError
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import items
from mmnet.data.columns import id_texts, separator_of, strings, values_of
from mmnet.data.ids import ItemIds
from mmnet.data.ledger import Rule
from mmnet.data.tables import Rows, Table
from mmnet.hashing import hash_items

Shared = tuple[np.ndarray, np.ndarray]
"""Rows of items, int64, and a code of a value that each of them has, int64; flat, equally long."""


def hashes(
    catalogue: Table,
    vectors: Mapping[str, Rows],
    ids: ItemIds,
    flags: TableFlags,
    task: TaskFlags,
) -> tuple[np.ndarray, Rule] | None:
    """Hashes items so that those of a group have the same hash.

    Two items are in one group if they share a value of any column of `--split_group`, or if each is
    in a group with a third one. An item without a group keeps its own hash, and so its split.
    Columns of `--texts` and `--images` are compared as a whole, list columns value by value; empty
    texts, vectors of zeros and absent vectors do not count as shared.

    Args:
        catalogue: the items table.
        vectors: tables of content vectors, by name.
        ids: ids of all items, in the catalogue's order.
        flags: flags that name the columns.
        task: flags with `split_group`.

    Returns:
        uint64 [items], the smallest of a group's hashes, and a line for the ledger. None without
        `--split_group`.

    Raises:
        InputError: it is set for another split than by_item, or a column cannot be read.
    """
    if not task.split_group:
        return None
    if task.split != "by_item":
        raise InputError(
            f"--split_group={','.join(task.split_group)} needs --split=by_item, not {task.split}"
        )
    number = len(ids)
    own = hash_items(ids.part(slice(0, number)))
    shared = list(_shared(catalogue, vectors, ids, flags, task))
    labels = joined(number, shared)
    smallest = np.full(labels.max(initial=-1) + 1, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(smallest, labels, own)
    largest = int(np.bincount(labels).max(initial=0))
    note = f"{len(smallest):,} groups, the largest of {largest:,} items"
    rule = f"is kept together with items of the same {' or '.join(task.split_group)}"
    return smallest[labels], Rule("items", rule, number, number, note)


def joined(number: int, shared: list[Shared]) -> np.ndarray:
    """Numbers the groups of items that share values, int [items].

    >>> titles, covers = (np.array([0, 1, 2]), np.array([5, 5, 6])), (np.array([2, 1]), np.zeros(2))
    >>> joined(4, [titles, covers])
    array([0, 0, 0, 1], dtype=int32)
    """
    rows, values = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    nodes = number  # items first, then the values of each column
    for own, codes in shared:
        compact, distinct = pd.factorize(codes)
        rows.append(own)
        values.append(compact + nodes)
        nodes += len(distinct)
    edges = np.concatenate(rows), np.concatenate(values)
    graph = sparse.coo_array((np.ones(len(edges[0]), np.int8), edges), (nodes, nodes))
    _, labels = connected_components(graph, directed=False)
    return pd.factorize(labels[:number])[0].astype(np.int32)


def _shared(
    catalogue: Table,
    vectors: Mapping[str, Rows],
    ids: ItemIds,
    flags: TableFlags,
    task: TaskFlags,
) -> Iterator[Shared]:
    for name in task.split_group:
        if name in vectors:
            yield _of_vectors(name, vectors[name], ids, flags)
        elif name in flags.texts or name in flags.images:
            read = items.texts_of(catalogue, name) if name in flags.texts else None
            whole = strings(catalogue, name, "split_group") if read is None else read
            given = np.flatnonzero(whole != "")
            yield given, pd.factorize(whole[given])[0]
        else:
            rows, values = values_of(catalogue, name, "split_group", separator_of(flags))
            yield rows, pd.factorize(values)[0]


def _of_vectors(name: str, vectors: Rows, ids: ItemIds, flags: TableFlags) -> Shared:
    """Returns the items of a table of vectors, and a hash of each one's numbers."""
    spec, column = items.fit_vector(name, vectors), items.vector_column(name, vectors)
    needed = {flags.item_column: "item_column", column: "vectors"}
    found, codes = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for piece in vectors.pieces(items.VECTORS_AT_ONCE, needed):
        rows = ids.rows(id_texts(piece, flags.item_column, "item_column"))
        numbers, full = items.vectors_of(piece, column, spec)
        kept = (rows[full] >= 0) & numbers.any(axis=1)
        numbers = numbers[kept] + np.float32(0)  # so that -0.0 is 0.0
        digests = (hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in numbers)
        found.append(rows[full][kept].astype(np.int64))
        codes.append(np.frombuffer(b"".join(digests), np.int64))
    return np.concatenate(found), np.concatenate(codes)
