"""Weights of an earlier network in a new one whose vocabularies have grown.

Optimizers start afresh, and so do the streams of random numbers and the counters: only weights and
the statistics of batch normalisation are taken over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import keras
import numpy as np

from mmnet.data.dataset import Fitted
from mmnet.data.earlier import FIX, NotAlike
from mmnet.models.ensemble import ensemble
from mmnet.schema import FIRST_ID, UNKNOWN_ID, CycleSpec


def start(
    model: keras.Model,
    arrays: Sequence[np.ndarray],
    now: Fitted,
    earlier: Fitted,
    *,
    member: int = 0,
    members: int = 1,
) -> None:
    """Puts the weights of an earlier network into a newly built one.

    A value that the earlier network did not know starts with the vector of unknown values, and a
    position of the calendar that it never met does, too. So before the first training step the
    new network scores every item exactly as the earlier one did, with new values or without.

    Args:
        model: newly built for `now`, of the earlier network's architecture.
        arrays: the earlier network's `variables`, or those of the ensemble that it is part of.
        now: values that the new network is trained with, see `data.earlier.carried`.
        earlier: those that the earlier network was trained with.
        member: number of the network in its ensemble, from 0.
        members: number of networks of the ensemble.

    Raises:
        NotAlike: the weights do not fit.
    """
    rows = _rows(model, now, earlier)
    for variable, place, size in _places(model, member, members):
        if size != len(arrays):
            raise NotAlike(
                f"--warm_start: the earlier model has {len(arrays)} weights and this one {size}; "
                f"another version of mmnet may have exported it; {FIX}"
            )
        if not keras.backend.is_float_dtype(variable.dtype):
            continue  # counters and random states
        array, kept = arrays[place], rows.get(id(variable))
        if kept is not None and kept.max() < len(array):
            array = array[kept]
        if tuple(variable.shape) != array.shape:
            raise NotAlike(
                f"--warm_start: {variable.path} is {list(array.shape)} in the earlier model and "
                f"{list(variable.shape)} in this one; {FIX}"
            )
        variable.assign(array)


def _places(
    model: keras.Model, member: int, members: int
) -> Iterator[tuple[keras.Variable, int, int]]:
    """Yields each variable, its place among those of the exported model, and their number."""
    if members == 1:
        for place, variable in enumerate(model.variables):
            yield variable, place, len(model.variables)
        return
    whole = ensemble([model] * members)
    places = {id(variable): place for place, variable in enumerate(whole.variables)}
    for layer in model.layers:
        if layer.variables:
            copy = whole.get_layer(f"member_{member + 1}.{layer.name}")
            for variable, of_copy in zip(layer.variables, copy.variables, strict=True):
                yield variable, places[id(of_copy)], len(whole.variables)


def _rows(model: keras.Model, now: Fitted, earlier: Fitted) -> dict[int, np.ndarray]:
    """Returns id of an embedding table -> the earlier row that each of its rows starts with."""

    def both(part: str) -> Iterator[tuple[Any, Any]]:
        return zip(getattr(now.spec, part), getattr(earlier.spec, part), strict=True)

    # Layer -> for each column in its table: the earlier number of rows, and the rows to start with.
    columns = {
        "field_embedding": [(old.size, _grown(new.size, old.size)) for new, old in both("fields")],
        "calendar": [(old.size, _newly_seen(new, old)) for new, old in both("cycles")],
    }
    for new, old in both("texts"):
        columns[f"encoded_{new.tensor}"] = [(old.size, _grown(new.size, old.size))]
    found = {}
    for layer in model.layers:
        if parts := columns.get(layer.name):
            firsts = accumulate((size for size, _ in parts[:-1]), initial=0)
            rows = [first + kept for first, (_, kept) in zip(firsts, parts, strict=True)]
            found[id(layer.table)] = np.concatenate(rows)
    return found


def _grown(size: int, earlier: int) -> np.ndarray:
    """Returns the earlier row for each row of a vocabulary: its own, or that of unknown values."""
    rows = np.arange(size)
    return np.where(rows < earlier, rows, UNKNOWN_ID)


def _newly_seen(now: CycleSpec, earlier: CycleSpec) -> np.ndarray:
    """Returns the same for a cycle: positions that were never met before read as unknown."""
    rows = np.arange(now.size)
    rows[[FIRST_ID + value for value in set(now.seen) - set(earlier.seen)]] = UNKNOWN_ID
    return rows
