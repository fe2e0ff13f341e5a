"""Reasons of a score: how much it changes if one input is hidden.

    reason of k = f(x) - f(x without k)        in percentage points of the rate

Without k, the tensors of k hold what they hold for an item that lacks it: for `own_clicks` no
clicks in the window, as in the cold-start scenario; for `taxonomies` no item with clicks in any
period; both are hidden for all rates that the model reads. Without a modality, an item has no
content; without `age` and `calendar`, they are unknown. This is the error of the report's table of
lost inputs, for one item: it applies to every model, since it needs nothing but scores, and is 0
for an input that the item lacks or the model does not read.

Reasons are not a decomposition: two inputs with the same information replace each other, so that
each of them may have a reason near 0, and reasons do not sum to the score. They describe the model,
and not what would happen to the item's rate if its content were changed.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mmnet import schema
from mmnet.schema import FeatureSpec

PREFIX = "reason_"
"""Prefix of the names of outputs and columns."""
OWN_CLICKS = "own_clicks"


def hidden(spec: FeatureSpec) -> dict[str, dict[str, float]]:
    """Returns the inputs that have a reason: name -> tensor -> its value where it is hidden.

    >>> sorted(hidden(FeatureSpec(window=6, horizon=1, taxonomies=("category",))))
    ['own_clicks', 'taxonomies']
    """
    own: dict[str, float] = {}
    trends: dict[str, float] = {}
    for rate in ("", *(one.name for one in spec.rates)):
        of_rate, of_taxonomies = spec.hidden(rate)
        own, trends = own | of_rate, trends | of_taxonomies
    if spec.lifetime:
        own |= schema.UNKNOWN_LIFETIME
    found = {OWN_CLICKS: own} | ({"taxonomies": trends} if trends else {})
    found |= {name: dict.fromkeys(tensors, 0) for name, tensors in spec.modalities().items()}
    if spec.age:
        found["age"] = {schema.AGE.name: -1, schema.AGE_AT_LEAST.name: 0}
    if spec.lifetime:
        found["lifetime"] = dict(schema.UNKNOWN_LIFETIME)
    if spec.cycles:
        found["calendar"] = {cycle.tensor: schema.MISSING_ID for cycle in spec.cycles}
    return found


def filled(tensors: Mapping[str, np.ndarray], gone: Mapping[str, float]) -> dict[str, np.ndarray]:
    """Returns the hidden tensors of some rows, for one entry of `hidden`."""
    return {name: np.full_like(tensors[name], value) for name, value in gone.items()}


def columns(spec: FeatureSpec) -> list[str]:
    """Returns the names of the reasons as outputs and columns.

    >>> columns(FeatureSpec(window=6, horizon=1))
    ['reason_own_clicks']
    """
    return [PREFIX + name for name in hidden(spec)]
