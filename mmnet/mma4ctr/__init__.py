"""MMa4CTR: a user's click on an item, from the item's modalities and the user's history.

The names below are its Python API, `mmnet.mma4ctr.Dataset` and so on. What is behind a name is
loaded when the name is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmnet.mma4ctr.api import Dataset, Export, LogisticRegression, MMa4CTR, Run
    from mmnet.mma4ctr.evaluation import metrics
    from mmnet.mma4ctr.models.network import ListwiseCrossEntropy

__all__ = [
    "Dataset",
    "Export",
    "ListwiseCrossEntropy",
    "LogisticRegression",
    "MMa4CTR",
    "Run",
    "metrics",
]


def __getattr__(name: str) -> Any:
    """Loads a name of the API when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "metrics":
        found = importlib.import_module(f"{__name__}.evaluation.metrics")
    elif name == "ListwiseCrossEntropy":
        from mmnet.startup import load_tensorflow

        load_tensorflow()
        found = importlib.import_module(f"{__name__}.models.network").ListwiseCrossEntropy
    else:
        found = getattr(importlib.import_module(f"{__name__}.api"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """The API, and none of the modules that happen to be loaded."""
    return sorted(__all__)
