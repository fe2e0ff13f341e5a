"""Protocols: the rows of each split, and which labels a user's features may use.

| protocol | a row's user features come from | split |
|---|---|---|
| p0 | all rows of the user, also the row itself and test rows | users in blocks, 8:1:1 of rows |
| c1 | the user's rows of earlier times only | by time |
| c2 | one half of the user's pairs, which are never scored | users in blocks, 8:1:1 of rows |
| recbole | the user's training rows | each user's rows in time, 8:1:1 |

p0 is the published protocol: test users are in no other split, so any information about labels in a
test user's features comes from test labels. c1 and c2 have no such leak.

recbole is how RecBole 1.1.1 trained and scored the baselines of the paper. It reads no labels: each
row is a positive, and is followed by a negative, the same user with an item drawn at random.

A *state* is a user as known at some moment. p0 and c2 have one state per user; c1 one per user and
time bin, and one more for the time after the log's end. recbole has one per user, and one per row
of the log for models that read what the user took before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mmnet import hashing
from mmnet.checks import InputError
from mmnet.mma4ctr.config import ProtocolFlags
from mmnet.mma4ctr.data.dataset import Dataset
from mmnet.mma4ctr.data.negatives import Untaken, other_items

SPLITS = ("train", "validation", "test")

Negatives = Callable[[np.random.Generator, np.ndarray, np.ndarray], np.ndarray]
"""Maps a source of draws, users and items that they took to as many items drawn."""


@dataclass(frozen=True)
class Edges:
    """Rows that user features are computed from.

    Attributes:
        user, item: places, int32 [edges].
        label: int8 [edges].
        bin: time bin, int32 [edges]; 0 where there is no time.
    """

    user: np.ndarray
    item: np.ndarray
    label: np.ndarray
    bin: np.ndarray


@dataclass(frozen=True)
class Protocol:
    """Rows to train and test on, split by split, and what their features may read.

    Attributes:
        name: p0, c1, c2 or recbole.
        user, item: places, int32 [rows].
        state: int32 [rows].
        label: int8 [rows].
        time: time of the row, int64 [rows].
        parts: split -> slice of the rows.
        edges: behind the user features.
        bins: number of time bins; 0 where a user has one state.
        state_user: user of each state, int32 [states].
        state_device: device of each state, int64 [states]; 0 where none is known.
        fit_items: items that statistics are fitted to, bool [items].
        per_split_scaling: each split's features are scaled by its own extremes, as published.
        negatives: draws other items for the negative training rows; None where all rows are of the
            log. Then rows come in pairs, a positive and its negative.
        edge_states: each edge is a state, of the moment before it; edges are in the order of user
            and time.
    """

    name: str
    user: np.ndarray
    item: np.ndarray
    state: np.ndarray
    label: np.ndarray
    time: np.ndarray
    parts: dict[str, slice]
    edges: Edges
    bins: int
    state_user: np.ndarray
    state_device: np.ndarray
    fit_items: np.ndarray
    per_split_scaling: bool
    negatives: Negatives | None = None
    edge_states: bool = False

    def __len__(self) -> int:
        return len(self.label)

    @property
    def num_states(self) -> int:
        """Number of states."""
        return len(self.state_user)

    @property
    def columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """State, item and label of the rows."""
        return self.state, self.item, self.label

    @property
    def item_moment(self) -> np.ndarray:
        """Places of the rows in a table of items at their moments, int64 [rows].

        The moments of an item are together, and are those of the states: one per time bin, and one
        for the time after the log's end.
        """
        moments = self.bins + 1 if self.bins else 1
        return self.item.astype(np.int64) * moments + self.state % moments

    @property
    def last_state(self) -> np.ndarray:
        """The state of each user after the log's end, int64 [users]."""
        users = self.num_states // (self.bins + 1) if self.bins else self.num_states
        return np.arange(users) * (self.bins + 1) + self.bins if self.bins else np.arange(users)

    def remarks(self, label: str) -> list[str]:
        """Remarks about splits whose rows all have the same label; empty otherwise.

        Args:
            label: value of the flag, the label that is predicted.
        """
        kinds: dict[int, list[str]] = {}
        for name, rows in self.parts.items():
            found = np.unique(self.label[rows])
            if len(found) == 1:
                kinds.setdefault(int(found[0]), []).append(f"{len(self.label[rows]):,} {name}")
        return [
            f"note: all {', '.join(parts)} rows have the label {kind} ({label}): nothing can be "
            "learned from them, and AUC is not defined on them; check how the label is computed, "
            "or choose another --label"
            for kind, parts in kinds.items()
        ]


def build(
    dataset: Dataset,
    flags: ProtocolFlags,
    needed: np.ndarray,
    seed: int,
    *,
    sequential: bool = False,
) -> Protocol:
    """Build the rows of a protocol.

    Args:
        dataset: the log.
        flags: which protocol.
        needed: items that have all the modalities which rows are made of, bool [items]; rows of
            others are left out, after they have served as edges.
        seed: seed of row order, halves, shuffled labels and drawn items.
        sequential: the model reads what a user took before; decides states and drawn items of the
            protocol recbole.

    Raises:
        InputError: a split is left without rows, or without a positive or negative one.
    """
    if flags.protocol == "recbole":
        return _as_recbole(dataset, needed, seed, sequential=sequential)
    label = np.asarray(dataset.label)
    if flags.shuffle_labels:
        label = label[np.random.default_rng([seed, 1]).permutation(len(label))]
    make = {"p0": _as_published, "c1": _past_only, "c2": _support_and_query}[flags.protocol]
    found = make(dataset, label, flags, needed, seed)
    for split in SPLITS:
        mine = found.label[found.parts[split]]
        if not 0 < int(mine.sum()) < len(mine):
            raise InputError(
                f"--protocol={flags.protocol}: {split} has {len(mine)} rows, {int(mine.sum())} of "
                "them positive; both labels are needed. Use a larger log or a lower --min_rows"
            )
    return found


def user_blocks(user: np.ndarray, seed: int) -> np.ndarray:
    """Order rows so that each user's rows are consecutive, users by first appearance.

    The rows are permuted at random; users come in the order in which they are met, so those with
    many rows tend to come early, as they do in the published order (that of a Python set).

    Args:
        user: user of each row, int [rows].
        seed: seed of the permutation.

    Returns:
        Places of rows, int64 [rows].
    """
    order = np.random.default_rng([seed, 0]).permutation(len(user))
    _, first, code = np.unique(user[order], return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return order[np.argsort(rank[code], kind="stable")]


def positional_parts(number: int) -> dict[str, slice]:
    """Split rows into train, validation and test: the first 80 %, the next 10 % and the rest.

    >>> positional_parts(25)
    {'train': slice(0, 20, None), 'validation': slice(20, 22, None), 'test': slice(22, 25, None)}
    """
    first, second = number * 8 // 10, number * 9 // 10
    return {
        "train": slice(0, first),
        "validation": slice(first, second),
        "test": slice(second, number),
    }


def _as_published(
    dataset: Dataset, label: np.ndarray, flags: ProtocolFlags, needed: np.ndarray, seed: int
) -> Protocol:
    """P0: repeated (user, item, label) triples once, users with enough of them, blocks by row."""
    users = len(dataset.user_ids)
    # One integer per (user, item, label) triple: sorting integers is faster than sorting tuples.
    key = np.asarray(dataset.user, np.int64) * len(dataset.item_ids) + dataset.item
    kept = _first_rows(2 * key + label)
    user = dataset.user[kept]
    if not dataset.source.counts_all_rows:
        many = np.bincount(user, minlength=users) >= dataset.spec.min_rows
        kept = kept[many[user]]
    kept = kept[user_blocks(dataset.user[kept], seed)]
    edges = Edges(
        dataset.user[kept], dataset.item[kept], label[kept], np.zeros(len(kept), np.int32)
    )
    rows = kept[needed[dataset.item[kept]]]
    state = dataset.user[rows]
    return Protocol(
        name="p0",
        user=state,
        item=dataset.item[rows],
        state=state,
        label=label[rows],
        time=dataset.time[rows],
        parts=positional_parts(len(rows)),
        edges=edges,
        bins=0,
        state_user=np.arange(users, dtype=np.int32),
        state_device=_last_device(dataset, kept, seed),
        fit_items=np.ones(len(dataset.item_ids), bool),
        per_split_scaling=True,
    )


def _support_and_query(
    dataset: Dataset, label: np.ndarray, flags: ProtocolFlags, needed: np.ndarray, seed: int
) -> Protocol:
    """C2: half of each user's (user, item) pairs make features, the other half rows."""
    users, items = len(dataset.user_ids), len(dataset.item_ids)
    pair = np.asarray(dataset.user, np.int64) * items + dataset.item
    # Split by pair, not by row: a repeated pair must not reveal its own label.
    support = hashing.uniform(pair, seed) < 0.5
    count = np.bincount(dataset.user[support], minlength=users)
    many = count >= dataset.spec.min_rows
    support &= many[dataset.user]
    query = np.flatnonzero(~support & many[dataset.user] & needed[dataset.item])
    query = query[user_blocks(dataset.user[query], seed)]
    if not len(query):
        raise InputError("--protocol=c2: no user has enough rows for support; lower --min_rows")
    parts, user = positional_parts(len(query)), dataset.user[query]
    # A user in two splits would have features that training rows share with test rows.
    parts = _at_users_ends(user, parts)
    edge = np.flatnonzero(support)
    bins = np.zeros(len(edge), np.int32)
    fit_items = np.zeros(items, bool)
    fit_items[dataset.item[query[parts["train"]]]] = True
    return Protocol(
        name="c2",
        user=user,
        item=dataset.item[query],
        state=user,
        label=label[query],
        time=dataset.time[query],
        parts=parts,
        edges=Edges(dataset.user[edge], dataset.item[edge], label[edge], bins),
        bins=0,
        state_user=np.arange(users, dtype=np.int32),
        state_device=_usual_device(dataset.user[edge], dataset.device[edge], bins, users, 0),
        fit_items=fit_items,
        per_split_scaling=False,
    )


def _past_only(
    dataset: Dataset, label: np.ndarray, flags: ProtocolFlags, needed: np.ndarray, seed: int
) -> Protocol:
    """C1: features of time t from rows before t; trained early, tested late."""
    users = len(dataset.user_ids)
    held_days = (flags.validation_days, flags.test_days) if dataset.spec.daily else None
    bins_of, bins, validation, test = time_bins(
        np.asarray(dataset.time), flags.time_bins, held_days
    )
    # Later rows must not decide which users are in the training data.
    known = bins_of < validation
    many = np.bincount(dataset.user[known], minlength=users) >= dataset.spec.min_rows
    kept = np.flatnonzero(many[dataset.user])
    edges = Edges(dataset.user[kept], dataset.item[kept], label[kept], bins_of[kept])
    # Rows of bin 0 have no past to make features from.
    late = (bins_of[kept] > 0) & (dataset.time[kept] >= flags.first_time)
    rows = kept[late & needed[dataset.item[kept]]]
    rows = rows[np.argsort(bins_of[rows], kind="stable")]
    when = bins_of[rows]
    ends = [0, *np.searchsorted(when, [validation, test]).tolist(), len(rows)]
    parts = {name: slice(ends[n], ends[n + 1]) for n, name in enumerate(SPLITS)}
    fit_items = np.zeros(len(dataset.item_ids), bool)
    fit_items[edges.item[edges.bin < validation]] = True
    return Protocol(
        name="c1",
        user=dataset.user[rows],
        item=dataset.item[rows],
        # States in the order of user and bin; bin `bins` is the time after the log's end.
        state=dataset.user[rows] * np.int32(bins + 1) + when,
        label=label[rows],
        time=dataset.time[rows],
        parts=parts,
        edges=edges,
        bins=bins,
        state_user=np.repeat(np.arange(users, dtype=np.int32), bins + 1),
        state_device=_usual_device(
            edges.user, np.asarray(dataset.device)[kept], edges.bin, users, bins
        ),
        fit_items=fit_items,
        per_split_scaling=False,
    )


def _as_recbole(dataset: Dataset, needed: np.ndarray, seed: int, *, sequential: bool) -> Protocol:
    """RecBole's: exposures as positives, one negative each, each user's rows split in time."""
    kept = np.flatnonzero(needed[dataset.item])  # rows are in the order of user and time
    log_user, log_item = dataset.user[kept], dataset.item[kept]
    items, users = np.unique(log_item), len(dataset.user_ids)
    begins = np.append(True, log_user[1:] != log_user[:-1])
    # A model that continues a history has no row where the history is empty.
    place = np.flatnonzero(~begins) if sequential else np.arange(len(kept))
    split = recbole_splits(log_user[place])
    place = place[np.argsort(split, kind="stable")]
    ends = np.searchsorted(np.sort(split), np.arange(len(SPLITS) + 1))
    _check_sizes(np.diff(ends), len(items), "four" if sequential else "three")
    user, item = log_user[place], log_item[place]

    def of_split(number: int) -> Negatives:
        if sequential:
            return lambda draw, user, item: other_items(draw, items, item)
        # What a user took in earlier splits, or in this one, is no negative; later items may be.
        known = slice(0, ends[number + 1])
        untaken = Untaken.of(items, user[known], item[known], users)
        _check_left(untaken, dataset)
        return lambda draw, user, item: untaken.draw(draw, user)

    draw, negatives = np.random.default_rng([seed, 8]), [of_split(n) for n in range(len(SPLITS))]
    drawn = [
        negatives[n](draw, user[ends[n] : ends[n + 1]], item[ends[n] : ends[n + 1]])
        for n in range(len(SPLITS))
    ]
    train = slice(0, ends[1])
    edge = np.arange(len(kept)) if sequential else place[train]
    bins = np.zeros(len(edge), np.int32)
    fit_items = np.zeros(len(dataset.item_ids), bool)
    fit_items[item[train]] = True
    device = np.asarray(dataset.device)[kept[place[train]]]
    state = place.astype(np.int32) if sequential else user
    return Protocol(
        name="recbole",
        user=np.repeat(user, 2),
        item=np.stack([item, np.concatenate(drawn)], axis=1).ravel(),
        state=np.repeat(state, 2),
        label=np.tile(np.array([1, 0], np.int8), len(place)),
        time=np.repeat(dataset.time[kept[place]], 2),
        parts={name: slice(2 * ends[n], 2 * ends[n + 1]) for n, name in enumerate(SPLITS)},
        edges=Edges(log_user[edge], log_item[edge], np.ones(len(edge), np.int8), bins),
        bins=0,
        state_user=log_user if sequential else np.arange(users, dtype=np.int32),
        state_device=np.zeros(len(kept), np.int64)
        if sequential
        else _usual_device(user[train], device, bins, users, 0),
        fit_items=fit_items,
        per_split_scaling=False,
        negatives=negatives[0],
        edge_states=sequential,
    )


def recbole_splits(user: np.ndarray) -> np.ndarray:
    """Split each user's rows 8:1:1 in their order, as RecBole 1.1.1 does.

    A tenth, rounded down, is test and another validation. Of users with fewer than ten rows one is
    test and one is validation, test first, as long as one is left for training.

    >>> recbole_splits(np.repeat([4, 7, 8], [1, 2, 12])).tolist()
    [0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2]

    Args:
        user: user of each row, int [rows], each user's rows together.

    Returns:
        0 train, 1 validation, 2 test; int64 [rows].
    """
    begins = np.flatnonzero(np.append(True, user[1:] != user[:-1])) if len(user) else user
    size = np.diff(np.append(begins, len(user)))
    tenth = np.floor(0.1 * size).astype(np.int64)
    test = np.where((size > 1) & (size < 10), 1, tenth)
    validation = np.where((size > 2) & (size < 10), 1, tenth)
    from_end = np.repeat(begins + size, size) - np.arange(len(user))
    test, held = np.repeat(test, size), np.repeat(test + validation, size)
    return np.where(from_end <= test, 2, np.where(from_end <= held, 1, 0))


def _check_sizes(sizes: np.ndarray, items: int, least: str) -> None:
    for split, size in zip(SPLITS, sizes.tolist(), strict=True):
        if not size:
            raise InputError(
                f"--protocol=recbole: {split} has no rows; a user needs {least} rows to have one "
                "in each split. Use a larger log"
            )
    if items < 2:
        raise InputError(
            "--protocol=recbole draws negative items, and the log has a single item; use a larger "
            "log"
        )


def _check_left(untaken: Untaken, dataset: Dataset) -> None:
    full = np.flatnonzero(untaken.left == 0)
    if len(full):
        raise InputError(
            f"--protocol=recbole: user {dataset.user_ids[full[0]]} was shown all "
            f"{len(untaken.items):,} items, so that no negative item can be drawn ({len(full):,} "
            "such users); use a log with more items, or without those users"
        )


def time_bins(
    time: np.ndarray, number: int, held_days: tuple[int, int] | None = None
) -> tuple[np.ndarray, int, int, int]:
    """Assign rows to time bins, and find the first bins of validation and test.

    Days are bins; the last ones are test, those before validation. Other times are cut at their
    quantiles, equal times together, and split 8:1:1.

    >>> time_bins(np.array([1, 2, 3, 14, 13]), 50, held_days=(1, 2))
    (array([ 0,  1,  2, 13, 12], dtype=int32), 14, 11, 12)

    Args:
        time: int64 [rows].
        number: number of bins, where times are not days.
        held_days: number of days of validation and of test; None where times are not days.

    Returns:
        The bin of each row from 0, int32 [rows]; the number of bins; the first bin of validation;
        the first of test.

    Raises:
        InputError: no day with a day before it is left for training.
    """
    if held_days is not None:
        bins = int(time.max() - time.min()) + 1
        test = bins - held_days[1]
        if test - held_days[0] < 2:
            raise InputError(
                f"--validation_days={held_days[0]} and --test_days={held_days[1]}: the log has "
                f"{bins} days, of which two at least must be left for training; hold out fewer"
            )
        return (time - time.min()).astype(np.int32), bins, test - held_days[0], test
    ordered = np.sort(time)
    edges = ordered[len(ordered) * np.arange(1, number) // number]
    found = np.searchsorted(edges, time, side="right").astype(np.int32)
    return found, number, number * 8 // 10, number * 9 // 10


def _first_rows(key: np.ndarray) -> np.ndarray:
    """Places of the first row of each key, in order."""
    _, first = np.unique(key, return_index=True)
    return np.sort(first)


def _at_users_ends(user: np.ndarray, parts: dict[str, slice]) -> dict[str, slice]:
    """Move each cut forward to the end of the rows of the user that it falls into."""
    block = np.cumsum(np.append(0, user[1:] != user[:-1]))
    first, second = (
        int(np.searchsorted(block, block[parts[split].stop - 1], side="right"))
        for split in SPLITS[:2]
    )
    return {
        "train": slice(0, first),
        "validation": slice(first, second),
        "test": slice(second, len(user)),
    }


def _last_device(dataset: Dataset, rows: np.ndarray, seed: int) -> np.ndarray:
    """Choose a user's last device in a random order of distinct pairs, as published."""
    users = len(dataset.user_ids)
    pairs = np.unique(np.stack([dataset.user[rows], dataset.device[rows]], axis=1), axis=0)
    pairs = pairs[np.random.default_rng([seed, 2]).permutation(len(pairs))]
    found = np.zeros(users, np.int64)
    found[pairs[:, 0]] = pairs[:, 1]
    return found


def _usual_device(
    user: np.ndarray, device: np.ndarray, bins_of: np.ndarray, users: int, bins: int
) -> np.ndarray:
    """Find the most frequent device of each state, the smaller one in a tie; int64 [states].

    Args:
        user: user of each edge.
        device: device of each edge.
        bins_of: time bin of each edge.
        users: number of users.
        bins: number of time bins; 0 where all rows count.
    """
    kinds, code = np.unique(device, return_inverse=True)
    pair, place = np.unique(user.astype(np.int64) * len(kinds) + code, return_inverse=True)
    owner, kind = pair // len(kinds), pair % len(kinds)
    moments = bins + 1 if bins else 1
    counts = np.zeros((len(pair), moments), np.int32)
    np.add.at(counts, (place, bins_of + 1 if bins else bins_of), 1)
    counts = counts.cumsum(axis=1)  # before each bin: a state must not know its own bin
    found = np.zeros((users, moments), np.int64)
    for moment in range(moments):
        seen = np.flatnonzero(counts[:, moment])
        # Each user's pairs are written in ascending order, so the last one wins: most rows, then
        # the smaller device.
        seen = seen[np.lexsort((-kind[seen], counts[seen, moment], owner[seen]))]
        found[owner[seen], moment] = kinds[kind[seen]]
    return found.ravel()
