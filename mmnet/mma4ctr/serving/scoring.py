"""Scores of (user, item) pairs: a SavedModel that plain TensorFlow loads, and batches through it.

The first layer is linear in what is gathered, so its half for the user and its half for the item
are computed once per user and once per item, scaling and bias included:

    tanh([u, v] · W + b) = tanh(u' + v')          u' = u · W_u + b,  v' = v · W_v

A pair then costs two gathers of 128 numbers, one sum, and the small layers behind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf

from mmnet.data.tables import runs
from mmnet.mma4ctr.data import fusion
from mmnet.mma4ctr.data.pca import slices
from mmnet.mma4ctr.evaluation.metrics import FLOAT32_EPSILON, Platt
from mmnet.mma4ctr.models.network import Clicks
from mmnet.mma4ctr.serving.pairs import Pairs
from mmnet.serving import bundle
from mmnet.serving.bundle import Signature
from mmnet.serving.exported import AboutPairs
from mmnet.serving.golden import Arrays, Golden

PARITY = 1e-5
"""Largest difference to the model's probabilities: float32 sums of 200 products in another order
lose two digits of the 6e-8 that it rounds at, and a sigmoid steepens nothing."""
SCORES = ("probability", "calibrated_probability", "known_user", "known_item")
"""Outputs of `serving_default`, in the order of the columns."""
GOLDEN_PAIRS = 32
"""Pairs that go along with an export, scored again by --verify."""


class Folded(tf.Module):
    """The network with its first layer folded into the tables.

    Args:
        model: trained, scaled as in training.
        states: the state of each user that is to be scored, int [users].
        user_ids, item_ids: int64, sorted.
        known_users, known_items: bool, those that have features.
        calibration: calibration of the probabilities.
    """

    def __init__(
        self,
        model: Clicks,
        states: np.ndarray,
        user_ids: np.ndarray,
        item_ids: np.ndarray,
        known_users: np.ndarray,
        known_items: np.ndarray,
        calibration: Platt,
    ):
        super().__init__(name="mma4ctr")
        rows = model.rows
        low, factor = rows.low.numpy(), rows.factor.numpy()
        first, *others, last = [
            layer for layer in model.net.layers if type(layer).__name__ == "Dense"
        ]
        kernel, bias = (value.numpy().astype(np.float64) for value in (first.kernel, first.bias))
        cut = rows.states[1]
        user, item = rows.state_table.numpy()[states], rows.item_table.numpy()
        if rows.moment_table is not None:  # of each item the last moment, after the log's end
            each = rows.moments_per_item
            last_moments = rows.moment_table.numpy()[each - 1 :: each]
            item = np.concatenate([item, last_moments], axis=1)
        user = _folded(user, low[:cut], factor[:cut], kernel[:cut], bias, known_users)
        self.user_table = tf.Variable(user, trainable=False)
        item = _folded(item, low[cut:], factor[cut:], kernel[cut:], 0.0, known_items)
        self.item_table = tf.Variable(item, trainable=False)
        self.user_ids = tf.Variable(user_ids, trainable=False, dtype=tf.int64)
        self.item_ids = tf.Variable(item_ids, trainable=False, dtype=tf.int64)
        self.known_users = tf.Variable(np.append(known_users, False), trainable=False)
        self.known_items = tf.Variable(np.append(known_items, False), trainable=False)
        self.layers = [
            (tf.Variable(layer.kernel.numpy()), tf.Variable(layer.bias.numpy())) for layer in others
        ]
        self.last = (tf.Variable(last.kernel.numpy()[:, 0]), tf.Variable(last.bias.numpy()[0]))
        self.slope = tf.Variable(calibration.slope, dtype=tf.float32)
        self.offset = tf.Variable(calibration.offset, dtype=tf.float32)

    def places(self, user: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
        """Probabilities of places in the id tables, float32 [pairs]."""
        hidden = tf.tanh(tf.gather(self.user_table, user) + tf.gather(self.item_table, item))
        for kernel, bias in self.layers:
            hidden = tf.tanh(hidden @ kernel + bias)
        kernel, bias = self.last
        return tf.sigmoid(tf.linalg.matvec(hidden, kernel) + bias)

    def pairs(self, user_id: tf.Tensor, item_id: tf.Tensor) -> dict[str, tf.Tensor]:
        """`serving_default`: probabilities of ids, and whether both are known."""
        user, item = _find(self.user_ids, user_id), _find(self.item_ids, item_id)
        probability = self.places(user, item)
        epsilon = FLOAT32_EPSILON
        p = tf.clip_by_value(probability, epsilon, 1 - epsilon)
        calibrated = tf.sigmoid(self.slope * (tf.math.log(p) - tf.math.log1p(-p)) + self.offset)
        return {
            "probability": probability,
            "calibrated_probability": calibrated,
            "known_user": tf.gather(self.known_users, user),
            "known_item": tf.gather(self.known_items, item),
        }


def _folded(table, low, factor, kernel, bias, known: np.ndarray) -> np.ndarray:
    """One half of the first layer's sums, float32 [rows + 1, units].

    Someone or something unknown counts as the mean of what is known, which is the last row.
    """
    found = np.empty((len(table) + 1, kernel.shape[1]), np.float32)
    total = np.zeros(kernel.shape[1])
    for part in slices(len(table)):
        sums = fusion.bounded(table[part], low, factor) @ kernel + bias
        total += sums[known[part]].sum(axis=0)
        found[part] = sums
    found[-1] = total / max(int(known.sum()), 1)
    found[:-1][~known] = found[-1]
    return found


def _find(ids: tf.Variable, wanted: tf.Tensor) -> tf.Tensor:
    """Places of ids, one past the end for unknown ones."""
    ids = tf.convert_to_tensor(ids)
    number = tf.shape(ids)[0]
    place = tf.minimum(tf.searchsorted(ids, wanted), number - 1)
    return tf.where(tf.gather(ids, place) == wanted, place, number)


def export(
    folded: Folded,
    directory: Path,
    check: tuple[np.ndarray, np.ndarray, np.ndarray],
    about: Mapping[str, Any],
) -> Path:
    """Writes `directory/1/`, whole or not at all.

    Args:
        folded: what is written.
        directory: parent of the versions, in TensorFlow Serving's layout.
        check: user ids, item ids and the model's probabilities of some pairs; the first of them go
            along as golden rows.
        about: more to go along as JSON: the flags of the run.

    Raises:
        RuntimeError: the scores of the SavedModel differ from the model's.
    """
    ids = [tf.TensorSpec([None], tf.int64, name) for name in ("user_id", "item_id")]
    codes = [tf.TensorSpec([None], tf.int32, name) for name in ("user", "item")]
    signatures: dict[str, Signature] = {
        "serving_default": (folded.pairs, {spec.name: spec for spec in ids}),
        "places": (
            lambda user, item: {"probability": folded.places(user, item)},
            {spec.name: spec for spec in codes},
        ),
    }
    users, items, wanted = check
    every_pair = {"user_id": users, "item_id": items}
    return bundle.write(
        directory,
        folded,
        signatures,
        AboutPairs(relative_tolerance=PARITY, **about),
        goldens=_goldens(folded, *(array[:GOLDEN_PAIRS] for array in check)),
        checked=[Golden("serving_default", every_pair, {"probability": wanted})],
    )


def _goldens(
    folded: Folded, users: np.ndarray, items: np.ndarray, wanted: np.ndarray
) -> list[Golden]:
    """Golden rows: pairs with the model's probabilities, and one of a user and an item unknown."""
    ids = {
        "user_id": np.append(users, folded.user_ids.numpy().max() + 1),
        "item_id": np.append(items, folded.item_ids.numpy().max() + 1),
    }
    scored = {name: value.numpy() for name, value in folded.pairs(**_tensors(ids)).items()}
    scored["probability"] = np.append(wanted, scored["probability"][-1:]).astype(np.float32)
    places = {
        "user": _find(folded.user_ids, ids["user_id"]).numpy(),
        "item": _find(folded.item_ids, ids["item_id"]).numpy(),
    }
    return [
        Golden("serving_default", ids, scored),
        Golden("places", places, {"probability": scored["probability"]}),
    ]


def _tensors(arrays: Arrays) -> dict[str, tf.Tensor]:
    return {name: tf.constant(array) for name, array in arrays.items()}


def load(path: str) -> Any:
    """Loads a SavedModel of `export`: the version's directory, or its parent.

    Raises:
        InputError: no SavedModel, not one of the second system, or a damaged one.
    """
    return bundle.load(path, AboutPairs)[0]


def score(predict: Callable[..., dict[str, tf.Tensor]], pairs: Pairs, batch_size: int) -> pa.Table:
    """Scores pairs batch by batch.

    Args:
        predict: `serving_default` of an export.
        pairs: user and item ids.
        batch_size: number of pairs of a batch.

    Returns:
        user_id, item_id, and what `serving_default` returns.
    """
    parts: list[dict[str, np.ndarray]] = []
    for rows in runs(slice(0, len(pairs.user_id)), batch_size):
        ids = (tf.constant(column[rows]) for column in pairs)
        found = predict(**dict(zip(pairs._fields, ids, strict=True)))
        parts.append({name: value.numpy() for name, value in found.items()})
    columns = {name: np.concatenate([part[name] for part in parts]) for name in SCORES}
    return pa.table({**pairs._asdict(), **columns})
