"""Conversion of boosted trees from the formats of their libraries to arrays."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mmnet.layers.trees import SMALLEST, WORD, Forest

CATEGORICAL, DEFAULT_LEFT = 1, 2
"""Bits of LightGBM's `decision_type`."""
MISSING_NONE, MISSING_NAN = 0, 2
"""Kind of missing value in LightGBM, from the third bit on; 1 would be zeros, which no option of
ours requests."""


class Nodes(NamedTuple):
    """The nodes and leaves of trees, one after another.

    Attributes:
        feature: which column a node reads, int [nodes].
        threshold: this value or less goes left, float32 [nodes]; without meaning where
            `categories` has the node.
        missing_left: where NaN goes, bool [nodes]; always right where `categories` has the node.
        categories: node -> the categories that go left.
        left, right: int [nodes]; a node of the same tree, or ~leaf of it where negative.
        num_nodes, num_leaves: nodes and leaves of each tree, int [trees].
        value: value of each leaf, float64 [leaves].
    """

    feature: np.ndarray
    threshold: np.ndarray
    missing_left: np.ndarray
    categories: Mapping[int, np.ndarray]
    left: np.ndarray
    right: np.ndarray
    num_nodes: np.ndarray
    num_leaves: np.ndarray
    value: np.ndarray


def forest(nodes: Nodes) -> Forest:
    """Convert trees to the arrays of `layers.trees.Trees`."""
    total = len(nodes.feature)
    of_node = np.repeat(np.arange(len(nodes.num_nodes)), nodes.num_nodes)
    first_node = np.cumsum(nodes.num_nodes) - nodes.num_nodes
    first_leaf = np.cumsum(nodes.num_leaves) - nodes.num_leaves

    def number(child: np.ndarray) -> np.ndarray:
        leaf = total + first_leaf[of_node] + ~child
        return np.where(child < 0, leaf, first_node[of_node] + child)

    left, right = number(nodes.left), number(nodes.right)
    depth = _depths(left, right, of_node, first_node, nodes.num_nodes)
    deepest_first = np.argsort(-depth, kind="stable")
    root = np.where(nodes.num_nodes > 0, first_node, total + first_leaf)[deepest_first]
    alive = tuple(int((depth > step).sum()) for step in range(int(depth.max(initial=0))))

    numeric = np.ones(len(nodes.feature), bool)
    numeric[list(nodes.categories)] = False
    asked = np.zeros(len(nodes.feature), [("f", "i4"), ("t", "f4"), ("m", "?")])
    asked["f"], asked["t"], asked["m"] = nodes.feature, nodes.threshold, nodes.missing_left
    distinct, which = np.unique(asked[numeric], return_inverse=True)
    if not len(distinct):
        distinct = np.zeros(1, asked.dtype)
    condition = np.zeros(total + len(nodes.value), np.int64)
    condition[:total][numeric] = which.ravel()
    leaf = total + np.arange(len(nodes.value))
    bitsets, first_word = [], [0]
    for row, (node, held) in enumerate(nodes.categories.items()):
        condition[node] = len(distinct) + row
        words = np.zeros(int(held.max(initial=0)) // WORD + 1, np.int64)
        np.bitwise_or.at(words, held // WORD, 1 << held % WORD)
        bitsets.append(words)
        first_word.append(first_word[-1] + len(words))
    return Forest(
        feature=distinct["f"],
        threshold=distinct["t"],
        missing_left=distinct["m"],
        category_feature=_filled(nodes.feature[list(nodes.categories)]),
        first_word=_filled(np.array(first_word[:-1], int)),
        num_words=_filled(np.diff(first_word)),
        words=_filled(np.concatenate([np.zeros(0, int), *bitsets])),
        condition=condition,
        left=np.concatenate([left, leaf]),
        right=np.concatenate([right, leaf]),
        root=root,
        value=nodes.value,
        alive=alive,
    )


def _filled(array: np.ndarray) -> np.ndarray:
    """The array, or one 0, which no place refers to, instead of nothing."""
    return array if len(array) else np.zeros(1, array.dtype)


def _depths(left, right, of_node, first_node, num_nodes) -> np.ndarray:
    """Most steps from the root to a leaf, [trees]."""
    depth = np.zeros(len(num_nodes), int)
    level, step = first_node[num_nodes > 0], 0
    while len(level):
        step += 1
        depth[of_node[level]] = step
        level = np.concatenate([left[level], right[level]])
        level = level[level < len(left)]
    return depth


def float32_at_most(threshold: np.ndarray) -> np.ndarray:
    """Round thresholds down to float32; comparisons of float32 numbers with them are unchanged.

    Closer to 0 than `SMALLEST` the only number is 0; there -`SMALLEST` sends 0 to the right.
    """
    with np.errstate(over="ignore"):  # infinite where no float32 is so large
        found = threshold.astype(np.float32)
        found = np.where(found > threshold, np.nextafter(found, np.float32(-np.inf)), found)
    found = np.where((threshold >= 0) & (threshold <= SMALLEST), np.float32(0), found)
    return np.where((threshold < 0) & (threshold > -SMALLEST), np.float32(-SMALLEST), found)


def count_at_most(log_threshold: np.ndarray) -> np.ndarray:
    """The largest float32 counts whose log1p, as NumPy computes it, is not above these.

    So a split on the logarithm is the same split on the count, whoever computes logarithms.

    Args:
        log_threshold: float32, any shape.

    Returns:
        float32; -`SMALLEST` where not even 0 is small enough.
    """
    # By bisection over bits: floats of one sign are in the order of their bits as integers.
    low = np.zeros(log_threshold.shape, np.int32)
    high = np.full_like(low, np.float32(np.finfo(np.float32).max).view(np.int32))
    while (low < high).any():
        middle = low + (high - low + 1) // 2
        inside = np.log1p(middle.view(np.float32)) <= log_threshold
        low, high = np.where(inside, middle, low), np.where(inside, high, middle - 1)
    return np.where(log_threshold >= 0, low.view(np.float32), np.float32(-SMALLEST))


def lightgbm_forest(text: str, logged: Sequence[bool]) -> Forest:
    """Parse a model of LightGBM.

    Args:
        text: what `Booster.model_to_string` returns.
        logged: whether a feature is log1p, in float32, of what the forest is to read in its place;
            [features].

    Raises:
        ValueError: the trees are of a kind that our training does not make.
    """
    trees = [_fields(part) for part in text.split("end of trees")[0].split("\n\nTree=")[1:]]
    if not trees or any(int(tree.get("is_linear", 0)) for tree in trees):
        raise ValueError("`text` must be of trees with constant leaves")

    def joined(name: str, dtype: type) -> np.ndarray:
        return np.array([one for tree in trees for one in tree.get(name, "").split()], dtype)

    feature, decision = joined("split_feature", int), joined("decision_type", int)
    threshold = joined("threshold", float)
    missing, categorical = decision >> 2, (decision & CATEGORICAL) > 0
    if not np.isin(missing[~categorical], (MISSING_NONE, MISSING_NAN)).all():
        raise ValueError("`text` must be of trees that do not take 0 for missing")
    # Without missing values in training NaN is read as 0.
    missing_left = np.where(missing == MISSING_NAN, (decision & DEFAULT_LEFT) > 0, threshold >= 0)
    num_leaves = np.array([int(tree["num_leaves"]) for tree in trees])
    categories: dict[int, np.ndarray] = {}
    first = 0
    for tree, leaves in zip(trees, num_leaves, strict=True):
        borders = np.array(tree.get("cat_boundaries", "").split(), int)
        words = np.array(tree.get("cat_threshold", "").split(), np.uint32)
        for node in first + np.flatnonzero(categorical[first : first + leaves - 1]):
            begin, end = borders[int(threshold[node]) :][:2]
            bits = np.unpackbits(words[begin:end].view(np.uint8), bitorder="little")
            categories[int(node)] = np.flatnonzero(bits)
        first += leaves - 1
    of_log = np.array(logged, bool)[feature] & ~categorical
    exact = np.where(categorical, 0, float32_at_most(threshold))
    exact[of_log] = count_at_most(exact[of_log])
    return forest(
        Nodes(
            feature=feature,
            threshold=exact,
            missing_left=missing_left & ~categorical,
            categories=categories,
            left=joined("left_child", int),
            right=joined("right_child", int),
            num_nodes=num_leaves - 1,
            num_leaves=num_leaves,
            value=joined("leaf_value", float),
        )
    )


def _fields(part: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in part.splitlines() if "=" in line)


def catboost_forest(text: str, logged: Sequence[bool]) -> Forest:
    """Parse a model of CatBoost.

    Args:
        text: its JSON.
        logged: see `lightgbm_forest`.

    Raises:
        ValueError: it has other features than numbers, or other trees than oblivious ones.
    """
    model = json.loads(text)
    trees = model.get("oblivious_trees")
    if not trees:
        raise ValueError("`text` must be of oblivious trees")
    if set(model["features_info"]) != {"float_features"}:
        raise ValueError("`text` must be of trees on numbers alone")
    scale, (bias,) = model["scale_and_bias"]
    feature: list[int] = []
    border: list[float] = []
    left: list[int] = []
    right: list[int] = []
    value: list[float] = []
    for tree in trees:
        # The first split is the lowest bit of a leaf's number; the root asks for the highest.
        levels = (tree["splits"] or [])[::-1]
        count = 2 ** len(levels) - 1
        node = np.arange(count)
        level = np.log2(node + 1).astype(int)
        feature += [levels[one]["float_feature_index"] for one in level]
        border += [levels[one]["border"] for one in level]
        for side, child in ((left, 2 * node + 1), (right, 2 * node + 2)):
            side += np.where(child < count, child, ~(child - count)).tolist()
        value += tree["leaf_values"]
    leaves = np.array([len(tree["leaf_values"]) for tree in trees])
    threshold = float32_at_most(np.array(border))
    of_log = np.array(logged, bool)[np.array(feature, int)]
    # Below `MISSING` of `models.catboost`, which stands for NaN, no tree has a border.
    threshold[of_log] = count_at_most(threshold[of_log])
    return forest(
        Nodes(
            feature=np.array(feature, int),
            threshold=threshold,
            missing_left=np.ones(len(feature), bool),
            categories={},
            left=np.array(left, int),
            right=np.array(right, int),
            num_nodes=np.append(leaves - 1, 0),
            num_leaves=np.append(leaves, 1),
            value=np.append(scale * np.array(value), bias),  # one more tree for the bias
        )
    )
