"""Raw modalities as tables of numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mmnet.checks import InputError
from mmnet.mma4ctr.config import MODALITIES
from mmnet.mma4ctr.data import pca
from mmnet.mma4ctr.data.modalities.raw import Raw

ACOUSTIC_WIDTH = 10
"""TikTok's published number of acoustic components; the variance rule would keep 2."""


@dataclass(frozen=True)
class Reduction:
    """Settings of the reduction of raw modalities to tables.

    Attributes:
        variance: share that principal components keep.
        widths: numbers of components instead, by modality; those left out keep to the variance.
        per_part: vectors of each file get components of their own, as published; the tables of
            two files are then in different bases.
        rounded: components' scores to 4 decimals, as published.
        music: whether the random vectors of singer and song are part of the table.
    """

    variance: float
    music: bool
    widths: dict[str, int] = field(default_factory=dict)
    per_part: bool = False
    rounded: bool = False

    def keep(self, modality: str) -> float | int:
        """Argument `keep` of `pca.Moments.pca`."""
        return self.widths.get(modality, self.variance)


def table(name: str, raw: Raw, fit: np.ndarray, how: Reduction) -> np.ndarray:
    """Convert one modality of all items to numbers, float32 [items, width]; absent items are zero.

    Args:
        name: name of the modality.
        raw: its files' content.
        fit: bool [items], those that statistics are fitted to.
        how: see `Reduction`.

    Raises:
        InputError: no item to fit to.
    """
    there = np.flatnonzero(raw.present)
    chosen = np.flatnonzero(raw.present & fit)
    if not len(chosen):
        raise InputError(f"no item of the training rows has a {name} modality; nothing to fit")
    if raw.tokens is not None:
        fitted = pca.fit_ragged(raw.tokens, chosen, how.keep(name))
        scores = pca.transform_ragged(fitted, raw.tokens, there, rounded=how.rounded)
    else:
        scores = _reduced_vectors(name, raw, chosen, there, how)
    parts = [scores]
    if how.music:
        parts += [_random_vectors(ids, number) for number, ids in enumerate(raw.ids)]
    for one in raw.lists:
        width = max(int(one.lengths[chosen].max(initial=0)), 1)
        parts.append(one.dense(np.arange(len(one)), width))
    found = np.concatenate([part.astype(np.float32, copy=False) for part in parts], axis=1)
    found[~raw.present] = 0
    return found


def _reduced_vectors(
    name: str, raw: Raw, chosen: np.ndarray, there: np.ndarray, how: Reduction
) -> np.ndarray:
    assert raw.vectors is not None
    assert raw.part is not None
    keep = how.keep(name)
    if name == "acoustic" and name not in how.widths:
        keep = ACOUSTIC_WIDTH
    if not how.per_part:
        fitted = pca.fit_dense(raw.vectors, chosen, keep)
        return pca.transform_dense(fitted, raw.vectors, there, rounded=how.rounded)
    scores = None
    for part in np.unique(raw.part[there]):
        mine = there[raw.part[there] == part]
        fitting = chosen[raw.part[chosen] == part]
        fitted = pca.fit_dense(raw.vectors, fitting if len(fitting) else mine, keep)
        scores = pca.transform_dense(fitted, raw.vectors, mine, rounded=how.rounded, out=scores)
        keep = scores.shape[1]  # what the first file's variance asks for holds for all
    assert scores is not None
    return scores


def _random_vectors(ids: np.ndarray, number: int) -> np.ndarray:
    """Standard normal vectors, one per distinct id; never trained. float64 [items, width].

    The width is min(64, the fourth root of the number of distinct ids).
    """
    distinct, place = np.unique(ids, return_inverse=True)
    width = music_width(len(distinct))
    draw = np.random.default_rng([2024, number])
    return draw.standard_normal((len(distinct), width))[place]


def music_width(distinct: int) -> int:
    """Width of the random vectors for a number of distinct ids.

    >>> music_width(14_641), music_width(20_735), music_width(20_736)
    (11, 11, 12)
    """
    width = round(distinct**0.25)
    width -= width**4 > distinct
    return min(64, max(width, 1))


def tables(raws: dict[str, Raw], fit: np.ndarray, how: Reduction) -> dict[str, np.ndarray]:
    """Convert all three modalities with `table`."""
    return {name: table(name, raws[name], fit, how) for name in MODALITIES}
