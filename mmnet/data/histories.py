"""Histories: everything that windows contain about an item, in one array.

The array begins with `window - 1` missing periods before the first one, so that every window, even
one that begins before the counts, is a contiguous range of its columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmnet import schema
from mmnet.data import share_rates
from mmnet.data.counts import Panel
from mmnet.data.taxonomies import Means
from mmnet.schema import FeatureSpec

SHARE_RATE, MISSING_FLAG, CLICKS, TAXONOMIES = 0, 1, 2, 3
"""Channels; from 3 on the rates of the taxonomies, then their missing flags, and then, if it is an
input, their evidence."""


def shape(num_items: int, num_periods: int, spec: FeatureSpec) -> tuple[int, int, int]:
    """Returns the shape of a history array: items, periods and those before them, channels."""
    channels = TAXONOMIES + (3 if spec.taxonomy_evidence else 2) * len(spec.taxonomies)
    return num_items, spec.window - 1 + num_periods, channels


def of_taxonomies(history: Any, spec: FeatureSpec, rate: str = "") -> dict[str, Any]:
    """Returns the taxonomies' part of a history by tensor: [..., taxonomies] each.

    Args:
        history: [..., channels]; it may have more channels than the model reads.
        spec: inputs of the model.
        rate: name of a further rate; empty for the main one.
    """
    own = list(spec.sequences(rate).values())[TAXONOMIES:]
    number = len(spec.taxonomies)
    starts = (TAXONOMIES + place * number for place in range(len(own)))
    return {
        name: history[..., start : start + number] for name, start in zip(own, starts, strict=True)
    }


def fill(
    history: np.ndarray,
    panel: Panel,
    means: Sequence[Means],
    min_clicks: int,
) -> None:
    """Writes the history of some items (Eq. 1, Eq. 4).

    Args:
        history: float32 [items, window - 1 + periods, channels], filled in place.
        panel: counts of the items.
        means: rates, missing flags and, if it is an input, evidence of each taxonomy, [items,
            periods] each.
        min_clicks: periods with fewer clicks are missing.

    >>> from mmnet.data.calendars import Calendar
    >>> release, days = np.array([0]), Calendar(kind="integer")
    >>> panel = Panel(np.array(["a"]), np.array([[4, 0]]), np.array([[1, 0]]), release, days, 0)
    >>> history = np.zeros((1, 3, 3), np.float32)  # a window of 2 begins one period earlier
    >>> fill(history, panel, [], min_clicks=1)
    >>> history[0, :, SHARE_RATE], history[0, :, MISSING_FLAG]
    (array([ 0., 25.,  0.], dtype=float32), array([1., 0., 1.], dtype=float32))
    """
    first_flag = TAXONOMIES + len(means)
    # The periods before the first one exist only so that every window has its full length.
    before, seen = np.split(history, [history.shape[1] - panel.num_periods], axis=1)
    before[...] = 0
    before[..., MISSING_FLAG] = before[..., first_flag : first_flag + len(means)] = 1
    rate, missing = share_rates.share_rates(panel, min_clicks)
    seen[..., SHARE_RATE], seen[..., MISSING_FLAG] = rate, missing
    # Clicks below `min_clicks` would reveal a rate that the model must treat as missing.
    seen[..., CLICKS] = np.where(missing == 0, panel.clicks, 0)
    for number, of_taxonomy in enumerate(means):
        for place, values in enumerate(of_taxonomy):
            seen[..., TAXONOMIES + place * len(means) + number] = values


def inputs(history: np.ndarray, spec: FeatureSpec, rate: str = "") -> dict[str, np.ndarray]:
    """Splits a history cut to the window into its tensors: float32 [items, window, ...].

    Args:
        history: the history array of the rate.
        spec: inputs of the model.
        rate: name of a further rate; empty for the main one.
    """
    names = spec.sequences(rate)
    found = {names[tensor.name]: history[..., i] for i, tensor in enumerate(schema.HISTORY)}
    found |= of_taxonomies(history, spec, rate)
    return {name: np.ascontiguousarray(array) for name, array in found.items()}
