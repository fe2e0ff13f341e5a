"""The three evaluation scenarios, which hide steps of an item's history; and lost inputs.

Yu et al. (2021) section 6.1. Normal is the test set as it is; cold-start hides every history;
noisy hides each step of it with one probability. The hidden steps follow from a hash of item and
period, not from a random stream: every model, row order, shard and batch size is tested on the
same set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from keras import ops

from mmnet import checks, schema
from mmnet.hashing import uniform
from mmnet.layers.disturbance import hide_lifetime, hide_steps
from mmnet.schema import SCENARIOS, FeatureSpec


def hidden_steps(
    scenario: str,
    item_hash: np.ndarray,
    period: np.ndarray,
    *,
    window: int,
    missing_rate: float,
    seed: int,
) -> np.ndarray:
    """Choose which steps of each example's history a scenario hides.

    Noisy hides a step where uniform(seed, item, period, step) < `missing_rate`. So a step hidden
    at one rate is hidden at every higher one, and all rates of a curve share one draw.

    Args:
        scenario: one of `SCENARIOS`.
        item_hash: uint64 [examples], a stable hash of the item id.
        period: int64 [examples], the absolute index of the target's period.
        window: periods seen, ω1.
        missing_rate: probability of hiding a step of the noisy scenario, in [0, 1].
        seed: the scenario seed, never the training seed.

    Returns:
        bool [examples, window], oldest step first, True where hidden. A naturally missing step
        stays missing in any case.

    Raises:
        ValueError: an unknown scenario, a rate outside [0, 1], or arrays of other types or shapes.

    >>> item_hash = np.array([7, 8], "uint64")
    >>> hidden_steps("noisy", item_hash, np.array([20, 20]), window=6, missing_rate=0.5, seed=0)
    array([[False,  True,  True, False, False, False],
           [False, False, False,  True,  True, False]])
    """
    checks.one_of(SCENARIOS, scenario=scenario)
    checks.in_range(0, 1, missing_rate=missing_rate)
    checks.at_least(1, window=window)
    item_hash, period = np.asarray(item_hash), np.asarray(period)
    if item_hash.dtype != np.uint64 or item_hash.ndim != 1:
        raise ValueError(
            "`item_hash` must be uint64 [examples]. "
            f"Received: {item_hash.dtype} {list(item_hash.shape)}"
        )
    if not np.issubdtype(period.dtype, np.integer):
        raise ValueError(f"`period` must be integer [examples]. Received: {period.dtype}")
    checks.same_shape(item_hash=item_hash, period=period)

    shape = (len(item_hash), window)
    if scenario != "noisy":
        return np.full(shape, scenario == "cold_start")
    draws = uniform(seed, item_hash[:, None], period[:, None], np.arange(window))
    return draws < missing_rate


def disturb(inputs: Mapping[str, Any], hidden: Any) -> dict[str, Any]:
    """Hide steps of one batch: rate, evidence and flag read as if there had been no clicks.

    The same steps of all rates are hidden, and the counts before the window with the oldest step;
    see `hide_lifetime`. Taxonomy sequences and content stay, in every scenario.

    Args:
        inputs: the tensors of a batch by name, `schema.HISTORY` among them, of one or more rates.
        hidden: bool [batch, window], True where to hide.

    Returns:
        A new dict of the same names; all other tensors are unchanged.
    """
    found = dict(inputs)
    for rate, flag, clicks in schema.histories(inputs):
        found[flag], found[rate], found[clicks] = hide_steps(
            hidden, inputs[flag], inputs[rate], inputs[clicks]
        )
    if schema.EARLIER_CLICKS.name in inputs:
        names = tuple(schema.UNKNOWN_LIFETIME)
        lifetime = hide_lifetime(hidden, *(inputs[name] for name in names))
        found |= zip(names, lifetime, strict=True)
    return found


def outages(spec: FeatureSpec) -> dict[str, tuple[str, ...]]:
    """Inputs whose loss is tested; the loss of the history is the cold-start scenario itself.

    Returns:
        Name -> tensors: "nothing"; "age", "calendar" and "lifetime", where they are read;
        "taxonomies", their sequences; every one of `FeatureSpec.modalities`; and "content", all of
        these together where there are several.

    >>> outages(FeatureSpec(window=6, horizon=1, taxonomies=("category",)))
    {'nothing': (), 'taxonomies': ('taxonomy_rate', 'taxonomy_missing_flag')}
    """
    found: dict[str, tuple[str, ...]] = {"nothing": ()}
    if spec.age:
        found["age"] = (schema.AGE.name, schema.AGE_AT_LEAST.name)
    if spec.cycles:
        found["calendar"] = tuple(cycle.tensor for cycle in spec.cycles)
    if spec.lifetime:
        found["lifetime"] = tuple(schema.UNKNOWN_LIFETIME)
    if spec.taxonomies:
        of_rates = [spec.sequences(rate) for rate in ("", *(one.name for one in spec.rates))]
        found["taxonomies"] = tuple(
            name for names in of_rates for name in [*names.values()][len(schema.HISTORY) :]
        )
    content = spec.modalities()
    found |= content
    if len(content) > 1:
        found["content"] = tuple(name for tensors in content.values() for name in tensors)
    return found


def remove(inputs: Mapping[str, Any], tensors: Iterable[str]) -> dict[str, Any]:
    """Replace the named inputs by their values for missing data.

    Ids, numbers, tokens and vectors become 0, as of an item that has none; taxonomy rates become
    0 and their missing flags 1, as for values without clicks; an age, the clicks before the window
    and what taxonomy means rest on become unknown, -1.

    Args:
        inputs: the tensors of a batch by name.
        tensors: the names of those to remove.

    Returns:
        A new dict of the same names; everything else is passed on untouched.
    """
    gone = {}
    for name in tensors:
        value = -1 if name in (schema.AGE.name, schema.EARLIER_CLICKS.name) else 0
        for main, hidden in schema.HIDDEN.items():
            if f"{name}_".startswith(f"{main}_"):  # of any rate
                value = hidden
        gone[name] = ops.full_like(inputs[name], value)
    return {**inputs, **gone}
