"""Exposures of users to items, and their labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mmnet import checks
from mmnet.mma4ctr.data.generator.truth import Truth


@dataclass(frozen=True)
class Plays:
    """Rows of a log before they are written.

    Attributes:
        user, item: places in the truth's ids, [rows].
        positive: bool [rows].
        device: [rows].
    """

    user: np.ndarray
    item: np.ndarray
    positive: np.ndarray
    device: np.ndarray


def stream(seed: int, name: str) -> np.random.Generator:
    """Create a random stream of its own per kind of draw, so that no kind affects another."""
    return np.random.default_rng([seed, *name.encode()])


def plays(
    *,
    users,
    items,
    rows,
    rate,
    user_dispersion,
    taste_sd,
    item_sd,
    exposure_sd,
    topics,
    activity_sd,
    ugly,
    seed,
) -> tuple[Truth, Plays]:
    """Draw users, items, their truth and the exposures; see `wechat_files`.

    Raises:
        ValueError: an option is out of range.
    """
    checks.at_least(2, users=users)
    checks.at_least(2, items=items)
    checks.at_least(1, rows=rows)
    checks.in_range(0, 1, rate=rate)
    checks.at_least(0, user_dispersion=user_dispersion)
    checks.at_least(1, topics=topics)
    draw = stream(seed, "truth")
    factor = np.ones(users)
    if user_dispersion:
        factor = draw.gamma(user_dispersion, 1 / user_dispersion, users)
    ids = stream(seed, "ids")
    drawn: dict[str, Any] = {
        "user_ids": np.sort(ids.choice(20 * users, users, replace=False)),
        "item_ids": np.sort(ids.choice(4 * items, items, replace=False)),
        "user_factor": factor,
        "taste": taste_sd * draw.normal(size=(users, topics)),
        "topic": draw.integers(0, topics, items),
        "appeal": item_sd * draw.normal(size=items),
    }
    activity = np.exp(activity_sd * draw.normal(size=users))
    per_user = draw.multinomial(rows, activity / activity.sum())
    user = np.repeat(np.arange(users), np.minimum(per_user, items // 2))
    liked = np.exp(exposure_sd * draw.normal(size=(users, topics)))
    item = _exposures(draw, user, drawn["topic"], liked)
    for _ in range(5):  # what a user has seen is hardly ever shown again
        again = _repeated(user * items + item)
        item[again] = _exposures(draw, user[again], drawn["topic"], liked)
    rows = len(user)

    relative = factor[user] * np.exp(drawn["taste"][user, drawn["topic"][item]])
    mean = float(np.mean(relative * np.exp(drawn["appeal"][item])))
    truth = Truth(**drawn, scale=rate / mean)
    positive = draw.random(rows) < truth.of_codes(user, item)

    extra = stream(seed, "ugly")
    own_device = extra.integers(1, 3, users)
    device = own_device[user]
    if ugly:
        other = extra.random(rows) < 0.02
        device = np.where(other, 3 - device, device)
        again = extra.integers(0, rows, max(rows // 200, 1))  # repeated rows
        both = extra.integers(0, rows, max(rows // 2000, 1))  # a pair that is there anew
        fresh = extra.random(len(both)) < truth.of_codes(user[both], item[both])
        user, item = (np.concatenate([x, x[again], x[both]]) for x in (user, item))
        device = np.concatenate([device, device[again], device[both]])
        positive = np.concatenate([positive, positive[again], fresh])
    return truth, Plays(user, item, positive, device)


def _repeated(key: np.ndarray) -> np.ndarray:
    """Places of all but the first of equal keys."""
    order = np.argsort(key, kind="stable")
    return order[1:][key[order[1:]] == key[order[:-1]]]


def _exposures(draw, user, topic, liked) -> np.ndarray:
    """What is shown: a topic that the user prefers, and a popular item of it."""
    topics = liked.shape[1]
    seen = np.arange(len(topic)) % 11 != 10  # every eleventh item is never shown
    amount = np.bincount(topic[seen], minlength=topics)
    liked = np.cumsum(liked * (amount > 0), axis=1)
    liked /= liked[:, -1:]
    chosen = np.empty(len(user), np.int32)
    for start in range(0, len(user), 1 << 20):
        part = slice(start, start + (1 << 20))
        chosen[part] = (draw.random(len(user[part]))[:, None] > liked[user[part]]).sum(axis=1)
    # Popularity is an item's own: the same in every call.
    rank = np.random.default_rng(len(topic)).permutation(len(topic))
    weight = (1.0 + rank) ** -0.5 * seen
    item = np.empty(len(user), np.int64)
    for number in range(topics):
        rows, mine = np.flatnonzero(chosen == number), np.flatnonzero((topic == number) & seen)
        if len(rows):
            ends = np.cumsum(weight[mine])
            at = np.searchsorted(ends, draw.random(len(rows)) * ends[-1], side="right")
            item[rows] = mine[np.minimum(at, len(mine) - 1)]
    return item
