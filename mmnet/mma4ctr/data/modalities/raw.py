"""Raw modalities, as in the files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mmnet.data.ledger import Rule
from mmnet.mma4ctr.data.pca import Ragged


@dataclass(frozen=True)
class Raw:
    """One raw modality of all items.

    Attributes:
        present: bool [items].
        tokens: sequences that principal components are taken of.
        vectors: float32 [items, 128], within `schema.LARGEST_ENTRY`, instead of tokens.
        part: number of the file that a vector came from, int16 [items].
        ids: whole numbers with an untrained random vector each, int64 [items].
        lists: sequences that are padded and used without further reduction.
    """

    present: np.ndarray
    tokens: Ragged | None = None
    vectors: np.ndarray | None = None
    part: np.ndarray | None = None
    ids: tuple[np.ndarray, ...] = ()
    lists: tuple[Ragged, ...] = ()

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays by name, for storing."""
        found = {"present": self.present}
        if self.tokens is not None:
            found |= {"tokens": self.tokens.values, "tokens_offsets": self.tokens.offsets}
        if self.vectors is not None and self.part is not None:
            found |= {"vectors": self.vectors, "part": self.part}
        for number, ids in enumerate(self.ids):
            found[f"ids{number}"] = ids
        for number, one in enumerate(self.lists):
            found |= {f"list{number}": one.values, f"list{number}_offsets": one.offsets}
        return found

    @classmethod
    def of(cls, arrays: dict[str, np.ndarray]) -> Raw:
        """Restore a modality from stored arrays."""

        def ragged(name: str) -> Ragged | None:
            return Ragged(arrays[name], arrays[f"{name}_offsets"]) if name in arrays else None

        lists = (ragged(f"list{number}") for number in range(len(arrays)))
        return cls(
            arrays["present"],
            ragged("tokens"),
            arrays.get("vectors"),
            arrays.get("part"),
            tuple(arrays[f"ids{n}"] for n in range(len(arrays)) if f"ids{n}" in arrays),
            tuple(one for one in lists if one is not None),
        )


@dataclass(frozen=True)
class Catalogue:
    """Items and their raw modalities.

    Attributes:
        item_ids: int64, sorted.
        modalities: raw modalities by name.
        ledger: rows kept by each rule.
        paths: files read.
    """

    item_ids: np.ndarray
    modalities: dict[str, Raw]
    ledger: list[Rule] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
