"""Models of clicks by name, so that no other file depends on a particular one."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # flags are read without them
    import keras
    import numpy as np


@dataclass(frozen=True)
class RowSpec:
    """Specification of a model that reads rows of features.

    Attributes:
        in_features: columns of a row.
        arch: `--arch`; see `network.hidden_widths`.
        seed: seed of the weights.
        output_bias: initial bias of the last layer; None draws it like the others.
    """

    in_features: int
    arch: str
    seed: int
    output_bias: float | None = None


@dataclass(frozen=True)
class NumberSpec:
    """Specification of a model that reads the numbers of users and items.

    Attributes:
        users: number of users.
        items: number of items.
        history: how many of the last items it reads.
        pairs: user and item of what was taken in the training rows, int64 [2, pairs].
        batch_size: rows of a training step.
        seed: seed of the weights.
        output_bias: initial bias of the last layer, where it has one.
        deviations: of RecBole from the model's paper, keys of `deviations.DEVIATIONS[model]`.
        others: whether the network also reads another item for each of the history.
    """

    users: int
    items: int
    history: int
    pairs: np.ndarray
    batch_size: int
    seed: int
    output_bias: float = 0.0
    deviations: frozenset[str] = frozenset()
    others: bool = False


@dataclass(frozen=True)
class Builder:
    """Recipe of a model: `builder(spec)` builds it.

    The model's module, and Keras with it, is loaded only when the model is built.

    Attributes:
        function: the module in `mmnet.mma4ctr.models` and what in it builds the network from a
            spec, as `module.function`.
        reads: "rows" of features, with a `RowSpec`; or "numbers" of users and items, and what a
            user took before, with a `NumberSpec`.
        loss: what it is trained by, a key of `training.fitting.OBJECTIVES`; None where `--loss`
            says.
        history: last items of a user that a model of numbers reads; 0 where it reads none.
        score_rows: how many rows a model of numbers scores at a time.
        hidden: whether rows of features pass hidden layers; such a network is exported, and
            `--umap` maps its hidden vectors.
        title: the name in tables; None is the name here.
        splits: whether several devices can share a batch: every loss that its layers add is a mean
            over rows or does not depend on them.
    """

    function: str
    reads: Literal["rows", "numbers"] = "numbers"
    loss: str | None = None
    history: int = 0
    score_rows: int = 65_536
    hidden: bool = False
    title: str | None = None
    splits: bool = True

    @property
    def sequential(self) -> bool:
        """True for a model that reads what the user took before."""
        return self.history > 0

    def __call__(self, spec: RowSpec | NumberSpec) -> keras.Model:
        """Builds the network.

        Raises:
            ValueError: the model refuses the spec.
        """
        module, _, name = self.function.rpartition(".")
        return getattr(importlib.import_module(f"{__name__}.{module}"), name)(spec)


REGISTRY: dict[str, Builder] = {
    "mma4ctr": Builder("network.mma4ctr", "rows", hidden=True, title="MMa4CTR"),
    "lr": Builder("network.lr", "rows", loss="bce"),
    "bpr": Builder("baselines.factors.bpr", loss="pairs"),
    "fpmc": Builder("baselines.factors.fpmc", loss="pairs", history=1),
    "lightgcn": Builder("baselines.graphs.lightgcn", loss="pairs"),
    "ngcf": Builder("baselines.graphs.ngcf", loss="pairs", splits=False),
    # 50 items are RecBole's own; so many vectors of so many rows do not fit into memory at a time.
    "din": Builder("baselines.interest.din", loss="logits", history=50, score_rows=4096),
    "dien": Builder(
        "baselines.interest.dien", loss="logits", history=50, score_rows=4096, splits=False
    ),
    "bert4rec": Builder("baselines.sequences.bert4rec", loss="items", history=50, score_rows=4096),
    "gcsan": Builder("baselines.sequences.gcsan", loss="items", history=50, score_rows=4096),
}
"""The method and its baselines."""
