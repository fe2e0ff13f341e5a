"""Tables of users and items that rows are gathered from; no row is ever written out.

A row of features is [user part, item part, moment part]. The first two depend on the user's state
or the item alone, and the third, which only some rows have, on the item and the time bin of the
state. So there is a table of each, and the extremes of a split's rows are those of what is in it.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmnet.files import UNREADABLE, write_atomic
from mmnet.mma4ctr.config import MODALITIES, ModalityFlags, ProtocolFlags
from mmnet.mma4ctr.data import fusion, modalities, past_rates, user_embedding
from mmnet.mma4ctr.data.dataset import Dataset
from mmnet.mma4ctr.data.modalities import Reduction
from mmnet.mma4ctr.data.protocols import SPLITS, Protocol


@dataclass(frozen=True)
class Scaler:
    """Scaling of columns to [0, 1]: (x - low) · factor, float32 [columns] both."""

    low: np.ndarray
    factor: np.ndarray


@dataclass(frozen=True)
class Features:
    """Tables that rows are gathered from.

    Attributes:
        states: user parts, float32 [states, user columns].
        items: item parts, float32 [items, item columns].
        scalers: split -> how its rows are scaled.
        widths: modality -> width of its table.
        moments: moment parts, float32 [items · moments, moment columns], the moments of an item
            together; None where rows have none.
    """

    states: np.ndarray
    items: np.ndarray
    scalers: dict[str, Scaler]
    widths: dict[str, int]
    moments: np.ndarray | None = None

    @property
    def in_features(self) -> int:
        """Number of columns of a row."""
        of_moments = 0 if self.moments is None else self.moments.shape[1]
        return self.states.shape[1] + self.items.shape[1] + of_moments

    def rows(self, state: np.ndarray, item: np.ndarray, split: str) -> np.ndarray:
        """Materialize scaled rows, float32 [rows, in_features]."""
        parts = [self.states[state], self.items[item]]
        if self.moments is not None:
            moments = len(self.moments) // len(self.items)
            parts.append(self.moments[item.astype(np.int64) * moments + state % moments])
        found = np.concatenate(parts, axis=1)
        return fusion.bounded(found, self.scalers[split].low, self.scalers[split].factor)


def reduction(dataset: Dataset, flags: ModalityFlags, protocol: str) -> Reduction:
    """Reduction of modalities to tables under a protocol."""
    published = protocol == "p0"
    rounded = published if flags.rounding == "auto" else flags.rounding == "true"
    return Reduction(
        variance=flags.pca_variance,
        widths=dict(zip(MODALITIES, flags.pca_widths, strict=False)),
        per_part=published and dataset.source.components_per_file,
        rounded=rounded,
        music=flags.music,
    )


def build(
    dataset: Dataset,
    protocol: Protocol,
    flags: ProtocolFlags,
    how: Reduction,
    more: np.ndarray | None = None,
    by_day: np.ndarray | None = None,
) -> Features:
    """Build the tables of a protocol.

    Args:
        dataset: the log.
        protocol: its rows, and what features may read.
        flags: which features.
        how: modalities are made.
        more: further columns of the items, float32 [items, columns].
        by_day: further columns of the items at each moment, float32 [items · moments, columns].
    """
    present = {name: np.asarray(raw.present) for name, raw in dataset.modalities.items()}
    names = fusion.modalities_of(flags.matrix)
    tables = _tables(dataset, protocol.fit_items, how) if names else {}
    items = fusion.item_part(
        flags.matrix,
        tables,
        present,
        protocol.fit_items,
        narrowed=dataset.source.narrowed,
        rounded=how.rounded,
    )
    if more is not None:
        items = np.concatenate([items, more], axis=1)
    states = _user_part(dataset, protocol, flags, tables, present)
    scaled, of_moments = states.shape[1], [] if by_day is None else [by_day]
    if flags.past_rates:
        of_users, of_items = past_rates.tables(protocol, len(dataset.user_ids), len(items))
        states = np.concatenate([states, of_users], axis=1)
        of_moments.append(of_items)
    moments = np.concatenate(of_moments, axis=1) if of_moments else None
    scalers = _scalers(protocol, states, scaled, items, moments)
    widths = {name: table.shape[1] for name, table in tables.items()}
    return Features(states, items, scalers, widths, moments)


def _tables(dataset: Dataset, fit: np.ndarray, how: Reduction) -> dict[str, np.ndarray]:
    """Modalities' tables, kept beside the dataset's arrays: a sweep needs the same ones again."""
    digest = hashlib.sha256(np.packbits(fit).tobytes())
    digest.update(f"{how} {dataset.spec.content}".encode())
    path = dataset.folder / f"tables-{digest.hexdigest()[:16]}.npz"
    # Damaged ones are made again.
    with contextlib.suppress(*UNREADABLE), np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in MODALITIES}
    found = modalities.tables(dataset.modalities, fit, how)
    named: dict[str, Any] = dict(found)
    if path.parent.exists():  # or another dataset took its place meanwhile
        write_atomic(path, lambda beside: np.savez(beside, **named))
    return found


def _user_part(
    dataset: Dataset,
    protocol: Protocol,
    flags: ProtocolFlags,
    tables: dict[str, np.ndarray],
    present: dict[str, np.ndarray],
) -> np.ndarray:
    """User parts of all states, float32 [states, columns]."""
    users, bins = len(dataset.user_ids), protocol.bins
    if flags.user_features == "none":
        return np.zeros((protocol.num_states, 0), np.float32)
    if flags.user_length == 0:
        ids = np.asarray(dataset.user_ids)[protocol.state_user]
        return ids.astype(np.float32)[:, None]
    device = protocol.state_device.astype(np.float64)[:, None]
    if flags.user_features == "rate":
        positives, number = user_embedding.positive_rates(protocol.edges, users=users, bins=bins)
        columns = [(positives / np.maximum(number, 1))[:, None], device]
    else:
        names = fusion.modalities_of(flags.matrix)

        def pooled(name: str) -> np.ndarray:
            table = fusion.scaled(tables[name], present[name] & protocol.fit_items)
            return user_embedding.pooled(table, flags.user_length)

        means, number = user_embedding.signed_means(
            protocol.edges,
            ((name, pooled(name)) for name in names),
            present,
            users=users,
            bins=bins,
            signed=flags.user_features == "signed",
        )
        columns = [column for name in names for column in (means[name], device)]
    if bins:
        columns.append((number > 0)[:, None])  # whether there is a history at all
    found = np.concatenate(columns, axis=1)
    return fusion.scaled(found, _fit_states(protocol))


def _fit_states(protocol: Protocol) -> np.ndarray:
    """States that statistics are fitted to: all with edges as published, else those of train."""
    fit = np.zeros(protocol.num_states, bool)
    if protocol.per_split_scaling:
        fit[protocol.edges.user] = True
    else:
        fit[protocol.state[protocol.parts["train"]]] = True
    return fit


def _scalers(
    protocol: Protocol,
    states: np.ndarray,
    scaled: int,
    items: np.ndarray,
    moments: np.ndarray | None,
) -> dict[str, Scaler]:
    """Scaling by split: to [0, 1], but for past rates and moment parts, which are standardised.

    Few users have extreme rates: scaled by these, the rates of all others would hardly differ.

    Args:
        protocol: the rows.
        states: user parts.
        scaled: columns of `states` that are scaled to [0, 1]; the others are past rates.
        items: item parts.
        moments: moment parts.
    """
    found = {}
    for split in SPLITS:
        part = protocol.parts[split if protocol.per_split_scaling else "train"]
        state, item = protocol.state[part], protocol.item[part]
        scales = [fusion.min_max(states[:, :scaled], np.unique(state))]
        scales.append(_standard(states[:, scaled:], state))
        scales.append(fusion.min_max(items, np.unique(item)))
        if moments is not None:
            scales.append(_standard(moments, protocol.item_moment[part]))
        low, factor = (np.concatenate(columns) for columns in zip(*scales, strict=True))
        found[split] = Scaler(low, factor)
    return found


def _standard(table: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of each column over rows, and 1 / sd; 0 for a constant one. float32 [columns] both."""
    rows = table[place].astype(np.float64)
    mean, sd = rows.mean(axis=0), rows.std(axis=0)
    factor = np.divide(1, sd, out=np.zeros(len(sd)), where=sd > np.finfo(np.float32).tiny)
    return mean.astype(np.float32), factor.astype(np.float32)
